// An S3 bucket in memory for tests: objects, uploads in parts, pages of lists, and faults on demand. Signatures are checked end to end, in tests/e2e.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "registry/s3_client.hpp"
#include "wire/http_server.hpp"

namespace caisson::registry {

class FakeBucket {
 public:
  struct Seen {
    std::string method;
    std::string target;
  };
  /// Before a request is served: an answer, or a lost connection, in its place.
  std::function<std::optional<Result<image::FetchReply>>(const image::FetchRequest&)> fault;
  std::map<std::string, std::string> objects;                                ///< by key
  std::map<std::string, std::map<std::size_t, std::string>> uploads;         ///< by "key id"
  std::vector<Seen> seen;
  std::size_t page_size = 2;

  S3Send send() {
    return [this](image::FetchRequest request, int fd) { return serve(request, fd); };
  }
  std::size_t count(std::string_view method, std::string_view part) {
    std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(std::count_if(seen.begin(), seen.end(), [&](const Seen& one) { return one.method == method && one.target.find(part) != std::string::npos; }));
  }

 private:
  using Query = std::map<std::string, std::string>;

  static image::FetchReply answer(std::uint32_t status, std::string body = "") {
    image::FetchReply reply;
    reply.ok = true;
    reply.status = status;
    reply.body = std::move(body);
    return reply;
  }
  static std::string body_of(const image::FetchRequest& request, int fd) {
    if (fd < 0) return request.body;
    std::string bytes(request.size_bytes, '\0');
    EXPECT_TRUE(linux::pread(fd, bytes, request.offset).ok());
    return bytes;
  }

  Result<image::FetchReply> serve(const image::FetchRequest& request, int fd) {
    std::lock_guard lock(mutex_);
    seen.push_back({request.method, request.name});
    if (fault)
      if (auto planned = fault(request)) return std::move(*planned);
    const auto halves = split_once(request.name, '?');
    Query query;
    for (auto& [name, value] : wire::parse_query(halves.after)) query[name] = value;
    constexpr std::string_view bucket = "/bucket/";
    const auto key = wire::percent_decode(halves.before.starts_with(bucket) ? halves.before.substr(bucket.size()) : std::string_view());
    if (key.empty()) return query.count("uploads") != 0 ? list_uploads(query) : list(query);
    if (query.count("uploads") != 0) {
      const auto id = concat("id", ++next_id_);
      uploads[concat(key, " ", id)];
      return answer(200, concat("<InitiateMultipartUploadResult><UploadId>", id, "</UploadId></InitiateMultipartUploadResult>"));
    }
    if (query.count("uploadId") != 0) return serve_upload(request, fd, key, query);
    if (request.method == "PUT") {
      objects[key] = body_of(request, fd);
      return answer(200);
    }
    if (request.method == "DELETE") {
      objects.erase(key);
      return answer(204);
    }
    const auto found = objects.find(key);
    if (found == objects.end()) return answer(404, request.method == "HEAD" ? "" : "<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>");
    if (request.method == "HEAD") return answer(200);
    return give(request, fd, found->second);
  }

  static image::FetchReply give(const image::FetchRequest& request, int fd, std::string bytes) {
    std::uint32_t status = 200;
    for (const auto& header : request.headers) {
      constexpr std::string_view range = "range: bytes=";
      if (!header.starts_with(range)) continue;
      const auto ends = split_once(std::string_view(header).substr(range.size()), '-');
      const auto first = parse_integer<std::size_t>(ends.before).value();
      bytes = bytes.substr(first, parse_integer<std::size_t>(ends.after).value() - first + 1);
      status = 206;
    }
    if (fd < 0) return answer(status, std::move(bytes));
    EXPECT_TRUE(linux::pwrite(fd, bytes, 0).ok());
    return answer(status);
  }

  Result<image::FetchReply> serve_upload(const image::FetchRequest& request, int fd, const std::string& key, const Query& query) {
    const auto upload = uploads.find(concat(key, " ", query.at("uploadId")));
    if (upload == uploads.end()) return answer(404, "<Error><Code>NoSuchUpload</Code></Error>");
    if (request.method == "PUT") {
      const auto number = parse_integer<std::size_t>(query.at("partNumber")).value();
      upload->second[number] = body_of(request, fd);
      auto reply = answer(200);
      reply.headers["etag"] = concat("\"part", number, "\"");
      return reply;
    }
    if (request.method == "POST") {
      std::string whole;
      for (const auto& [number, bytes] : upload->second) {
        EXPECT_NE(request.body.find(concat("<PartNumber>", number, "</PartNumber><ETag>&quot;part", number, "&quot;</ETag>")), std::string::npos) << request.body;
        whole += bytes;
      }
      objects[key] = std::move(whole);
    }
    uploads.erase(upload);
    return answer(200, request.method == "POST" ? "<CompleteMultipartUploadResult/>" : "");
  }

  image::FetchReply list(const Query& query) {
    std::string out = "<ListBucketResult>";
    std::size_t count = 0;
    const auto token = query.find("continuation-token");
    for (auto at = token == query.end() ? objects.begin() : objects.upper_bound(token->second); at != objects.end(); ++at) {
      if (!at->first.starts_with(query.at("prefix"))) continue;
      out += concat("<Contents><Key>", at->first, "</Key><Size>", at->second.size(), "</Size><LastModified>2024-05-06T07:08:09.000Z</LastModified></Contents>");
      if (++count < page_size) continue;
      return answer(200, concat(out, "<IsTruncated>true</IsTruncated><NextContinuationToken>", at->first, "</NextContinuationToken></ListBucketResult>"));
    }
    return answer(200, out + "<IsTruncated>false</IsTruncated></ListBucketResult>");
  }
  image::FetchReply list_uploads(const Query& query) {
    std::string out = "<ListMultipartUploadsResult>";
    for (const auto& [name, parts] : uploads) {
      const auto halves = split_once(name, ' ');
      if (halves.before.starts_with(query.at("prefix"))) out += concat("<Upload><Key>", halves.before, "</Key><UploadId>", halves.after, "</UploadId></Upload>");
    }
    return answer(200, out + "</ListMultipartUploadsResult>");
  }

  std::mutex mutex_;
  std::size_t next_id_ = 0;
};

}  // namespace caisson::registry

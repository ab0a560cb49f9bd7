// Requests and attempts. S3 API reference: the operations are named beside their functions.
#include "registry/s3_client.hpp"

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

#include "base/digest.hpp"
#include "base/strings.hpp"
#include "image/side_by_side.hpp"
#include "linux/file.hpp"

namespace caisson::registry {

namespace {

constexpr std::ptrdiff_t most_at_once = 32;      // half of what caisson-fetch takes
constexpr std::uint64_t most_parts = 1'000;      // of one upload: AWS takes ten thousand, Swift no more than these unless it is told to
constexpr std::size_t parts_at_once = 4;
constexpr std::size_t read_bytes = 256 << 10;
constexpr std::size_t most_reply_bytes = 16 << 20;
constexpr std::uint64_t mebibyte = 1 << 20;

bool is_passing(std::uint32_t status) { return status == 408 || status == 429 || status >= 500; }

Error kind_error(std::uint32_t status, std::string text) {
  if (status == 404) return {ErrorKind::not_found, std::move(text)};
  if (status == 401 || status == 403) return {ErrorKind::denied, std::move(text)};
  if (is_passing(status)) return {ErrorKind::timeout, std::move(text)};
  return {ErrorKind::io, std::move(text)};
}

Result<std::string> hash_of(int fd, std::uint64_t offset, std::uint64_t size_bytes) {
  Hasher hasher;
  std::string buffer(read_bytes, '\0');
  while (size_bytes > 0) {
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), size_bytes));
    const auto got = TRY(linux::pread(fd, std::span<char>(buffer.data(), want), offset), "read what is to be sent");
    if (got == 0) return Error(ErrorKind::corrupt, "a file that is to be sent has become shorter");
    hasher.update(std::string_view(buffer).substr(0, got));
    offset += got;
    size_bytes -= got;
  }
  return std::string(hasher.finish().hex());
}

}  // namespace

Result<std::string> s3_base_url(const S3Settings& settings) {
  const auto scheme = split_once(settings.endpoint, ':').before;
  const std::string_view host = settings.endpoint.size() > scheme.size() + 3 ? std::string_view(settings.endpoint).substr(scheme.size() + 3) : std::string_view();
  const bool is_good = (settings.endpoint.starts_with("http://") || settings.endpoint.starts_with("https://")) && !host.empty() && host.find_first_of("/?#@ ") == std::string_view::npos;
  if (!is_good) return Error(ErrorKind::invalid, concat("\"", settings.endpoint, "\": want https:// and a host, and nothing behind it"));
  const bool is_name = settings.bucket.size() >= 3 && settings.bucket.size() <= 63 &&
                       std::all_of(settings.bucket.begin(), settings.bucket.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-'; });
  if (!is_name) return Error(ErrorKind::invalid, concat("\"", settings.bucket, "\" is no name of a bucket"));
  return settings.path_style ? settings.endpoint : concat(scheme, "://", settings.bucket, ".", host);
}

Result<std::unique_ptr<S3Client>> S3Client::create(S3Settings settings, S3Send send, S3Patience patience) {
  auto url = TRY_PLAIN(s3_base_url(settings));
  return std::unique_ptr<S3Client>(new S3Client(std::move(settings), std::move(url), std::move(send), patience));
}

S3Client::S3Client(S3Settings settings, std::string base_url, S3Send send, S3Patience patience)
    : settings_(std::move(settings)), base_url_(std::move(base_url)), host_(base_url_.substr(base_url_.find("//") + 2)), send_(std::move(send)), patience_(patience), slots_(most_at_once) {}

std::string S3Client::name() const { return concat("bucket ", settings_.bucket, " at ", settings_.endpoint); }

std::string S3Client::step(const Ask& ask) const { return concat(name(), ": ", ask.method, " ", ask.of_bucket ? "" : concat(settings_.prefix, ask.key)); }

S3Request S3Client::request_of(const Ask& ask) const {
  S3Request request;
  request.method = ask.method;
  request.host = host_;
  request.path = concat(settings_.path_style ? concat("/", settings_.bucket) : "", "/", ask.of_bucket ? "" : concat(settings_.prefix, ask.key));
  // Some services know the bucket without a slash behind it only.
  if (ask.of_bucket && settings_.path_style) request.path.pop_back();
  request.query = ask.query;
  request.headers = ask.headers;
  return request;
}

Result<std::string> S3Client::payload_hash(const Ask& ask) const {
  if (ask.fd < 0 || ask.method == "GET") return std::string(sha256_of(ask.body).hex());
  if (!settings_.signs_payload) return std::string(unsigned_payload);
  return hash_of(ask.fd, ask.offset, ask.size_bytes);
}

Result<image::FetchReply> S3Client::send_once(const Ask& ask, const std::string& hash) {
  auto request = request_of(ask);
  request.payload_hash = hash;
  const auto query = s3_query(request.query);
  image::FetchRequest out;
  out.task = image::FetchTask::exchange;
  out.method = ask.method;
  out.name = concat(s3_encode(request.path, true), query.empty() ? "" : "?", query);
  out.body = ask.body;
  out.offset = ask.offset;
  out.size_bytes = ask.size_bytes;
  for (const auto& [name, value] : ask.headers) out.headers.push_back(concat(name, ": ", value));
  // Signed anew for each attempt: a signature is good for minutes.
  for (const auto& [name, value] : sign_headers(std::move(request), settings_.keys, settings_.region, now_ns())) out.headers.push_back(concat(name, ": ", value));
  slots_.acquire();
  auto reply = send_(std::move(out), ask.fd);
  slots_.release();
  return reply;
}

Result<image::FetchReply> S3Client::call(const Ask& ask) {
  const auto hash = TRY(payload_hash(ask), step(ask));
  auto pause_ms = patience_.first_pause_ms;
  std::minstd_rand random(static_cast<unsigned>(now_ns()));
  for (std::uint32_t attempt = 1;; ++attempt) {
    auto reply = send_once(ask, hash);
    const bool is_lost = !reply.ok() && (reply.error().kind() == ErrorKind::unavailable || reply.error().kind() == ErrorKind::timeout);
    // RequestTimeout is a 400: the service had waited for the rest of the body.
    const bool is_refused = reply.ok() && (is_passing(reply->status) || (reply->status == 400 && parse_s3_fault(reply->body).code == "RequestTimeout"));
    if ((!is_lost && !is_refused) || attempt >= patience_.attempts) {
      if (is_lost) return Error(ErrorKind::timeout, concat(step(ask), ": ", reply.error().text()));
      if (!reply.ok()) return std::move(reply).error().in(step(ask));
      return reply;
    }
    // Between half of it and all: whoever was refused at the same time does not come back at the same time.
    std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms / 2 + random() % (pause_ms / 2 + 1)));
    pause_ms = std::min(pause_ms * 2, patience_.longest_pause_ms);
  }
}

Error S3Client::error_of(const Ask& ask, const image::FetchReply& reply) const {
  const auto fault = parse_s3_fault(reply.body);
  auto error = kind_error(reply.status, concat(step(ask), ": status ", reply.status, fault.code.empty() ? "" : concat(" ", fault.code, ": ", fault.message)));
  if (fault.code == "RequestTimeTooSkewed") return std::move(error).with_hint("this machine's clock and the service's differ by more than 15 minutes");
  if (fault.code == "SignatureDoesNotMatch" || fault.code == "InvalidAccessKeyId" || fault.code == "AuthorizationHeaderMalformed") return std::move(error).with_hint("check the keys and the region");
  return error;
}

Result<image::FetchReply> S3Client::succeed(const Ask& ask) {
  auto reply = TRY_PLAIN(call(ask));
  if (reply.status / 100 != 2) return error_of(ask, reply);
  return reply;
}

/// HeadObject
Result<bool> S3Client::has(std::string_view key) {
  Ask ask;
  ask.method = "HEAD";
  ask.key = key;
  auto reply = TRY_PLAIN(call(ask));
  if (reply.status == 404) return false;
  if (reply.status / 100 != 2) return error_of(ask, reply);
  return true;
}

/// PutObject
Status S3Client::put(std::string_view key, std::string_view bytes) {
  Ask ask;
  ask.method = "PUT";
  ask.key = key;
  ask.body = bytes;
  TRY_PLAIN(succeed(ask));
  return {};
}

Status S3Client::put_file(std::string_view key, int fd, std::uint64_t size_bytes) {
  if (size_bytes > settings_.part_bytes) return put_parts(std::string(key), fd, size_bytes);
  Ask ask;
  ask.method = "PUT";
  ask.key = key;
  ask.fd = fd;
  ask.size_bytes = size_bytes;
  TRY_PLAIN(succeed(ask));
  return {};
}

/// CreateMultipartUpload, and the rest of it.
Status S3Client::put_parts(const std::string& key, int fd, std::uint64_t size_bytes) {
  // Noted before it exists: abort_leftovers() must not take it for somebody's who is gone.
  class Noted {
   public:
    Noted(S3Client& client, const std::string& key) : client_(client) {
      std::lock_guard lock(client_.mutex_);
      at_ = client_.under_way_.insert(key);
    }
    ~Noted() {
      std::lock_guard lock(client_.mutex_);
      client_.under_way_.erase(at_);
    }
    Noted(const Noted&) = delete;
    Noted& operator=(const Noted&) = delete;

   private:
    S3Client& client_;
    std::multiset<std::string>::iterator at_;
  } noted(*this, key);
  Ask begin;
  begin.method = "POST";
  begin.key = key;
  begin.query = {{"uploads", ""}};
  const auto id = TRY(parse_s3_upload_id(TRY_PLAIN(succeed(begin)).body), step(begin));
  auto sent = send_parts(key, id, fd, size_bytes);
  if (!sent.ok()) ignore(abort(key, id));  // the next clean-up does it otherwise; the first error is the one to tell
  return sent;
}

/// UploadPart, CompleteMultipartUpload
Status S3Client::send_parts(const std::string& key, const std::string& id, int fd, std::uint64_t size_bytes) {
  auto part_bytes = settings_.part_bytes;
  if (const auto least = (size_bytes + most_parts - 1) / most_parts; least > part_bytes) part_bytes = (least + mebibyte - 1) / mebibyte * mebibyte;
  std::vector<std::string> etags((size_bytes + part_bytes - 1) / part_bytes);
  TRY_PLAIN(image::side_by_side(etags.size(), parts_at_once, [&](std::size_t index) -> Status {
    Ask part;
    part.method = "PUT";
    part.key = key;
    part.query = {{"partNumber", concat(index + 1)}, {"uploadId", id}};
    part.fd = fd;
    part.offset = index * part_bytes;
    part.size_bytes = std::min(part_bytes, size_bytes - part.offset);
    const auto reply = TRY_PLAIN(succeed(part));
    const auto etag = reply.headers.find("etag");
    if (etag == reply.headers.end()) return Error(ErrorKind::corrupt, concat(step(part), ": the answer to a part has no ETag"));
    etags[index] = etag->second;
    return {};
  }));
  Ask complete;
  complete.method = "POST";
  complete.key = key;
  complete.query = {{"uploadId", id}};
  complete.body = write_s3_parts(etags);
  const auto reply = TRY_PLAIN(call(complete));
  // The answer to an earlier attempt may have been lost: then the upload is gone because the object is there.
  if (reply.status == 404 && TRY_PLAIN(has(key))) return {};
  // It may begin with 200 and end with an error.
  if (reply.status / 100 != 2 || !parse_s3_fault(reply.body).code.empty()) return error_of(complete, reply);
  return {};
}

/// AbortMultipartUpload
Status S3Client::abort(const std::string& key, const std::string& id) {
  Ask ask;
  ask.method = "DELETE";
  ask.key = key;
  ask.query = {{"uploadId", id}};
  const auto reply = TRY_PLAIN(call(ask));
  if (reply.status / 100 == 2 || reply.status == 404) return {};
  return error_of(ask, reply);
}

/// GetObject
Result<std::optional<std::string>> S3Client::get(std::string_view key) {
  Ask ask;
  ask.key = key;
  auto reply = TRY_PLAIN(call(ask));
  if (reply.status == 404) return std::optional<std::string>();
  if (reply.status / 100 != 2) return error_of(ask, reply);
  if (reply.body.size() > most_reply_bytes) return Error(ErrorKind::invalid, concat(step(ask), ": ", reply.body.size(), " bytes are no document"));
  return std::optional<std::string>(std::move(reply.body));
}

Status S3Client::get_file(std::string_view key, int fd, std::uint64_t first, std::uint64_t size_bytes, bool is_whole) {
  if (size_bytes == 0) return {};
  Ask ask;
  ask.key = key;
  ask.fd = fd;
  ask.size_bytes = size_bytes;
  if (!is_whole) ask.headers.emplace_back("range", concat("bytes=", first, "-", first + size_bytes - 1));
  const auto reply = TRY_PLAIN(succeed(ask));
  if (!is_whole && reply.status != 206) return Error(ErrorKind::corrupt, concat(step(ask), ": a range was asked for and status ", reply.status, " came"));
  const auto came = static_cast<std::uint64_t>(TRY(linux::fstat(fd), step(ask)).st_size);
  if (came != size_bytes) return Error(ErrorKind::corrupt, concat(step(ask), ": ", came, " bytes came, not ", size_bytes));
  return {};
}

/// DeleteObject
Status S3Client::remove(std::string_view key) {
  Ask ask;
  ask.method = "DELETE";
  ask.key = key;
  const auto reply = TRY_PLAIN(call(ask));
  if (reply.status / 100 == 2 || reply.status == 404) return {};
  return error_of(ask, reply);
}

/// ListObjectsV2
Result<std::vector<S3Object>> S3Client::list(std::string_view prefix) {
  std::vector<S3Object> out;
  std::string token;
  do {
    Ask ask;
    ask.of_bucket = true;
    ask.query = {{"list-type", "2"}, {"prefix", concat(settings_.prefix, prefix)}};
    if (!token.empty()) ask.query.emplace_back("continuation-token", token);
    auto page = TRY(parse_s3_page(TRY_PLAIN(succeed(ask)).body), step(ask));
    for (auto& object : page.objects) {
      if (!object.key.starts_with(settings_.prefix)) continue;
      object.key.erase(0, settings_.prefix.size());
      out.push_back(std::move(object));
    }
    if (!page.next.empty() && page.next == token) return Error(ErrorKind::corrupt, concat(step(ask), ": the list has no end"));
    token = std::move(page.next);
  } while (!token.empty());
  return out;
}

/// ListMultipartUploads
Result<std::size_t> S3Client::abort_leftovers(std::string_view prefix) {
  std::size_t count = 0;
  S3Uploads page;
  do {
    Ask ask;
    ask.of_bucket = true;
    ask.query = {{"prefix", concat(settings_.prefix, prefix)}, {"uploads", ""}};
    if (!page.next_key.empty()) {
      ask.query.emplace_back("key-marker", page.next_key);
      ask.query.emplace_back("upload-id-marker", page.next_id);
    }
    const auto before = page.next_key + page.next_id;
    page = TRY(parse_s3_uploads(TRY_PLAIN(succeed(ask)).body), step(ask));
    for (const auto& upload : page.uploads) {
      if (!upload.key.starts_with(settings_.prefix)) continue;
      const auto key = upload.key.substr(settings_.prefix.size());
      {
        std::lock_guard lock(mutex_);
        if (under_way_.count(key) != 0) continue;
      }
      TRY_PLAIN(abort(key, upload.id));
      ++count;
    }
    if (!page.next_key.empty() && page.next_key + page.next_id == before) return Error(ErrorKind::corrupt, concat(step(ask), ": the list has no end"));
  } while (!page.next_key.empty());
  return count;
}

std::string S3Client::presigned_url(std::string_view key, std::uint32_t seconds) const {
  Ask ask;
  ask.key = key;
  const auto request = request_of(ask);
  return concat(base_url_, s3_encode(request.path, true), "?", sign_query(request, settings_.keys, settings_.region, now_ns(), seconds));
}

}  // namespace caisson::registry

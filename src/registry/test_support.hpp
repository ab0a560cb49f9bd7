// What the registry's tests share: a registry in a folder of its own, requests in memory, and small images.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"
#include "registry/service.hpp"
#include "wire/http_server.hpp"

namespace caisson::registry {

/// What a request was answered.
struct Reply {
  int status = 0;
  wire::Headers headers;
  std::string body;
  [[nodiscard]] std::string header(std::string_view name) const {
    for (const auto& [key, value] : headers)
      if (key == name) return value;
    return {};
  }
  [[nodiscard]] std::size_t count(std::string_view name) const {
    std::size_t found = 0;
    for (const auto& header : headers)
      if (header.first == name) ++found;
    return found;
  }
  [[nodiscard]] json::value json() const { return parse_json(body, "answer").value(); }
  [[nodiscard]] std::string error_code() const {
    auto document = parse_json(body, "answer");
    if (!document.ok() || !document->as_object().contains("errors")) return {};
    return std::string(document->at("errors").at(0).at("code").as_string());
  }
};

class MemoryExchange final : public wire::Exchange {
 public:
  MemoryExchange(std::string method, std::string_view target, std::string_view body, wire::Headers headers)
      : method_(std::move(method)), headers_(std::move(headers)), body_(body) {
    auto halves = split_once(target, '?');
    path_ = halves.before;
    query_ = halves.after;
    peer_.address = "127.0.0.1:1";
  }
  Reply reply;

  [[nodiscard]] const std::string& method() const override { return method_; }
  [[nodiscard]] const std::string& path() const override { return path_; }
  [[nodiscard]] const std::string& query() const override { return query_; }
  [[nodiscard]] std::string_view header(std::string_view name) const override {
    for (const auto& [key, value] : headers_)
      if (lower(key) == lower(name)) return value;
    return {};
  }
  [[nodiscard]] const wire::Peer& peer() const override { return peer_; }
  Result<std::string> read_body(std::size_t limit) override {
    if (body_.size() > limit) return Error(ErrorKind::invalid, "request body too large");
    return std::exchange(body_, {});
  }
  Result<std::string> read_body_some() override { return std::exchange(body_, {}); }
  [[nodiscard]] Cancel cancel() const override { return {}; }
  Status respond(int status, const wire::Headers& headers, std::string_view body) override {
    reply = {status, headers, method_ == "HEAD" ? std::string() : std::string(body)};
    return {};
  }
  Status respond_file(int status, const wire::Headers& headers, int file, std::uint64_t offset, std::uint64_t size_bytes) override {
    std::string bytes(static_cast<std::size_t>(size_bytes), '\0');
    TRY_PLAIN(linux::pread(file, bytes, offset));
    return respond(status, headers, bytes);
  }
  Status begin(int, const wire::Headers&) override { return unused(); }
  Status write(std::string_view) override { return unused(); }
  Status end() override { return unused(); }
  Result<wire::Hijacked> hijack(std::string_view) override { return unused().error(); }
  Result<UniqueFd> hijack_through(std::string_view, std::unique_ptr<wire::Codec>) override { return unused().error(); }
  [[nodiscard]] bool answered() const override { return reply.status != 0; }

 private:
  static Status unused() { return Error(ErrorKind::internal, "the registry does not use this"); }
  std::string method_;
  std::string path_;
  std::string query_;
  wire::Headers headers_;
  std::string body_;
  wire::Peer peer_;
};

class RegistryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/caisson-registry-test-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    config.root = pattern;
    reopen();
  }
  void TearDown() override {
    service_.reset();
    ignore(linux::remove_tree(config.root));  // a folder of /tmp that is left over harms nobody
  }
  /// As after kill -9 and a new start, with `config` as it is now.
  void reopen() {
    service_.reset();
    auto opened = Service::open(config, std::move(prepared));
    prepared = {};
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    service_ = std::move(*opened);
  }
  Service& service() { return *service_; }
  Reply call(std::string method, std::string_view target, std::string_view body = "", wire::Headers headers = {}) {
    MemoryExchange exchange(std::move(method), target, body, std::move(headers));
    service_->api().handle(exchange);
    return exchange.reply;
  }
  std::string push_blob(std::string_view repository, std::string_view bytes) {
    auto digest = sha256_of(bytes).text();
    EXPECT_EQ(call("POST", concat("/v2/", repository, "/blobs/uploads/?digest=", digest), bytes).status, 201);
    return digest;
  }
  /// Pushes the parts and returns the manifest's text.
  std::string image_manifest(std::string_view repository, std::string_view config_text, const std::vector<std::string>& layers) {
    auto descriptor = [&](std::string_view type, std::string_view bytes) {
      return concat(R"({"mediaType":")", type, R"(","digest":")", push_blob(repository, bytes), R"(","size":)", bytes.size(), "}");
    };
    std::string text = concat(R"({"schemaVersion":2,"config":)", descriptor("application/vnd.oci.image.config.v1+json", config_text), R"(,"layers":[)");
    for (const auto& layer : layers) {
      if (text.back() != '[') text += ',';
      text += descriptor("application/vnd.oci.image.layer.v1.tar", layer);
    }
    return text + "]}";
  }
  std::string push_manifest(std::string_view repository, std::string_view tag) {
    auto text = image_manifest(repository, "config", {"layer"});
    auto put = call("PUT", concat("/v2/", repository, "/manifests/", tag), text, {{"Content-Type", "application/vnd.oci.image.manifest.v1+json"}});
    EXPECT_EQ(put.status, 201) << put.body;
    return put.header("Docker-Content-Digest");
  }
  CleanUp clean_up(std::int64_t grace_ns, bool untagged = false) {
    auto done = service_->clean_up({grace_ns, untagged});
    EXPECT_TRUE(done.ok()) << (done.ok() ? "" : done.error().text());
    return done.ok() ? *done : CleanUp{};
  }
  [[nodiscard]] std::size_t files_in(std::string_view folder) const { return linux::list_dir(concat(config.root, folder)).value().size(); }

  Config config;
  Prepared prepared;

 private:
  std::unique_ptr<Service> service_;
};

}  // namespace caisson::registry

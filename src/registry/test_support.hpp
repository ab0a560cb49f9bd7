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
#include "wire/fake_exchange.hpp"

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
    auto records = open_records(config, 0);
    ASSERT_TRUE(records.ok()) << records.error().text();
    auto opened = Service::open(config, std::move(*records), std::move(prepared));
    prepared = {};
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    service_ = std::move(*opened);
  }
  void close() { service_.reset(); }
  Service& service() { return *service_; }
  Reply call(std::string method, std::string_view target, std::string_view body = "", wire::Headers headers = {}) {
    wire::FakeExchange exchange(std::move(method), target, std::string(body), std::move(headers));
    exchange.who.address = "127.0.0.1:1";
    service_->api().handle(exchange);
    return {exchange.status, std::move(exchange.answer_headers), std::move(exchange.answer)};
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

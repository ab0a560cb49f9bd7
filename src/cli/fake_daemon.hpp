// A daemon for tests: answers on a unix socket with what the test says, and writes down what it was asked.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/main.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/tree.hpp"
#include "wire/http_server.hpp"

namespace caisson::cli {

struct RecordedRequest {
  std::string method;
  std::string path;  ///< without the version, percent-decoded
  std::map<std::string, std::vector<std::string>> query;
  std::string body;
};

class FakeDaemon {
 public:
  using Answer = std::function<void(wire::Exchange& exchange, const RecordedRequest& request)>;

  FakeDaemon() {
    folder_ = concat("/tmp/caisson-test-cli-", linux::getpid(), "-", now_ns());
    EXPECT_TRUE(linux::mkdir(folder_, 0700).ok());
    // Signals of the tests are for the command line's thread, which takes them by signalfd.
    EXPECT_TRUE(linux::signal_mask(SIG_BLOCK, {SIGTERM, SIGINT, SIGHUP, SIGWINCH}).ok());
    server_ = wire::create_server([this](wire::Exchange& exchange) { serve(exchange); }, {});
    auto listener = wire::listen_unix(folder_ + "/s", 0600, std::nullopt);
    EXPECT_TRUE(listener.ok()) << listener.error().text();
    EXPECT_TRUE(server_->add_listener(std::move(*listener)).ok());
    thread_ = std::thread([this] { EXPECT_TRUE(server_->run().ok()); });
  }
  ~FakeDaemon() {
    stop();
    ignore(linux::remove_tree(folder_));
  }
  /// Returns when no answer runs any more; what the answers refer to may go then.
  void stop() {
    if (!thread_.joinable()) return;
    server_->stop(30'000);
    thread_.join();
  }
  FakeDaemon(const FakeDaemon&) = delete;
  FakeDaemon& operator=(const FakeDaemon&) = delete;

  /// "POST /containers/create" and the like; an exact path, or a prefix that ends with "*".
  void on(const std::string& route, Answer answer) { routes_.emplace_back(route, std::move(answer)); }
  void on_json(const std::string& route, int status, const std::string& body) {
    on(route, [status, body](wire::Exchange& exchange, const RecordedRequest&) {
      ignore(exchange.respond(status, {{"Content-Type", "application/json"}}, body));
    });
  }

  std::vector<RecordedRequest> take_requests() {
    std::lock_guard lock(mutex_);
    return std::exchange(requests_, {});
  }
  [[nodiscard]] std::string endpoint() const { return "unix://" + folder_ + "/s"; }
  [[nodiscard]] const std::string& folder() const { return folder_; }

  struct Outcome {
    int code = 0;
    std::string out;
    std::string err;
  };
  /// Runs a whole command line against this daemon.
  Outcome run(std::vector<std::string> words) {
    words.insert(words.begin(), {"-H", endpoint()});
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    Outcome outcome;
    outcome.code = run_command_line(words);
    outcome.out = testing::internal::GetCapturedStdout();
    outcome.err = testing::internal::GetCapturedStderr();
    return outcome;
  }

 private:
  void serve(wire::Exchange& exchange) {
    RecordedRequest request;
    request.method = exchange.method();
    request.path = wire::percent_decode(exchange.path());
    if (request.path.starts_with("/v1.")) request.path.erase(0, request.path.find('/', 1));
    for (auto& [key, value] : wire::parse_query(exchange.query())) request.query[key].push_back(value);
    auto body = exchange.read_body(64 << 20);
    if (body.ok()) request.body = *body;
    {
      std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    std::string route = concat(request.method, " ", request.path);
    for (const auto& [pattern, answer] : routes_) {
      bool matches = pattern.ends_with("*") ? route.starts_with(std::string_view(pattern).substr(0, pattern.size() - 1)) : route == pattern;
      if (!matches) continue;
      answer(exchange, request);
      return;
    }
    ignore(exchange.respond(404, {{"Content-Type", "application/json"}}, R"({"message":"page not found"})"));
  }

  std::string folder_;
  std::unique_ptr<wire::Server> server_;
  std::thread thread_;
  std::mutex mutex_;
  std::vector<RecordedRequest> requests_;
  std::vector<std::pair<std::string, Answer>> routes_;
};

/// One frame of docker's multiplexed stream.
inline std::string frame(int stream, std::string_view payload) {
  auto size = static_cast<std::uint32_t>(payload.size());
  std::string out{static_cast<char>(stream), 0, 0, 0};
  for (int shift : {24, 16, 8, 0}) out += static_cast<char>(size >> shift & 0xFF);
  return out + std::string(payload);
}

/// tests/data/cli, wherever this source tree is.
inline std::string test_data(std::string_view name) {
  std::string here = __FILE__;
  return concat(here.substr(0, here.rfind("/src/cli/")), "/tests/data/cli/", name);
}

}  // namespace caisson::cli

// One HTTP request at a time, blocking, over libcurl: the only file that knows it. Connections are kept for the next request.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::fetch {

/// Of the server that is asked.
struct HttpSettings {
  std::uint32_t connect_timeout_ms = 10'000;
  std::uint32_t stall_timeout_ms = 30'000;
  std::string user_agent;
  bool skip_verify = false;
  std::string ca_pem;
  std::string client_certificate_pem;
  std::string client_key_pem;
};

struct HttpReply {
  int status = 0;
  std::map<std::string, std::string> headers;  ///< names in lower case; several of one name joined by ", "
  std::string body;                            ///< empty when it went to the sink
  std::string url;                             ///< where it came from in the end
  [[nodiscard]] std::string header(const std::string& name) const;
};

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;
  std::string body;
  int upload_fd = -1;               ///< borrowed; else `body` is sent
  std::uint64_t upload_offset = 0;
  std::uint64_t upload_bytes = 0;
  bool follows_redirects = true;    ///< never to another scheme than https from https; Authorization stays with its host
  std::size_t most_body_bytes = 4 << 20;
  /// Gets the body of a successful answer piece by piece, instead of HttpReply::body. An error ends the transfer and is returned.
  std::function<Status(const HttpReply& head, std::string_view piece)> sink;
  std::function<void(std::uint64_t sent_bytes)> on_sent;
  const std::atomic<bool>* cancelled = nullptr;  ///< borrowed
};

/// Thread-safe.
class HttpClient {
 public:
  HttpClient();
  ~HttpClient();
  /// An answer of any status is a success. Errors: unavailable (no such host, nobody listens, cut off; in docker's words), timeout,
  /// denied (certificate), invalid (more than most_body_bytes), and the sink's.
  Result<HttpReply> perform(const HttpSettings& settings, const HttpRequest& request);

 private:
  struct Handle;
  std::unique_ptr<Handle> take();
  void give_back(std::unique_ptr<Handle> handle);
  std::mutex mutex_;
  std::vector<std::unique_ptr<Handle>> idle_;
};

}  // namespace caisson::fetch

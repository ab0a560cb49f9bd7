// One call of the command line: where it prints, which daemon it talks to, and how it asks it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/daemon.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"
#include "wire/http_client.hpp"

namespace caisson::cli {

/// What the daemon answered to one request, whole.
struct Reply {
  int status = 0;
  std::string body;
};

class Session {
 public:
  /// `global`: the flags before the command; copied. The descriptors are borrowed.
  explicit Session(const Invocation& global, int out_fd = 1, int err_fd = 2);

  Output& out() { return out_; }
  Output& err() { return err_; }
  [[nodiscard]] const Invocation& global() const { return global_; }

  /// A new connection; starts the daemon when none answers on the default endpoint.
  /// Errors: unavailable in docker's words ("Cannot connect to the … daemon at …").
  Result<std::unique_ptr<wire::Client>> connect();
  /// The same, but never starts a daemon and gives up after `timeout_ms`; for completion.
  Result<std::unique_ptr<wire::Client>> connect_quickly(int timeout_ms);

  /// Asks on a kept connection and reads the whole answer. `body` null: none. Status 400 and above become errors:
  /// "Error response from daemon: …", with the kind of the status (404 not_found, 409 conflict, …). `more`: headers beside the usual ones.
  Result<Reply> call(std::string_view method, std::string_view target, const json::value* body = nullptr, const wire::Headers& more = {});
  /// The answer's body as JSON (null when empty).
  Result<json::value> get(std::string_view target);
  Result<json::value> post(std::string_view target, const json::value* body = nullptr);

  /// Asks on `client` and reads the head only; the answer's body is to be streamed. Errors as call().
  /// `more`: headers beside the usual ones.
  Result<wire::ClientResponse> open_stream(wire::Client& client, std::string_view method, std::string_view target, const json::value* body = nullptr,
                                           const wire::Headers& more = {});
  /// Sends `source_fd` to its end as a chunked body and reads the head.
  Result<wire::ClientResponse> upload(wire::Client& client, std::string_view target, int source_fd, std::string_view method = "POST", const wire::Headers& further = {});
  /// The same with what `write` sends to a descriptor, in a thread of its own: a socket, not a pipe, so that a daemon that refuses early costs no SIGPIPE.
  /// Both outcomes: when both failed, the daemon's refusal is mostly the cause.
  struct Upload {
    Result<wire::ClientResponse> answered;
    Status written;
  };
  Result<Upload> upload_written(wire::Client& client, std::string_view target, const std::function<Status(int fd)>& write, std::string_view method = "POST",
                                const wire::Headers& further = {});
  /// Asks for docker's upgraded stream; the client is used up. Errors as call().
  struct Stream {
    wire::Hijacked connection;
    bool is_multiplexed = false;  ///< framed, by the answer's content type
  };
  Result<Stream> hijack(std::unique_ptr<wire::Client> client, std::string_view target, const json::value* body = nullptr);
  /// Its halves, and those of open_stream(): two requests on two connections cost one round trip. Errors as call().
  Status begin_hijack(wire::Client& client, std::string_view target, const json::value* body = nullptr);
  Result<Stream> finish_hijack(std::unique_ptr<wire::Client> client);
  Status begin_stream(wire::Client& client, std::string_view method, std::string_view target, const json::value* body = nullptr,
                      const wire::Headers& more = {});
  Result<wire::ClientResponse> finish_stream(wire::Client& client);

  /// The daemon's endpoint, as chosen from -H, CAISSON_HOST or the defaults.
  [[nodiscard]] std::string endpoint() const;

  /// The path of the last request that was answered with "not found"; "" when there was none.
  [[nodiscard]] const std::string& missing_target() const { return missing_target_; }

 private:
  Error refused(int status, std::string_view body);
  Result<std::unique_ptr<wire::Client>> connect_to(const Endpoint& endpoint, int timeout_ms);

  Invocation global_;
  std::optional<wire::TlsContext> tls_;  ///< made for the first connection that needs it
  Output out_;
  Output err_;
  std::unique_ptr<wire::Client> kept_;
  std::string target_;          ///< of the request that was sent last
  std::string missing_target_;
};

/// The error behind a failed answer: its {"message"} (and {"hint"}), or its plain text.
Error daemon_error(int status, std::string_view body);

/// Prints docker's kind of error: text as it is, then "hint: …" on a line of its own.
void print_error(Output& err, const Error& error);
/// The same; when the daemon knows no such object but one with a name near to it, that one is the hint.
void print_error(Session& session, const Error& error);

}  // namespace caisson::cli

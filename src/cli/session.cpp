// Talking to the daemon.
#include "cli/session.hpp"

#include <thread>

#include "base/strings.hpp"
#include "cli/daemon.hpp"
#include "cli/dial.hpp"
#include "cli/suggest.hpp"
#include "linux/socket.hpp"

namespace caisson::cli {

namespace {

// What this client speaks; the daemon's router takes any version between its own bounds (docker-api.md section 1).
constexpr std::string_view api_prefix = "/v1.45";
constexpr int connect_timeout_ms = 10'000;

// Docker's routes carry the version; ours ("/caisson/v1/…") have their own.
std::string versioned(std::string_view target) { return target.starts_with("/caisson/") ? std::string(target) : concat(api_prefix, target); }

wire::Headers headers_for(const json::value* body) {
  wire::Headers headers = {{"User-Agent", "caisson/" CAISSON_VERSION}};
  if (body != nullptr) headers.emplace_back("Content-Type", "application/json");
  return headers;
}

ErrorKind kind_of_status(int status) {
  switch (status) {
    case 400: return ErrorKind::invalid;
    case 401:
    case 403: return ErrorKind::denied;
    case 404: return ErrorKind::not_found;
    case 409: return ErrorKind::conflict;
    case 501: return ErrorKind::unsupported;
    case 503: return ErrorKind::unavailable;
    case 504: return ErrorKind::timeout;
    default: return ErrorKind::internal;
  }
}

Error lost(const std::string& endpoint, const Error& error) {
  return Error(error.kind(), concat("lost the connection to the daemon at ", endpoint, ": ", error.text()), error.error_number());
}

}  // namespace

Error daemon_error(int status, std::string_view body) {
  std::string message(trim(body));
  std::string hint;
  if (auto parsed = parse_json(body, "answer"); parsed.ok() && parsed->is_object()) {
    JsonView view(*parsed);
    std::string field;
    if (view.read("message", field).ok() && !field.empty()) message = field;
    ignore(view.read("hint", hint));  // ours alone sends one; anything else there is no hint
  }
  if (message.empty()) message = concat("the daemon answered with HTTP status ", status, " and no explanation");
  Error error(kind_of_status(status), concat("Error response from daemon: ", message));
  if (!hint.empty()) return std::move(error).with_hint(std::move(hint));
  return error;
}

void print_error(Output& err, const Error& error) {
  err.line(error.text());
  if (!error.hint().empty()) err.line(concat("hint: ", error.hint()));
  ignore(err.flush());  // nowhere left to complain
}

void print_error(Session& session, const Error& error) { print_error(session.err(), with_suggestion(session, error)); }

Session::Session(const Invocation& global, int out_fd, int err_fd) : global_(global), out_(out_fd), err_(err_fd) {}

std::string Session::endpoint() const {
  auto endpoint = choose_endpoint(global_);
  return endpoint.ok() ? endpoint->address : "";
}

Result<std::unique_ptr<wire::Client>> Session::connect_to(const Endpoint& endpoint, int timeout_ms) {
  if (endpoint.address.starts_with("ssh://")) return connect_by_ssh(endpoint.address);
  const bool uses_tls = endpoint.tls && !endpoint.address.starts_with("unix:");
  if (uses_tls && !tls_) tls_ = TRY_PLAIN(wire::TlsContext::create_client(*endpoint.tls));
  return wire::connect(endpoint.address, timeout_ms, uses_tls ? &*tls_ : nullptr);
}

Result<std::unique_ptr<wire::Client>> Session::connect() {
  Endpoint endpoint = TRY_PLAIN(choose_endpoint(global_));
  auto client = connect_to(endpoint, connect_timeout_ms);
  if (client.ok()) return client;
  bool nobody_listens = client.error().kind() == ErrorKind::not_found || client.error().kind() == ErrorKind::unavailable;
  if (!nobody_listens || !endpoint.may_start) return cannot_connect(endpoint, client.error());
  TRY_PLAIN(start_daemon(endpoint, global_, err_));
  client = connect_to(endpoint, connect_timeout_ms);
  if (!client.ok()) return cannot_connect(endpoint, client.error());
  return client;
}

Result<std::unique_ptr<wire::Client>> Session::connect_quickly(int timeout_ms) {
  Endpoint endpoint = TRY_PLAIN(choose_endpoint(global_));
  if (endpoint.address.starts_with("ssh://")) return Error(ErrorKind::unavailable, "ssh takes its time, and may ask for a password");
  return connect_to(endpoint, timeout_ms);
}

Error Session::refused(int status, std::string_view body) {
  if (status == 404) missing_target_ = target_;
  return daemon_error(status, body);
}

Result<wire::ClientResponse> Session::open_stream(wire::Client& client, std::string_view method, std::string_view target, const json::value* body,
                                                  const wire::Headers& more) {
  TRY_PLAIN(begin_stream(client, method, target, body, more));
  return finish_stream(client);
}

Status Session::begin_stream(wire::Client& client, std::string_view method, std::string_view target, const json::value* body, const wire::Headers& more) {
  target_ = target;
  std::string text = body != nullptr ? to_text(*body) : "";
  auto headers = headers_for(body);
  headers.insert(headers.end(), more.begin(), more.end());
  auto sent = client.begin(method, versioned(target), headers, text);
  if (!sent.ok()) return lost(endpoint(), sent.error());
  return {};
}

Result<wire::ClientResponse> Session::finish_stream(wire::Client& client) {
  auto response = client.finish();
  if (!response.ok()) return lost(endpoint(), response.error());
  if (response->status < 400) return response;
  std::string answer = std::move(client.read_all()).value_or("");
  return refused(response->status, answer);
}

Result<wire::ClientResponse> Session::upload(wire::Client& client, std::string_view target, int source_fd, std::string_view method, const wire::Headers& further) {
  target_ = target;
  wire::Headers headers = headers_for(nullptr);
  headers.emplace_back("Content-Type", "application/x-tar");
  headers.insert(headers.end(), further.begin(), further.end());
  auto response = client.send_stream(method, versioned(target), headers, source_fd);
  if (!response.ok()) return lost(endpoint(), response.error());
  if (response->status < 400) return response;
  std::string answer = std::move(client.read_all()).value_or("");
  return refused(response->status, answer);
}

Result<Session::Upload> Session::upload_written(wire::Client& client, std::string_view target, const std::function<Status(int fd)>& write, std::string_view method,
                                                const wire::Headers& further) {
  auto ends = TRY_PLAIN(linux::socketpair(linux::UnixType::stream));
  Status written;
  std::thread writer([&] {
    written = write(ends.second.get());
    ends.second.reset();
  });
  auto answered = upload(client, target, ends.first.get(), method, further);
  ends.first.reset();  // a daemon that refuses reads no further, and a writer that has more to say must end
  writer.join();
  return Upload{std::move(answered), std::move(written)};
}

Result<Reply> Session::call(std::string_view method, std::string_view target, const json::value* body, const wire::Headers& more) {
  if (!kept_) kept_ = TRY_PLAIN(connect());
  auto response = open_stream(*kept_, method, target, body, more);
  if (!response.ok()) {
    // After a broken connection the next call must not use it again; after an ordinary error it is clean.
    if (response.error().kind() == ErrorKind::io || response.error().kind() == ErrorKind::corrupt) kept_.reset();
    return std::move(response).error();
  }
  Reply reply;
  reply.status = response->status;
  bool has_no_body = reply.status == 204 || reply.status == 304 || method == "HEAD";
  if (!has_no_body) {
    auto text = kept_->read_all();
    if (!text.ok()) {
      kept_.reset();
      return lost(endpoint(), text.error());
    }
    reply.body = std::move(text).value();
  }
  return reply;
}

Result<json::value> Session::get(std::string_view target) {
  Reply reply = TRY_PLAIN(call("GET", target));
  if (trim(reply.body).empty()) return json::value();
  return parse_json(reply.body, "the daemon's answer");
}

Result<json::value> Session::post(std::string_view target, const json::value* body) {
  Reply reply = TRY_PLAIN(call("POST", target, body));
  if (trim(reply.body).empty()) return json::value();
  return parse_json(reply.body, "the daemon's answer");
}

Result<Session::Stream> Session::hijack(std::unique_ptr<wire::Client> client, std::string_view target, const json::value* body) {
  TRY_PLAIN(begin_hijack(*client, target, body));
  return finish_hijack(std::move(client));
}

Status Session::begin_hijack(wire::Client& client, std::string_view target, const json::value* body) {
  target_ = target;
  std::string text = body != nullptr ? to_text(*body) : "";
  wire::Headers headers = headers_for(body);
  headers.emplace_back("Connection", "Upgrade");
  headers.emplace_back("Upgrade", "tcp");
  auto sent = client.begin("POST", versioned(target), headers, text);
  if (!sent.ok()) return lost(endpoint(), sent.error());
  return {};
}

Result<Session::Stream> Session::finish_hijack(std::unique_ptr<wire::Client> client) {
  auto response = client->finish();
  if (!response.ok()) return lost(endpoint(), response.error());
  if (response->status != 101 && response->status != 200) {
    std::string answer = std::move(client->read_all()).value_or("");
    return refused(response->status, answer);
  }
  Stream stream;
  stream.is_multiplexed = response->header("Content-Type").find("multiplexed-stream") != std::string_view::npos;
  stream.connection = client->release();
  return stream;
}

}  // namespace caisson::cli

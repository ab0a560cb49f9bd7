// Reading and answering one API call.
#include "api/request.hpp"

#include "api/api.hpp"
#include "base/strings.hpp"

namespace caisson::api {

wire::Headers common_headers() {
  return {{"Api-Version", std::string(api_version)},
          {"Docker-Experimental", "false"},
          {"Ostype", "linux"},
          {"Server", "Caisson/" CAISSON_VERSION " (linux)"}};
}

int http_status(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid: return 400;
    case ErrorKind::not_found: return 404;
    case ErrorKind::conflict: return 409;
    case ErrorKind::denied: return 403;
    case ErrorKind::unsupported: return 501;
    case ErrorKind::unavailable: return 503;
    case ErrorKind::timeout: return 504;
    case ErrorKind::corrupt:
    case ErrorKind::io:
    case ErrorKind::internal: return 500;
  }
  return 500;
}

Result<json::value> Request::read_json() {
  // Only a body that says it is something else is refused; `curl -d` says form-urlencoded, and Docker refuses it as well.
  const std::string type = lower(trim(split_once(exchange.header("Content-Type"), ';').before));
  if (!type.empty() && type != "application/json")
    return Error(ErrorKind::invalid, concat("unsupported Content-Type header (", type, "): must be 'application/json'"));
  std::string body = TRY_PLAIN(exchange.read_body(max_json_body_bytes));
  if (trim(body).empty()) return Error(ErrorKind::invalid, "invalid JSON: got EOF while reading request body");
  auto document = parse_json(body, "request body");
  if (!document.ok()) return Error(ErrorKind::invalid, concat("invalid JSON: ", document.error().text()));
  return document;
}

Result<json::value> Request::read_optional_json() {
  std::string body = TRY_PLAIN(exchange.read_body(max_json_body_bytes));
  if (trim(body).empty()) return json::value(nullptr);
  auto document = parse_json(body, "request body");
  if (!document.ok()) return Error(ErrorKind::invalid, concat("invalid JSON: ", document.error().text()));
  return document;
}

bool Request::wants_upgrade() const {
  return lower(exchange.header("Connection")).find("upgrade") != std::string::npos && lower(exchange.header("Upgrade")) == "tcp";
}

Status Request::reply_json(int status, const json::value& body) {
  auto headers = common_headers();
  headers.emplace_back("Content-Type", "application/json");
  return exchange.respond(status, headers, to_text(body) + "\n");
}

Status Request::reply_text(int status, std::string_view text) {
  auto headers = common_headers();
  headers.emplace_back("Content-Type", "text/plain; charset=utf-8");
  return exchange.respond(status, headers, text);
}

Status Request::reply_empty(int status) { return exchange.respond(status, common_headers(), ""); }

Status Request::reply_error(int status, std::string_view text, std::string_view hint) {
  json::object body{{"message", text}};
  if (!hint.empty()) body["hint"] = hint;
  return reply_json(status, body);
}

Status Request::reply_error(const Error& error) { return reply_error(http_status(error.kind()), error.text(), error.hint()); }

Status Request::begin(int status, std::string_view content_type) {
  auto headers = common_headers();
  if (!content_type.empty()) headers.emplace_back("Content-Type", std::string(content_type));
  return exchange.begin(status, headers);
}

}  // namespace caisson::api

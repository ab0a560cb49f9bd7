// One API call: who asks, for what, in which version; and the ways to answer it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/query.hpp"
#include "base/json.hpp"
#include "base/result.hpp"
#include "build/builder.hpp"
#include "engine/engine.hpp"
#include "wire/http_server.hpp"

namespace caisson::api {

/// "1.45" as a number that compares: 1045.
struct Version {
  int number = 1045;
  friend auto operator<=>(const Version&, const Version&) = default;
};
inline constexpr Version version_1_28{1028};
inline constexpr Version version_1_42{1042};
inline constexpr Version version_1_44{1044};

inline constexpr std::size_t max_json_body_bytes = 8 << 20;  ///< a create with a seccomp profile and many labels is far below

/// Everything a handler needs. Handlers return an error to have it answered (if nothing was answered yet).
struct Request {
  wire::Exchange& exchange;
  engine::Engine& engine;
  build::Builder& builder;
  engine::Caller caller;
  Version version;
  std::string name;   ///< the {name} of the route, percent-decoded
  Query query;

  /// The whole body as JSON. Errors: invalid (empty, not JSON, not application/json, too large).
  Result<json::value> read_json();
  /// The same for bodies that may be absent: null then.
  Result<json::value> read_optional_json();

  /// The client asked to leave HTTP: "Connection: Upgrade" and "Upgrade: tcp".
  [[nodiscard]] bool wants_upgrade() const;

  Status reply_json(int status, const json::value& body);
  Status reply_text(int status, std::string_view text);
  Status reply_empty(int status);
  /// {"message": text}. `hint` goes into a field of its own.
  Status reply_error(int status, std::string_view text, std::string_view hint = {});
  Status reply_error(const Error& error);
  /// Sends the head at once; write and end follow on `exchange`.
  Status begin(int status, std::string_view content_type);
};

/// Headers that every answer carries.
wire::Headers common_headers();
int http_status(ErrorKind kind);

using Handle = Status (*)(Request&);

}  // namespace caisson::api

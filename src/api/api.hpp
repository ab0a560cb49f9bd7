// The Docker Engine API over an Engine: translate, authenticate, stream; no logic.
#pragma once

#include <string>

#include "build/builder.hpp"
#include "engine/engine.hpp"
#include "wire/http_server.hpp"

namespace caisson::api {

inline constexpr std::string_view api_version = "1.45";
inline constexpr std::string_view min_api_version = "1.24";

struct ApiOptions {
  /// Shown as the source of a caller: "unix:/run/caisson.sock".
  std::string unix_source = "unix";
};

/// The handler of the whole API. `engine` and `builder` must outlive it. Thread-safe; each call blocks for as long as its request lives.
wire::Handler create_api(engine::Engine& engine, build::Builder& builder, ApiOptions options);

}  // namespace caisson::api

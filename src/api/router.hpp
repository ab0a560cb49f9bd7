// From method and path to a handler: versions, names with slashes, and Docker's answers for what does not exist.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "api/request.hpp"

namespace caisson::api {

/// `pattern`: "/containers/{name}/json"; {name} takes one or more characters, slashes too (image names hold them). The first
/// route that fits wins, so longer suffixes stand in front.
struct Route {
  std::string_view method;
  std::string_view pattern;
  Handle handle;
};

/// What the path says about versions. Errors: invalid, with Docker's texts for too old and too new.
struct VersionedPath {
  std::optional<Version> version;
  std::string path;  ///< without the version, still percent-encoded
};
Result<VersionedPath> split_version(std::string_view path);

struct Match {
  const Route* route = nullptr;
  std::string name;  ///< decoded
};
/// Nothing when no route fits (a wrong method is the same to Docker: 404, never 405).
std::optional<Match> match(std::span<const Route> routes, std::string_view method, std::string_view path);

/// All routes of the API, in order.
std::span<const Route> all_routes();

}  // namespace caisson::api

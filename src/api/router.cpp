// Matching of methods and paths.
#include "api/router.hpp"

#include "api/api.hpp"
#include "base/strings.hpp"

namespace caisson::api {

namespace {

std::optional<Version> read_version(std::string_view text) {
  auto halves = split_once(text, '.');
  auto major = parse_integer<std::uint16_t>(halves.before);
  auto minor = parse_integer<std::uint16_t>(halves.after);
  if (!halves.found || !major.ok() || !minor.ok() || *minor > 999) return std::nullopt;
  return Version{*major * 1000 + *minor};
}

/// The text between the pattern's prefix and suffix, or nothing.
std::optional<std::string_view> capture(std::string_view pattern, std::string_view path) {
  const auto open = pattern.find('{');
  if (open == std::string_view::npos) return path == pattern ? std::optional<std::string_view>("") : std::nullopt;
  const auto prefix = pattern.substr(0, open);
  const auto suffix = pattern.substr(pattern.find('}') + 1);
  if (path.size() <= prefix.size() + suffix.size() || !path.starts_with(prefix) || !path.ends_with(suffix)) return std::nullopt;
  return path.substr(prefix.size(), path.size() - prefix.size() - suffix.size());
}

}  // namespace

Result<VersionedPath> split_version(std::string_view path) {
  VersionedPath result;
  result.path = path;
  if (!path.starts_with("/v")) return result;
  const auto slash = path.find('/', 2);
  const auto version = read_version(path.substr(2, slash == std::string_view::npos ? slash : slash - 2));
  if (!version || slash == std::string_view::npos) return result;  // "/volumes" begins with /v too
  const std::string_view text = path.substr(2, slash - 2);
  if (*version < *read_version(min_api_version))
    return Error(ErrorKind::invalid, concat("client version ", text, " is too old. Minimum supported API version is ", min_api_version,
                                            ", please upgrade your client to a newer version"));
  if (*version > *read_version(api_version))
    return Error(ErrorKind::invalid, concat("client version ", text, " is too new. Maximum supported API version is ", api_version));
  result.version = version;
  result.path = path.substr(slash);
  return result;
}

std::optional<Match> match(std::span<const Route> routes, std::string_view method, std::string_view path) {
  if (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  for (const auto& route : routes) {
    if (route.method != method) continue;
    if (auto name = capture(route.pattern, path)) return Match{&route, wire::percent_decode(*name)};
  }
  return std::nullopt;
}

}  // namespace caisson::api

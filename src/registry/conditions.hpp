// Conditional requests (RFC 9110, 13): lists of entity tags.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/strings.hpp"

namespace caisson::registry {

/// Whether a list of entity tags ("\"a\", W/\"b\"" or "*") holds `etag`. An empty header holds nothing.
inline bool matches_etag(std::string_view header, std::string_view etag) {
  if (trim(header) == "*") return true;
  for (auto one : split(header, ',')) {
    one = trim(one);
    if (one.starts_with("W/")) one.remove_prefix(2);
    if (!one.empty() && one == etag) return true;
  }
  return false;
}

/// The tag itself: "\"x\"" → "x"; "*" stays. None for an empty header.
inline std::optional<std::string> only_etag(std::string_view header) {
  header = trim(header);
  if (header.starts_with("W/")) header.remove_prefix(2);
  if (header.empty()) return std::nullopt;
  if (header.size() >= 2 && header.front() == '"' && header.back() == '"') header = header.substr(1, header.size() - 2);
  return std::string(header);
}

}  // namespace caisson::registry

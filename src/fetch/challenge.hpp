// The small texts of HTTP that a registry's answers are made of. Pure parsers of hostile text; fuzzed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::fetch {

/// One challenge of a WWW-Authenticate header.
struct Challenge {
  std::string scheme;                             ///< lower case: "bearer", "basic"
  std::map<std::string, std::string> parameters;  ///< names in lower case: realm, service, scope
  [[nodiscard]] std::string get(const std::string& name) const;
};
/// RFC 9110, 11.6.1: several challenges may stand in one header. What cannot be understood is left out.
std::vector<Challenge> parse_challenges(std::string_view header);

/// "bytes 100-199/200" of a 206. Nothing when it is something else.
struct ContentRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::optional<std::uint64_t> total;
};
std::optional<ContentRange> parse_content_range(std::string_view header);

/// "0-1023" (or "bytes=0-1023") of an upload's status: how many bytes the registry has. "0-0" is what a fresh upload says as well as one of
/// one byte: 0.
std::uint64_t parse_upload_range(std::string_view header);

/// Retry-After in its form of seconds; nothing for a date or anything else.
std::optional<std::uint32_t> parse_retry_after(std::string_view header);

/// A URL as far as we look into one.
struct Url {
  std::string scheme;  ///< "http" or "https"
  std::string host;    ///< with its port, as written
  std::string path;    ///< "/…", with the query
  [[nodiscard]] std::string origin() const { return scheme + "://" + host; }
  [[nodiscard]] std::string text() const { return origin() + path; }
  [[nodiscard]] std::string host_without_port() const;
};
/// Errors: invalid (another scheme, user information in it, no host, blanks or control characters).
Result<Url> parse_url(std::string_view text);
/// What `location` means in an answer of `base`. Errors: invalid.
Result<Url> resolve_location(const Url& base, std::string_view location);
/// The target of `Link: <…>; rel="next"`, or "".
std::string next_link(std::string_view header);

/// Everything but RFC 3986's unreserved characters as %XX.
std::string percent_encode(std::string_view text);

/// The first error of a registry's {"errors":[{code,message}]}: its code, and docker's line "manifest unknown: manifest unknown".
struct RegistryError {
  std::string code;
  std::string text;
};
std::optional<RegistryError> parse_registry_error(std::string_view body);

}  // namespace caisson::fetch

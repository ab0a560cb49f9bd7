// Who asks, and what they may do: htpasswd users or bearer tokens, and rules over repositories.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "registry/answer.hpp"
#include "registry/htpasswd.hpp"
#include "registry/token.hpp"

namespace caisson::registry {

enum class Right : std::uint8_t { pull, push, remove, list };  ///< list: the catalog of all repositories

/// One rule: these users may do that in these repositories.
struct AccessRule {
  std::vector<std::string> repositories;  ///< names, or prefixes ending in "*"
  std::vector<std::string> users;         ///< names; "*": everybody who is known; "anonymous": everybody
  std::vector<Right> rights;
};

struct AccessOptions {
  std::string realm = "Caisson registry";
  std::unique_ptr<Htpasswd> htpasswd;  ///< none: nobody is known by a password
  std::optional<TokenRules> token;
  std::vector<AccessRule> rules;  ///< none: whoever is known may do everything
};

struct Caller {
  std::string name;       ///< "" for nobody
  bool is_known = false;
  std::optional<std::vector<Grant>> grants;  ///< of a token, which alone decides
};

/// Thread-safe.
class Access {
 public:
  explicit Access(AccessOptions options) : options_(std::move(options)) {}

  [[nodiscard]] bool is_open() const { return !options_.htpasswd && !options_.token; }
  /// From the request's Authorization header; nobody without one. Errors: denied (wrong password, bad token).
  Result<Caller> identify(std::string_view authorization);
  [[nodiscard]] bool may(const Caller& caller, Right right, std::string_view repository) const;
  /// 401 with the challenge for what was asked, or 403 for somebody who is known and has not the right.
  [[nodiscard]] Answer refusal(const Caller& caller, Right right, std::string_view repository) const;
  /// 401 for credentials that are wrong.
  [[nodiscard]] Answer challenge(std::string_view scope, std::string_view error, std::string why) const;

 private:
  AccessOptions options_;
};

/// "team/app" against "team/app", "team/*" or "*".
bool matches_pattern(std::string_view pattern, std::string_view repository);
/// "pull", "push", "delete", "list". Errors: invalid.
Result<Right> parse_right(std::string_view text);
std::string_view action_of(Right right);

}  // namespace caisson::registry

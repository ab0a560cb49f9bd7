// Basic and bearer authorization, and the rules.
#include "registry/access.hpp"

#include <algorithm>

#include "base/strings.hpp"

namespace caisson::registry {

bool matches_pattern(std::string_view pattern, std::string_view repository) {
  if (pattern.ends_with('*')) return repository.starts_with(pattern.substr(0, pattern.size() - 1));
  return pattern == repository;
}

std::string_view action_of(Right right) {
  switch (right) {
    case Right::pull: return "pull";
    case Right::push: return "push";
    case Right::remove: return "delete";
    case Right::list: return "list";
  }
  return "pull";
}

Result<Right> parse_right(std::string_view text) {
  for (auto right : {Right::pull, Right::push, Right::remove, Right::list})
    if (text == action_of(right)) return right;
  return Error(ErrorKind::invalid, concat("\"", text, "\" is no right")).with_hint("use pull, push, delete or list");
}

Result<Caller> Access::identify(std::string_view authorization) {
  if (authorization.empty() || is_open()) return Caller{};
  const auto halves = split_once(authorization, ' ');
  const auto scheme = lower(halves.before);
  if (scheme == "basic" && options_.htpasswd) {
    auto text = base64_decode(trim(halves.after));
    if (!text.ok()) return Error(ErrorKind::denied, "the credentials are not base64");
    const auto pair = split_once(*text, ':');
    if (!options_.htpasswd->accepts(std::string(pair.before), std::string(pair.after))) return Error(ErrorKind::denied, "unknown user or wrong password");
    return Caller{std::string(pair.before), true, std::nullopt};
  }
  if (scheme == "bearer" && options_.token) {
    auto token = TRY_PLAIN(verify_token(trim(halves.after), *options_.token, now_ns()));
    return Caller{std::move(token.subject), true, std::move(token.grants)};
  }
  return Error(ErrorKind::denied, concat("authorization by \"", halves.before, "\" is not known here"));
}

bool Access::may(const Caller& caller, Right right, std::string_view repository) const {
  if (is_open()) return true;
  if (caller.grants) {
    const std::string_view type = right == Right::list ? "registry" : "repository";
    const std::string_view name = right == Right::list ? "catalog" : repository;
    const std::string_view action = right == Right::list ? "*" : action_of(right);
    return std::any_of(caller.grants->begin(), caller.grants->end(), [&](const Grant& grant) {
      return grant.type == type && grant.name == name && std::any_of(grant.actions.begin(), grant.actions.end(), [&](const auto& one) { return one == action || one == "*"; });
    });
  }
  if (options_.rules.empty()) return caller.is_known;
  return std::any_of(options_.rules.begin(), options_.rules.end(), [&](const AccessRule& rule) {
    if (std::find(rule.rights.begin(), rule.rights.end(), right) == rule.rights.end()) return false;
    const bool is_meant = std::any_of(rule.users.begin(), rule.users.end(),
                                      [&](const auto& user) { return user == "anonymous" || (caller.is_known && (user == "*" || user == caller.name)); });
    // The catalog is no repository: a rule about it names it by the right alone.
    return is_meant && (right == Right::list || std::any_of(rule.repositories.begin(), rule.repositories.end(), [&](const auto& pattern) { return matches_pattern(pattern, repository); }));
  });
}

Answer Access::challenge(std::string_view scope, std::string_view error, std::string why) const {
  auto answer = refuse(401, code::unauthorized, std::move(why));
  if (options_.token) {
    auto text = concat("Bearer realm=\"", options_.token->realm, "\",service=\"", options_.token->service, "\"");
    if (!scope.empty()) text += concat(",scope=\"", scope, "\"");
    if (!error.empty()) text += concat(",error=\"", error, "\"");
    answer.with("WWW-Authenticate", std::move(text));
  } else {
    answer.with("WWW-Authenticate", concat("Basic realm=\"", options_.realm, "\""));
  }
  return answer;
}

Answer Access::refusal(const Caller& caller, Right right, std::string_view repository) const {
  auto scope = right == Right::list ? std::string("registry:catalog:*") : concat("repository:", repository, ":", right == Right::push ? "pull,push" : action_of(right));
  if (repository.empty() && right != Right::list) scope.clear();  // /v2/: only who it is matters
  if (!caller.is_known) return challenge(scope, "", "authentication required");
  // A token for something else: the client may ask for a better one.
  if (caller.grants) return challenge(scope, "insufficient_scope", concat("the token does not grant ", action_of(right), " in ", repository));
  return refuse(403, code::denied, concat("requested access to the resource is denied: ", caller.name, " has not the right to ", action_of(right), right == Right::list ? "" : " in ", repository));
}

}  // namespace caisson::registry

// Roles that need no file, and how names and labels are compared.
#include "policy/role.hpp"

#include <algorithm>
#include <initializer_list>

#include "base/strings.hpp"

namespace caisson::policy {

namespace {

RolePointer make_role(std::string name, VerbSet may, Scope scope = {}, std::optional<Bounds> bounds = std::nullopt) {
  return std::make_shared<const Role>(Role{std::move(name), "built in", may, std::move(scope), std::move(bounds)});
}

/// Nothing of it puts a name on an image that somebody else would run, and nothing of it is shared with other users: build has caches in common.
VerbSet user_verbs() {
  VerbSet may = verbs_of("see") | verbs_of("container.*") | verbs_of("volume.*") | verbs_of("network.*");
  for (const char* name : {"image.pull", "image.search", "image.lookup", "image.verify", "image.login"}) may |= verbs_of(name);
  may &= ~(verbs_of("container.commit") | verbs_of("build.*"));
  return may;
}

}  // namespace

bool Scope::holds(const Labels& object_labels, std::string_view object_project) const {
  const bool has_labels = std::all_of(labels.begin(), labels.end(), [&](const auto& wanted) {
    const auto found = object_labels.find(wanted.first);
    return found != object_labels.end() && found->second == wanted.second;
  });
  return has_labels && (project.empty() || project == object_project);
}

std::string project_of(const Labels& labels, std::string_view otherwise) {
  for (const auto& key : {std::string(project_label), std::string("com.docker.compose.project")})
    if (auto found = labels.find(key); found != labels.end() && !found->second.empty()) return found->second;
  return std::string(otherwise);
}

std::string Role::text() const { return concat("role \"", name, "\" (", origin, ")"); }

RolePointer built_in(std::string_view name) {
  static const RolePointer roles[] = {
      make_role("admin", verbs_up_to(Level::administer)),
      make_role("operator", verbs_up_to(Level::operate)),
      make_role("viewer", verbs_up_to(Level::see)),
      make_role("user", user_verbs(), {{{"caisson.owner", "{who}"}}, ""}, Bounds{}),
      make_role("none", {}),
  };
  for (const auto& role : roles)
    if (role->name == name) return role;
  return nullptr;
}

bool matches(std::string_view pattern, std::string_view text) {
  // The usual walk with one place to come back to: a later star makes an earlier one's choice final.
  std::size_t at = 0, position = 0, star = std::string_view::npos, resume = 0;
  while (position < text.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = at++;
      resume = position;
    } else if (at < pattern.size() && (pattern[at] == '?' || pattern[at] == text[position])) {
      ++at;
      ++position;
    } else if (star != std::string_view::npos) {
      at = star + 1;
      position = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', at) == std::string_view::npos;
}

bool matches_any(const std::vector<std::string>& patterns, std::string_view text) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const auto& pattern) { return matches(pattern, text); });
}

const BindGrant* grant_for(const Bounds& bounds, std::string_view path) {
  const BindGrant* best = nullptr;
  for (const auto& grant : bounds.binds) {
    const bool covers = path == grant.path || grant.path == "/" || (path.starts_with(grant.path) && path[grant.path.size()] == '/');
    if (covers && (best == nullptr || grant.path.size() > best->path.size())) best = &grant;
  }
  return best;
}

}  // namespace caisson::policy

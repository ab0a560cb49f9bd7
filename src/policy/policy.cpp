// Which rule fits, and the role that comes of it.
#include "policy/policy.hpp"

#include <algorithm>

#include "base/digest.hpp"
#include "base/strings.hpp"

namespace caisson::policy {

namespace {

/// The name of a container's role: what it creates is judged, when it asks in its turn, by the role behind it.
constexpr std::string_view of_container = "container of ";

bool fits(const Who& rule, const Peer& peer, const std::string& token_sha256) {
  if (peer.is_elsewhere && !rule.is_anywhere) return false;
  if (rule.uid && (!peer.is_unix || peer.uid != *rule.uid)) return false;
  if (rule.gid) {
    const bool is_member = peer.gid == *rule.gid || std::find(peer.groups.begin(), peer.groups.end(), *rule.gid) != peer.groups.end();
    if (!peer.is_unix || !is_member) return false;
  }
  if (!rule.certificate.empty() && (!peer.is_verified || !matches(rule.certificate, peer.certificate))) return false;
  if (!rule.token_sha256.empty() && (token_sha256.empty() || rule.token_sha256 != token_sha256)) return false;
  if (rule.is_plain_tcp && (peer.is_unix || peer.is_verified)) return false;
  return true;
}

std::string name_of(const Peer& peer) {
  if (peer.is_unix) return concat("uid:", peer.uid);
  if (peer.is_verified) return concat("certificate:", peer.certificate);
  return concat("tcp:", peer.address);
}

/// The role with this caller's name in its labels.
RolePointer for_caller(const RolePointer& role, const std::string& who) {
  const auto& labels = role->scope.labels;
  const bool has_place = std::any_of(labels.begin(), labels.end(), [](const auto& label) { return label.second.find("{who}") != std::string::npos; });
  if (!has_place) return role;
  Role own = *role;
  for (auto& [key, value] : own.scope.labels) value = replace_all(value, "{who}", who);
  return std::make_shared<const Role>(std::move(own));
}

Identity identity(std::string who, const RolePointer& role) {
  auto own = for_caller(role, who);
  return {std::move(who), std::move(own)};
}

}  // namespace

Policy::Policy(std::uint32_t owner, RolePointer tcp) : owner_(owner), tcp_(std::move(tcp)) {}

RolePointer Policy::find(std::string_view role) const {
  if (role.starts_with(of_container)) role.remove_prefix(of_container.size());
  if (auto own = roles_.find(role); own != roles_.end()) return own->second;
  return built_in(role);
}

Identity Policy::judge(const Peer& peer) const {
  const std::string token = peer.token.empty() ? std::string() : std::string(sha256_of(peer.token).hex());
  for (const auto& rule : rules_)
    if (fits(rule, peer, token)) return identity(rule.token_sha256.empty() ? name_of(peer) : concat("token:", rule.token_name), rule.role);
  // A token that nobody has given out is a mistake or an attack; what its bearer is besides does not count then.
  if (!token.empty()) return {concat(name_of(peer), " with an unknown token"), built_in("none")};
  if (peer.is_elsewhere) return {concat(name_of(peer), " in a container of another engine"), built_in("none")};
  if (peer.is_unix) return identity(name_of(peer), peer.uid == 0 || peer.uid == owner_ ? find("admin") : find("user"));
  return identity(name_of(peer), peer.is_verified ? find("admin") : tcp_);
}

Identity Policy::judge_container(const std::string& id, const std::string& project, const Creator& creator) const {
  std::string who = concat("container:", id.substr(0, 12));
  auto creators = find(creator.role);
  if (!containers_may_ask_ || !creators) return {std::move(who), built_in("none")};
  Role role;
  role.name = concat(of_container, creators->name);
  role.origin = concat("made by ", creator.who, ", in project ", project);
  role.may = creators->may & built_in("user")->may;
  role.scope = {creator.labels, project};
  role.bounds = creators->bounds ? creators->bounds : Bounds{};
  return {std::move(who), std::make_shared<const Role>(std::move(role))};
}

}  // namespace caisson::policy

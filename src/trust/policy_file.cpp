// Finding and reading policy.json and what it names.
#include "trust/policy_file.hpp"

#include <algorithm>

#include "base/digest.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"

namespace caisson::trust {

namespace {

constexpr std::size_t most_policy_bytes = 1 << 20;
constexpr std::size_t most_key_bytes = 1 << 20;

/// Without any file. Docker and podman take everything, too; `doctor` says so.
Policy accept_all() {
  Policy policy;
  Requirement accept;
  accept.kind = RequirementKind::accept;
  policy.fallback.push_back(std::move(accept));
  return policy;
}

struct PolicyText {
  std::string path;
  std::string text;
};

Result<PolicyText> find_text(const PolicyPlaces& places) {
  if (!places.chosen.empty()) {
    auto text = TRY(linux::read_file(places.chosen, most_policy_bytes), concat("signature policy ", places.chosen));
    return PolicyText{places.chosen, std::move(text)};
  }
  for (const auto& path : places.usual) {
    auto text = linux::read_file(path, most_policy_bytes);
    if (text.ok()) return PolicyText{path, std::move(*text)};
    if (text.error().kind() != ErrorKind::not_found) return std::move(text).error().in(concat("signature policy ", path));
  }
  return PolicyText{};
}

void read_and_hash(Requirements& requirements, Hasher& hasher) {
  read_keys(requirements);
  for (const auto& requirement : requirements)
    for (const auto& key : requirement.keys) hasher.update(concat(key.data.size(), ":", key.data));
}

}  // namespace

std::vector<std::string> usual_policy_places(const std::string& home) {
  std::vector<std::string> out{"/etc/caisson/policy.json"};
  if (!home.empty()) out.push_back(home + "/.config/containers/policy.json");
  out.emplace_back("/etc/containers/policy.json");
  return out;
}

void read_keys(Requirements& requirements) {
  for (auto& requirement : requirements) {
    for (auto& key : requirement.keys) {
      if (key.path.empty()) continue;
      auto data = linux::read_file(key.path, most_key_bytes);
      key.data = data.ok() ? std::move(*data) : "";  // judge() refuses what needs it, by the file's name
    }
  }
}

Result<std::shared_ptr<const HostPolicy>> read_host_policy(const PolicyPlaces& places) {
  auto found = TRY_PLAIN(find_text(places));
  HostPolicy host;
  host.path = found.path;
  if (found.path.empty()) {
    host.policy = accept_all();
    return std::make_shared<const HostPolicy>(std::move(host));
  }
  host.policy = TRY(parse_policy(found.text, found.path), "signature policy");
  Hasher hasher;
  hasher.update(found.text);
  read_and_hash(host.policy.fallback, hasher);
  for (auto& [transport, scopes] : host.policy.transports)
    for (auto& [scope, requirements] : scopes) read_and_hash(requirements, hasher);
  host.digest = hasher.finish().text();
  return std::make_shared<const HostPolicy>(std::move(host));
}

bool accepts_anything(const Policy& policy) {
  auto accepts = [](const Requirements& requirements) {
    return std::all_of(requirements.begin(), requirements.end(), [](const Requirement& requirement) { return requirement.kind == RequirementKind::accept; });
  };
  if (!accepts(policy.fallback)) return false;
  auto docker = policy.transports.find("docker");
  if (docker == policy.transports.end()) return true;
  return std::all_of(docker->second.begin(), docker->second.end(), [&](const auto& scope) { return accepts(scope.second); });
}

}  // namespace caisson::trust

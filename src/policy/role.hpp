// What somebody may do: verbs, on which objects, and how far a container may reach that they ask for. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/verb.hpp"

namespace caisson::policy {

using Labels = std::map<std::string, std::string>;

/// A folder or file of the host that may be mounted, with all below it.
struct BindGrant {
  std::string path;          ///< absolute, without "." and ".."
  bool read_only = false;
  /// Ids on disk are ids inside: the container's root writes as the host's root, setuid files too. Otherwise all files belong to nobody there.
  bool keeps_owners = false;
};

struct Range {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
  [[nodiscard]] bool holds(std::uint32_t number) const { return number >= first && number <= last; }
};

/// The namespaces that a container can share with the host.
inline constexpr std::string_view host_namespaces[] = {"network", "pid", "ipc", "uts", "cgroup", "user"};

/// How far a container may reach. What is not named is what any container has, so the empty value is a container in its default box.
struct Bounds {
  bool privileged = false;                  ///< --privileged, of containers and of programs in them
  bool unconfined = false;                  ///< another seccomp or AppArmor profile than the default, or uncovered paths of /proc and /sys
  bool cgroup_parent = false;
  bool volume_options = false;              ///< volumes whose driver mounts something (`type`, `device`, `o`)
  std::vector<std::string> capabilities;    ///< beyond the default set: "NET_ADMIN", "ALL"
  std::vector<BindGrant> binds;
  std::vector<std::string> devices;         ///< patterns of paths and of CDI names: "/dev/snd/*", "nvidia.com/gpu=*", "gpus"
  std::vector<std::string> host_namespaces;
  std::vector<std::string> images{"*"};     ///< patterns of references
  std::vector<std::string> networks{"bridge"};  ///< patterns of names, beside networks in scope and no network
  std::vector<std::string> log_drivers{"json-file", "local", "none"};
  std::vector<Range> users;                 ///< numbers a container may run as; none: any, root too
  std::vector<Range> ports{{1024, 65535}};  ///< of the host; one that the engine chooses is always allowed
  std::int64_t memory_bytes = 0;            ///< at most, and what a container gets that asks for nothing; 0: no bound
  std::int64_t nano_cpus = 0;
  std::int64_t pids = 0;
};

/// On which containers, volumes and networks: all of these labels, and the project. What somebody makes gets the labels.
struct Scope {
  Labels labels;
  std::string project;  ///< as project_of(); "": any
  [[nodiscard]] bool is_everything() const { return labels.empty() && project.empty(); }
  /// `labels`: those that whoever made the object gave it. `project`: of the object.
  [[nodiscard]] bool holds(const Labels& object_labels, std::string_view object_project) const;
};

inline constexpr std::string_view project_label = "caisson.project";
/// The project by label, compose's too; else `otherwise`.
std::string project_of(const Labels& labels, std::string_view otherwise);

struct Role {
  std::string name;
  std::string origin;            ///< "built in", "/etc/caisson/roles.toml, line 7"
  VerbSet may;
  Scope scope;
  std::optional<Bounds> bounds;  ///< none: a container may ask for anything
  [[nodiscard]] bool allows(Verb verb) const { return may[static_cast<std::size_t>(verb)]; }
  /// `role "user" (built in)`: how a denial names its rule.
  [[nodiscard]] std::string text() const;
};
using RolePointer = std::shared_ptr<const Role>;

/// Those that need no file: "admin" may everything; "operator" and "viewer" by level, without scope and bounds (an operator's exec reaches as
/// far as the container); "user" runs containers in the default box and touches its own only; "none". Null for any other name.
RolePointer built_in(std::string_view name);

/// "*" and "?" as in file names, "*" over slashes too.
bool matches(std::string_view pattern, std::string_view text);
bool matches_any(const std::vector<std::string>& patterns, std::string_view text);

/// The grant that covers `path` (absolute and clean), the longest first; null when there is none.
const BindGrant* grant_for(const Bounds& bounds, std::string_view path);

}  // namespace caisson::policy

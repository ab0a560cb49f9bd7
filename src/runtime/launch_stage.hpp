// The stage of a launch: what it is told, and what a launch asks about namespaces before it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/launch.hpp"

namespace caisson::runtime::detail {

struct StageJoin {
  int fd = -1;
  int flags = 0;
  std::uint32_t index = 0;
  bool done = false;
};

/// Shared with the stage, which runs in our memory.
struct Stage {
  ChildSetup* setup = nullptr;
  std::vector<StageJoin> joins;  ///< the user namespace last
  std::uint64_t clone_flags = 0;
  std::string time_offsets;  ///< for timens_offsets
  int time_namespace = -1;   ///< to be joined (a namespace file or a pidfd)
  int cgroup_fd = -1;
  bool is_exec = false;
  bool is_dumpable = false;  ///< as it must be for an ordinary user until the child is cloned
  /// Called inside the user namespace, in a mount namespace that belongs to it: what we may not do with the rights we have.
  std::function<Status()> prepare;
  // result
  int pid = -1;
  int pidfd = -1;
  ChildMessage failure;
  std::optional<Error> error;  ///< of prepare
};

/// Makes the process from a stage: whoever is cloned there is our own child, in the namespaces the stage has entered.
/// `plan` is for error texts, null for exec. Errors: the stage's step by errno.
Result<Launching> run_stage(Stage& stage, const LaunchPlan* plan);

/// uid_map and gid_map of a namespace that is known by its descriptor only. Errors: denied.
Result<linux::IdMap> read_id_map(int userns);
/// Whether the namespace `fd` is what the plan takes it for, and not the host's own where the plan would change it.
Status check_join(const LaunchPlan& plan, const PlanJoin& join, int fd);
/// Whether the user namespace `userns` owns the namespace `fd`, so that only its root may enter it.
bool is_owned_by(int fd, int userns);
/// The text of timens_offsets.
std::string offsets_text(const std::vector<PlanTimeOffset>& offsets);

}  // namespace caisson::runtime::detail

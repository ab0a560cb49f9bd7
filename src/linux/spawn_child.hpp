// What a spawned child does between clone and exec, as plain data and one function. Only for files of this module.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "linux/capabilities.hpp"
#include "linux/spawn.hpp"

namespace caisson::linux::detail {

/// The step at which a child failed; step_name() has the words.
enum class ChildStep : std::uint32_t {
  none,
  wait_for_parent,
  join_cgroup,
  private_mounts,
  mount_proc,
  new_session,
  descriptors,
  working_directory,
  limits,
  bounding_set,
  groups,
  group_id,
  user_id,
  capabilities,
  parent_death_signal,
  no_new_privileges,
  landlock,
  signals,
  seccomp,
  exec,
};
std::string_view step_name(ChildStep step);

struct ChildReport {
  ChildStep step = ChildStep::none;
  std::int32_t error_number = 0;
};

struct ChildLimit {
  int resource = 0;
  std::uint64_t value = 0;
};

/// Everything is laid out before the clone: the child only reads it.
struct ChildPlan {
  const char* path = "";
  int exe_fd = -1;
  const char* const* argv = nullptr;
  const char* const* envp = nullptr;
  const char* cwd = nullptr;             ///< nullptr: stay
  std::vector<FdMapping> fds;            ///< 0, 1, 2 included; targets differ from each other
  std::vector<int> moved;                ///< room for as many numbers as fds
  int lowest_free = 3;                   ///< above every target
  bool new_session = false;
  int parent_death_signal = 0;
  // Only for sandboxed workers:
  bool sandboxed = false;
  int sync_fd = -1;                      ///< one byte comes when the id maps are written: 'g' may set groups, 'n' may not
  int sync_write_fd = -1;                ///< our copy of the parent's end, closed first
  int report_fd = -1;                    ///< a ChildReport goes there on failure
  std::vector<int> cgroup_procs_fds;
  bool new_cgroup_namespace = false;
  bool private_mounts = false;
  bool mount_proc = false;
  bool change_ids = false;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  bool limit_bounding = false;
  int last_capability = 0;
  CapabilitySet capabilities;
  bool no_new_privileges = false;
  int landlock_fd = -1;
  std::vector<struct ::sock_filter> seccomp;
  std::vector<ChildLimit> limits;
};

/// Carries the plan out and execs. Returns only on failure. Async-signal-safe.
ChildReport run_child(ChildPlan& plan) noexcept;

}  // namespace caisson::linux::detail

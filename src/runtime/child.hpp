// The container's first process between clone and exec: the order of its steps, and how it reports which one failed.
// Everything here runs in a copy of a single-threaded process, allocates nothing, and uses only linux::raw.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/plan.hpp"

namespace caisson::runtime {

/// Where the child stands. The parent turns step and index into a sentence (launch_error.cpp); the numbers travel only
/// between processes of one build.
enum class ChildStep : std::uint32_t {
  none,
  time_namespace,
  join_cgroup,
  final_affinity,
  delegate_cgroup,
  become_root,
  parent_death_signal,
  new_session,
  cgroup_namespace,
  session_keyring,
  isolate_mounts,
  attach_root,
  mount_target,      ///< index: mount
  mount_create,      ///< index: mount
  mount_option,      ///< index: mount
  mount_attach,      ///< index: mount
  mount_attributes,  ///< index: mount
  mount_id_map,      ///< index: mount
  mount_copy_up,     ///< index: mount
  mount_link,        ///< index: mount
  cgroup_mount,      ///< index: mount
  device,            ///< index: device
  device_link,
  console,
  console_send,
  masked_path,    ///< index
  readonly_path,  ///< index
  readonly_root,
  pivot,
  root_propagation,
  hostname,
  domainname,
  sysctl,  ///< index
  apparmor,
  selinux,
  no_new_privileges,
  personality,
  memory_policy,
  bounding_set,
  keep_capabilities,
  groups,
  ids,
  capabilities,
  ambient,
  working_directory,
  working_directory_outside,
  standard_streams,
  rlimit,  ///< index
  seccomp,
  seccomp_listener,
  close_descriptors,
  wait_for_start,
  wait_for_parent,
  program_lookup,
  exec,
  exec_init,
  stage_oom_score,
  stage_rlimit,  ///< index
  stage_affinity,
  stage_join,  ///< index: join
  stage_time_offsets,
  stage_clone,
};

enum class ChildMessageKind : std::uint32_t {
  failed,    ///< step, index, error_number
  joined,    ///< in its cgroup: the parent sets scheduler and I/O priority and answers one byte
  mounted,   ///< everything is mounted, nothing pivoted: the parent runs hooks and answers one byte
  console,   ///< carries the pty's master
  listener,  ///< carries the seccomp filter's listener
  ready,     ///< created: only the exec fifo is left
};
struct ChildMessage {
  ChildMessageKind kind = ChildMessageKind::failed;
  ChildStep step = ChildStep::none;
  std::uint32_t index = 0;
  std::int32_t error_number = 0;
};

/// What the parent prepared. Descriptors are borrowed; -1 where there is none.
struct ChildSetup {
  const ProcessPlan* process = nullptr;
  const LaunchPlan* launch = nullptr;  ///< null for exec
  int sync_fd = -1;                    ///< our end of a SEQPACKET pair; closed by exec, which tells success
  // cgroup
  std::vector<int> cgroup_procs_fds;  ///< files that take a "0": of v1, or cgroup.procs of v2
  int cgroup_namespace_fd = -1;       ///< the namespace (or a pidfd) that the child joins once it is in the cgroup
  int delegated_procs_fd = -1;        ///< v2: cgroup.procs of the delegated group, entered after the namespace was made
  int time_namespace_fd = -1;         ///< or a pidfd; only where the parent may not enter it for the child
  bool in_user_namespace = false;
  // root
  int root_fd = -1;
  std::vector<int> mount_fds;                  ///< by index of launch->mounts
  std::vector<int> mount_userns_fds;           ///< by index of launch->mounts: the id map of a mount made by the child
  std::vector<std::string> mount_links;        ///< by index of launch->mounts: made instead of mounting
  std::vector<std::vector<int>> cgroup_binds;  ///< by index of launch->mounts, then by folder
  std::vector<bool> device_done;               ///< by index of launch->devices: made in the device folder already
  bool has_device_folder = false;
  bool wait_after_mounts = false;  ///< hooks
  /// Started by an ordinary user: while it stands still it is dumpable, or that user could not enter its namespaces (hooks, exec).
  /// Only with a pid namespace of its own, where nobody sees it.
  bool open_to_user = false;
  // process
  int standard_fds[3] = {-1, -1, -1};  ///< without terminal; -1 keeps what is inherited
  int exec_fifo = -1;
  int init_fd = -1;               ///< our own binary, for --init
  unsigned int preserve_fds = 0;  ///< descriptors 3 … 3+N-1 stay open
  std::vector<const char*> argv;  ///< null-terminated; with init_fd the program's own begins at index 2
  std::vector<const char*> envp;  ///< null-terminated; with find_home one slot is free before the end
  std::size_t home_slot = 0;
};

/// Never returns: becomes the program, or reports and exits with 1.
[[noreturn]] void run_container_child(ChildSetup& setup) noexcept;
/// The same for a process that has joined a container's namespaces.
[[noreturn]] void run_exec_child(ChildSetup& setup) noexcept;

namespace detail {
[[noreturn]] void child_fail(const ChildSetup& setup, ChildStep step, std::uint32_t index, int error_number) noexcept;
void child_check(const ChildSetup& setup, int result, ChildStep step, std::uint32_t index = 0) noexcept;
void child_mount_all(const ChildSetup& setup) noexcept;
void child_make_devices(const ChildSetup& setup) noexcept;
/// Allocates the terminal in the devpts that is `devpts_fd`, puts its slave on 0–2 and sends the master to the parent.
/// Returns the slave.
int child_open_console(const ChildSetup& setup, int devpts_fd) noexcept;
/// Copies what lies in the folder `source_fd` into the folder `target_fd`, following no symbolic link. 0 or -errno.
int child_copy_folder(int source_fd, int target_fd) noexcept;
void child_cover_paths(const ChildSetup& setup) noexcept;
/// Rights, working directory, streams, seccomp, exec.
[[noreturn]] void child_become_program(ChildSetup& setup) noexcept;
/// O_PATH descriptor of a path below the root, made when it is missing.
int child_open_target(int root_fd, const char* path, bool want_folder, std::uint64_t resolve) noexcept;
}  // namespace detail

}  // namespace caisson::runtime

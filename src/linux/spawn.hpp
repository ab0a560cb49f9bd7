// Starting programs: plain ones, and workers that get hostile input and therefore next to no rights.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/capabilities.hpp"
#include "linux/landlock.hpp"
#include "linux/mount.hpp"
#include "linux/process.hpp"

namespace caisson::linux {

/// The descriptor `source` of ours (borrowed) is `target` in the program.
struct FdMapping {
  int source = -1;
  int target = -1;
};

struct ProcessRequest {
  std::string path;                ///< absolute; not searched
  int exe_fd = -1;                 ///< instead of `path`: a descriptor of the program (borrowed; O_PATH will do; no script)
  std::vector<std::string> argv;   ///< argv[0] included
  std::vector<std::string> env;    ///< "NAME=value"; nothing is inherited
  std::string cwd;                 ///< empty: ours
  std::vector<FdMapping> fds;      ///< 0, 1 and 2 are /dev/null unless mapped; everything else is closed
  bool new_session = false;        ///< setsid
  int parent_death_signal = 0;     ///< sent when the *thread* that spawned it ends; 0: none
};
/// Starts a program with default signal actions and an empty mask. Safe from threads (CLONE_VM|CLONE_VFORK: nothing is copied).
/// Returns once exec has succeeded. Errors: not_found, denied, invalid by errno of exec or of the step before it, which is named.
Result<ChildProcess> spawn_process(const ProcessRequest& request);

struct NewNamespaces {
  bool pid = true;
  bool mount = true;
  bool network = true;
  bool ipc = true;
  bool uts = true;
  bool cgroup = true;
};

struct ProcessLimit {
  int resource = 0;  ///< RLIMIT_*
  std::uint64_t value = 0;  ///< soft and hard; clamped to the hard limit we have ourselves
};

/// A worker. Everything not asked for is taken away.
struct SpawnRequest {
  ProcessRequest process;
  /// A new user namespace with these ids; the worker runs as its `uid`:`gid`. Empty: no user namespace, and the worker
  /// becomes uid:gid of the host.
  IdMap id_map;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  NewNamespaces namespaces;
  bool mount_proc = false;                      ///< a fresh /proc over the old (needs namespaces.mount and .pid)
  CapabilitySet capabilities;                   ///< kept in all sets, inside the user namespace; default none
  bool no_new_privileges = true;
  std::vector<struct ::sock_filter> seccomp;    ///< loaded last; must allow execve and exit_group
  std::optional<LandlockPolicy> landlock;       ///< skipped where the kernel has none (landlock_abi() == 0)
  std::vector<ProcessLimit> limits;
  int cgroup_fd = -1;                           ///< v2 folder: born inside it
  std::vector<int> cgroup_procs_fds;            ///< v1: joined before exec
};
/// The same promise as spawn_process, with a child of its own memory (its id maps are written while it waits).
/// Privilege: CAP_SYS_ADMIN, or unprivileged with an id map that write_id_maps can do.
Result<ChildProcess> spawn_sandboxed(const SpawnRequest& request);

struct ProgramOutput {
  ExitStatus status;
  std::string standard_output;
  std::string standard_error;
};
struct RunOptions {
  std::string_view standard_input;           ///< borrowed
  int timeout_ms = -1;                       ///< then SIGKILL and Error timeout
  std::size_t limit_bytes = 16U << 20U;      ///< of each output stream; beyond: SIGKILL and Error invalid
  Cancel cancel;                             ///< then SIGKILL and Error unavailable
  std::vector<std::string> env{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"};
  std::string cwd;
  std::string path;                          ///< the file to start; empty: argv[0] names it
};
/// Runs argv[0] (searched in PATH of options.env when it has no "/") to its end. A program that exits with another
/// code than 0 is not an Error. Errors: not_found when there is no such program.
Result<ProgramOutput> run_program(const std::vector<std::string>& argv, const RunOptions& options = {});
/// Finds an executable in a PATH text. Errors: not_found.
Result<std::string> find_program(std::string_view name, std::string_view path_list);

}  // namespace caisson::linux

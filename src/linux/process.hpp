// Processes: clone, wait, pidfds, namespaces, ids, limits, scheduling and names.
#pragma once

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/abi.hpp"
#include "linux/path_arg.hpp"

namespace caisson::linux {

/// clone3(2) argument block; flags of CLONE_*.
using CloneArgs = struct ::clone_args;

/// clone3(2), 5.3, without a stack of its own: returns twice like fork. 0 in the child, which then may only call
/// caisson::linux::raw (child.hpp) until it execs or exits. Privilege: CAP_SYS_ADMIN for namespaces other than user.
Result<int> clone3(const CloneArgs& args);

struct ChildProcess {
  int pid = -1;
  UniqueFd pidfd;
};
/// clone3 with a pidfd; `flags` of CLONE_* (CLONE_PIDFD is added), exit signal SIGCHLD. `cgroup_fd` ≥ 0 adds
/// CLONE_INTO_CGROUP (a cgroup2 folder, 5.7). In the child pid is 0 and pidfd is empty.
Result<ChildProcess> fork_with_pidfd(std::uint64_t flags, int cgroup_fd = -1);

/// 5.3. Errors: not_found (ESRCH).
Result<UniqueFd> pidfd_open(int pid, unsigned int flags = 0);
/// Errors: not_found (ESRCH) once the process is gone.
Status pidfd_send_signal(int pidfd, int signal);
/// Takes a copy of another process's descriptor (5.6). Privilege: PTRACE_MODE_ATTACH.
Result<UniqueFd> pidfd_getfd(int pidfd, int target_fd);

/// How a process ended.
struct ExitStatus {
  int pid = 0;
  int code = 0;           ///< exit code, or the signal's number
  bool signaled = false;  ///< ended by a signal
  bool core_dumped = false;
  /// The shell's convention: code, or 128 + signal.
  [[nodiscard]] int exit_code() const { return signaled ? 128 + code : code; }
  /// From the int of wait(2).
  static ExitStatus from_wait_status(int pid, int wait_status);
};
/// Waits for a child to end and reaps it. Errors: io (ECHILD: not ours, or reaped by another).
Result<ExitStatus> wait_pidfd(int pidfd);
/// As wait_pidfd, but returns nothing when it still runs.
Result<std::optional<ExitStatus>> try_wait_pidfd(int pidfd);
/// Reaps any ended child (__WALL), nothing when none has ended. Errors: io (ECHILD) when there is no child at all.
Result<std::optional<ExitStatus>> try_wait_any();
Result<ExitStatus> wait_pid(int pid);
/// waitid(2) as it is. `id_type`: P_PID, P_PIDFD, P_ALL.
Result<siginfo_t> waitid(idtype_t id_type, id_t id, int options);
/// Exit status of a process that somebody else has reaped, by a pidfd opened while it lived (PIDFD_GET_INFO with
/// PIDFD_INFO_EXIT, 6.15). Nothing while it still runs. Errors: unsupported on older kernels.
Result<std::optional<ExitStatus>> pidfd_exit_status(int pidfd);
/// The pid behind a pidfd, as this pid namespace sees it (/proc/self/fdinfo). Errors: not_found once it is reaped.
Result<int> pidfd_pid(int pidfd);
/// Whether the process behind it has ended (a zombie counts as ended).
Result<bool> pidfd_has_ended(int pidfd);

Status kill(int pid, int signal);
/// Ends and reaps a child behind a pidfd; for guards.
void kill_and_reap(int pidfd) noexcept;

/// The fields of /proc/PID/stat from the third on: number N of proc(5) is [N - 3]. At least 49. pid 0: our own. Errors: not_found.
Result<std::vector<std::string>> process_stat_fields(int pid);
struct ProcessStat {
  char state = '?';              ///< 'Z': a zombie
  bool is_exiting = false;       ///< it runs no program any more (PF_EXITING), although what it has to end may take a while
  std::uint64_t start_time = 0;  ///< in clock ticks since boot: with the pid it names a process beyond reuse
};
/// Both with one look. pid 0: our own. Errors: not_found.
Result<ProcessStat> process_stat(int pid);
Result<std::uint64_t> process_start_time(int pid);
int getpid();
int getppid();
std::uint32_t geteuid();
std::uint32_t getegid();
std::uint32_t getuid();
std::uint32_t getgid();

// --- namespaces ----------------------------------------------------------------------------------------------------

/// `fd`: a namespace file or a pidfd (5.8); `flags` of CLONE_NEW*. Privilege: CAP_SYS_ADMIN in the target's user namespace.
Status setns(int fd, int flags);
Status unshare(int flags);
/// Opens /proc/PID/ns/NAME ("net", "user", …). pid 0: this thread.
Result<UniqueFd> open_namespace(int pid, std::string_view name);
/// CLONE_NEW* of a namespace file (NS_GET_NSTYPE). Errors: invalid when `fd` is none.
Result<int> namespace_type(int fd);
/// The user namespace that owns a namespace (NS_GET_USERNS).
Result<UniqueFd> namespace_owner(int fd);

// --- ids and rights of this thread ---------------------------------------------------------------------------------

Status setresuid(std::uint32_t real, std::uint32_t effective, std::uint32_t saved);
Status setresgid(std::uint32_t real, std::uint32_t effective, std::uint32_t saved);
Status setgroups(std::span<const std::uint32_t> groups);
Result<std::vector<std::uint32_t>> getgroups();
/// File system ids of this thread only; returns the old one. Errors: denied when the kernel kept the old one.
Result<std::uint32_t> setfsuid(std::uint32_t uid);
Result<std::uint32_t> setfsgid(std::uint32_t gid);
/// This thread acts on files as uid:gid while it lives (an overlay on idmapped layers must be created so).
class ScopedFsIds {
 public:
  static Result<ScopedFsIds> create(std::uint32_t uid, std::uint32_t gid);
  ScopedFsIds(ScopedFsIds&& other) noexcept;
  ScopedFsIds& operator=(ScopedFsIds&&) = delete;
  ScopedFsIds(const ScopedFsIds&) = delete;
  ScopedFsIds& operator=(const ScopedFsIds&) = delete;
  ~ScopedFsIds();

 private:
  ScopedFsIds(std::uint32_t old_uid, std::uint32_t old_gid) : old_uid_(old_uid), old_gid_(old_gid) {}
  std::uint32_t old_uid_;
  std::uint32_t old_gid_;
  bool active_ = true;
};

Status set_dumpable(bool dumpable);
/// The signal this thread gets when its parent *thread* ends; 0 clears. Lost by setuid and by exec of setuid files.
Status set_parent_death_signal(int signal);
Status set_no_new_privileges();
Status set_child_subreaper(bool on);
/// At most 15 bytes; longer names are cut.
Status set_thread_name(PathArg name);
Status set_keep_capabilities(bool on);
Status setsid();
Status setpgid(int pid, int group);
/// A new, empty session keyring, so that the caller's is not shared. Errors: unsupported where keys are not built in.
Status join_new_session_keyring();

// --- limits, scheduling, names -------------------------------------------------------------------------------------

struct ResourceLimit {
  std::uint64_t soft = RLIM_INFINITY;
  std::uint64_t hard = RLIM_INFINITY;
};
/// pid 0: this process. `resource`: RLIMIT_*. Privilege: CAP_SYS_RESOURCE to raise a hard limit.
Result<ResourceLimit> get_limit(int pid, int resource);
Status set_limit(int pid, int resource, const ResourceLimit& limit);
/// "RLIMIT_NOFILE" or "nofile" → number. Errors: invalid.
Result<int> limit_by_name(std::string_view name);

Status sched_setattr(int pid, const abi::SchedAttr& attr);
/// CPUs this process may run on, ascending.
Result<std::vector<int>> sched_getaffinity(int pid);
Status sched_setaffinity(int pid, std::span<const int> cpus);
/// `io_class` 1 RT, 2 BE, 3 IDLE; `level` 0–7.
Status ioprio_set(int pid, int io_class, int level);
/// Returns the old one.
Result<unsigned long> personality(unsigned long persona);
Status sethostname(std::string_view name);
Status setdomainname(std::string_view name);

// --- exec and descriptors ------------------------------------------------------------------------------------------

/// Return only on failure. `argv` and `envp` are without a terminating null.
Error execve(PathArg path, std::span<const std::string> argv, std::span<const std::string> envp);
Error execveat(int fd, PathArg path, std::span<const std::string> argv, std::span<const std::string> envp, int flags);
/// Closes, or with CLOSE_RANGE_CLOEXEC marks, all descriptors from first to last (5.9; 5.11).
Status close_range(unsigned int first, unsigned int last, unsigned int flags = 0);
/// Closes all of them, with one call for each run of neighbouring numbers.
void close_all(std::vector<UniqueFd> fds) noexcept;
/// Ends the process at once, without destructors.
[[noreturn]] void exit_now(int code);

}  // namespace caisson::linux

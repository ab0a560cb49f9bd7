// Processes: clone3, pidfds, waiting, what /proc tells of a pid, namespaces.
#include "linux/process.hpp"

#include <algorithm>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "linux/child.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::descriptor;
using detail::status;
using detail::value;

namespace {
/// waitid's "by pidfd" (5.4); an enumerator in newer headers only.
constexpr auto by_pidfd = static_cast<idtype_t>(3);
}  // namespace

Result<int> clone3(const CloneArgs& args) {
  CloneArgs copy = args;
  const int pid = raw::clone3(&copy, sizeof copy);
  if (pid < 0) return Error::from_errno(-pid, "clone3");
  return pid;
}

Result<ChildProcess> fork_with_pidfd(std::uint64_t flags, int cgroup_fd) {
  int pidfd = -1;
  CloneArgs args{};
  args.flags = flags | CLONE_PIDFD;
  args.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  if (cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<unsigned int>(cgroup_fd);
  }
  ChildProcess child;
  child.pid = TRY_PLAIN(clone3(args));
  if (child.pid != 0) child.pidfd.reset(pidfd);
  return child;
}

Result<UniqueFd> pidfd_open(int pid, unsigned int flags) {
  return descriptor(
      "pidfd_open", [&] { return static_cast<int>(::syscall(SYS_pidfd_open, pid, flags)); }, "process ", pid);
}
Status pidfd_send_signal(int pidfd, int signal) {
  return status(
      "pidfd_send_signal", [&] { return ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0); }, "signal ", signal);
}
Result<UniqueFd> pidfd_getfd(int pidfd, int target_fd) {
  return descriptor("pidfd_getfd", [&] { return static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, target_fd, 0)); });
}

ExitStatus ExitStatus::from_wait_status(int pid, int wait_status) {
  ExitStatus out;
  out.pid = pid;
  out.signaled = WIFSIGNALED(wait_status);
  out.code = out.signaled ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
  out.core_dumped = out.signaled && WCOREDUMP(wait_status);
  return out;
}

namespace {
ExitStatus exit_status_of(const siginfo_t& info) {
  ExitStatus out;
  out.pid = info.si_pid;
  out.signaled = info.si_code != CLD_EXITED;
  out.core_dumped = info.si_code == CLD_DUMPED;
  out.code = info.si_status;
  return out;
}
}  // namespace

Result<siginfo_t> waitid(idtype_t id_type, id_t id, int options) {
  siginfo_t info{};
  TRY_PLAIN(status("waitid", [&] { return ::waitid(id_type, id, &info, options); }));
  return info;
}
Result<ExitStatus> wait_pidfd(int pidfd) { return exit_status_of(TRY_PLAIN(waitid(by_pidfd, static_cast<id_t>(pidfd), WEXITED))); }
Result<std::optional<ExitStatus>> try_wait_pidfd(int pidfd) {
  const siginfo_t info = TRY_PLAIN(waitid(by_pidfd, static_cast<id_t>(pidfd), WEXITED | WNOHANG));
  if (info.si_pid == 0) return std::optional<ExitStatus>();
  return std::optional(exit_status_of(info));
}
Result<std::optional<ExitStatus>> try_wait_any() {
  const siginfo_t info = TRY_PLAIN(waitid(P_ALL, 0, WEXITED | WNOHANG | __WALL));
  if (info.si_pid == 0) return std::optional<ExitStatus>();
  return std::optional(exit_status_of(info));
}
Result<ExitStatus> wait_pid(int pid) { return exit_status_of(TRY_PLAIN(waitid(P_PID, static_cast<id_t>(pid), WEXITED))); }

Result<std::optional<ExitStatus>> pidfd_exit_status(int pidfd) {
  abi::PidfdInfo info{};
  info.mask = abi::pidfd_info_exit | abi::pidfd_info_pid;
  auto got = status(
      "ioctl", [&] { return ::ioctl(pidfd, abi::pidfd_get_info, &info); }, "PIDFD_GET_INFO");
  if (!got) {
    const int reason = got.error().error_number();
    if (reason == ENOTTY || reason == EINVAL || reason == EOPNOTSUPP) return std::move(got).error().with_kind(ErrorKind::unsupported);
    // ESRCH: reaped, and the kernel kept no exit record (before 6.15).
    if (reason == ESRCH) return std::move(got).error().with_kind(ErrorKind::unsupported);
    return std::move(got).error();
  }
  if ((info.mask & abi::pidfd_info_exit) == 0) return std::optional<ExitStatus>();
  return std::optional(ExitStatus::from_wait_status(static_cast<int>(info.pid), info.exit_code));
}

Result<int> pidfd_pid(int pidfd) {
  const std::string text = TRY_PLAIN(read_file(concat("/proc/self/fdinfo/", pidfd)));
  for (std::string_view line : split(text, '\n')) {
    if (!line.starts_with("Pid:")) continue;
    const int pid = TRY(parse_integer<int>(trim(line.substr(4))), "pidfd");
    if (pid <= 0) return Error::from_errno(ESRCH, "pidfd");
    return pid;
  }
  return Error(ErrorKind::invalid, concat("descriptor ", pidfd, " is no pidfd"), EBADF);
}
Result<bool> pidfd_has_ended(int pidfd) { return wait_readable(pidfd, 0); }

Status kill(int pid, int signal) {
  return status(
      "kill", [&] { return ::kill(pid, signal); }, "process ", pid);
}
void kill_and_reap(int pidfd) noexcept {
  ::syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0);
  siginfo_t info{};
  while (::waitid(by_pidfd, static_cast<id_t>(pidfd), &info, WEXITED) < 0 && errno == EINTR) {}
}

Result<std::vector<std::string>> process_stat_fields(int pid) {
  const std::string path = pid == 0 ? std::string("/proc/self/stat") : concat("/proc/", pid, "/stat");
  auto text = read_kernel_file(path);
  if (!text) {
    const int reason = text.error().error_number();
    if (reason == ENOENT || reason == ESRCH) return Error(ErrorKind::not_found, concat("process ", pid, " does not exist"), ESRCH);
    return std::move(text).error();
  }
  // The second field, the name, may contain anything, ")" included.
  const Halves halves = split_last(*text, ')');
  std::vector<std::string> out;
  for (std::string_view field : split(trim(halves.after), ' ')) out.emplace_back(field);
  constexpr std::size_t fields_since_3_5 = 49;  // Linux 3.5
  if (!halves.found || out.size() < fields_since_3_5) return Error(ErrorKind::corrupt, concat(path, " is not as proc(5) says"));
  return out;
}

Result<ProcessStat> process_stat(int pid) {
  const auto fields = TRY_PLAIN(process_stat_fields(pid));
  ProcessStat out;
  if (!fields[0].empty()) out.state = fields[0][0];
  constexpr std::uint64_t exiting = 4;  // PF_EXITING of include/linux/sched.h, as proc_pid_stat(5) shows flags
  out.is_exiting = (TRY(parse_integer<std::uint64_t>(fields[6]), concat("/proc/", pid, "/stat")) & exiting) != 0;
  out.start_time = TRY(parse_integer<std::uint64_t>(fields[19]), concat("/proc/", pid, "/stat"));
  return out;
}
Result<std::uint64_t> process_start_time(int pid) { return TRY_PLAIN(process_stat(pid)).start_time; }
int getpid() { return ::getpid(); }
int getppid() { return ::getppid(); }
std::uint32_t geteuid() { return ::geteuid(); }
std::uint32_t getegid() { return ::getegid(); }
std::uint32_t getuid() { return ::getuid(); }
std::uint32_t getgid() { return ::getgid(); }

Status setns(int fd, int flags) {
  return status("setns", [&] { return ::setns(fd, flags); });
}
Status unshare(int flags) {
  return status("unshare", [&] { return ::unshare(flags); });
}
Result<UniqueFd> open_namespace(int pid, std::string_view name) {
  // The thread's own, not the process's: a worker thread may live in other namespaces than the rest.
  const std::string path = pid == 0 ? concat("/proc/thread-self/ns/", name) : concat("/proc/", pid, "/ns/", name);
  return linux::open(path, O_RDONLY);
}
namespace {
// linux/nsfs.h: NSIO 0xb7.
constexpr unsigned long ns_get_userns = _IO(0xb7, 0x1);
constexpr unsigned long ns_get_nstype = _IO(0xb7, 0x3);
}  // namespace
Result<int> namespace_type(int fd) {
  auto type = value<int>(
      "ioctl", [&] { return ::ioctl(fd, ns_get_nstype); }, "NS_GET_NSTYPE");
  if (!type && type.error().error_number() == ENOTTY) return Error(ErrorKind::invalid, "the file is no namespace", ENOTTY);
  return type;
}
Result<UniqueFd> namespace_owner(int fd) {
  return descriptor(
      "ioctl", [&] { return ::ioctl(fd, ns_get_userns); }, "NS_GET_USERNS");
}

Error execve(PathArg path, std::span<const std::string> argv, std::span<const std::string> envp) {
  return execveat(AT_FDCWD, path, argv, envp, 0);
}
Error execveat(int fd, PathArg path, std::span<const std::string> argv, std::span<const std::string> envp, int flags) {
  std::vector<const char*> arguments;
  std::vector<const char*> environment;
  for (const std::string& argument : argv) arguments.push_back(argument.c_str());
  for (const std::string& variable : envp) environment.push_back(variable.c_str());
  arguments.push_back(nullptr);
  environment.push_back(nullptr);
  auto returned = status(
      "execve", [&] { return ::syscall(SYS_execveat, fd, path.c_str(), arguments.data(), environment.data(), flags); }, path);
  if (returned) return Error(ErrorKind::internal, concat("execve ", path.view(), " returned"));
  return std::move(returned).error();
}
Status close_range(unsigned int first, unsigned int last, unsigned int flags) {
  return status("close_range", [&] { return ::syscall(SYS_close_range, first, last, flags); });
}
void close_all(std::vector<UniqueFd> fds) noexcept {
  std::sort(fds.begin(), fds.end(), [](const UniqueFd& a, const UniqueFd& b) { return a.get() < b.get(); });
  for (std::size_t i = 0; i < fds.size();) {
    std::size_t end = i + 1;
    while (end < fds.size() && fds[end].get() == fds[end - 1].get() + 1) ++end;
    // A single one, none at all (-1), or what an old kernel or a fault leaves open is closed by its owner.
    if (fds[i].get() >= 0 && end - i > 1 &&
        close_range(static_cast<unsigned int>(fds[i].get()), static_cast<unsigned int>(fds[end - 1].get())))
      for (std::size_t k = i; k < end; ++k) (void)fds[k].release();
    i = end;
  }
}
void exit_now(int code) { ::_exit(code); }

}  // namespace caisson::linux

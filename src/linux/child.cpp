// The raw calls of child.hpp. libc's syscall() is used: it touches nothing but errno, which a child made without CLONE_VM
// has of its own and a CLONE_VM|CLONE_VFORK child shares with a parent thread that sleeps until it is gone.
#include "linux/child.hpp"

#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "linux/fault.hpp"

namespace caisson::linux::raw {

namespace {

/// The hook, the call, and -errno. Interrupted calls are repeated.
template <typename... Arguments>
long call(const char* name, long number, Arguments... arguments) noexcept {
  if (const int injected = fault::check(name); injected != 0) return -injected;
  while (true) {
    const long result = ::syscall(number, arguments...);
    if (result != -1) return result;
    if (errno != EINTR) return -errno;
  }
}
template <typename... Arguments>
int icall(const char* name, long number, Arguments... arguments) noexcept {
  return static_cast<int>(call(name, number, arguments...));
}

/// Capability words of capset(2): header, then low and high halves.
struct CapHeader {
  std::uint32_t version;
  std::int32_t pid;
};
struct CapData {
  std::uint32_t effective;
  std::uint32_t permitted;
  std::uint32_t inheritable;
};
constexpr std::uint32_t capability_version_3 = 0x20080522;

std::uint32_t low(CapabilitySet set) { return static_cast<std::uint32_t>(set.bits); }
std::uint32_t high(CapabilitySet set) { return static_cast<std::uint32_t>(set.bits >> 32U); }

}  // namespace

int clone3(struct ::clone_args* args, std::size_t size) noexcept { return icall("clone3", SYS_clone3, args, size); }

int openat(int dir_fd, const char* path, int flags, mode_t mode) noexcept {
  return icall("openat", SYS_openat, dir_fd, path, flags | O_CLOEXEC, mode);
}
int openat2(int dir_fd, const char* path, int flags, std::uint64_t resolve, mode_t mode) noexcept {
  struct ::open_how how {};
  how.flags = static_cast<unsigned int>(flags | O_CLOEXEC);
  how.mode = mode;
  how.resolve = resolve;
  int fd = -EAGAIN;
  for (int attempt = 0; attempt < 128 && fd == -EAGAIN; ++attempt)  // as the wrapper in file.cpp
    fd = icall("openat2", SYS_openat2, dir_fd, path, &how, sizeof how);
  return fd;
}
int close(int fd) noexcept { return icall("close", SYS_close, fd); }
long read(int fd, void* buffer, std::size_t size) noexcept { return call("read", SYS_read, fd, buffer, size); }
long write(int fd, const void* buffer, std::size_t size) noexcept { return call("write", SYS_write, fd, buffer, size); }
int write_all(int fd, const void* buffer, std::size_t size) noexcept {
  const char* at = static_cast<const char*>(buffer);
  while (size > 0) {
    const long written = write(fd, at, size);
    if (written < 0) return static_cast<int>(written);
    if (written == 0) return -EIO;
    at += written;
    size -= static_cast<std::size_t>(written);
  }
  return 0;
}
long read_exact(int fd, void* buffer, std::size_t size) noexcept {
  char* at = static_cast<char*>(buffer);
  std::size_t total = 0;
  while (total < size) {
    const long got = read(fd, at + total, size - total);
    if (got < 0) return got;
    if (got == 0) break;
    total += static_cast<std::size_t>(got);
  }
  return static_cast<long>(total);
}
int write_kernel_file(int dir_fd, const char* path, const char* text, std::size_t size) noexcept {
  const int fd = openat(dir_fd, path, O_WRONLY, 0);
  if (fd < 0) return fd;
  const long written = write(fd, text, size);
  close(fd);
  if (written < 0) return static_cast<int>(written);
  return written == static_cast<long>(size) ? 0 : -EIO;
}
int dup3(int fd, int target, int flags) noexcept { return icall("dup3", SYS_dup3, fd, target, flags); }
int dup_at_least(int fd, int minimum) noexcept { return icall("dup", SYS_fcntl, fd, F_DUPFD_CLOEXEC, minimum); }
int set_close_on_exec(int fd, bool on) noexcept { return icall("fcntl", SYS_fcntl, fd, F_SETFD, on ? FD_CLOEXEC : 0); }
int close_range(unsigned int first, unsigned int last, unsigned int flags) noexcept {
  return icall("close_range", SYS_close_range, first, last, flags);
}
int mkdirat(int dir_fd, const char* path, mode_t mode) noexcept { return icall("mkdirat", SYS_mkdirat, dir_fd, path, mode); }
int mknodat(int dir_fd, const char* path, mode_t mode, dev_t device) noexcept {
  return icall("mknodat", SYS_mknodat, dir_fd, path, mode, static_cast<unsigned int>(device));
}
int symlinkat(const char* target, int dir_fd, const char* path) noexcept {
  return icall("symlinkat", SYS_symlinkat, target, dir_fd, path);
}
int unlinkat(int dir_fd, const char* path, int flags) noexcept { return icall("unlinkat", SYS_unlinkat, dir_fd, path, flags); }
long readlinkat(int dir_fd, const char* path, char* buffer, std::size_t size) noexcept {
  return call("readlinkat", SYS_readlinkat, dir_fd, path, buffer, size);
}
long getdents64(int fd, void* buffer, std::size_t size) noexcept { return call("getdents64", SYS_getdents64, fd, buffer, size); }
long sendfile(int out_fd, int in_fd, std::size_t count) noexcept {
  return call("sendfile", SYS_sendfile, out_fd, in_fd, static_cast<void*>(nullptr), count);
}
int utimensat(int dir_fd, const char* path, const struct ::timespec times[2], int flags) noexcept {
  return icall("utimensat", SYS_utimensat, dir_fd, path, times, flags);
}
int fstat(int fd, struct ::stat* out) noexcept {
  if (const int injected = fault::check("fstat"); injected != 0) return -injected;
  return ::fstat(fd, out) == 0 ? 0 : -errno;  // libc knows the layout of struct stat
}
int fstatat(int dir_fd, const char* path, struct ::stat* out, int flags) noexcept {
  if (const int injected = fault::check("fstatat"); injected != 0) return -injected;
  return ::fstatat(dir_fd, path, out, flags) == 0 ? 0 : -errno;
}
long fstatfs_type(int fd) noexcept {
  struct ::statfs out {};
  const long result = call("fstatfs", SYS_fstatfs, fd, &out);
  return result < 0 ? result : static_cast<long>(out.f_type);
}
int fchown(int fd, uid_t uid, gid_t gid) noexcept { return icall("fchown", SYS_fchown, fd, uid, gid); }
int fchownat(int dir_fd, const char* path, uid_t uid, gid_t gid, int flags) noexcept {
  return icall("fchownat", SYS_fchownat, dir_fd, path, uid, gid, flags);
}
int fchmod(int fd, mode_t mode) noexcept { return icall("fchmod", SYS_fchmod, fd, mode); }
int fchmodat(int dir_fd, const char* path, mode_t mode) noexcept { return icall("fchmodat", SYS_fchmodat, dir_fd, path, mode); }
int chdir(const char* path) noexcept { return icall("chdir", SYS_chdir, path); }
int fchdir(int fd) noexcept { return icall("fchdir", SYS_fchdir, fd); }
int chroot(const char* path) noexcept { return icall("chroot", SYS_chroot, path); }
long getcwd(char* buffer, std::size_t size) noexcept { return call("getcwd", SYS_getcwd, buffer, size); }
mode_t umask(mode_t mask) noexcept { return static_cast<mode_t>(::syscall(SYS_umask, mask)); }

int fsopen(const char* type) noexcept { return icall("fsopen", SYS_fsopen, type, 1U /* FSOPEN_CLOEXEC */); }
int fsconfig(int fd, unsigned int command, const char* key, const void* value, int aux) noexcept {
  return icall("fsconfig", SYS_fsconfig, fd, command, key, value, aux);
}
int fsmount(int fd, std::uint64_t attributes) noexcept {
  return icall("fsmount", SYS_fsmount, fd, 1U /* FSMOUNT_CLOEXEC */, static_cast<unsigned int>(attributes));
}
int fspick(int fd) noexcept { return icall("fspick", SYS_fspick, fd, "", 0x1U | 0x8U /* FSPICK_CLOEXEC, FSPICK_EMPTY_PATH */); }
int open_tree(int dir_fd, const char* path, unsigned int flags) noexcept {
  return icall("open_tree", SYS_open_tree, dir_fd, path, flags | static_cast<unsigned int>(O_CLOEXEC));
}
int move_mount(int from_fd, const char* from, int to_fd, const char* to, unsigned int flags) noexcept {
  return icall("move_mount", SYS_move_mount, from_fd, from, to_fd, to, flags);
}
int attach_mount(int mount_fd, int target_fd) noexcept {
  return move_mount(mount_fd, "", target_fd, "", 0x4U | 0x40U /* MOVE_MOUNT_{F,T}_EMPTY_PATH */);
}
int mount_setattr(int dir_fd, const char* path, unsigned int flags, std::uint64_t set, std::uint64_t clear, std::uint64_t propagation,
                  int userns_fd) noexcept {
  struct ::mount_attr attr {};
  attr.attr_set = set;
  attr.attr_clr = clear;
  attr.propagation = propagation;
  attr.userns_fd = userns_fd < 0 ? 0 : static_cast<unsigned int>(userns_fd);
  return icall("mount_setattr", SYS_mount_setattr, dir_fd, path, flags, &attr, sizeof attr);
}
int mount(const char* source, const char* target, const char* type, unsigned long flags, const void* data) noexcept {
  return icall("mount", SYS_mount, source, target, type, flags, data);
}
int umount2(const char* path, int flags) noexcept { return icall("umount2", SYS_umount2, path, flags); }
int pivot_root(const char* new_root, const char* put_old) noexcept { return icall("pivot_root", SYS_pivot_root, new_root, put_old); }

int setns(int fd, int flags) noexcept { return icall("setns", SYS_setns, fd, flags); }
int unshare(int flags) noexcept { return icall("unshare", SYS_unshare, flags); }
int sethostname(const char* name, std::size_t size) noexcept { return icall("sethostname", SYS_sethostname, name, size); }
int setdomainname(const char* name, std::size_t size) noexcept { return icall("setdomainname", SYS_setdomainname, name, size); }
int setsid() noexcept { return icall("setsid", SYS_setsid); }
int setpgid(int pid, int group) noexcept { return icall("setpgid", SYS_setpgid, pid, group); }
int getpid() noexcept { return static_cast<int>(::syscall(SYS_getpid)); }
int getppid() noexcept { return static_cast<int>(::syscall(SYS_getppid)); }
int setresuid(std::uint32_t real, std::uint32_t effective, std::uint32_t saved) noexcept {
  return icall("setresuid", SYS_setresuid, real, effective, saved);
}
int setresgid(std::uint32_t real, std::uint32_t effective, std::uint32_t saved) noexcept {
  return icall("setresgid", SYS_setresgid, real, effective, saved);
}
int setgroups(const std::uint32_t* groups, std::size_t count) noexcept { return icall("setgroups", SYS_setgroups, count, groups); }
std::uint32_t setfsuid(std::uint32_t uid) noexcept { return static_cast<std::uint32_t>(::syscall(SYS_setfsuid, uid)); }
std::uint32_t setfsgid(std::uint32_t gid) noexcept { return static_cast<std::uint32_t>(::syscall(SYS_setfsgid, gid)); }
int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) noexcept {
  return icall("prctl", SYS_prctl, option, a, b, c, d);
}
int capset(const CapabilityState& state) noexcept {
  CapHeader header{capability_version_3, 0};
  const std::array<CapData, 2> data{{{low(state.effective), low(state.permitted), low(state.inheritable)},
                                     {high(state.effective), high(state.permitted), high(state.inheritable)}}};
  return icall("capset", SYS_capset, &header, data.data());
}
int limit_bounding(CapabilitySet kept, int last) noexcept {
  for (int number = 0; number <= last; ++number) {
    if (kept.contains(number)) continue;
    const int result = prctl(PR_CAPBSET_DROP, static_cast<unsigned long>(number));
    if (result < 0) return result;
  }
  return 0;
}
int clear_ambient() noexcept { return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL); }
int raise_ambient(CapabilitySet raised, int last) noexcept {
  for (int number = 0; number <= last; ++number) {
    if (!raised.contains(number)) continue;
    const int result = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, static_cast<unsigned long>(number));
    if (result < 0) return result;
  }
  return 0;
}
int prlimit(int pid, int resource, const struct ::rlimit* limit) noexcept {
  return icall("prlimit", SYS_prlimit64, pid, resource, limit, static_cast<void*>(nullptr));
}
int sched_setattr(int pid, const abi::SchedAttr& attr) noexcept {
  abi::SchedAttr copy = attr;
  copy.size = sizeof copy;
  return icall("sched_setattr", SYS_sched_setattr, pid, &copy, 0U);
}
int sched_setaffinity(int pid, const void* mask, std::size_t size) noexcept {
  return icall("sched_setaffinity", SYS_sched_setaffinity, pid, size, mask);
}
int ioprio_set(int pid, int io_class, int level) noexcept {
  return icall("ioprio_set", SYS_ioprio_set, abi::ioprio_who_process, pid, (io_class << abi::ioprio_class_shift) | level);
}
int personality(unsigned long persona) noexcept { return icall("personality", SYS_personality, persona); }
int set_mempolicy(int mode, const std::uint64_t* nodes, std::size_t words) noexcept {
  // The kernel counts one bit more than it reads (set_mempolicy(2), BUGS).
  return icall("set_mempolicy", SYS_set_mempolicy, mode, words == 0 ? nullptr : nodes, words == 0 ? 0UL : words * 64 + 1);
}
int join_new_session_keyring() noexcept {
  return icall("keyctl", SYS_keyctl, abi::keyctl_join_session_keyring, static_cast<const char*>(nullptr));
}
int seccomp_filter(const struct ::sock_filter* program, std::uint16_t length, unsigned int flags) noexcept {
  struct ::sock_fprog fprog {};
  fprog.len = length;
  fprog.filter = const_cast<struct ::sock_filter*>(program);
  return icall("seccomp", SYS_seccomp, static_cast<unsigned int>(SECCOMP_SET_MODE_FILTER), flags, &fprog);
}
int landlock_restrict_self(int ruleset_fd) noexcept {
  return icall("landlock_restrict_self", SYS_landlock_restrict_self, ruleset_fd, 0U);
}
int ioctl(int fd, unsigned long request, unsigned long argument) noexcept { return icall("ioctl", SYS_ioctl, fd, request, argument); }
int send_message(int fd, const void* buffer, std::size_t size, const int* fds, std::size_t fd_count) noexcept {
  constexpr std::size_t max_fds = 16;
  if (fd_count > max_fds) return -EINVAL;
  alignas(struct ::cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * max_fds)> control{};
  struct ::iovec part {};
  part.iov_base = const_cast<void*>(buffer);
  part.iov_len = size;
  struct ::msghdr header {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (fd_count > 0) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    struct ::cmsghdr* message = CMSG_FIRSTHDR(&header);
    message->cmsg_level = SOL_SOCKET;
    message->cmsg_type = SCM_RIGHTS;
    message->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
    std::memcpy(CMSG_DATA(message), fds, sizeof(int) * fd_count);
  }
  const long sent = call("sendmsg", SYS_sendmsg, fd, &header, MSG_NOSIGNAL);
  if (sent < 0) return static_cast<int>(sent);
  return sent == static_cast<long>(size) ? 0 : -EMSGSIZE;
}
int kill(int pid, int signal) noexcept { return icall("kill", SYS_kill, pid, signal); }

int reset_signals() noexcept {
  // The kernel's struct sigaction: handler, flags, restorer, mask (all zero = default).
  struct KernelAction {
    unsigned long handler = 0;
    unsigned long flags = 0;
    unsigned long restorer = 0;
    std::uint64_t mask = 0;
  };
  constexpr std::size_t mask_size = sizeof(std::uint64_t);
  const KernelAction standard;
  for (int signal = 1; signal <= 64; ++signal) {
    if (signal == SIGKILL || signal == SIGSTOP) continue;
    const int result = icall("sigaction", SYS_rt_sigaction, signal, &standard, static_cast<void*>(nullptr), mask_size);
    if (result < 0) return result;
  }
  const std::uint64_t empty = 0;
  return icall("sigmask", SYS_rt_sigprocmask, SIG_SETMASK, &empty, static_cast<void*>(nullptr), mask_size);
}

int block_signals() noexcept {
  const std::uint64_t all = ~std::uint64_t{0};
  return icall("sigmask", SYS_rt_sigprocmask, SIG_BLOCK, &all, static_cast<void*>(nullptr), sizeof all);
}

int execve(const char* path, const char* const* argv, const char* const* envp) noexcept {
  return icall("execve", SYS_execve, path, argv, envp);
}
int execveat(int fd, const char* path, const char* const* argv, const char* const* envp, int flags) noexcept {
  return icall("execve", SYS_execveat, fd, path, argv, envp, flags);
}
void exit(int code) noexcept {
  while (true) ::syscall(SYS_exit_group, code);
}

}  // namespace caisson::linux::raw

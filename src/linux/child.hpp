// System calls for the time between clone and exec: no allocation, no locks, no Error; -errno on failure.
// Rules for a child: src/linux/README.md. The fault hook is honoured by the same names as in the wrappers.
#pragma once

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "linux/abi.hpp"
#include "linux/capabilities.hpp"

namespace caisson::linux::raw {

// Each returns the call's value, or -errno. EINTR is retried where POSIX wrappers do.

[[gnu::noinline]] int clone3(struct ::clone_args* args, std::size_t size) noexcept;

int openat(int dir_fd, const char* path, int flags, mode_t mode) noexcept;  ///< O_CLOEXEC is added
int openat2(int dir_fd, const char* path, int flags, std::uint64_t resolve, mode_t mode) noexcept;
int close(int fd) noexcept;
long read(int fd, void* buffer, std::size_t size) noexcept;
long write(int fd, const void* buffer, std::size_t size) noexcept;
/// All of it, or -errno (-EIO for a short write of 0).
int write_all(int fd, const void* buffer, std::size_t size) noexcept;
/// Until `size` bytes or the end; the number of bytes.
long read_exact(int fd, void* buffer, std::size_t size) noexcept;
/// open, one write, close.
int write_kernel_file(int dir_fd, const char* path, const char* text, std::size_t size) noexcept;
int dup3(int fd, int target, int flags) noexcept;
int dup_at_least(int fd, int minimum) noexcept;  ///< close-on-exec
int set_close_on_exec(int fd, bool on) noexcept;
int close_range(unsigned int first, unsigned int last, unsigned int flags) noexcept;
int mkdirat(int dir_fd, const char* path, mode_t mode) noexcept;
int mknodat(int dir_fd, const char* path, mode_t mode, dev_t device) noexcept;
int symlinkat(const char* target, int dir_fd, const char* path) noexcept;
int unlinkat(int dir_fd, const char* path, int flags) noexcept;
long readlinkat(int dir_fd, const char* path, char* buffer, std::size_t size) noexcept;
/// Records of struct linux_dirent64; the number of bytes, 0 at the end.
long getdents64(int fd, void* buffer, std::size_t size) noexcept;
long sendfile(int out_fd, int in_fd, std::size_t count) noexcept;
int utimensat(int dir_fd, const char* path, const struct ::timespec times[2], int flags) noexcept;
int fstat(int fd, struct ::stat* out) noexcept;
int fstatat(int dir_fd, const char* path, struct ::stat* out, int flags) noexcept;
/// The f_type of statfs, or -errno.
long fstatfs_type(int fd) noexcept;
int fchown(int fd, uid_t uid, gid_t gid) noexcept;
int fchownat(int dir_fd, const char* path, uid_t uid, gid_t gid, int flags) noexcept;
int fchmod(int fd, mode_t mode) noexcept;
int fchmodat(int dir_fd, const char* path, mode_t mode) noexcept;
int chdir(const char* path) noexcept;
int fchdir(int fd) noexcept;
int chroot(const char* path) noexcept;
/// Length with the NUL, or -errno.
long getcwd(char* buffer, std::size_t size) noexcept;
mode_t umask(mode_t mask) noexcept;

int fsopen(const char* type) noexcept;
int fsconfig(int fd, unsigned int command, const char* key, const void* value, int aux) noexcept;
int fsmount(int fd, std::uint64_t attributes) noexcept;
/// The superblock of the mount `fd` lies on, to be reconfigured.
int fspick(int fd) noexcept;
int open_tree(int dir_fd, const char* path, unsigned int flags) noexcept;
int move_mount(int from_fd, const char* from, int to_fd, const char* to, unsigned int flags) noexcept;
int attach_mount(int mount_fd, int target_fd) noexcept;
int mount_setattr(int dir_fd, const char* path, unsigned int flags, std::uint64_t set, std::uint64_t clear, std::uint64_t propagation,
                  int userns_fd) noexcept;
int mount(const char* source, const char* target, const char* type, unsigned long flags, const void* data) noexcept;
int umount2(const char* path, int flags) noexcept;
int pivot_root(const char* new_root, const char* put_old) noexcept;

int setns(int fd, int flags) noexcept;
int unshare(int flags) noexcept;
int sethostname(const char* name, std::size_t size) noexcept;
int setdomainname(const char* name, std::size_t size) noexcept;
int setsid() noexcept;
int setpgid(int pid, int group) noexcept;
int getpid() noexcept;
int getppid() noexcept;
int setresuid(std::uint32_t real, std::uint32_t effective, std::uint32_t saved) noexcept;
int setresgid(std::uint32_t real, std::uint32_t effective, std::uint32_t saved) noexcept;
int setgroups(const std::uint32_t* groups, std::size_t count) noexcept;
/// The kernel reports the old id even when it refused; compare with a second call.
std::uint32_t setfsuid(std::uint32_t uid) noexcept;
std::uint32_t setfsgid(std::uint32_t gid) noexcept;
int prctl(int option, unsigned long a, unsigned long b = 0, unsigned long c = 0, unsigned long d = 0) noexcept;
int capset(const CapabilityState& state) noexcept;
/// Drops every capability up to `last` that is not in `kept` from the bounding set.
int limit_bounding(CapabilitySet kept, int last) noexcept;
int clear_ambient() noexcept;
int raise_ambient(CapabilitySet raised, int last) noexcept;
int prlimit(int pid, int resource, const struct ::rlimit* limit) noexcept;
int sched_setattr(int pid, const abi::SchedAttr& attr) noexcept;
int sched_setaffinity(int pid, const void* mask, std::size_t size) noexcept;
int ioprio_set(int pid, int io_class, int level) noexcept;
int personality(unsigned long persona) noexcept;
/// `nodes`: a bit mask of `words` 64-bit words.
int set_mempolicy(int mode, const std::uint64_t* nodes, std::size_t words) noexcept;
int join_new_session_keyring() noexcept;
/// seccomp(SECCOMP_SET_MODE_FILTER); the listener's descriptor with SECCOMP_FILTER_FLAG_NEW_LISTENER.
int seccomp_filter(const struct ::sock_filter* program, std::uint16_t length, unsigned int flags) noexcept;
int landlock_restrict_self(int ruleset_fd) noexcept;
int ioctl(int fd, unsigned long request, unsigned long argument) noexcept;
/// One message of `size` bytes with at most 16 descriptors.
int send_message(int fd, const void* buffer, std::size_t size, const int* fds, std::size_t fd_count) noexcept;
int kill(int pid, int signal) noexcept;
/// Default actions for all signals and an empty mask: what a program expects at its start.
int reset_signals() noexcept;
/// Blocks every signal; what comes is kept until somebody takes it, also for a pid 1 without handlers.
int block_signals() noexcept;
int execve(const char* path, const char* const* argv, const char* const* envp) noexcept;
int execveat(int fd, const char* path, const char* const* argv, const char* const* envp, int flags) noexcept;
[[noreturn]] void exit(int code) noexcept;

}  // namespace caisson::linux::raw

// Files by descriptor: open, read, write, links, ownership, attributes, pipes and locks. All descriptors are close-on-exec.
#pragma once

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/abi.hpp"
#include "linux/path_arg.hpp"

namespace caisson::linux {

using FileStatus = struct ::stat;
using FileSystemStatus = struct ::statfs;
using TimeSpec = struct ::timespec;

/// Reading and writing a file that another party may have made endless stops here unless a caller says otherwise.
inline constexpr std::size_t default_read_limit_bytes = 16U << 20U;

// --- open ---------------------------------------------------------------------------------------------------------
// O_CLOEXEC is added to every open. A relative path starts at dir_fd (AT_FDCWD: the working directory).
// Errors of all functions here: by errno (kind_of_errno); text "CALL PATH: reason".

Result<UniqueFd> open(PathArg path, int flags, mode_t mode = 0);
Result<UniqueFd> openat(int dir_fd, PathArg path, int flags, mode_t mode = 0);
/// openat2(2), kernel 5.6. `resolve` is of RESOLVE_*. A lookup that raced with a rename (EAGAIN) is tried again, at most
/// 128 times.
Result<UniqueFd> openat2(int dir_fd, PathArg path, int flags, std::uint64_t resolve, mode_t mode = 0);
/// Resolves `path` as if root_fd were "/": symbolic links and ".." cannot leave it, magic links of /proc are refused
/// (RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS). The only way a path from an image or a container is opened.
Result<UniqueFd> open_in_root(int root_fd, PathArg path, int flags, mode_t mode = 0);
/// Refuses, with EXDEV, a path that would leave dir_fd, and with ELOOP any symbolic link on the way or at its end.
Result<UniqueFd> open_beneath(int dir_fd, PathArg path, int flags, mode_t mode = 0);
/// Symbolic links are followed as long as they stay beneath the folder. Errors: EXDEV for those that lead out.
Result<UniqueFd> open_inside(int dir_fd, PathArg path, int flags, mode_t mode = 0);
/// A second descriptor for what `fd` (O_PATH too) refers to, by /proc/self/fd. Needs /proc.
Result<UniqueFd> reopen(int fd, int flags);

// --- read and write ------------------------------------------------------------------------------------------------

/// Number of bytes read; 0 at the end.
Result<std::size_t> read(int fd, std::span<char> buffer);
/// Number of bytes written, perhaps fewer than asked.
Result<std::size_t> write(int fd, std::string_view bytes);
Result<std::size_t> pread(int fd, std::span<char> buffer, std::uint64_t offset);
Result<std::size_t> pwrite(int fd, std::string_view bytes, std::uint64_t offset);
/// Writes all of it. A descriptor that would block is waited for with poll.
Status write_all(int fd, std::string_view bytes);
/// Reads until the end. Errors: invalid (EFBIG) when there is more than limit_bytes.
Result<std::string> read_all(int fd, std::size_t limit_bytes = default_read_limit_bytes);
Result<std::string> read_file(PathArg path, std::size_t limit_bytes = default_read_limit_bytes);
Result<std::string> read_file_at(int dir_fd, PathArg path, std::size_t limit_bytes = default_read_limit_bytes);
/// Writes to an existing or new file in place (O_CREAT|O_TRUNC); not atomic. For new files of ours use write_file_atomic.
Status write_file(PathArg path, std::string_view bytes, mode_t mode = 0644);
/// A file of /proc or of a cgroup whose content the kernel hands over whole at the first read (seq_file's single_open, a single value).
/// Errors: invalid (EFBIG) when that does not fit into a page.
Result<std::string> read_kernel_file(PathArg path);
/// One write(2) of the whole text to an existing file: how /proc and /sys files want it.
Status write_kernel_file(PathArg path, std::string_view bytes);
Status write_kernel_file_at(int dir_fd, PathArg path, std::string_view bytes);
/// True for an Error of a call on a non-blocking descriptor that has nothing to give or take now.
bool would_block(const Error& error);

enum class Durability : std::uint8_t {
  none,    ///< readers never see half a file, but a power cut may lose it
  synced,  ///< fsync of file and folder: survives a power cut
};
/// Writes a temporary file beside `path` and renames it over: readers see the old or the new content, never a part.
/// Mode is exact (no umask). On failure the temporary file is removed.
Status write_file_atomic(PathArg path, std::string_view bytes, mode_t mode, Durability durability);
Status write_file_atomic_at(int dir_fd, PathArg name, std::string_view bytes, mode_t mode, Durability durability);

Result<std::uint64_t> lseek(int fd, std::int64_t offset, int whence);
/// Moves bytes inside the kernel. Number of bytes; 0 at the end of the input.
Result<std::size_t> sendfile(int out_fd, int in_fd, std::size_t count);
Result<std::size_t> copy_file_range(int in_fd, int out_fd, std::size_t count);
Result<std::size_t> splice(int in_fd, int out_fd, std::size_t count, unsigned int flags = 0);
Result<std::size_t> tee(int in_fd, int out_fd, std::size_t count, unsigned int flags = 0);
/// Copies from in_fd to its end by the quickest way both descriptors allow. Returns the number of bytes.
Result<std::uint64_t> copy_all(int in_fd, int out_fd);

// --- names ---------------------------------------------------------------------------------------------------------

Status mkdirat(int dir_fd, PathArg path, mode_t mode);
Status mkdir(PathArg path, mode_t mode);
/// `flags`: 0 or AT_REMOVEDIR.
Status unlinkat(int dir_fd, PathArg path, int flags = 0);
Status unlink(PathArg path);
Status rmdir(PathArg path);
/// `flags`: RENAME_NOREPLACE, RENAME_EXCHANGE, …
Status renameat2(int old_dir_fd, PathArg old_path, int new_dir_fd, PathArg new_path, unsigned int flags = 0);
Status rename(PathArg old_path, PathArg new_path);
Status linkat(int old_dir_fd, PathArg old_path, int new_dir_fd, PathArg new_path, int flags = 0);
Status symlinkat(PathArg target, int dir_fd, PathArg link_path);
/// The link's text. An empty path with an O_PATH|O_NOFOLLOW descriptor reads that link.
Result<std::string> readlinkat(int dir_fd, PathArg path);
/// Privilege: CAP_MKNOD for devices. `mode` carries S_IFCHR and the like; the umask applies.
Status mknodat(int dir_fd, PathArg path, mode_t mode, dev_t device);
dev_t make_device(std::uint32_t major, std::uint32_t minor);
std::uint32_t device_major(dev_t device);
std::uint32_t device_minor(dev_t device);

// --- attributes ----------------------------------------------------------------------------------------------------

Result<FileStatus> fstat(int fd);
/// `flags`: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH.
Result<FileStatus> fstatat(int dir_fd, PathArg path, int flags);
Result<FileStatus> stat(PathArg path);
Result<FileStatus> lstat(PathArg path);
/// False for ENOENT and ENOTDIR; follows symbolic links.
Result<bool> exists(PathArg path);
/// access(2) with the effective ids.
Status faccessat(int dir_fd, PathArg path, int mode);
Result<FileSystemStatus> fstatfs(int fd);
Result<FileSystemStatus> statfs(PathArg path);
Status fchmod(int fd, mode_t mode);
/// Follows symbolic links unless the last part is refused by the caller's own open; use fchmod where you can.
Status fchmodat(int dir_fd, PathArg path, mode_t mode);
Status fchown(int fd, uid_t uid, gid_t gid);
/// `flags`: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH.
Status fchownat(int dir_fd, PathArg path, uid_t uid, gid_t gid, int flags);
/// UTIME_OMIT and UTIME_NOW may stand in tv_nsec. `flags`: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH.
Status utimensat(int dir_fd, PathArg path, const TimeSpec& access_time, const TimeSpec& modify_time, int flags);

/// Extended attributes by descriptor (not O_PATH). Values are bytes.
Status fsetxattr(int fd, PathArg name, std::string_view value, int flags = 0);
/// Errors: not_found (ENODATA is reported as such, because a missing attribute is an ordinary answer).
Result<std::string> fgetxattr(int fd, PathArg name);
Result<std::vector<std::string>> flistxattr(int fd);
Status fremovexattr(int fd, PathArg name);
/// On a path that is not followed when it is a symbolic link; `path` is used once, so only for trusted folders.
Status lsetxattr(PathArg path, PathArg name, std::string_view value, int flags = 0);
Result<std::string> lgetxattr(PathArg path, PathArg name);

// --- durability, size, locks, duplicates ---------------------------------------------------------------------------

Status fsync(int fd);
Status fdatasync(int fd);
/// The kernel begins to write these pages to the disk; nothing is waited for or promised. Source: sync_file_range(2), SYNC_FILE_RANGE_WRITE.
Status begin_writing_out(int fd, std::uint64_t offset, std::uint64_t size_bytes);
Status syncfs(int fd);
Status ftruncate(int fd, std::uint64_t size_bytes);
/// `mode`: 0, FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE, …
Status fallocate(int fd, int mode, std::uint64_t offset, std::uint64_t size_bytes);
/// `operation`: LOCK_SH, LOCK_EX, LOCK_UN, with LOCK_NB. A held lock is `unavailable` (EAGAIN).
Status flock(int fd, int operation);
Result<UniqueFd> dup(int fd);
/// The lowest free number that is at least `minimum`.
Result<UniqueFd> dup_at_least(int fd, int minimum);
/// dup3: `target` afterwards refers to what `fd` does. `flags`: 0 or O_CLOEXEC.
Status dup3(int fd, int target, int flags);
Result<int> fcntl_get_flags(int fd);
Status fcntl_set_flags(int fd, int flags);
Status set_nonblocking(int fd, bool nonblocking);
Status set_close_on_exec(int fd, bool close_on_exec);
/// Bytes a pipe may hold; the kernel rounds up. Errors: denied above /proc/sys/fs/pipe-max-size.
Result<int> set_pipe_size(int fd, int size_bytes);
/// Bytes waiting to be read (FIONREAD).
Result<std::size_t> bytes_available(int fd);

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};
/// `flags`: O_NONBLOCK, O_DIRECT.
Result<Pipe> pipe2(int flags = 0);

/// An anonymous file in memory. `flags`: MFD_ALLOW_SEALING (MFD_CLOEXEC is added).
Result<UniqueFd> memfd_create(PathArg name, unsigned int flags = 0);
/// F_SEAL_* bits.
Status add_seals(int fd, int seals);
/// F_GET_SEALS. Errors: invalid when the file is of a kind that cannot be sealed.
Result<int> get_seals(int fd);
/// A memfd with this content, sealed against every change, read from its start.
Result<UniqueFd> sealed_memfd(PathArg name, std::string_view bytes);

Result<std::string> getcwd();
Status chdir(PathArg path);
Status fchdir(int fd);
/// Privilege: CAP_SYS_CHROOT.
Status chroot(PathArg path);
/// Sets the umask and returns the old one; cannot fail.
mode_t umask(mode_t mask);

}  // namespace caisson::linux

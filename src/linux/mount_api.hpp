// The kernel's mount API by descriptors (5.2), and the few older calls that still have a use.
#pragma once

#include <fcntl.h>
#include <sys/mount.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/abi.hpp"
#include "linux/path_arg.hpp"

namespace caisson::linux {

/// A file system being configured (fsopen … fsmount). On an error the kernel's own words from the context are put before
/// the errno's: "mount overlay: option lowerdir: No such file or directory" tells more than EINVAL.
/// Privilege: CAP_SYS_ADMIN in the user namespace that owns the mount namespace.
class FileSystemContext {
 public:
  static Result<FileSystemContext> create(PathArg type);
  /// Reconfigures the superblock of an existing mount (fspick). `flags`: FSPICK_*.
  static Result<FileSystemContext> pick(int dir_fd, PathArg path, unsigned int flags);

  Status set_flag(PathArg key);
  /// The kernel takes at most 255 bytes of value.
  Status set_string(PathArg key, PathArg value);
  Status set_fd(PathArg key, int fd);
  /// FSCONFIG_SET_PATH relative to dir_fd.
  Status set_path(PathArg key, int dir_fd, PathArg path);
  /// Makes the superblock.
  Status create_superblock();
  Status reconfigure();
  /// A detached mount of it. `attributes` of MOUNT_ATTR_*.
  Result<UniqueFd> mount(std::uint64_t attributes);
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// What the kernel has said since the last call ("e …", "w …" lines, joined by "; "); empty when nothing.
  std::string take_messages();

 private:
  FileSystemContext(UniqueFd fd, std::string type) : fd_(std::move(fd)), type_(std::move(type)) {}
  Status configure(unsigned int command, const char* key, const void* value, int aux, std::string_view what);
  UniqueFd fd_;
  std::string type_;
};

struct MountOption {
  std::string key;
  std::string value;  ///< empty: a flag
};
/// create, options, superblock, detached mount in one go.
Result<UniqueFd> mount_detached(PathArg type, const std::vector<MountOption>& options, std::uint64_t attributes);

/// `flags`: OPEN_TREE_CLONE, AT_RECURSIVE, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW (OPEN_TREE_CLOEXEC is added).
Result<UniqueFd> open_tree(int dir_fd, PathArg path, unsigned int flags);
/// A detached clone of what `fd` refers to (recursive: with the mounts below).
Result<UniqueFd> clone_tree(int fd, bool recursive);
/// `flags`: MOVE_MOUNT_*.
Status move_mount(int from_fd, PathArg from_path, int to_fd, PathArg to_path, unsigned int flags);
/// Attaches the mount `mount_fd` on the file or folder `target_fd`: no path is resolved.
Status attach_mount(int mount_fd, int target_fd);

struct MountAttributes {
  std::uint64_t set = 0;    ///< MOUNT_ATTR_*
  std::uint64_t clear = 0;  ///< MOUNT_ATTR_*; clear MOUNT_ATTR__ATIME before setting one of its group
  std::uint64_t propagation = 0;  ///< MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE or 0
  int userns_fd = -1;  ///< with MOUNT_ATTR_IDMAP in `set`
};
/// 5.12. `flags`: AT_EMPTY_PATH, AT_RECURSIVE.
Status mount_setattr(int dir_fd, PathArg path, unsigned int flags, const MountAttributes& attributes);

/// Puts the current root below put_old ("." and "." with an fchdir before: stacked, then umount2 of ".").
Status pivot_root(PathArg new_root, PathArg put_old);
/// `flags`: MNT_DETACH, MNT_FORCE, UMOUNT_NOFOLLOW.
Status umount2(PathArg path, int flags);
/// mount(2); `data` may be empty. For what the new API cannot do (more than 255 bytes of lowerdir before 6.8).
Status mount(PathArg source, PathArg target, PathArg type, unsigned long flags, PathArg data);
/// Makes every mount of this namespace private (MS_REC|MS_PRIVATE on "/") or a slave.
Status make_all_mounts(std::uint64_t propagation);

/// One line of /proc/PID/mountinfo, octal escapes undone.
struct MountInfo {
  int id = 0;
  int parent_id = 0;
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::string root;
  std::string mount_point;
  std::string options;
  std::vector<std::string> optional_fields;  ///< "shared:1", "master:2"
  std::string type;
  std::string source;
  std::string super_options;
};
/// Errors: corrupt, naming the line.
Result<std::vector<MountInfo>> parse_mountinfo(std::string_view text);
/// pid 0: this thread's own.
Result<std::vector<MountInfo>> read_mountinfo(int pid = 0);

}  // namespace caisson::linux

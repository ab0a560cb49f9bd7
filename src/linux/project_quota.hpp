// Project quotas: limits for what lies below one folder, where the file system keeps them (ext4 and xfs with the mount option prjquota).
#pragma once

#include <cstdint>

#include "base/result.hpp"

namespace caisson::linux {

/// FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR: the folder, and what is made in it from now on, belongs to this project. Only the host's user
/// namespace may change it (ioctl_xflags(2); kernel: fileattr_set_prepare), so a container's root cannot leave it. Privilege:
/// CAP_FOWNER. Errors: unsupported (the file system has no projects).
Status set_project(int dir_fd, std::uint32_t project_id);
/// The project of a file or folder; 0: none.
Result<std::uint32_t> get_project(int fd);

struct ProjectQuota {
  std::uint64_t limit_bytes = 0;  ///< 0: none
  std::uint64_t used_bytes = 0;
  std::uint64_t used_inodes = 0;
};
/// quotactl_fd(2), kernel 5.14, of the file system that `fd` is on. Privilege: CAP_SYS_ADMIN. Errors: unsupported (no quotas in the kernel, in
/// the file system, or switched on).
Result<ProjectQuota> get_project_quota(int fd, std::uint32_t project_id);
/// Hard limit in bytes, rounded up to 1 KiB; 0 takes it away.
Status set_project_limit(int fd, std::uint32_t project_id, std::uint64_t limit_bytes);

}  // namespace caisson::linux

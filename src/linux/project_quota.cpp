// FS_IOC_FSSETXATTR and quotactl_fd(2).
#include "linux/project_quota.hpp"

#include <linux/fs.h>
#include <linux/quota.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "linux/syscall.hpp"

namespace caisson::linux {
namespace {

constexpr std::uint64_t block_bytes = 1024;  // QIF_DQBLKSIZE, quotactl(2)

/// The ways in which a kernel or file system says that it has none: no such call, no such ioctl or operation, quotas not switched on.
Error without_support(Error error) {
  const int number = error.error_number();
  if (number == ENOSYS || number == ENOTTY || number == EOPNOTSUPP || number == ESRCH) return std::move(error).with_kind(ErrorKind::unsupported);
  return error;
}

Status quota_call(int fd, unsigned int command, std::uint32_t project_id, if_dqblk& block) {
  auto done = detail::status("quotactl_fd", [&] { return ::syscall(SYS_quotactl_fd, fd, QCMD(command, PRJQUOTA), project_id, &block); }, "project ", project_id);
  if (!done) return without_support(std::move(done).error());
  return {};
}

Result<fsxattr> attributes_of(int fd) {
  fsxattr attributes{};
  auto got = detail::status("ioctl", [&] { return ::ioctl(fd, FS_IOC_FSGETXATTR, &attributes); }, "FS_IOC_FSGETXATTR");
  if (!got) return without_support(std::move(got).error());
  return attributes;
}

}  // namespace

Status set_project(int dir_fd, std::uint32_t project_id) {
  fsxattr attributes = TRY_PLAIN(attributes_of(dir_fd));
  attributes.fsx_projid = project_id;
  attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
  auto set = detail::status("ioctl", [&] { return ::ioctl(dir_fd, FS_IOC_FSSETXATTR, &attributes); }, "FS_IOC_FSSETXATTR");
  if (!set) return without_support(std::move(set).error());
  return {};
}

Result<std::uint32_t> get_project(int fd) { return TRY_PLAIN(attributes_of(fd)).fsx_projid; }

Result<ProjectQuota> get_project_quota(int fd, std::uint32_t project_id) {
  if_dqblk block{};
  Status got = quota_call(fd, Q_GETQUOTA, project_id, block);
  // Quotas that are on and a project nobody has named yet look alike to some file systems: Q_GETFMT tells them apart.
  if (!got && got.error().error_number() == ESRCH) {
    std::uint32_t format = 0;
    auto asked = detail::status("quotactl_fd", [&] { return ::syscall(SYS_quotactl_fd, fd, QCMD(Q_GETFMT, PRJQUOTA), 0, &format); }, "format");
    if (asked) return ProjectQuota{};
  }
  if (!got) return std::move(got).error();
  ProjectQuota quota;
  quota.limit_bytes = block.dqb_bhardlimit * block_bytes;
  quota.used_bytes = block.dqb_curspace;
  quota.used_inodes = block.dqb_curinodes;
  return quota;
}

Status set_project_limit(int fd, std::uint32_t project_id, std::uint64_t limit_bytes) {
  if_dqblk block{};
  block.dqb_bhardlimit = (limit_bytes + block_bytes - 1) / block_bytes;
  block.dqb_valid = QIF_BLIMITS;
  return quota_call(fd, Q_SETQUOTA, project_id, block);
}

}  // namespace caisson::linux

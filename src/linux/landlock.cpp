// Landlock rulesets of the strength that the running kernel offers (landlock(7)).
#include "linux/landlock.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>

#include "linux/child.hpp"
#include "linux/file.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::descriptor;
using detail::status;

namespace {

constexpr std::uint64_t read_rights = abi::landlock_fs_read_file | abi::landlock_fs_read_dir;
constexpr std::uint64_t execute_rights = read_rights | abi::landlock_fs_execute;
// Device nodes stay out of every right: a worker has no business making them, and may not anyway.
constexpr std::uint64_t device_rights = abi::landlock_fs_make_char | abi::landlock_fs_make_block;

/// All file rights that this ABI knows and therefore can deny.
std::uint64_t known_rights(int abi_version) {
  std::uint64_t rights = (abi::landlock_fs_make_sym << 1U) - 1;
  if (abi_version >= 2) rights |= abi::landlock_fs_refer;
  if (abi_version >= 3) rights |= abi::landlock_fs_truncate;
  if (abi_version >= 5) rights |= abi::landlock_fs_ioctl_dev;
  return rights;
}

std::uint64_t rights_of(LandlockAccess access, std::uint64_t known) {
  switch (access) {
    case LandlockAccess::read: return read_rights;
    case LandlockAccess::execute: return execute_rights;
    case LandlockAccess::read_write: return known & ~device_rights;
    case LandlockAccess::read_write_whiteouts: return known & ~abi::landlock_fs_make_block;
  }
  return read_rights;
}

/// What may be said of a file that is no folder; other rights make the kernel refuse the rule with EINVAL.
constexpr std::uint64_t file_rights = abi::landlock_fs_execute | abi::landlock_fs_write_file | abi::landlock_fs_read_file |
                                      abi::landlock_fs_truncate | abi::landlock_fs_ioctl_dev;

Status add_rule(int ruleset_fd, const LandlockRule& rule, std::uint64_t known) {
  const UniqueFd fd = TRY_PLAIN(open(rule.path, O_PATH));
  const FileStatus info = TRY(fstat(fd.get()), rule.path);
  abi::LandlockPathBeneathAttr attr{};
  attr.parent_fd = fd.get();
  attr.allowed_access = rights_of(rule.access, known) & known;
  if (!S_ISDIR(info.st_mode)) attr.allowed_access &= file_rights;
  return status(
      "landlock_add_rule",
      [&] { return ::syscall(SYS_landlock_add_rule, ruleset_fd, abi::landlock_rule_path_beneath, &attr, 0U); }, rule.path);
}

}  // namespace

int landlock_abi() {
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, std::size_t{0}, abi::landlock_create_ruleset_version);
  return version < 0 ? 0 : static_cast<int>(version);
}

Result<UniqueFd> create_landlock_ruleset(const LandlockPolicy& policy) {
  const int version = landlock_abi();
  if (version == 0) return Error(ErrorKind::unsupported, "landlock is not available on this kernel", EOPNOTSUPP);
  const std::uint64_t known = known_rights(version);
  abi::LandlockRulesetAttr attr{};
  attr.handled_access_fs = known;
  std::size_t size = offsetof(abi::LandlockRulesetAttr, handled_access_net);
  if (version >= 4) {
    size = offsetof(abi::LandlockRulesetAttr, scoped);
    if (policy.deny_tcp) attr.handled_access_net = abi::landlock_net_bind_tcp | abi::landlock_net_connect_tcp;
  }
  if (version >= 6) {
    size = sizeof attr;
    if (policy.scope_ipc) attr.scoped = abi::landlock_scope_abstract_unix_socket | abi::landlock_scope_signal;
  }
  UniqueFd ruleset = TRY_PLAIN(descriptor("landlock_create_ruleset", [&] {
    return static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attr, size, 0U));
  }));
  for (const LandlockRule& rule : policy.rules) TRY(add_rule(ruleset.get(), rule, known), "landlock");
  return ruleset;
}

Status landlock_restrict_self(int ruleset_fd) {
  const int result = raw::landlock_restrict_self(ruleset_fd);
  if (result < 0) return Error::from_errno(-result, "landlock_restrict_self");
  return {};
}

}  // namespace caisson::linux

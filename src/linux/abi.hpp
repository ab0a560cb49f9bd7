// Kernel constants and structures that Debian 12's headers (6.1) do not have yet. No logic here.
#pragma once

#include <cstdint>

#include <linux/ioctl.h>

namespace caisson::linux::abi {

// pidfd: include/uapi/linux/pidfd.h of 6.13 and later.
inline constexpr std::uint64_t pidfd_info_pid = 1U << 0;
inline constexpr std::uint64_t pidfd_info_creds = 1U << 1;
inline constexpr std::uint64_t pidfd_info_cgroupid = 1U << 2;
inline constexpr std::uint64_t pidfd_info_exit = 1U << 3;  ///< 6.15: exit status after a foreign reap
inline constexpr std::uint64_t pidfd_info_coredump = 1U << 4;
inline constexpr int pidfd_self = -10000;

struct PidfdInfo {
  std::uint64_t mask;
  std::uint64_t cgroupid;
  std::uint32_t pid;
  std::uint32_t tgid;
  std::uint32_t ppid;
  std::uint32_t ruid;
  std::uint32_t rgid;
  std::uint32_t euid;
  std::uint32_t egid;
  std::uint32_t suid;
  std::uint32_t sgid;
  std::uint32_t fsuid;
  std::uint32_t fsgid;
  std::int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64, "PIDFD_INFO_SIZE_VER0");
inline constexpr unsigned long pidfd_get_info = _IOC(_IOC_READ | _IOC_WRITE, 0xFF, 11, sizeof(PidfdInfo));

// struct sched_attr (linux/sched/types.h clashes with glibc's sched.h).
struct SchedAttr {
  std::uint32_t size;
  std::uint32_t sched_policy;
  std::uint64_t sched_flags;
  std::int32_t sched_nice;
  std::uint32_t sched_priority;
  std::uint64_t sched_runtime;
  std::uint64_t sched_deadline;
  std::uint64_t sched_period;
  std::uint32_t sched_util_min;
  std::uint32_t sched_util_max;
};
static_assert(sizeof(SchedAttr) == 56, "SCHED_ATTR_SIZE_VER1");

// Landlock beyond ABI 2: include/uapi/linux/landlock.h of 6.12.
struct LandlockRulesetAttr {
  std::uint64_t handled_access_fs;
  std::uint64_t handled_access_net;  ///< ABI 4 (6.7)
  std::uint64_t scoped;              ///< ABI 6 (6.12)
};
struct [[gnu::packed]] LandlockPathBeneathAttr {
  std::uint64_t allowed_access;
  std::int32_t parent_fd;
};
inline constexpr std::uint32_t landlock_create_ruleset_version = 1U << 0;
inline constexpr int landlock_rule_path_beneath = 1;
inline constexpr std::uint64_t landlock_fs_execute = 1ULL << 0;
inline constexpr std::uint64_t landlock_fs_write_file = 1ULL << 1;
inline constexpr std::uint64_t landlock_fs_read_file = 1ULL << 2;
inline constexpr std::uint64_t landlock_fs_read_dir = 1ULL << 3;
inline constexpr std::uint64_t landlock_fs_remove_dir = 1ULL << 4;
inline constexpr std::uint64_t landlock_fs_remove_file = 1ULL << 5;
inline constexpr std::uint64_t landlock_fs_make_char = 1ULL << 6;
inline constexpr std::uint64_t landlock_fs_make_dir = 1ULL << 7;
inline constexpr std::uint64_t landlock_fs_make_reg = 1ULL << 8;
inline constexpr std::uint64_t landlock_fs_make_sock = 1ULL << 9;
inline constexpr std::uint64_t landlock_fs_make_fifo = 1ULL << 10;
inline constexpr std::uint64_t landlock_fs_make_block = 1ULL << 11;
inline constexpr std::uint64_t landlock_fs_make_sym = 1ULL << 12;
inline constexpr std::uint64_t landlock_fs_refer = 1ULL << 13;      ///< ABI 2
inline constexpr std::uint64_t landlock_fs_truncate = 1ULL << 14;   ///< ABI 3 (6.2)
inline constexpr std::uint64_t landlock_fs_ioctl_dev = 1ULL << 15;  ///< ABI 5 (6.10)
inline constexpr std::uint64_t landlock_net_bind_tcp = 1ULL << 0;     ///< ABI 4
inline constexpr std::uint64_t landlock_net_connect_tcp = 1ULL << 1;  ///< ABI 4
inline constexpr std::uint64_t landlock_scope_abstract_unix_socket = 1ULL << 0;  ///< ABI 6
inline constexpr std::uint64_t landlock_scope_signal = 1ULL << 1;                ///< ABI 6

// ioprio (no uapi header before 6.5 carries them under these names).
inline constexpr int ioprio_who_process = 1;
inline constexpr int ioprio_class_shift = 13;

// keyctl(2), linux/keyctl.h.
inline constexpr int keyctl_join_session_keyring = 1;

// openat2/mount additions.
inline constexpr unsigned int move_mount_beneath = 0x00000200;  ///< 6.5
inline constexpr unsigned int at_handle_fid = 0x200;
inline constexpr int fsconfig_cmd_create_excl = 8;  ///< 6.6: create a new superblock or fail
inline constexpr std::uint32_t mfd_noexec_seal = 0x0008U;  ///< 6.3
inline constexpr std::uint32_t mfd_exec = 0x0010U;         ///< 6.3

// File system magics of statfs(2) that we compare with.
inline constexpr std::int64_t proc_super_magic = 0x9fa0;
inline constexpr std::int64_t cgroup_super_magic = 0x27e0eb;
inline constexpr std::int64_t cgroup2_super_magic = 0x63677270;
inline constexpr std::int64_t devpts_super_magic = 0x1cd1;
inline constexpr std::int64_t tmpfs_magic = 0x01021994;
inline constexpr std::int64_t overlayfs_super_magic = 0x794c7630;
inline constexpr std::int64_t sysfs_magic = 0x62656572;
inline constexpr std::int64_t nsfs_magic = 0x6e736673;

}  // namespace caisson::linux::abi

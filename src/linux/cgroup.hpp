// Cgroups of v1, v2 and hybrid hosts behind one object: create, limit, join, freeze, kill, measure, remove.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/mount_api.hpp"

namespace caisson::linux {

enum class CgroupMode : std::uint8_t {
  none,     ///< nothing mounted
  v1,       ///< controllers on v1 hierarchies only
  hybrid,   ///< v1, and a v2 hierarchy beside it (for kill, freeze and whatever controllers it holds)
  unified,  ///< v2 at /sys/fs/cgroup
};
std::string_view to_string(CgroupMode mode);

/// Who makes the directories.
enum class CgroupDriver : std::uint8_t {
  cgroupfs,  ///< we do
  systemd,   ///< systemd makes a scope; what it leaves out (v1 hierarchies it does not manage) we add
  disabled,  ///< nobody: containers stay in the cgroup of their maker
};

/// One mounted hierarchy.
struct CgroupHierarchy {
  std::string mount_point;
  std::string root;                      ///< the part of the hierarchy that is mounted there ("/")
  std::vector<std::string> controllers;  ///< v1: of the mount's options ("name=systemd" too); v2: of cgroup.controllers
  bool is_v2 = false;
};

/// What this host mounts, read once. Shared by all cgroups; immutable.
struct CgroupLayout {
  CgroupMode mode = CgroupMode::none;
  std::vector<CgroupHierarchy> hierarchies;  ///< v2, when there is one, is the last
  /// Unified only: v1 hierarchies without controllers that are mounted beside v2. Nobody is put into them, but for with_named.
  std::vector<CgroupHierarchy> named;
  [[nodiscard]] const CgroupHierarchy* v2() const;
  [[nodiscard]] const CgroupHierarchy* find(std::string_view controller) const;
  [[nodiscard]] bool has(std::string_view controller) const { return find(controller) != nullptr; }
  /// This layout with the named hierarchy ("name=systemd") among those that a container has a cgroup in. Errors: unsupported (not mounted).
  [[nodiscard]] Result<CgroupLayout> with_named(std::string_view name) const;
};
/// Pure: from the lines of mountinfo and the text of the v2 root's cgroup.controllers.
CgroupLayout cgroup_layout(const std::vector<MountInfo>& mounts, std::string_view v2_controllers);
/// Reads /proc/thread-self/mountinfo. Do it once per process and keep it.
Result<CgroupLayout> detect_cgroup_layout();

// --- limits --------------------------------------------------------------------------------------------------------

struct CgroupDevice {
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::uint64_t value = 0;  ///< rate, or weight
};
struct CgroupDeviceRule {
  bool allow = false;
  char type = 'a';                    ///< a, b, c
  std::optional<std::int64_t> major;  ///< absent: any
  std::optional<std::int64_t> minor;
  std::string access = "rwm";
};
struct CgroupHugepages {
  std::string page_size;  ///< "2MB"
  std::uint64_t limit_bytes = 0;
};
struct CgroupInterfacePriority {
  std::string interface;
  std::uint32_t priority = 0;
};
struct CgroupRdma {
  std::string device;                    ///< "mlx5_1"
  std::optional<std::uint32_t> handles;  ///< absent: leave alone
  std::optional<std::uint32_t> objects;
};
/// The OCI resources in the kernel's order of thinking; v1 values throughout, converted on v2. Absent: leave alone.
struct CgroupLimits {
  std::optional<std::int64_t> memory_limit_bytes;  ///< -1: unlimited
  std::optional<std::int64_t> memory_reservation_bytes;
  std::optional<std::int64_t> memory_swap_bytes;  ///< memory plus swap; -1: unlimited
  std::optional<std::uint64_t> memory_swappiness;
  std::optional<bool> memory_disable_oom_killer;
  bool memory_check_before_update = false;  ///< refuse a limit below the present usage
  std::optional<std::uint64_t> cpu_shares;
  std::optional<std::int64_t> cpu_quota_us;  ///< -1: unlimited
  std::optional<std::uint64_t> cpu_period_us;
  std::optional<std::uint64_t> cpu_burst_us;
  std::optional<std::int64_t> cpu_rt_runtime_us;
  std::optional<std::uint64_t> cpu_rt_period_us;
  std::optional<std::int64_t> cpu_idle;
  std::string cpuset_cpus;
  std::string cpuset_mems;
  std::optional<std::int64_t> pids_limit;     ///< -1: unlimited
  std::optional<std::uint16_t> blkio_weight;  ///< 10–1000
  std::vector<CgroupDevice> blkio_weight_devices;
  std::vector<CgroupDevice> blkio_read_bps;
  std::vector<CgroupDevice> blkio_write_bps;
  std::vector<CgroupDevice> blkio_read_iops;
  std::vector<CgroupDevice> blkio_write_iops;
  std::vector<CgroupHugepages> hugepages;
  std::optional<std::uint32_t> net_cls_classid;  ///< v1 only, as are priorities
  std::vector<CgroupInterfacePriority> net_prio;
  std::vector<CgroupRdma> rdma;
  std::map<std::string, std::string> unified;      ///< v2 file → value; on v1 an error
  /// In order, last match wins. Empty: devices are left alone. The first rule should be "deny all".
  std::vector<CgroupDeviceRule> devices;
};

/// One write to a cgroup file.
struct CgroupWrite {
  std::string controller;
  std::string file;
  std::string value;
  std::string else_file;  ///< written with else_value instead when `file` is missing (io.weight for io.bfq.weight)
  std::string else_value;
  bool optional = false;  ///< a missing file is passed over (the .rsvd variants)
  bool operator==(const CgroupWrite&) const = default;
};
/// Pure: the writes for v2, in order. Errors: invalid (swap below limit), unsupported (realtime on v2).
Result<std::vector<CgroupWrite>> plan_v2_writes(const CgroupLimits& limits);
/// Pure: the writes for v1, in order for a fresh group (limit before memory+swap). Errors: unsupported (unified on v1).
Result<std::vector<CgroupWrite>> plan_v1_writes(const CgroupLimits& limits);
/// cpu.shares → cpu.weight: ceil(10^((l²+125l)/612 − 7/34)), l = log2(shares); 2→1, 1024→100, 262144→10000. 0 → 0 (unset).
std::uint64_t cpu_weight_of_shares(std::uint64_t shares);
/// blkio.weight (10–1000) → io.weight: 1 + (w−10)·9999/990.
std::uint64_t io_weight_of_blkio(std::uint64_t weight);

// --- statistics ----------------------------------------------------------------------------------------------------

struct CgroupIoStat {
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t write_bytes = 0;
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
};
struct CgroupPressure {
  double some_avg10 = 0;
  double some_avg60 = 0;
  double some_avg300 = 0;
  std::uint64_t some_total_us = 0;
  double full_avg10 = 0;
  double full_avg60 = 0;
  double full_avg300 = 0;
  std::uint64_t full_total_us = 0;
};
/// What can be read is filled; controllers that are not there leave zeros.
struct CgroupStats {
  std::uint64_t cpu_usage_ns = 0;
  std::uint64_t cpu_user_ns = 0;
  std::uint64_t cpu_system_ns = 0;
  std::vector<std::uint64_t> cpu_per_cpu_ns;  ///< v1 only
  std::uint64_t cpu_periods = 0;
  std::uint64_t cpu_throttled_periods = 0;
  std::uint64_t cpu_throttled_ns = 0;
  std::uint64_t memory_usage_bytes = 0;
  std::uint64_t memory_peak_bytes = 0;
  std::uint64_t memory_limit_bytes = 0;  ///< UINT64_MAX: unlimited
  std::uint64_t memory_failures = 0;
  std::uint64_t swap_usage_bytes = 0;
  std::uint64_t swap_limit_bytes = 0;
  std::uint64_t oom_kills = 0;
  std::map<std::string, std::uint64_t> memory_stat;
  std::uint64_t pids_current = 0;
  std::uint64_t pids_limit = 0;  ///< UINT64_MAX: unlimited
  std::vector<CgroupIoStat> io;
  std::optional<CgroupPressure> cpu_pressure;
  std::optional<CgroupPressure> memory_pressure;
  std::optional<CgroupPressure> io_pressure;
};

/// Tells when the kernel has killed for lack of memory.
class OomEvents {
 public:
  virtual ~OomEvents() = default;
  /// Readable (poll) when the count may have changed.
  [[nodiscard]] virtual int fd() const = 0;
  /// Kills so far; clears the readiness.
  virtual Result<std::uint64_t> count() = 0;
};

// --- systemd -------------------------------------------------------------------------------------------------------

/// The manager that makes units for us: the system's, or as an ordinary user the user's own.
struct SystemdManager {
  bool of_user = false;
  std::string root;  ///< the cgroup of the manager, below which its slices lie; "" for the system's
  std::string default_slice = "system.slice";
};
/// By our uid as the host sees it (rootless engines run us as root of their user namespace).
Result<SystemdManager> own_systemd_manager();
/// OCI's cgroupsPath as the systemd driver reads it, "SLICE:PREFIX:NAME" (empty: the default slice, "caisson" and the id), as
/// the path of the scope's cgroup that Cgroup takes: "systemd:/system.slice/PREFIX-NAME.scope". A sub-cgroup may be appended.
/// So the driver is part of the name and is known wherever the name was kept. Pure. Errors: invalid.
Result<std::string> systemd_cgroup_path(std::string_view cgroups_path, std::string_view id, const SystemdManager& manager);
/// The unit in such a path ("PREFIX-NAME.scope"); empty for a path of the cgroupfs driver.
std::string systemd_unit_name(std::string_view path);

namespace detail {
class ScopeHolder;
struct SystemdUnit;
}  // namespace detail

// --- a cgroup ------------------------------------------------------------------------------------------------------

/// What a child needs to be in the cgroup: on v2 (and for the v2 half of hybrid) a folder for clone3's CLONE_INTO_CGROUP;
/// on v1 one open cgroup.procs per hierarchy, into which the child writes "0" before it execs.
struct CgroupHandle {
  UniqueFd v2_dir;                     ///< empty when there is no v2 hierarchy
  /// The `tasks` files: who writes "0" there goes in with its one thread. Empty on pure v2. Not cgroup.procs, for which the kernel stops all
  /// forks and exits of the machine (cgroup_attach_lock waits for a grace period); a thread that moves itself needs no such lock (5.5).
  std::vector<UniqueFd> v1_tasks_fds;
};

/// What systemd is told when it makes the unit; the cgroupfs driver needs none of it.
struct CgroupCreation {
  const CgroupLimits* limits = nullptr;  ///< borrowed; as properties, so that systemd does not undo what apply() writes
  /// Further properties in GVariant text form (annotations "org.systemd.property.NAME"). Borrowed.
  const std::map<std::string, std::string>* systemd_properties = nullptr;
};

enum class FreezeState : std::uint8_t { thawed, freezing, frozen };

/// A cgroup of one container: its directory in every hierarchy. The object is a name; the kernel's directories outlive it.
class Cgroup {
 public:
  /// Makes "PATH" in every hierarchy (missing parents too, with their controllers enabled; on v1 with cpuset copied from
  /// the parent). PATH: absolute = below the mount points; relative = below our own cgroup of each hierarchy; "systemd:/…" (see
  /// systemd_cgroup_path) = a scope that systemd makes, kept alive by a process of ours until settle(). Without ".." or "//".
  /// Errors: invalid (path), conflict (exists and holds processes or is frozen), denied, unavailable.
  /// On failure everything made is removed again.
  static Result<Cgroup> create(std::shared_ptr<const CgroupLayout> layout, std::string_view path, const CgroupCreation& creation = {});
  /// For a cgroup made before (recover); does not touch the kernel. Errors: invalid (path).
  static Result<Cgroup> open(std::shared_ptr<const CgroupLayout> layout, std::string_view path);

  Cgroup(Cgroup&&) noexcept;
  Cgroup& operator=(Cgroup&&) noexcept;
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;
  ~Cgroup();

  /// The cgroup PATH (relative, without "..") below this one in the hierarchies of these controllers, and this one in the
  /// others. Without controllers: in every hierarchy where it exists. Errors: invalid (path, a controller that is not
  /// mounted), unavailable when it exists nowhere.
  [[nodiscard]] Result<Cgroup> below(std::string_view path, const std::vector<std::string_view>& controllers = {}) const;

  /// As it was given to create or open.
  [[nodiscard]] const std::string& path() const { return path_; }
  /// The directory in one hierarchy of layout(), as a path of this mount namespace.
  [[nodiscard]] const std::string& directory(std::size_t hierarchy) const { return directories_[hierarchy]; }
  [[nodiscard]] const CgroupLayout& layout() const { return *layout_; }
  [[nodiscard]] bool exists() const;
  /// create() made it, or systemd for it: what the kernel counts began with it.
  [[nodiscard]] bool is_new() const { return is_new_; }

  /// Applies limits; those before a refused one stay applied. Errors name controller, file and value; a missing controller
  /// reads "memory controller is not available" (never the words of ENOENT: callers take exit codes from those).
  Status apply(const CgroupLimits& limits);
  [[nodiscard]] Result<CgroupHandle> handle() const;
  /// The same for a process beside `pid` (exec): where the container has moved its init deeper on v2, its own cgroup is an
  /// inner node now, which takes no processes (EBUSY; cgroups(7), "no internal processes").
  [[nodiscard]] Result<CgroupHandle> handle_beside(int pid) const;
  /// After create(), once the container's process is inside: lets go of what kept the place. Nothing to do for cgroupfs.
  Status settle();
  /// v2: gives the directory and the files that a delegatee needs (/sys/kernel/cgroup/delegate) to these ids; nothing on v1,
  /// where it would be an escape. Privilege: CAP_CHOWN.
  Status delegate(std::uint32_t uid, std::uint32_t gid);
  /// Moves a process into every hierarchy.
  Status add(int pid);

  Status freeze(int timeout_ms = 10000);
  Status thaw();
  [[nodiscard]] Result<FreezeState> freeze_state() const;
  /// SIGKILL to every process in it and below: cgroup.kill (5.14) where there is v2, else freeze, kill, thaw until empty.
  Status kill_all();
  /// Pids in it (`recursive`: and below), as our pid namespace sees them.
  [[nodiscard]] Result<std::vector<int>> pids(bool recursive = true) const;
  [[nodiscard]] Result<CgroupStats> stats() const;
  [[nodiscard]] Result<std::unique_ptr<OomEvents>> oom_events() const;
  /// Removes the directories and empty ones below them; waits up to timeout_ms for processes that are just dying.
  /// Parents stay. A directory that is gone already is fine. Errors: conflict (EBUSY) naming how many processes are left.
  Status remove(int timeout_ms = 10000);

 private:
  Cgroup(std::shared_ptr<const CgroupLayout> layout, std::string path, std::vector<std::string> directories);
  Status start_unit(const CgroupCreation& creation);
  Status make_directories();
  [[nodiscard]] const std::string* v2_directory() const;
  /// The directory of the hierarchy with this v1 controller; nullptr when it is not on v1.
  [[nodiscard]] const std::string* v1_directory(std::string_view controller) const;
  [[nodiscard]] const std::string& process_directory() const;
  [[nodiscard]] Status offers_v2(std::string_view controller) const;
  Status apply_files(const CgroupLimits& limits);
  Status apply_unit(const CgroupLimits& limits);
  Status apply_devices(const CgroupLimits& limits);
  Status apply_unified(const CgroupLimits& limits);
  std::shared_ptr<const CgroupLayout> layout_;
  std::string path_;
  std::vector<std::string> directories_;  ///< beside layout_->hierarchies
  std::unique_ptr<const detail::SystemdUnit> unit_;    ///< of the systemd driver
  std::unique_ptr<const detail::ScopeHolder> holder_;  ///< from create() to settle()
  bool is_new_ = false;
  std::optional<std::int64_t> pids_after_settling_;    ///< the limit, which the holder must not use up
};

/// The path of a process in each hierarchy, by controller list ("cpu,cpuacct"; "" for v2). pid 0: ours.
Result<std::map<std::string, std::string>> cgroup_of_process(int pid);
/// Whether we may make the cgroup PATH (as Cgroup::create takes it) and enter it: in every hierarchy the folder that is there already
/// was delegated to us.
bool may_make_cgroup(const CgroupLayout& layout, std::string_view path);
/// In a container on v2 the root of our cgroup namespace is an ordinary cgroup, and while processes are in it none below can have controllers
/// (cgroups(7), "no internal processes"). Moves all of them into its child "init", where theirs are born from then on, and turns the controllers on. Nothing to do
/// elsewhere: v1, hybrid, the host's own root, a place that is empty already. Errors: denied (not delegated to us),
/// conflict (processes outside our PID namespace are in it).
Status leave_cgroup_root(const CgroupLayout& layout);
/// Pure: whether anything but device rules is asked for.
bool asks_for_limits(const CgroupLimits& limits);
/// Pure: the same from the text of /proc/PID/cgroup.
std::map<std::string, std::string> parse_proc_cgroup(std::string_view text);

/// Pure: the eBPF program (device filter) for an ordered list of rules, as 8-byte instructions.
std::vector<std::uint64_t> build_device_filter(const std::vector<CgroupDeviceRule>& rules);
/// Loads it and attaches it to a v2 folder in place of what we attached before. Privilege: CAP_BPF and CAP_NET_ADMIN/CAP_SYS_ADMIN.
Status attach_device_filter(int cgroup_dir_fd, const std::vector<CgroupDeviceRule>& rules);

}  // namespace caisson::linux

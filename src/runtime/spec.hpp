// The OCI runtime configuration (config.json, runtime-spec 1.3.0) as plain structs. No kernel, no I/O here.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "linux/mount.hpp"

namespace caisson::runtime {

struct User {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::optional<std::uint32_t> umask;
  std::vector<std::uint32_t> additional_gids;
};

struct Rlimit {
  std::string type;  ///< "RLIMIT_NOFILE"
  std::uint64_t soft = 0;
  std::uint64_t hard = 0;
};

/// Each a list of "CAP_…" names. An absent set is empty.
struct CapabilitySets {
  std::vector<std::string> bounding;
  std::vector<std::string> effective;
  std::vector<std::string> permitted;
  std::vector<std::string> inheritable;
  std::vector<std::string> ambient;
};

struct ConsoleSize {
  std::uint16_t height = 0;
  std::uint16_t width = 0;
};

struct Scheduler {
  std::string policy;  ///< "SCHED_FIFO"
  std::int32_t nice = 0;
  std::int32_t priority = 0;
  std::vector<std::string> flags;  ///< "SCHED_FLAG_RESET_ON_FORK"
  std::uint64_t runtime_ns = 0;
  std::uint64_t deadline_ns = 0;
  std::uint64_t period_ns = 0;
};

struct IoPriority {
  std::string io_class;  ///< "IOPRIO_CLASS_BE"
  std::int32_t priority = 0;
};

/// Lists of CPUs, "0-3,7"; empty: not asked for.
struct CpuAffinity {
  std::string initial;  ///< before the cgroup is joined
  std::string final;    ///< once it is
};

struct Process {
  bool terminal = false;
  std::optional<ConsoleSize> console_size;
  User user;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd = "/";
  std::optional<CapabilitySets> capabilities;
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::string apparmor_profile;
  std::string selinux_label;
  std::optional<std::int32_t> oom_score_adj;
  std::optional<Scheduler> scheduler;
  std::optional<IoPriority> io_priority;
  std::optional<CpuAffinity> exec_cpu_affinity;
};

struct Root {
  std::string path;
  bool readonly = false;
};

struct Mount {
  std::string destination;
  std::string type;  ///< "bind", "proc", "tmpfs", …; empty with a bind option means bind
  std::string source;
  std::vector<std::string> options;
  linux::IdMap id_map;  ///< uidMappings, gidMappings of the mount
};

enum class NamespaceType : std::uint8_t { pid, network, mount, ipc, uts, user, cgroup, time };

struct Namespace {
  NamespaceType type = NamespaceType::pid;
  std::string path;  ///< empty: a new one
};

struct Device {
  std::string path;
  char type = 'c';  ///< c, b, u, p
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::optional<std::uint32_t> file_mode;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

struct DeviceRule {
  bool allow = false;
  char type = 'a';
  std::optional<std::int64_t> major;  ///< absent: any
  std::optional<std::int64_t> minor;
  std::string access;  ///< of "rwm"
};

struct MemoryLimits {
  std::optional<std::int64_t> limit_bytes;  ///< -1: unlimited
  std::optional<std::int64_t> reservation_bytes;
  std::optional<std::int64_t> swap_bytes;    ///< memory plus swap
  std::optional<std::int64_t> kernel_bytes;  ///< gone from the kernel since 5.16
  std::optional<std::int64_t> kernel_tcp_bytes;
  std::optional<std::uint64_t> swappiness;
  std::optional<bool> disable_oom_killer;
  std::optional<bool> use_hierarchy;
  std::optional<bool> check_before_update;
};

struct CpuLimits {
  std::optional<std::uint64_t> shares;
  std::optional<std::int64_t> quota_us;
  std::optional<std::uint64_t> burst_us;
  std::optional<std::uint64_t> period_us;
  std::optional<std::int64_t> realtime_runtime_us;
  std::optional<std::uint64_t> realtime_period_us;
  std::string cpus;
  std::string mems;
  std::optional<std::int64_t> idle;
};

struct ThrottleDevice {
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::uint64_t rate = 0;
};
struct WeightDevice {
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::uint16_t weight = 0;
};
struct BlockIoLimits {
  std::optional<std::uint16_t> weight;
  std::vector<WeightDevice> weight_devices;
  std::vector<ThrottleDevice> read_bps;
  std::vector<ThrottleDevice> write_bps;
  std::vector<ThrottleDevice> read_iops;
  std::vector<ThrottleDevice> write_iops;
};

struct HugepageLimit {
  std::string page_size;  ///< "2MB"
  std::uint64_t limit_bytes = 0;
};

struct NetworkPriority {
  std::string interface;
  std::uint32_t priority = 0;
};
struct NetworkLimits {
  std::optional<std::uint32_t> class_id;
  std::vector<NetworkPriority> priorities;
};

struct RdmaLimit {
  std::optional<std::uint32_t> handles;
  std::optional<std::uint32_t> objects;
};

struct Resources {
  std::vector<DeviceRule> devices;
  MemoryLimits memory;
  CpuLimits cpu;
  BlockIoLimits block_io;
  std::optional<std::int64_t> pids_limit;  ///< ≤ 0 or -1: unlimited
  std::vector<HugepageLimit> hugepages;
  NetworkLimits network;
  std::map<std::string, RdmaLimit> rdma;  ///< by device
  std::map<std::string, std::string> unified;
};

struct SeccompArg {
  std::uint32_t index = 0;
  std::uint64_t value = 0;
  std::uint64_t value_two = 0;
  std::string op;  ///< "SCMP_CMP_EQ"
};
struct SeccompRule {
  std::vector<std::string> names;
  std::string action;
  std::optional<std::uint32_t> errno_ret;
  std::vector<SeccompArg> args;
};
/// linux.seccomp as written; linux/seccomp compiles it.
struct SeccompProfile {
  std::string default_action;
  std::optional<std::uint32_t> default_errno_ret;
  std::vector<std::string> architectures;
  std::vector<std::string> flags;
  std::string listener_path;
  std::string listener_metadata;
  std::vector<SeccompRule> syscalls;
};

struct Hook {
  std::string path;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::optional<std::int64_t> timeout_seconds;
};
struct Hooks {
  std::vector<Hook> prestart;
  std::vector<Hook> create_runtime;
  std::vector<Hook> create_container;
  std::vector<Hook> start_container;
  std::vector<Hook> poststart;
  std::vector<Hook> poststop;
};

/// What the clock of a time namespace is ahead of the host's.
struct TimeOffset {
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;
};

struct Personality {
  std::string domain;  ///< "LINUX", "LINUX32"
  std::vector<std::string> flags;
};

struct MemoryPolicy {
  std::string mode;   ///< "MPOL_INTERLEAVE"
  std::string nodes;  ///< "0-1,3"
  std::vector<std::string> flags;
};

struct IntelRdt {
  std::string clos_id;  ///< empty: the container's id
  std::string l3_cache_schema;
  std::string memory_bandwidth_schema;
  std::vector<std::string> schemata;
  bool enable_monitoring = false;
};

/// A network device of the host that moves into the container.
struct NetDevice {
  std::string host_name;
  std::string name;  ///< inside; empty: the same
};

/// The whole configuration. Fields that later issues need are added here, beside their parser in spec_json.cpp.
struct Spec {
  std::string oci_version = "1.3.0";
  Root root;
  std::string hostname;
  std::string domainname;
  Process process;
  std::vector<Mount> mounts;
  Hooks hooks;
  std::map<std::string, std::string> annotations;
  // linux.*
  std::vector<Namespace> namespaces;
  linux::IdMap id_map;  ///< uidMappings, gidMappings
  std::vector<Device> devices;
  std::string cgroups_path;
  Resources resources;
  std::string rootfs_propagation;
  std::optional<SeccompProfile> seccomp;
  std::map<std::string, std::string> sysctl;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  std::string mount_label;
  std::map<std::string, TimeOffset> time_offsets;  ///< "monotonic", "boottime"
  std::optional<Personality> personality;
  std::optional<MemoryPolicy> memory_policy;
  std::optional<IntelRdt> intel_rdt;
  std::vector<NetDevice> net_devices;

  [[nodiscard]] const Namespace* find_namespace(NamespaceType type) const;
  /// May a process in it be the host's root: without a user namespace, in one that exists already, or in one that maps id 0?
  [[nodiscard]] bool may_be_host_root() const;
};

/// Reads config.json. Unknown properties are ignored; wrong types, wrong values and properties this build cannot honour are
/// refused with their JSON path: a limit that is silently dropped is worse than a container that does not start.
/// Errors: invalid, unsupported.
Result<Spec> parse_spec(std::string_view text);
/// A process object alone, as `exec --process FILE` takes it. Errors: as parse_spec.
Result<Process> parse_process(std::string_view text);
/// A resources object alone, as `update --resources FILE` takes it. Errors: as parse_spec.
Result<Resources> parse_resources(std::string_view text);
/// The way back, for `caisson-runtime spec` and for tests that compare.
json::value to_json(const Spec& spec);
json::value to_json(const Process& process);
/// linux.seccomp alone, or docker's profile file of the same shape. Errors: as parse_spec.
Result<SeccompProfile> parse_seccomp_profile(std::string_view text);
/// What parse_spec checks beyond types, for specs that were built in code. Errors: invalid, with the JSON path.
Status check_spec(const Spec& spec);
Status check_process(const Process& process, std::string_view path);
std::string_view to_string(NamespaceType type);

}  // namespace caisson::runtime

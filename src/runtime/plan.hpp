// LaunchPlan: everything the launcher and the container's first process must do, worked out beforehand from the
// configuration. Pure data: it is golden-tested, and travels as bytes from the daemon to the launcher.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "linux/cgroup.hpp"
#include "linux/mount.hpp"
#include "linux/seccomp.hpp"
#include "runtime/plan_codec.hpp"
#include "runtime/spec.hpp"

namespace caisson::runtime {

/// crun's annotation: the container's cgroup mount at this path shows the v1 hierarchy "name=systemd" alone, for old systemds on a v2 host.
inline constexpr const char* force_cgroup_v1 = "run.oci.systemd.force_cgroup_v1";

/// What a plan may assume about the machine. Read once by read_host_facts(); tests write their own.
struct HostFacts {
  bool is_privileged = true;                ///< CAP_SYS_ADMIN and CAP_MKNOD in the initial user namespace
  bool may_raise_rlimits = true;            ///< CAP_SYS_RESOURCE there
  bool is_rootless = false;                 ///< without CAP_SYS_ADMIN there: an ordinary user, or root of some user namespace
  bool may_mount = true;                    ///< CAP_SYS_ADMIN where we stand; else a new user namespace must give it
  bool may_set_groups = true;               ///< false where /proc/self/setgroups says "deny"
  std::int32_t oom_score_adj = 0;           ///< ours; read when rootless, where it cannot be lowered
  std::vector<std::uint64_t> hard_rlimits;  ///< ours, by resource number; empty: not known, nothing is clamped
  std::uint32_t last_capability = 40;
  std::uint64_t our_bounding_set = ~0ULL;
  bool cgroup_unified = false;                ///< pure cgroup v2
  /// Names below /sys/fs/cgroup, "cpu", "systemd"; on pure v2 empty, but with force_cgroup_v1 "systemd".
  std::vector<std::string> cgroup_v1_mounts;
  bool has_apparmor = false;
  bool has_selinux = false;
  /// As a process in a user namespace that we make with `map` finds them: an ordinary user may map the own group alone only with
  /// setgroups denied (user_namespaces(7)).
  [[nodiscard]] HostFacts behind(const linux::IdMap& map) const;
};
Result<HostFacts> read_host_facts();
/// Which of the facts a plan will look at: a command that starts one container need not ask for the rest.
struct FactsNeeded {
  std::optional<std::vector<Rlimit>> rlimits;  ///< absent: all
  bool labels = true;
  bool oom_score = true;
  bool capabilities = true;
  std::optional<CapabilitySets> named;  ///< those alone (what is not named reads as not held); absent: all
  static FactsNeeded of(const Process& process);
  static FactsNeeded of(const Spec& spec);
};
/// The same where the cgroup mounts are known already.
Result<HostFacts> read_host_facts(const linux::CgroupLayout& layout, const FactsNeeded& needed = {});

struct PlanOptions {
  bool clamp_rlimits = false;        ///< warn and clamp instead of failing where the kernel would refuse
  bool use_init = false;             ///< our init as pid 1, the program as its child (--init)
  bool check_program_early = false;  ///< look the program up before the exec fifo (create), not at exec
  bool new_session_keyring = true;
  bool no_pivot = false;                 ///< MS_MOVE and chroot, for roots on a ramfs
  const linux::SeccompProgram* filter = nullptr;  ///< compiled before, used instead of the specification's profile
  std::string bundle;                    ///< relative mount sources and root.path start here
  std::string container_id;              ///< names what the configuration leaves nameless (intelRdt's group)
  std::optional<linux::Overlay> rootfs;  ///< instead of root.path
  bool has_user_namespace = false;       ///< a descriptor will be given, whatever the spec says
  bool has_network_namespace = false;
};

enum class MountKind : std::uint8_t {
  bind,           ///< a clone of a host tree, made before the child exists
  filesystem,     ///< a new superblock, made by the child inside its namespaces
  device_folder,  ///< our own tmpfs with device nodes, made by the host side
  cgroup_v1,      ///< a tmpfs with one bind per hierarchy
  remount,        ///< new attributes for what is mounted there already
};

struct PlanOption {
  std::string key;
  std::string value;
  bool is_flag = false;
};
template <class C>
void visit(C& c, PlanOption& o) {
  c(o.key);
  c(o.value);
  c(o.is_flag);
}

struct PlanMount {
  MountKind kind = MountKind::bind;
  std::string type;
  std::string source;          ///< bind of type "cgroup": empty, the launcher fills in the container's own cgroup
  std::string destination;     ///< absolute, inside the root
  bool recursive = false;      ///< of a bind
  std::uint64_t attr_set = 0;  ///< MOUNT_ATTR_*
  std::uint64_t attr_clear = 0;
  std::uint64_t recursive_attr_set = 0;  ///< with AT_RECURSIVE (rro and the like)
  std::uint64_t recursive_attr_clear = 0;
  std::uint64_t propagation = 0;  ///< MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE; 0: as it comes
  bool propagation_recursive = false;
  bool no_symlink_target = false;  ///< /proc, /sys and /dev must not be symbolic links (CVE-2019-19921, CVE-2026-41579)
  bool id_mapped = false;
  bool id_mapped_recursive = false;
  linux::IdMap id_map;               ///< empty with id_mapped: the container's own map
  std::vector<PlanOption> options;   ///< for fsconfig(2)
  std::vector<std::string> folders;  ///< device_folder: made inside it for later mounts; cgroup_v1: the hierarchies
  bool copy_up = false;              ///< tmpcopyup: starts with what the root has at the destination
  bool copy_symlink = false;         ///< a source that is a symbolic link is made anew at the destination
  bool source_nofollow = false;
  bool destination_nofollow = false;
};
template <class C>
void visit(C& c, PlanMount& m) {
  c(m.kind);
  c(m.type);
  c(m.source);
  c(m.destination);
  c(m.recursive);
  c(m.attr_set);
  c(m.attr_clear);
  c(m.recursive_attr_set);
  c(m.recursive_attr_clear);
  c(m.propagation);
  c(m.propagation_recursive);
  c(m.no_symlink_target);
  c(m.id_mapped);
  c(m.id_mapped_recursive);
  c(m.id_map);
  c(m.options);
  c(m.folders);
  c(m.copy_up);
  c(m.copy_symlink);
  c(m.source_nofollow);
  c(m.destination_nofollow);
}

struct PlanDevice {
  std::string path;
  std::uint32_t mode = 0;  ///< with S_IFCHR, S_IFBLK or S_IFIFO
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::uint32_t uid = 0;  ///< inside
  std::uint32_t gid = 0;
};
template <class C>
void visit(C& c, PlanDevice& d) {
  c(d.path);
  c(d.mode);
  c(d.major);
  c(d.minor);
  c(d.uid);
  c(d.gid);
}

struct PlanRlimit {
  std::uint32_t resource = 0;
  std::uint64_t soft = 0;
  std::uint64_t hard = 0;
  bool raises_hard = false;  ///< must be set with the host's privilege
};
template <class C>
void visit(C& c, PlanRlimit& r) {
  c(r.resource);
  c(r.soft);
  c(r.hard);
  c(r.raises_hard);
}

struct PlanSysctl {
  std::string path;  ///< "net/ipv4/ip_forward", below /proc/sys
  std::string value;
};
template <class C>
void visit(C& c, PlanSysctl& s) {
  c(s.path);
  c(s.value);
}

/// A namespace to enter. An empty path stands for the descriptor that comes beside the plan.
struct PlanJoin {
  std::uint64_t flag = 0;  ///< CLONE_NEWNET and the like
  std::string path;
  std::uint32_t index = 0;  ///< in linux.namespaces, for error texts
};
template <class C>
void visit(C& c, PlanJoin& j) {
  c(j.flag);
  c(j.path);
  c(j.index);
}

struct PlanCapabilities {
  std::uint64_t bounding = 0;
  std::uint64_t effective = 0;
  std::uint64_t permitted = 0;
  std::uint64_t inheritable = 0;
  std::uint64_t ambient = 0;
};
template <class C>
void visit(C& c, PlanCapabilities& p) {
  c(p.bounding);
  c(p.effective);
  c(p.permitted);
  c(p.inheritable);
  c(p.ambient);
}

/// sched_setattr(2).
struct PlanScheduler {
  std::uint32_t policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime_ns = 0;
  std::uint64_t deadline_ns = 0;
  std::uint64_t period_ns = 0;
};
template <class C>
void visit(C& c, PlanScheduler& s) {
  c(s.policy);
  c(s.flags);
  c(s.nice);
  c(s.priority);
  c(s.runtime_ns);
  c(s.deadline_ns);
  c(s.period_ns);
}

struct PlanIoPriority {
  std::int32_t io_class = 0;  ///< 1 RT, 2 BE, 3 IDLE
  std::int32_t level = 0;
};
template <class C>
void visit(C& c, PlanIoPriority& p) {
  c(p.io_class);
  c(p.level);
}

/// set_mempolicy(2).
struct PlanMemoryPolicy {
  std::int32_t mode = 0;             ///< with its flags
  std::vector<std::uint64_t> nodes;  ///< bit mask
};
template <class C>
void visit(C& c, PlanMemoryPolicy& p) {
  c(p.mode);
  c(p.nodes);
}

/// How a process is scheduled, and the few settings that are rare. A part of its own because exec's message to a monitor, which
/// may be of an older build, only grows at its end.
struct ProcessPolicy {
  std::optional<PlanScheduler> scheduler;
  std::optional<PlanIoPriority> io_priority;
  std::optional<std::uint64_t> personality;
  std::optional<PlanMemoryPolicy> memory_policy;
  std::vector<std::uint64_t> initial_cpus;  ///< exec only; bit masks, empty: as it comes
  std::vector<std::uint64_t> final_cpus;
  bool keep_groups = false;   ///< run.oci.keep_original_groups
  std::string listener_path;  ///< who gets the seccomp filter's listener; empty: it has none
  std::string listener_metadata;
  /// Set where it cannot be done by the process itself once it is in a user namespace.
  [[nodiscard]] bool needs_host() const { return scheduler.has_value() || io_priority.has_value(); }
};
template <class C>
void visit(C& c, ProcessPolicy& p) {
  c(p.scheduler);
  c(p.io_priority);
  c(p.personality);
  c(p.memory_policy);
  c(p.initial_cpus);
  c(p.final_cpus);
  c(p.keep_groups);
  c(p.listener_path);
  c(p.listener_metadata);
}

/// What a process needs, whether it is the container's first or one of exec's.
struct ProcessPlan {
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd = "/";
  bool terminal = false;
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;
  bool set_groups = true;  ///< false where the user namespace denies setgroups
  std::uint32_t umask = 0022;
  PlanCapabilities capabilities;
  std::vector<PlanRlimit> rlimits;
  bool no_new_privileges = false;
  bool set_oom_score = false;
  std::int32_t oom_score_adj = 0;
  std::string apparmor_profile;
  std::string selinux_label;
  std::vector<sock_filter> seccomp;
  std::uint32_t seccomp_flags = 0;
  bool use_init = false;
  bool check_program_early = false;
  bool find_home = false;  ///< HOME is unset: the child takes it from the container's /etc/passwd
  bool new_session_keyring = true;
  ProcessPolicy policy;  ///< travels beside, not inside: see its comment
};
template <class C>
void visit(C& c, ProcessPlan& p) {
  c(p.args);
  c(p.env);
  c(p.cwd);
  c(p.terminal);
  c(p.rows);
  c(p.columns);
  c(p.uid);
  c(p.gid);
  c(p.groups);
  c(p.set_groups);
  c(p.umask);
  c(p.capabilities);
  c(p.rlimits);
  c(p.no_new_privileges);
  c(p.set_oom_score);
  c(p.oom_score_adj);
  c(p.apparmor_profile);
  c(p.selinux_label);
  c(p.seccomp);
  c(p.seccomp_flags);
  c(p.use_init);
  c(p.check_program_early);
  c(p.find_home);
  c(p.new_session_keyring);
}

struct PlanTimeOffset {
  std::string clock;  ///< "monotonic", "boottime"
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;
};
template <class C>
void visit(C& c, PlanTimeOffset& o) {
  c(o.clock);
  c(o.seconds);
  c(o.nanoseconds);
}

struct PlanNetDevice {
  std::string host_name;
  std::string name;
};
template <class C>
void visit(C& c, PlanNetDevice& d) {
  c(d.host_name);
  c(d.name);
}

/// A group of the resctrl file system (linux/resctrl.hpp carries it out).
struct PlanIntelRdt {
  std::string group;                  ///< "/" is the default group
  std::vector<std::string> schemata;  ///< lines to write, in order; empty: leave alone
  std::string monitor;                ///< name of the monitoring group, empty: none
};
template <class C>
void visit(C& c, PlanIntelRdt& r) {
  c(r.group);
  c(r.schemata);
  c(r.monitor);
}

struct LaunchPlan {
  ProcessPlan process;
  // root
  std::optional<linux::Overlay> overlay;
  std::string root_path;  ///< without overlay
  bool root_readonly = false;
  std::uint64_t root_propagation = 0;  ///< MS_*; 0: private
  bool root_propagation_recursive = true;
  bool no_pivot = false;
  // namespaces
  std::uint64_t clone_flags = 0;      ///< new ones; CLONE_NEWUSER is never among them, it is made before
  bool new_cgroup_namespace = false;  ///< unshared by the child, once it is in its cgroup
  bool new_user_namespace = false;    ///< from id_map, when no descriptor is given
  bool in_user_namespace = false;     ///< of its own, new or joined
  linux::IdMap id_map;
  std::vector<PlanJoin> joins;
  std::vector<PlanTimeOffset> time_offsets;  ///< of the new time namespace
  std::vector<PlanNetDevice> net_devices;
  // content
  std::vector<PlanMount> mounts;
  std::vector<PlanDevice> devices;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  std::vector<PlanSysctl> sysctls;
  std::string hostname;
  std::string domainname;
  // cgroup
  std::string cgroups_path;  ///< empty: none of its own
  linux::CgroupLimits limits;
  std::string delegated_cgroup;  ///< v2: a group inside it that the program lives in (run.oci.delegate-cgroup)
  std::optional<PlanIntelRdt> intel_rdt;
  std::map<std::string, std::string> systemd_properties;  ///< for a "systemd:/…" path, in GVariant text form
  bool hand_over_cgroup = false;    ///< v2: the container's root gets its directory, because it sees it writable as its root
  std::vector<std::string> warnings;
};
template <class C>
void visit(C& c, LaunchPlan& p) {
  c(p.process);
  c(p.overlay);
  c(p.root_path);
  c(p.root_readonly);
  c(p.root_propagation);
  c(p.root_propagation_recursive);
  c(p.no_pivot);
  c(p.clone_flags);
  c(p.new_cgroup_namespace);
  c(p.new_user_namespace);
  c(p.in_user_namespace);
  c(p.id_map);
  c(p.joins);
  c(p.time_offsets);
  c(p.net_devices);
  c(p.mounts);
  c(p.devices);
  c(p.masked_paths);
  c(p.readonly_paths);
  c(p.sysctls);
  c(p.hostname);
  c(p.domainname);
  c(p.cgroups_path);
  c(p.limits);
  c(p.delegated_cgroup);
  c(p.intel_rdt);
  c(p.systemd_properties);
  c(p.hand_over_cgroup);
  c(p.warnings);
  c(p.process.policy);
}

/// Turns a configuration into a plan. Pure: asks the machine nothing but what `facts` says.
/// Errors: invalid or unsupported, with the JSON path.
Result<LaunchPlan> compute_plan(const Spec& spec, const HostFacts& facts, const PlanOptions& options);

/// What every process of a container takes over from the container's configuration.
struct SharedSettings {
  std::optional<SeccompProfile> seccomp;
  std::optional<Personality> personality;
  std::optional<MemoryPolicy> memory_policy;
  std::map<std::string, std::string> annotations;
  static SharedSettings of(const Spec& spec);
};

/// The same for one more process in a running container. Errors: as compute_plan.
Result<ProcessPlan> compute_process_plan(const Process& process, const SharedSettings& shared, const HostFacts& facts,
                                         const PlanOptions& options, std::vector<std::string>& warnings);

/// The part of it that is words of the configuration and numbers of the kernel. Errors: invalid, with the JSON path.
Result<ProcessPolicy> plan_policy(const Process& process, const SharedSettings& shared);

/// One mount of the configuration; `index` is only for error texts. Exposed for tests. Errors: as compute_plan.
Result<PlanMount> plan_mount(const Mount& mount, std::size_t index, const LaunchPlan& plan, const HostFacts& facts,
                             const PlanOptions& options);

/// The words that mounts[].options may hold beside those of a file system, sorted; for `features`.
std::vector<std::string_view> mount_option_words();

/// linux.resources as the cgroup code wants them. Errors: invalid.
Result<linux::CgroupLimits> plan_limits(const Resources& resources);

/// The compiled form of a profile, from a cache of this process when the same profile was compiled before (compiling takes
/// longer than everything else in a start). Thread-safe. Errors: invalid, unsupported.
Result<linux::SeccompProgram> compile_profile(const SeccompProfile& profile);

}  // namespace caisson::runtime

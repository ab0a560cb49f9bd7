// Capabilities first, in all sets, so that executing a program as root brings none back; then seccomp.
#include "app/confine.hpp"

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "base/log.hpp"
#include "linux/capabilities.hpp"
#include "runtime/default_seccomp.hpp"

namespace caisson::app {

namespace {

struct Kept {
  const char* capability;
  const char* reason;  ///< read by people
};
const Kept kept[] = {
    {"CAP_SYS_ADMIN", "mounts, namespaces of containers, quotas, seccomp for workers"},
    {"CAP_NET_ADMIN", "bridges, addresses, nftables"},
    {"CAP_NET_RAW", "telling neighbours of addresses; transparent proxies"},
    {"CAP_NET_BIND_SERVICE", "published ports below 1024"},
    {"CAP_CHOWN", "volumes and what cp and builds copy belong to the container's ids"},
    {"CAP_DAC_OVERRIDE", "files of containers belong to others"},
    {"CAP_DAC_READ_SEARCH", "the same, for reading"},
    {"CAP_FOWNER", "modes and times of files of others"},
    {"CAP_FSETID", "setgid bits of files that are copied"},
    {"CAP_MKNOD", "device nodes of a base image that is bootstrapped"},
    {"CAP_SETFCAP", "file capabilities that are copied; mapping id 0 (Linux 5.12)"},
    {"CAP_KILL", "ending workers and what containers have left behind"},
    {"CAP_SETUID", "workers run as ids of their own; id maps"},
    {"CAP_SETGID", "the same"},
    {"CAP_SETPCAP", "workers lose what they are born with"},
    {"CAP_SYS_CHROOT", "entering a container's mount namespace"},
    {"CAP_SYS_PTRACE", "/proc/PID/ns and /proc/PID/fd of containers' processes"},
    {"CAP_SYS_RESOURCE", "descriptor limits above the hard limit, reserved disk blocks"},
    {"CAP_AUDIT_READ", "what the kernel refused to containers (security explain)"},
    {"CAP_SYSLOG", "the same, where the kernel log is restricted"},
    {"CAP_MAC_ADMIN", "loading containers' AppArmor profiles"},
};

/// Of the profile for these capabilities.
constexpr std::string_view without[] = {
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "kcmp",
    "pidfd_getfd",  // other processes' memory and descriptors
    "bpf",
    "perf_event_open",
    "lookup_dcookie",
    "fanotify_init",
    "syslog",             // looking into the kernel
    "open_by_handle_at",  // files outside every root
    "modify_ldt",
    "remap_file_pages",
    "memfd_secret",
    "map_shadow_stack",  // rarely used parts of memory management
    "reboot",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "acct",
    "iopl",
    "ioperm",
    "vhangup",
};

}  // namespace

std::vector<std::string> kept_capabilities() {
  std::vector<std::string> names;
  for (const auto& one : kept) names.emplace_back(one.capability);
  return names;
}

Result<linux::SeccompProgram> daemon_seccomp() {
  auto profile = runtime::default_seccomp(kept_capabilities());
  for (auto& rule : profile.syscalls)
    std::erase_if(rule.names, [](const std::string& name) {
      return std::find(std::begin(without), std::end(without), name) != std::end(without);
    });
  std::erase_if(profile.syscalls, [](const runtime::SeccompRule& rule) { return rule.names.empty(); });
  profile.architectures.clear();  // only the one that this program was built for
  return linux::compile_seccomp(TRY_PLAIN(runtime::to_filter_spec(profile)));
}

Status confine_daemon() {
  const auto all = TRY(linux::all_capabilities(), "drop capabilities");
  const auto keep = TRY(linux::parse_capabilities(kept_capabilities()), "drop capabilities");
  TRY(linux::drop_bounding(linux::CapabilitySet(all.bits & ~keep.bits)), "drop capabilities");
  auto state = TRY(linux::capget(), "drop capabilities");
  // In a container the daemon may never have had all of them.
  state.permitted.bits &= keep.bits;
  state.effective = state.permitted;
  state.inheritable = {};
  TRY(linux::capset(state), "drop capabilities");
  auto loaded = linux::load_seccomp(TRY(daemon_seccomp(), "seccomp"));
  if (loaded.ok()) return {};
  if (loaded.error().error_number() != ENOSYS && loaded.error().error_number() != EINVAL)
    return std::move(loaded).error().in("seccomp");
  log(LogLevel::warning, "serve", "seccomp", "this kernel has none: the daemon may make every system call");
  return {};
}

}  // namespace caisson::app

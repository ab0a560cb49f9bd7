// What AppArmor adds to the box: the same promises as those of mounts and seccomp, kept by another part of the kernel.
#include "engine/apparmor.hpp"

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/spawn.hpp"

namespace caisson::engine {

std::string default_apparmor_text() {
  // No #include: an unusual tunable of the host must not open a hole. Paths of /proc and /sys are those of the container's own mounts.
  return concat("profile ", default_apparmor_name, R"( flags=(attach_disconnected,mediate_deleted) {
  # What a program does inside is bounded by the other walls: namespaces, capabilities, the seccomp filter.
  network,
  capability,
  file,
  unix,
  dbus,
  umount,

  # Neighbours in the same box, and whoever is unconfined (the monitor, a `caisson kill`), may signal; nobody out there is signalled.
  signal (receive) peer=unconfined,
  signal (send, receive) peer=)", default_apparmor_name, R"(,
  # Debuggers work among a container's own processes; PID and user namespaces keep them apart from others' with the same profile.
  ptrace (trace, read, tracedby, readby) peer=)", default_apparmor_name, R"(,

  # New mounts could cover what is hidden, or show a host device: an ordinary container makes none.
  deny mount,

  # The kernel's switches: were the read-only mounts ever undone, writing would still be refused.
  deny /proc/* w,
  deny /proc/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  deny /proc/sys/[^kn]** w,
  deny /proc/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,
  deny /proc/kmem rwklx,
  deny /proc/mem rwklx,

  # Devices' and the kernel's own settings; of /sys only /sys/fs/cgroup is a container's business.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
)");
}

Result<bool> load_default_apparmor() {
  auto enabled = linux::read_file("/sys/module/apparmor/parameters/enabled");
  if (!enabled.ok() && enabled.error().kind() != ErrorKind::not_found) return std::move(enabled).error();
  if (!enabled.ok() || !enabled->starts_with("Y")) return false;
  const std::string text = default_apparmor_text();
  constexpr int patience_ms = 30'000;
  linux::RunOptions options;
  options.standard_input = text;
  options.timeout_ms = patience_ms;
  // -K: the cache of other profiles is not ours to fill; -r: what an earlier daemon loaded is replaced.
  auto run = linux::run_program({"apparmor_parser", "-K", "-r"}, options);
  if (!run.ok()) {
    if (run.error().kind() == ErrorKind::not_found) return Error(ErrorKind::unavailable, "AppArmor is on, but its profiles cannot be loaded").with_hint("install it: apt-get install apparmor");
    return std::move(run).error();
  }
  if (run->status.exit_code() != 0) return Error(ErrorKind::invalid, concat("apparmor_parser: ", trim(run->standard_error)));
  return true;
}

}  // namespace caisson::engine

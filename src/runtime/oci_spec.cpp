// spec: writes a config.json to begin with.
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "runtime/oci_commands.hpp"

namespace caisson::runtime {

namespace {

Mount mount_of(std::string destination, std::string type, std::string source, std::vector<std::string> options) {
  Mount out;
  out.destination = std::move(destination);
  out.type = std::move(type);
  out.source = std::move(source);
  out.options = std::move(options);
  return out;
}

Spec default_spec(bool rootless) {
  Spec spec;
  spec.root.path = "rootfs";
  spec.root.readonly = true;
  spec.hostname = "caisson";
  spec.process.terminal = true;
  spec.process.args = {"sh"};
  spec.process.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"};
  spec.process.no_new_privileges = true;
  CapabilitySets caps;
  caps.bounding = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  caps.effective = caps.bounding;
  caps.permitted = caps.bounding;
  spec.process.capabilities = caps;
  spec.process.rlimits.push_back({"RLIMIT_NOFILE", 1024, 1024});
  spec.mounts = {mount_of("/proc", "proc", "proc", {}),
                 mount_of("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
                 mount_of("/dev/pts", "devpts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}),
                 mount_of("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}),
                 mount_of("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
                 mount_of("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}),
                 mount_of("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"})};
  if (!rootless) spec.mounts[2].options.emplace_back("gid=5");
  for (auto type : {NamespaceType::pid, NamespaceType::network, NamespaceType::ipc, NamespaceType::uts, NamespaceType::mount,
                    NamespaceType::cgroup})
    spec.namespaces.push_back({type, ""});
  if (rootless) {
    spec.namespaces.push_back({NamespaceType::user, ""});
    spec.id_map.uids.push_back({0, linux::geteuid(), 1});
    spec.id_map.gids.push_back({0, linux::getegid(), 1});
  }
  DeviceRule deny;
  deny.access = "rwm";
  spec.resources.devices.push_back(deny);
  spec.masked_paths = {
      "/proc/acpi",        "/proc/asound",      "/proc/kcore",   "/proc/keys", "/proc/latency_stats",          "/proc/timer_list",
      "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi", "/sys/devices/virtual/powercap"};
  spec.readonly_paths = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  return spec;
}

}  // namespace

Result<int> oci_spec(OciContext& context) {
  const std::string path = concat(context.arguments.value("bundle", "."), "/", context.arguments.value("file", "config.json"));
  if (linux::exists(path).value_or(false)) return Error(ErrorKind::conflict, concat("file ", path, " exists. Remove it first"));
  TRY_PLAIN(linux::write_file(path, concat(to_text(to_json(default_spec(context.arguments.has("rootless")))), "\n"), 0644));
  return 0;
}

}  // namespace caisson::runtime

// The default set: 12 of the kernel's 41 capabilities, each because ordinary images fail without it.
#include "engine/capabilities.hpp"

#include <algorithm>
#include <array>

#include "base/strings.hpp"

namespace caisson::engine {

namespace {
constexpr std::array<std::string_view, 41> all_names = {
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
    "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
    "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"};

// Left out of docker's fourteen:
// - NET_RAW: raw and packet sockets let a container spoof its neighbours on the bridge (CVE-2020-14386 began there too). ping
//   works without it: net.ipv4.ping_group_range is opened in the container's own network namespace (icmp(7)).
// - MKNOD: the default devices are made by the runtime, and in a user namespace the kernel refuses device nodes anyway (user_namespaces(7)).
constexpr std::array<std::string_view, 12> default_names = {
    "CAP_CHOWN",             // package managers and entrypoints chown their data
    "CAP_DAC_OVERRIDE",      // root in an image expects to write files of others (apt, entrypoints that later drop privileges)
    "CAP_FOWNER",            // chmod and utime on files of others: tar, cp -p, rsync
    "CAP_FSETID",            // keep setgid bits when root changes files: dpkg
    "CAP_KILL",              // a root supervisor signals the workers it has given another uid
    "CAP_SETGID",            // dropping privileges: gosu, nginx, postgres
    "CAP_SETUID",            // the same
    "CAP_SETPCAP",           // dropping bounding capabilities on the way: capsh, setpriv, systemd-style services
    "CAP_NET_BIND_SERVICE",  // ports below 1024 in the own network namespace
    "CAP_SYS_CHROOT",        // sshd, bind, postfix chroot their workers
    "CAP_AUDIT_WRITE",       // login and sshd (pam_loginuid) end the session when the kernel refuses their record with EPERM; the
                             // kernel takes records only from the first user namespace, so it cannot flood the host's log
    "CAP_SETFCAP",           // dpkg and builds set file capabilities; in a user namespace they hold for that namespace only
};
static_assert(default_names.size() * 2 < all_names.size(), "an ordinary container has fewer than half of root's capabilities");

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}
}  // namespace

std::span<const std::string_view> all_capabilities() { return all_names; }
std::span<const std::string_view> default_capabilities() { return default_names; }

Result<std::string> normalize_capability(std::string_view name) {
  std::string full = upper(name);
  if (full == "ALL" || full == "CAP_ALL") return std::string("ALL");
  if (!full.starts_with("CAP_")) full.insert(0, "CAP_");
  if (std::find(all_names.begin(), all_names.end(), full) == all_names.end())
    return Error(ErrorKind::invalid, concat("invalid capability: unknown capability to add or drop: \"", name, "\""));
  return full;
}

Result<std::vector<std::string>> resolve_capabilities(std::span<const std::string> add, std::span<const std::string> drop, bool privileged) {
  std::vector<std::string> added;
  std::vector<std::string> dropped;
  for (const auto& name : add) added.push_back(TRY(normalize_capability(name), "cap_add"));
  for (const auto& name : drop) dropped.push_back(TRY(normalize_capability(name), "cap_drop"));
  auto has = [](const auto& list, std::string_view name) { return std::find(list.begin(), list.end(), name) != list.end(); };
  // docker's order: a privileged container has everything; "ALL" in one list starts from all or nothing, and single names follow.
  bool from_everything = privileged || has(added, "ALL");
  bool from_nothing = !from_everything && has(dropped, "ALL");
  std::vector<std::string> result;
  for (auto name : all_names) {
    bool granted = from_everything || (!from_nothing && has(default_names, name));
    if (!privileged && has(dropped, name)) granted = false;
    if (!from_everything && has(added, name)) granted = true;
    if (granted) result.emplace_back(name);
  }
  return result;
}

}  // namespace caisson::engine

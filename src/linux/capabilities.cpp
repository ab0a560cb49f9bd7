// The capability table and the calls on capability sets.
#include "linux/capabilities.hpp"

#include <linux/capability.h>
#include <linux/prctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "linux/child.hpp"
#include "linux/file.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::status;
using detail::value;

namespace {
/// By number, linux/capability.h.
constexpr std::array<std::string_view, max_known_capability + 1> names{"CHOWN",
                                                                       "DAC_OVERRIDE",
                                                                       "DAC_READ_SEARCH",
                                                                       "FOWNER",
                                                                       "FSETID",
                                                                       "KILL",
                                                                       "SETGID",
                                                                       "SETUID",
                                                                       "SETPCAP",
                                                                       "LINUX_IMMUTABLE",
                                                                       "NET_BIND_SERVICE",
                                                                       "NET_BROADCAST",
                                                                       "NET_ADMIN",
                                                                       "NET_RAW",
                                                                       "IPC_LOCK",
                                                                       "IPC_OWNER",
                                                                       "SYS_MODULE",
                                                                       "SYS_RAWIO",
                                                                       "SYS_CHROOT",
                                                                       "SYS_PTRACE",
                                                                       "SYS_PACCT",
                                                                       "SYS_ADMIN",
                                                                       "SYS_BOOT",
                                                                       "SYS_NICE",
                                                                       "SYS_RESOURCE",
                                                                       "SYS_TIME",
                                                                       "SYS_TTY_CONFIG",
                                                                       "MKNOD",
                                                                       "LEASE",
                                                                       "AUDIT_WRITE",
                                                                       "AUDIT_CONTROL",
                                                                       "SETFCAP",
                                                                       "MAC_OVERRIDE",
                                                                       "MAC_ADMIN",
                                                                       "SYSLOG",
                                                                       "WAKE_ALARM",
                                                                       "BLOCK_SUSPEND",
                                                                       "AUDIT_READ",
                                                                       "PERFMON",
                                                                       "BPF",
                                                                       "CHECKPOINT_RESTORE"};

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}

std::uint64_t joined(std::uint32_t low, std::uint32_t high) { return std::uint64_t{high} << 32U | low; }
}  // namespace

Result<int> capability_by_name(std::string_view name) {
  std::string key = upper(name);
  if (key.starts_with("CAP_")) key.erase(0, 4);
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] == key) return static_cast<int>(i);
  return Error(ErrorKind::invalid, concat("unknown capability \"", name, "\""));
}
std::string capability_name(int number) {
  if (number >= 0 && number <= max_known_capability) return concat("CAP_", names[static_cast<std::size_t>(number)]);
  return concat("CAP_", number);
}
std::vector<std::string> capability_names(CapabilitySet set) {
  std::vector<std::string> out;
  for (int number = 0; number < 64; ++number)
    if (set.contains(number)) out.push_back(capability_name(number));
  return out;
}
Result<CapabilitySet> parse_capabilities(std::span<const std::string> texts) {
  CapabilitySet out;
  for (const std::string& text : texts) out.add(TRY_PLAIN(capability_by_name(text)));
  return out;
}

Result<int> last_capability() {
  const std::string text = TRY_PLAIN(read_file("/proc/sys/kernel/cap_last_cap"));
  return TRY(parse_integer<int>(trim(text)), "/proc/sys/kernel/cap_last_cap");
}
Result<CapabilitySet> all_capabilities() {
  const int last = TRY_PLAIN(last_capability());
  CapabilitySet out;
  for (int number = 0; number <= last && number < 64; ++number) out.add(number);
  return out;
}

Result<CapabilityState> capget() {
  struct ::__user_cap_header_struct header {};
  header.version = _LINUX_CAPABILITY_VERSION_3;
  std::array<struct ::__user_cap_data_struct, 2> data{};
  TRY_PLAIN(status("capget", [&] { return ::syscall(SYS_capget, &header, data.data()); }));
  CapabilityState out;
  out.effective.bits = joined(data[0].effective, data[1].effective);
  out.permitted.bits = joined(data[0].permitted, data[1].permitted);
  out.inheritable.bits = joined(data[0].inheritable, data[1].inheritable);
  return out;
}
Status capset(const CapabilityState& state) {
  const int result = raw::capset(state);
  if (result < 0) return Error::from_errno(-result, "capset");
  return {};
}
Status drop_bounding(CapabilitySet dropped) {
  const int last = TRY_PLAIN(last_capability());
  const int result = raw::limit_bounding(CapabilitySet(~dropped.bits), last);
  if (result < 0) return Error::from_errno(-result, "drop capabilities from the bounding set");
  return {};
}
Result<bool> in_bounding_set(int number) {
  return TRY_PLAIN(value<int>("prctl", [&] { return ::prctl(PR_CAPBSET_READ, static_cast<unsigned long>(number), 0UL, 0UL, 0UL); })) ==
         1;
}
Result<CapabilitySet> bounding_set() {
  const int last = TRY_PLAIN(last_capability());
  CapabilitySet out;
  for (int number = 0; number <= last; ++number)
    if (TRY_PLAIN(in_bounding_set(number))) out.add(number);
  return out;
}
Status clear_ambient() {
  const int result = raw::clear_ambient();
  if (result < 0) return Error::from_errno(-result, "clear ambient capabilities");
  return {};
}
Status raise_ambient(CapabilitySet raised) {
  const int result = raw::raise_ambient(raised, 63);
  if (result < 0) return Error::from_errno(-result, "raise ambient capabilities");
  return {};
}

}  // namespace caisson::linux

// The kernel's audit records: their text, and the multicast group that carries them.
#include "linux/kernel_audit.hpp"

#include <linux/audit.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <sys/socket.h>

#include <charconv>
#include <cstring>

#include "base/strings.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

namespace {

constexpr std::uint16_t type_seccomp = AUDIT_SECCOMP;
constexpr std::uint16_t type_access = AUDIT_AVC;

struct Value {
  std::string_view text;
  bool is_quoted = false;
};
/// What stands behind "key=": in quotes, or as far as the next blank.
std::optional<Value> value_of(std::string_view text, std::string_view key) {
  for (std::size_t at = text.find(key); at != std::string_view::npos; at = text.find(key, at + 1)) {
    const auto after = at + key.size();
    if ((at != 0 && text[at - 1] != ' ' && text[at - 1] != ':') || after >= text.size() || text[after] != '=') continue;
    const auto rest = text.substr(after + 1);
    if (rest.starts_with('"')) return Value{rest.substr(1, rest.find('"', 1) - 1), true};
    return Value{rest.substr(0, rest.find(' ')), false};
  }
  return std::nullopt;
}
std::string text_of(std::string_view text, std::string_view key) { return std::string(value_of(text, key).value_or(Value{}).text); }

/// A text that the kernel did not trust: what could deceive a reader comes in hexadecimal digits instead of quotes. What no terminal should be shown becomes '?'.
std::string untrusted(std::string_view text, std::string_view key) {
  const auto value = value_of(text, key).value_or(Value{});
  std::string out(value.text);
  if (!value.is_quoted)
    if (auto bytes = from_hex(value.text); bytes.ok()) out.assign(bytes->begin(), bytes->end());
  for (auto& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return out;
}

template <typename T>
std::optional<T> number_of(std::string_view text, std::string_view key, int base = 10) {
  const auto value = value_of(text, key);
  if (!value) return std::nullopt;
  T number{};
  std::string_view digits = value->text;
  if (base == 16 && digits.starts_with("0x")) digits.remove_prefix(2);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

std::optional<SyscallArch> arch_of(std::uint32_t audit_arch, std::uint32_t number) {
  switch (audit_arch) {
    case AUDIT_ARCH_X86_64: return (number & x32_bit) != 0 ? SyscallArch::x32 : SyscallArch::x86_64;
    case AUDIT_ARCH_I386: return SyscallArch::i386;
    case AUDIT_ARCH_AARCH64: return SyscallArch::aarch64;
    case AUDIT_ARCH_ARM: return SyscallArch::arm;
    case AUDIT_ARCH_RISCV64: return SyscallArch::riscv64;
    default: return std::nullopt;
  }
}

std::optional<AuditRecord> parse_seccomp_record(std::string_view text) {
  const auto number = number_of<std::uint32_t>(text, "syscall");
  const auto arch = number_of<std::uint32_t>(text, "arch", 16);
  const auto code = number_of<std::uint32_t>(text, "code", 16);
  if (!number || !arch || !code) return std::nullopt;
  const std::uint32_t action = *code & SECCOMP_RET_ACTION_FULL;
  if (action == SECCOMP_RET_LOG || action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_USER_NOTIF || action == SECCOMP_RET_TRACE) return std::nullopt;  // let through, or decided by somebody else
  AuditRecord record;
  record.is_fatal = action == SECCOMP_RET_KILL_PROCESS || action == SECCOMP_RET_KILL_THREAD;
  const auto known = arch_of(*arch, *number);
  const auto name = known ? syscall_name(*known, *number) : std::string_view();
  record.what = name.empty() ? concat("system call ", *number) : std::string(name);
  if (known == SyscallArch::i386 || known == SyscallArch::arm || known == SyscallArch::x32) record.what += " (32-bit)";
  return record;
}

std::optional<AuditRecord> parse_access_record(std::string_view text) {
  AuditRecord record;
  if (text_of(text, "apparmor") == "DENIED") {
    record.by = RefusedBy::apparmor;
    record.what = text_of(text, "operation");
    for (const char* key : {"name", "capname", "requested_mask"})
      if (auto value = untrusted(text, key); !value.empty()) record.what += concat(" ", value);
    return record;
  }
  const auto denied = text.find("avc:  denied  {");
  if (denied == std::string_view::npos) return std::nullopt;
  record.by = RefusedBy::selinux;
  const auto begin = denied + std::strlen("avc:  denied  {");
  const auto end = text.find('}', begin);
  record.what = std::string(trim(text.substr(begin, end == std::string_view::npos ? end : end - begin)));
  if (auto name = untrusted(text, "name"); !name.empty()) record.what += concat(" ", name);
  if (auto kind = value_of(text, "tclass")) record.what += concat(" (", kind->text, ")");
  return record;
}

}  // namespace

std::optional<AuditRecord> parse_audit_record(std::uint16_t type, std::string_view text) {
  while (!text.empty() && (text.back() == '\0' || text.back() == '\n')) text.remove_suffix(1);
  auto record = type == type_seccomp ? parse_seccomp_record(text) : type == type_access ? parse_access_record(text) : std::nullopt;
  if (!record) return std::nullopt;
  const auto pid = number_of<pid_t>(text, "pid");
  if (!pid || *pid <= 0) return std::nullopt;
  record->pid = *pid;
  record->uid = number_of<std::uint32_t>(text, record->by == RefusedBy::apparmor ? "fsuid" : "uid");
  record->program = untrusted(text, "comm");
  return record;
}

Result<AuditListener> AuditListener::open() {
  auto fd = detail::descriptor("socket", [] { return ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_AUDIT); }, "NETLINK_AUDIT");
  if (!fd.ok()) {
    if (fd.error().error_number() == EPROTONOSUPPORT) return Error(ErrorKind::unsupported, "this kernel keeps no audit records (CONFIG_AUDIT, or audit=0 on its command line)");
    return std::move(fd).error();
  }
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = 1U << (AUDIT_NLGRP_READLOG - 1);
  TRY_PLAIN(detail::status("bind", [&] { return ::bind(fd->get(), reinterpret_cast<const sockaddr*>(&address), sizeof address); }, "the kernel's audit records"));
  return AuditListener(std::move(*fd));
}

Result<std::vector<AuditRecord>> AuditListener::take() {
  std::vector<AuditRecord> records;
  alignas(nlmsghdr) char buffer[16384];
  for (;;) {
    sockaddr_nl sender{};
    socklen_t sender_size = sizeof sender;
    auto got = detail::value<std::size_t>("recvfrom", [&] { return ::recvfrom(fd_.get(), buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&sender), &sender_size); });
    if (!got.ok()) {
      if (got.error().error_number() == EAGAIN) return records;
      if (got.error().error_number() == ENOBUFS) continue;
      return std::move(got).error();
    }
    if (sender.nl_pid != 0) continue;  // only the kernel's word counts
    std::string_view rest(buffer, *got);
    nlmsghdr header{};
    if (rest.size() < sizeof header) continue;
    std::memcpy(&header, rest.data(), sizeof header);
    // The kernel's own length leaves the header out here, and has done so for ever (audit.c); what came is what counts.
    if (auto record = parse_audit_record(header.nlmsg_type, rest.substr(sizeof header))) records.push_back(std::move(*record));
  }
}

}  // namespace caisson::linux

// What the kernel writes down when it refuses something: its audit records, as they come.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/syscall_table.hpp"

namespace caisson::linux {

enum class RefusedBy : std::uint8_t { seccomp, apparmor, selinux };

/// One refusal.
struct AuditRecord {
  RefusedBy by = RefusedBy::seccomp;
  pid_t pid = 0;          ///< the host's number; the process may be gone by now
  std::optional<std::uint32_t> uid;  ///< the host's number, where the record has one
  std::string program;    ///< the thread's name (comm): whatever it called itself
  std::string what;       ///< "mount (refused)", "open /etc/shadow", "read"
  bool is_fatal = false;  ///< the process was killed for it
};
/// A record's text ("audit(…): key=value …"), of the kernel's record `type`. Nothing, when it tells of no refusal. Pure.
std::optional<AuditRecord> parse_audit_record(std::uint16_t type, std::string_view text);

/// Hears what the kernel says beside an audit daemon, or without one (AUDIT_NLGRP_READLOG).
/// Privilege: CAP_AUDIT_READ in the initial user namespace, and the host's network namespace.
class AuditListener {
 public:
  /// Errors: unsupported (a kernel without CONFIG_AUDIT, or started with audit=0), denied.
  static Result<AuditListener> open();
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// What waits now. Messages that were lost because nobody read in time are passed over.
  Result<std::vector<AuditRecord>> take();

 private:
  explicit AuditListener(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace caisson::linux

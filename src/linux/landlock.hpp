// Landlock: giving up access to files, TCP and foreign sockets without any privilege (Linux 5.13, ABI 1 to 7 probed).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::linux {

enum class LandlockAccess : std::uint8_t {
  read,        ///< read files and list folders
  execute,     ///< read and execute
  read_write,  ///< everything but device nodes
  read_write_whiteouts,  ///< read_write, and mknod of char devices: an overlay's whiteouts (0/0) need no other privilege
};

struct LandlockRule {
  std::string path;  ///< opened when the ruleset is made; the rule holds for everything beneath
  LandlockAccess access = LandlockAccess::read;
};

struct LandlockPolicy {
  std::vector<LandlockRule> rules;
  bool deny_tcp = true;     ///< ABI 4 (6.7): bind and connect
  bool scope_ipc = true;    ///< ABI 6 (6.12): abstract unix sockets and signals of processes outside
};

/// The ABI of the running kernel; 0 when Landlock is not there.
int landlock_abi();

/// A ruleset that denies everything but the rules, of the strength that this kernel offers. Needs no privilege.
/// Errors: unsupported (no Landlock), not_found (a rule's path).
Result<UniqueFd> create_landlock_ruleset(const LandlockPolicy& policy);

/// Restricts this thread and its children for good. Precondition: no_new_privs or CAP_SYS_ADMIN.
Status landlock_restrict_self(int ruleset_fd);

}  // namespace caisson::linux

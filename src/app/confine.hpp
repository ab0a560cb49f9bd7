// How the daemon gives up the rights that serving does not need (ADR 19).
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "linux/seccomp.hpp"

namespace caisson::app {

/// What the daemon keeps of root's capabilities.
std::vector<std::string> kept_capabilities();
/// The system calls that it and what it executes may make: the containers' own profile for who holds those capabilities, less what the daemon has no use for. Pure.
Result<linux::SeccompProgram> daemon_seccomp();
/// For this process and all that it starts, for good. A kernel without seccomp is told of in the log. Precondition: one thread. Privilege: CAP_SETPCAP, CAP_SYS_ADMIN.
Status confine_daemon();

}  // namespace caisson::app

// The seccomp filter of workers that unpack hostile archives: files below a folder, memory, threads, and nothing else.
#pragma once

#include "base/result.hpp"
#include "linux/seccomp.hpp"

namespace caisson::linux {

/// The allow-list in words, each group with its reason beside it in the source. Everything else gives EPERM: a library
/// that tries an optional call goes on, and a hijacked worker gets nothing.
SeccompFilterSpec worker_seccomp_spec();

/// The compiled filter. Load it with no_new_privs set, after all descriptors are open and the namespaces are entered.
/// Errors: internal (the table does not compile; a test shows that it does).
Result<SeccompProgram> worker_seccomp();

}  // namespace caisson::linux

// The seccomp filter of the registry server: sockets that come in, files below its folder, threads, and no connection to anywhere.
#pragma once

#include "base/result.hpp"
#include "linux/seccomp.hpp"

namespace caisson::linux {

/// The allow-list in words, each group with its reason beside it in the source. Everything else gives EPERM.
SeccompFilterSpec registry_seccomp_spec();

/// The compiled filter. Load it with no_new_privs set, after all listeners and other processes were made.
/// Errors: internal (the table does not compile; a test shows that it does).
Result<SeccompProgram> registry_seccomp();

}  // namespace caisson::linux

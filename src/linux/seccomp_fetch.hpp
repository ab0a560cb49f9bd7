// The seccomp filter of the process that speaks to registries: sockets, descriptors it was given, and reading of system files.
#pragma once

#include "base/result.hpp"
#include "linux/seccomp.hpp"

namespace caisson::linux {

/// The allow-list in words, each group with its reason beside it in the source. Everything else gives EPERM: a library that tries an
/// optional call goes on, and a hijacked process gets nothing.
SeccompFilterSpec fetch_seccomp_spec();

/// The compiled filter. Load it with no_new_privs set. Errors: internal (the table does not compile; a test shows that it does).
Result<SeccompProgram> fetch_seccomp();

}  // namespace caisson::linux

// The seccomp filter of processes that serve layers which are still coming: open descriptors, threads, and nothing with a name.
#pragma once

#include "base/result.hpp"
#include "linux/seccomp.hpp"

namespace caisson::linux {

/// The allow-list in words, each group with its reason beside it in the source. Everything else gives EPERM.
SeccompFilterSpec layer_server_seccomp_spec();

/// The compiled filter. Load it with no_new_privs set, after all descriptors are there. Errors: internal (the table does not compile; a test shows that it does).
Result<SeccompProgram> layer_server_seccomp();

}  // namespace caisson::linux

// The running program's file, exchanged under it for the same file by another mount.
#pragma once

#include "base/result.hpp"

namespace caisson::linux {

/// Makes `file` what /proc/self/exe leads to, as an execve of it would, without beginning anew: what is mapped of the program's file is mapped
/// again from `file`, its data is copied into memory of our own, and then the kernel is asked to change the link (PR_SET_MM_MAP's exe_fd,
/// prctl(2); 3.18), which it refuses while anything of the old file is still mapped. Success therefore says that no way leads from this process,
/// or from a child of it, to the mount that the program was started from.
/// Preconditions: `file` is the program's own file, opened for reading; one thread.
/// Privilege: CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE in our user namespace. Errors: denied (without them, or while somebody has the file open
/// for writing), invalid (a kernel without CONFIG_CHECKPOINT_RESTORE), conflict (something else maps the old file); the program goes on
/// as before, though not protected.
Status replace_own_file(int file);

}  // namespace caisson::linux

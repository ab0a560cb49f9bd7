// The stage: a process that borrows our memory and descriptors for a moment, changes namespaces where we must not, and ends.
#pragma once

#include <sys/ioctl.h>  // TIOC… and PR_… for callers, which may not include them themselves
#include <sys/prctl.h>
#include <sys/types.h>

#include <cstddef>

#include "base/result.hpp"

namespace caisson::linux::raw {

/// Runs `function(argument)` in a new process that shares memory and descriptors (CLONE_VM|CLONE_VFORK|CLONE_FILES) but not
/// the working directory, credentials or namespaces; the caller stands still until it ends. It has a stack of its own (one
/// static block: the caller must be single-threaded). `flags` adds CLONE_NEW*. Returns the pid (its zombie is the caller's
/// to reap, exit signal SIGCHLD) or -errno. The function's result is the exit code.
int run_stage(int (*function)(void*), void* argument, int flags) noexcept;

/// Empties the signal mask: dispositions of handlers are reset by exec itself, a blocked mask would be inherited.
int clear_signal_mask() noexcept;

/// tee(2) and splice(2) without waiting; the number of bytes, 0 at the end, or -errno.
long tee(int in_fd, int out_fd, std::size_t count) noexcept;
long splice(int in_fd, int out_fd, std::size_t count) noexcept;

/// waitpid(pid, __WALL): the wait status or -errno.
int reap(pid_t pid) noexcept;

}  // namespace caisson::linux::raw

namespace caisson::linux {

/// Bytes a pipe can hold (F_GETPIPE_SZ).
Result<int> pipe_size(int fd);
/// Gives freed heap pages back to the kernel (malloc_trim).
void release_free_memory() noexcept;
/// Gives the program's read-only pages back; what is touched again comes back from the file. For those who will mostly sleep.
void release_program_text() noexcept;
/// Whether the other side of a pipe or socket is gone for good (POLLHUP).
bool has_hung_up(int fd) noexcept;

}  // namespace caisson::linux

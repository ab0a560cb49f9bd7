// The launcher: a small single-threaded process of the daemon's own build that makes namespaces and forks monitors. The
// daemon, with its threads and its memory, never clones.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::runtime {

/// For a process that forks others: its signals are blocked, and what is returned becomes readable when a child has ended.
Result<UniqueFd> hear_children();
/// Serves the daemon on descriptor 3 until it closes. Returns the exit code.
int run_launcher();

}  // namespace caisson::runtime

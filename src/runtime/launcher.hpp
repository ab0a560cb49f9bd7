// The launcher: a small single-threaded process of the daemon's own build that makes namespaces and forks monitors. The
// daemon, with its threads and its memory, never clones.
#pragma once

namespace caisson::runtime {

/// Serves the daemon on descriptor 3 until it closes. Returns the exit code.
int run_launcher();

}  // namespace caisson::runtime

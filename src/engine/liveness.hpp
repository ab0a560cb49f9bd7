// Whether a container has processes, and whether a process is in none.
#pragma once

#include "engine/types.hpp"

namespace caisson::engine {

/// Running or paused; one that waits for its next start by its restart policy is not.
inline bool is_alive(State state) { return state == State::running || state == State::paused; }

/// Whether a process shares our user and PID namespace, as every process of the host does with a daemon there. Errors: those of a process that is gone.
Result<bool> is_in_our_namespaces(pid_t pid);

}  // namespace caisson::engine

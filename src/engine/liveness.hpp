// Whether a container has processes.
#pragma once

#include "engine/types.hpp"

namespace caisson::engine {

/// Running or paused; one that waits for its next start by its restart policy is not.
inline bool is_alive(State state) { return state == State::running || state == State::paused; }

}  // namespace caisson::engine

// The server's life: listen, give up rights, take up what is there, answer, clean up now and then, end on a signal.
#pragma once

#include "base/result.hpp"
#include "registry/config.hpp"

namespace caisson::registry {

/// Until SIGTERM or SIGINT.
Status serve(const Config& config);

}  // namespace caisson::registry

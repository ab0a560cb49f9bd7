// caisson-registry's command line: serve, ls, rm, gc, du.
#pragma once

#include <string>
#include <vector>

namespace caisson::registry {

/// Returns the exit code.
int registry_main(const std::vector<std::string>& words);

}  // namespace caisson::registry

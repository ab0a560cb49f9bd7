// The OCI command line of caisson-runtime: what containerd, podman, CRI-O and people call.
#pragma once

#include <string>
#include <vector>

namespace caisson::runtime {

/// Runs one command and returns the exit code of runtime-and-callers' convention (1 for errors, 255 for those of exec, the
/// program's own for run and exec). `args` is without the program's name.
int run_oci_command(const std::vector<std::string>& args);

}  // namespace caisson::runtime

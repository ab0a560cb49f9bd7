// Pid 1 for containers that ask for one (--init): reaps orphans and hands signals on.
#pragma once

namespace caisson::runtime {

/// Runs as the container's pid 1; argv is "/dev/init", "--", program, arguments. Returns the program's exit code.
int run_container_init(int argc, char** argv);

}  // namespace caisson::runtime

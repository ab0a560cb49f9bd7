// The whole command line, from words to exit code.
#pragma once

#include <span>
#include <string>

namespace caisson::cli {

/// `words` without the program's name. Prints to standard output and error. Returns the exit code: 0, 1, 125 for run's own
/// errors and for wrong flags (docker's rule), or the container's.
int run_command_line(std::span<const std::string> words);

}  // namespace caisson::cli

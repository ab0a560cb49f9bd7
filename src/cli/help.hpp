// Help texts, made from the command table.
#pragma once

#include <string>

#include "cli/command.hpp"

namespace caisson::cli {

/// The overview: all commands by group, and the global flags.
std::string overview(std::size_t width);
/// One command, or a group with what it holds.
std::string help_for(const Command& command, std::size_t width);
/// "Usage:  caisson run [OPTIONS] IMAGE …"
std::string usage_line(const Command* command);

}  // namespace caisson::cli

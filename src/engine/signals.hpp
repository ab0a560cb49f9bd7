// Signal names and numbers as users write them.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson::engine {

inline constexpr int signal_kill = 9;
inline constexpr int signal_term = 15;

/// "TERM", "SIGTERM", "sigterm", "15", "RTMIN+3" → number (x86-64 and arm64 share these). Errors: invalid ("invalid signal: x").
Result<int> parse_signal(std::string_view text);

}  // namespace caisson::engine

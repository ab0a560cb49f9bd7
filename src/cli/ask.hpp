// Asking the person at the terminal for a line, or for a secret.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "cli/output.hpp"

namespace caisson::cli {

/// What a password or passphrase may have, from a terminal or a file.
inline constexpr std::size_t most_password_bytes = 1 << 20;

/// One line from standard input, without its end. Errors: invalid (interrupted), io.
Result<std::string> read_line();
/// One line from a terminal that does not show it. Errors: as read_line; invalid when standard input is no terminal.
Result<std::string> ask_secret(Output& err, std::string_view prompt);

}  // namespace caisson::cli

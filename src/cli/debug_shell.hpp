// `build --debug-shell`: this terminal in what a failed step left.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/parse.hpp"
#include "cli/session.hpp"

namespace caisson::cli {

/// What the daemon tells of a failed step, and the container that it has made for us; without one `problem` says why.
struct OfferedShell {
  std::string container;
  std::string problem;
  std::string program;
  std::string step;
  std::uint32_t line = 0;
  std::optional<int> exit_code;  ///< of a RUN that ran
  std::string failure;
  bool is_before_step = false;
};
/// Errors: corrupt, naming the member.
Result<OfferedShell> read_offered_shell(const JsonView& view);

/// For X-Caisson-Build: {"program", "tty", "size"}. Errors: invalid, for flags that do not go together with --debug-shell.
Result<json::object> debug_shell_wish(const Invocation& invocation);

/// What stands above the shell's first line: step, line, command, how it failed, and how to leave.
std::string debug_shell_banner(const OfferedShell& shell);

/// Attaches, starts it and carries bytes until it has ended. What goes wrong is told and is no error: the build ends as it would have.
/// Errors: unavailable when a signal ended it.
Status enter_debug_shell(Session& session, const OfferedShell& shell);
/// Says why it is not entered, and lets its build end.
Status decline_debug_shell(Session& session, const OfferedShell& shell, const std::string& why);

}  // namespace caisson::cli

// One build, for `build` and for each target of `bake`.
#pragma once

#include <functional>
#include <string>

#include "base/result.hpp"
#include "cli/debug_shell.hpp"
#include "cli/parse.hpp"
#include "cli/session.hpp"

namespace caisson::cli {

/// What becomes of the shell of a step that failed. The build ends once it has returned.
using ShellTaker = std::function<Status(const OfferedShell& shell)>;

/// `invocation`: of the command `build`. `inline_dockerfile`: instead of a file; "": none. `take_shell`: instead of entering it here; unset: enters it.
/// Returns the image's id; "" where none is made (--check).
Result<std::string> run_build(Session& session, const Invocation& invocation, const std::string& inline_dockerfile, const ShellTaker& take_shell = {});

}  // namespace caisson::cli

// One build, for `build` and for each target of `bake`.
#pragma once

#include <functional>
#include <string>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/debug_shell.hpp"
#include "cli/parse.hpp"
#include "cli/session.hpp"

namespace caisson::cli {

/// What becomes of the shell of a step that failed. The build ends once it has returned.
using ShellTaker = std::function<Status(const OfferedShell& shell)>;

struct BuildWish {
  std::string inline_dockerfile;    ///< instead of a file; "": none
  ShellTaker take_shell;            ///< instead of entering it here; unset: enters it
  json::object* metadata = nullptr; ///< borrowed, set: gets what --metadata-file would say
};

/// `invocation`: of the command `build`. Returns the image's id; "" where none is made (--check).
Result<std::string> run_build(Session& session, const Invocation& invocation, const BuildWish& wish = {});

}  // namespace caisson::cli

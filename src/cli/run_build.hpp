// One build, for `build` and for each target of `bake`.
#pragma once

#include <string>

#include "base/result.hpp"
#include "cli/parse.hpp"
#include "cli/session.hpp"

namespace caisson::cli {

/// `invocation`: of the command `build`. `inline_dockerfile`: instead of a file; "": none. Returns the image's id; "" where none is made (--check).
Result<std::string> run_build(Session& session, const Invocation& invocation, const std::string& inline_dockerfile);

}  // namespace caisson::cli

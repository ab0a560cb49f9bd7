// `build --call`: what a Dockerfile says of itself, instead of a build.
#pragma once

#include <string>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"

namespace caisson::cli {

struct BuildCallFlags {
  std::string call = "build";  ///< "build", "check", "outline", "targets"
  bool prints_json = false;
  [[nodiscard]] bool builds() const { return call == "build"; }
};
/// --call and --check. Errors: invalid.
Result<BuildCallFlags> parse_build_call(const Invocation& invocation);

/// What the daemon answered an outline or targets. Errors: corrupt, naming the member.
Status print_build_answer(Output& out, const BuildCallFlags& flags, const json::value& answer);

}  // namespace caisson::cli

// Build checks: what a Dockerfile may say and had better not, under the names docker gave them.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "dockerfile/ignore.hpp"
#include "dockerfile/parser.hpp"
#include "dockerfile/scope.hpp"

namespace caisson::dockerfile {

struct Warning {
  std::string rule;
  std::string message;
  Lines lines;
};

struct LintInput {
  Arguments platform;                     ///< platform_arguments()
  Arguments given;                        ///< --build-arg
  const IgnoreList* ignore = nullptr;     ///< the context's
  /// The environment of a base image that is at hand; nothing for others, whose stages are then not searched for undefined variables.
  std::function<std::optional<std::vector<std::string>>(const std::string& image)> base_environment;
  std::string check;                      ///< BUILDKIT_DOCKERFILE_CHECK; "": the file's own directive counts
};

/// In the order of their lines. Errors: invalid (an unknown word in the check directive).
struct Checked {
  std::vector<Warning> warnings;
  bool warnings_are_errors = false;
};
Result<Checked> lint(const Source& source, const File& file, const LintInput& input);

/// What `skip=A,B;error=true;experimental=all` asks for.
struct CheckSettings {
  std::set<std::string> skipped;  ///< "all"
  bool error = false;
  std::set<std::string> experimental;
};
Result<CheckSettings> parse_check(std::string_view text);

}  // namespace caisson::dockerfile

// What Dockerfile instructions do to an image's configuration: for `import --change`, `commit --change` and the builder.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "dockerfile/parser.hpp"
#include "dockerfile/scope.hpp"
#include "image/manifest.hpp"

namespace caisson::image {

/// True for instructions that only change the configuration: all but FROM, ARG, RUN, COPY and ADD.
bool is_configuration(dockerfile::Keyword keyword);

/// Applies one of these, its variables taken from `scope`, which then also knows a new ENV. Returns it as docker's history has it
/// ("ENV A=b", "CMD [\"a\" \"b\"]"). `has_cmd`: a CMD stood before it in the same stage; an ENTRYPOINT then keeps it.
/// Errors: invalid, in docker's words where it has some.
Result<std::string> apply_instruction(const dockerfile::Instruction& instruction, dockerfile::StageScope& scope, ImageConfig& image, bool& has_cmd);

/// Applies one line by itself ("ENV A=b c=d", "CMD [\"bash\"]", "EXPOSE 80/tcp"); variables are those of the image's environment.
Status apply_change(std::string_view line, ImageConfig& image);

/// The lines that a client sends as `changes`, each perhaps several ("ENV a=1\nUSER b"): blank ones and comments are passed over, a backslash at
/// a line's end joins it with the next. Errors: invalid, naming the line.
Status apply_changes(const std::vector<std::string>& changes, ImageConfig& image);

}  // namespace caisson::image

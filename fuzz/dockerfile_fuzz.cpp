// Fuzzes Dockerfiles: what parses can be checked, its instructions parse by themselves to the same, and expansions stay bounded.
#include "dockerfile/lint.hpp"
#include "dockerfile/parser.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  dockerfile::Source source{"Dockerfile", std::string(fuzz::text_of(data, size))};
  auto file = dockerfile::parse(source);
  if (!file.ok()) {
    fuzz::demand(!file.error().text().empty(), "an error says something");
    return 0;
  }
  for (const auto& stage : file->stages) {
    for (const auto& instruction : stage.instructions) {
      auto again = dockerfile::parse_instruction(instruction.statement, file->directives.escape);
      // A continued line may begin with a comment's mark, which is one only at the start of a line.
      if (!again.ok()) continue;
      fuzz::demand(again->keyword == instruction.keyword && again->text == instruction.text && again->words == instruction.words &&
                       again->heredocs.size() == instruction.heredocs.size(),
                   "an instruction by itself means what it meant in its file");
    }
  }
  dockerfile::LintInput input;
  input.platform = dockerfile::platform_arguments("linux/amd64", "linux/amd64", "");
  input.base_environment = [](const std::string&) { return std::optional(std::vector<std::string>{"PATH=/bin"}); };
  auto checked = dockerfile::lint(source, *file, input);
  if (!checked.ok()) return 0;
  for (const auto& warning : checked->warnings) fuzz::demand(warning.lines.first >= 1 && warning.lines.first <= warning.lines.last, "a warning has its line");
  return 0;
}

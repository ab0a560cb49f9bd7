// The Dockerfile's instructions: what docker's reference allows, checked as far as a file can be checked without being built.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "dockerfile/lexer.hpp"
#include "dockerfile/source.hpp"

namespace caisson::dockerfile {

enum class Keyword : std::uint8_t {
  add, arg, cmd, copy, entrypoint, env, expose, from, healthcheck, label, maintainer, onbuild, run, shell, stopsignal, user, volume, workdir,
};
/// "ADD".
std::string_view to_string(Keyword keyword);

struct Pair {
  std::string key;
  std::string value;
  bool has_value = true;  ///< false: an ARG without default
};

/// One instruction. Variables are as written; which of the members below are used depends on the keyword.
struct Instruction {
  Keyword keyword = Keyword::run;
  std::string written;              ///< the keyword as it stands in the file
  std::string statement;            ///< the whole text, here-documents included: what ONBUILD keeps
  std::vector<Flag> flags;
  std::string text;                 ///< what follows keyword and flags
  bool json = false;                ///< `words` are those of a JSON array
  std::vector<std::string> words;   ///< all but ARG, ENV, LABEL, ONBUILD; one word for RUN, CMD … in shell form and for single values
  std::vector<Pair> pairs;          ///< ARG, ENV, LABEL; quotes kept
  bool legacy_pair = false;         ///< "ENV key value"
  std::string check_type;           ///< HEALTHCHECK: "NONE", "CMD" (words: its command)
  std::vector<Heredoc> heredocs;
  std::vector<Instruction> trigger; ///< ONBUILD: the one instruction
  Lines lines;
  std::vector<std::string> comments;

  [[nodiscard]] const Flag* flag(std::string_view name) const;
  /// The flag's value, or "".
  [[nodiscard]] std::string_view flag_value(std::string_view name) const;
  /// A flag that is "--link", "--link=true" or missing.
  [[nodiscard]] bool is_set(std::string_view name) const;
};

struct Stage {
  Instruction from;
  std::string base;      ///< as written
  std::string name;      ///< lower case; "": none
  std::string platform;  ///< as written
  std::vector<Instruction> instructions;
};

struct File {
  Directives directives;
  std::vector<Instruction> arguments;  ///< ARG before the first FROM
  std::vector<Stage> stages;
  std::vector<std::uint32_t> empty_continuations;
};

/// Errors: invalid, "dockerfile parse error on line N: …" with the place. Words that scripts know are docker's.
Result<File> parse(const Source& source);

/// One instruction by itself, as `commit --change` and the triggers of a base image bring it. Errors: as parse(), without a place.
Result<Instruction> parse_instruction(std::string_view text, char escape = '\\');

}  // namespace caisson::dockerfile

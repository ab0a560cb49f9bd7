// Words of an instruction: blanks, quotes, escapes, flags, JSON arrays and the marks of here-documents. Variables stay as written.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::dockerfile {

/// A "--name[=value]" before an instruction's arguments; quotes and escapes are gone.
struct Flag {
  std::string name;
  std::string value;
  bool has_value = false;
};

/// A text that follows its instruction: everything up to a line that holds `name` alone.
struct Heredoc {
  std::string name;
  std::string content;
  bool expand = true;       ///< no part of the name was quoted
  bool strip_tabs = false;  ///< "<<-"
  unsigned descriptor = 0;
};

/// Words end at blanks outside quotes; quotes and escapes stay in them, for expansion needs them.
std::vector<std::string> split_words(std::string_view text, char escape);
/// Words end at blanks, whatever stands around these.
std::vector<std::string> split_at_blanks(std::string_view text);

struct FlagsAndRest {
  std::vector<Flag> flags;
  std::string rest;  ///< trimmed
};
FlagsAndRest take_flags(std::string_view text, char escape);

/// The strings of a JSON array at the start of the text; nothing when there is none (the text is then shell form or words). As docker
/// does, what follows the array is not looked at. Errors: invalid, for an array of other things than strings.
Result<std::optional<std::vector<std::string>>> json_list(std::string_view text);

/// The here-documents that a line announces, without content.
std::vector<Heredoc> announced_heredocs(std::string_view line, char escape);
/// The announcement in one word, or nothing.
std::optional<Heredoc> heredoc_of_word(std::string_view word, char escape);

/// A text with quotes and escapes taken away and no variable looked at.
std::string unquoted(std::string_view text, char escape);

bool is_blank(char c);
std::string_view trim_start(std::string_view text);

}  // namespace caisson::dockerfile

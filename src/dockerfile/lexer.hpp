// From a Dockerfile's bytes to its statements: directives, comments, continued lines and here-documents are dealt with.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "dockerfile/source.hpp"
#include "dockerfile/words.hpp"

namespace caisson::dockerfile {

/// "# key=value" lines at the very top.
struct Directives {
  std::string syntax;  ///< "": not given
  char escape = '\\';
  std::string check;
  std::uint32_t check_line = 0;
};

/// One instruction's text: continued lines joined, no newline in it.
struct Statement {
  std::string text;
  Lines lines;  ///< with its here-documents
  std::vector<Heredoc> heredocs;
  std::string heredoc_text;           ///< the bodies with their end marks, as they stand in the file
  std::vector<std::string> comments;  ///< the lines right above, without '#'
};

struct Lexed {
  Directives directives;
  std::vector<Statement> statements;
  std::vector<std::uint32_t> empty_continuations;  ///< lines
};

/// Errors: invalid, with the place: a directive given twice or of no known value, a line above 65,535 bytes, an unfinished
/// here-document, a file without instructions.
Result<Lexed> lex(const Source& source);

}  // namespace caisson::dockerfile

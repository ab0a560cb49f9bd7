// The text of a Dockerfile with its name, and errors that show the place they speak of.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson::dockerfile {

struct Source {
  std::string name = "Dockerfile";  ///< as errors call it
  std::string text;
};

/// Lines of a source, counted from 1.
struct Lines {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
};

/// "MESSAGE\nDockerfile:3\n   3 | FORM alpine\n     | ^^^^": the first of `lines` that holds `piece`, with carets below it. Without the
/// piece the first line is shown, with carets below its first word.
std::string show_place(const Source& source, Lines lines, std::string_view piece, std::string_view message);

/// "dockerfile parse error on line 3: MESSAGE", with its place. The words up to MESSAGE are docker's.
Error parse_error(const Source& source, Lines lines, std::string_view piece, std::string_view message);

/// Of `known`, the word that is at most two edits away from `word`; "" when there is none.
std::string_view nearest(std::string_view word, const std::string_view* known, std::size_t count);

}  // namespace caisson::dockerfile

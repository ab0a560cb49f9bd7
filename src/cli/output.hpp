// Standard output and error: buffered text that is written whole, and whether a person is reading.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson::cli {

/// Text on its way to a descriptor. Not thread-safe; flushed on destruction.
class Output {
 public:
  /// `fd` is borrowed.
  explicit Output(int fd);
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  /// Adds text; written when the buffer is large or flush() is called.
  void write(std::string_view text);
  void line(std::string_view text);
  /// Errors: io when the descriptor takes no more (a full disk, a closed pipe). The text is dropped then; the first
  /// failure is kept and returned by every later call.
  Status flush();

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] bool is_terminal() const { return is_terminal_; }
  /// A terminal, and neither NO_COLOR nor TERM=dumb is set (https://no-color.org).
  [[nodiscard]] bool has_colour() const { return has_colour_; }
  /// Columns of the terminal; 80 when there is none.
  [[nodiscard]] std::size_t width() const;

 private:
  int fd_;
  bool is_terminal_;
  bool has_colour_;
  std::string buffer_;
  Status failure_;
};

}  // namespace caisson::cli

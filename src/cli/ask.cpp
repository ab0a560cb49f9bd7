// A line from standard input, seen or unseen.
#include "cli/ask.hpp"

#include <array>

#include "linux/file.hpp"
#include "linux/terminal.hpp"

namespace caisson::cli {

namespace {
constexpr char interrupt_key = '\x03';
}

Result<std::string> read_line() {
  std::string line;
  std::array<char, 1> byte{};
  while (line.size() < most_password_bytes) {
    auto got = TRY_PLAIN(linux::read(0, byte));
    if (got == 0 || byte[0] == '\n' || byte[0] == '\r') break;
    if (byte[0] == interrupt_key) return Error(ErrorKind::invalid, "interrupted");  // a raw terminal sends it as a character
    line += byte[0];
  }
  return line;
}

Result<std::string> ask_secret(Output& err, std::string_view prompt) {
  if (!linux::is_terminal(0)) return Error(ErrorKind::invalid, "standard input is no terminal");
  err.write(prompt);
  TRY_PLAIN(err.flush());
  std::string secret;
  {
    auto unseen = TRY_PLAIN(linux::RawMode::create(0));
    secret = TRY_PLAIN(read_line());
  }
  err.line("");
  return secret;
}

}  // namespace caisson::cli

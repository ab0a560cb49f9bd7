// A terminal's whole screen, drawn anew again and again, and given back as it was.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "cli/output.hpp"
#include "cli/stream.hpp"
#include "linux/event.hpp"
#include "linux/terminal.hpp"

namespace caisson::cli {

/// Text as it fits: at most `rows` lines, each cut at `columns` characters, colour sequences not counted. Lines end with "\r\n" and clear what was behind them.
std::string fit_to_screen(std::string_view text, std::size_t rows, std::size_t columns);

/// The alternate screen (xterm's 1049) without a cursor; keys are read unseen. When it goes, the terminal is as before, with the last picture on it.
class Screen {
 public:
  /// Whether somebody sits there: input and output are terminals, and not dumb ones.
  static bool is_possible(const Output& out);
  /// `out`: borrowed.
  static Result<Screen> open(Output& out);
  Screen(Screen&& other) noexcept;
  Screen& operator=(Screen&&) = delete;
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  ~Screen();

  Status draw(std::string_view text);
  /// What to wait for beside one's own descriptors: keys and signals.
  [[nodiscard]] std::array<linux::PollEntry, 2> poll_entries() const;
  /// After poll: the exit code once the user has had enough (q, escape, ctrl-c, a signal), else nothing. A changed window is drawn again.
  Result<std::optional<int>> take(std::span<const linux::PollEntry> entries);
  /// Waits by itself, up to `timeout_ms`. Nothing: the time is over, or a key asks for a new picture.
  Result<std::optional<int>> wait(int timeout_ms);

 private:
  Screen(Output& out, SignalGuard signals, linux::RawMode raw) : out_(&out), signals_(std::move(signals)), raw_(std::move(raw)) {}
  Output* out_;
  SignalGuard signals_;
  std::optional<linux::RawMode> raw_;
  std::string last_;
};

}  // namespace caisson::cli

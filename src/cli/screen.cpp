// Escape sequences of the screen, keys and signals.
#include "cli/screen.hpp"

#include <array>

#include "base/environment.hpp"
#include "base/strings.hpp"
#include "cli/listing.hpp"
#include "linux/file.hpp"

namespace caisson::cli {

namespace {

constexpr std::string_view enter = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[J";
constexpr std::string_view leave = "\x1b[?25h\x1b[?1049l";
constexpr int interrupted = 128 + SIGINT;
constexpr char interrupt_key = '\x03';
constexpr char escape_key = '\x1b';

// Cut at `columns` characters; what colours ("\x1b[1m") takes no room and is never cut in two.
std::string cut(std::string_view line, std::size_t columns) {
  std::string out;
  std::size_t used = 0;
  for (std::size_t at = 0; at < line.size();) {
    if (line[at] == '\x1b') {
      const auto end = line.find('m', at);
      const std::size_t length = (end == std::string_view::npos ? line.size() : end + 1) - at;
      out += line.substr(at, length);
      at += length;
      continue;
    }
    std::size_t length = 1;
    while (at + length < line.size() && (static_cast<unsigned char>(line[at + length]) & 0xC0U) == 0x80U) ++length;
    if (used < columns) out += line.substr(at, length);
    ++used;
    at += length;
  }
  return out;
}

}  // namespace

std::string fit_to_screen(std::string_view text, std::size_t rows, std::size_t columns) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  std::string out;
  std::size_t row = 0;
  for (auto line : split(text, '\n')) {
    if (row == rows) break;
    if (row++ > 0) out += "\r\n";
    out += concat(cut(line, columns), "\x1b[K");
  }
  return out;
}

bool Screen::is_possible(const Output& out) {
  return out.is_terminal() && linux::is_terminal(0) && environment_text("TERM") != "dumb";
}

Result<Screen> Screen::open(Output& out) {
  auto signals = TRY_PLAIN(SignalGuard::create());
  auto raw = TRY(linux::RawMode::create(0), "read keys");
  Screen screen(out, std::move(signals), std::move(raw));
  out.write(enter);
  TRY_PLAIN(out.flush());
  return screen;
}

Screen::Screen(Screen&& other) noexcept : out_(std::exchange(other.out_, nullptr)), signals_(std::move(other.signals_)), raw_(std::move(other.raw_)), last_(std::move(other.last_)) {
  other.raw_.reset();
}

Screen::~Screen() {
  if (out_ == nullptr) return;
  out_->write(leave);
  ignore(out_->flush());  // a terminal that has gone needs nothing back
  raw_.reset();
  out_->write(last_);  // so that the last reading can still be seen, and copied
  ignore(out_->flush());
}

Status Screen::draw(std::string_view text) {
  last_ = text;
  auto size = linux::window_size(out_->fd());
  const std::size_t rows = size.ok() && size->rows > 0 ? size->rows : 24;
  out_->write(concat("\x1b[H", fit_to_screen(text, rows, out_->width()), "\x1b[J"));
  return out_->flush();
}

std::array<linux::PollEntry, 2> Screen::poll_entries() const { return {{{0, POLLIN, 0}, {signals_.fd(), POLLIN, 0}}}; }

Result<std::optional<int>> Screen::take(std::span<const linux::PollEntry> entries) {
  if (entries[1].revents != 0) {
    while (auto event = TRY(linux::signalfd_take(signals_.fd()), "take a signal")) {
      if (event->signal != SIGWINCH) return std::optional<int>(128 + event->signal);
      TRY_PLAIN(draw(std::string(last_)));
    }
  }
  if (entries[0].revents != 0) {
    std::array<char, 64> keys{};
    auto count = linux::read(0, keys);
    if (!count.ok() || *count == 0) return std::optional<int>(0);  // the terminal has gone
    const std::string_view typed(keys.data(), *count);
    if (typed.find(interrupt_key) != std::string_view::npos) return std::optional<int>(interrupted);
    if (typed == std::string_view(&escape_key, 1) || typed.find_first_of("qQ\x04") != std::string_view::npos) return std::optional<int>(0);
  }
  return std::optional<int>();
}

Result<std::optional<int>> Screen::wait(int timeout_ms) {
  auto entries = poll_entries();
  if (TRY_PLAIN(linux::poll(entries, timeout_ms)) == 0) return std::optional<int>();
  return take(entries);
}

}  // namespace caisson::cli

// Terminals: a pty pair of a given devpts, raw mode, window size.
#pragma once

#include <termios.h>

#include <cstdint>
#include <optional>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/path_arg.hpp"

namespace caisson::linux {

struct WindowSize {
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
};

struct Pty {
  UniqueFd master;
  UniqueFd slave;
};
/// Opens "ptmx" in a devpts folder descriptor and its peer by TIOCGPTPEER (4.13): no path below /dev/pts is looked up, so
/// nobody can put something else in its place (CVE-2025-52565). `devpts_fd` is checked to be devpts itself.
Result<Pty> open_pty(int devpts_fd);
/// The same from the devpts of this mount namespace (/dev/pts).
Result<Pty> open_pty();
/// The peer of a master; O_NOCTTY.
Result<UniqueFd> open_pty_peer(int master_fd);

Result<WindowSize> window_size(int fd);
Status set_window_size(int fd, WindowSize size);
bool is_terminal(int fd);
/// Makes `fd` the controlling terminal of this session leader.
Status set_controlling_terminal(int fd);

/// Puts a terminal in raw mode and gives the old mode back when it goes.
class RawMode {
 public:
  static Result<RawMode> create(int fd);
  RawMode(RawMode&& other) noexcept : fd_(std::exchange(other.fd_, -1)), saved_(other.saved_) {}
  RawMode& operator=(RawMode&&) = delete;
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;
  ~RawMode();

 private:
  RawMode(int fd, const struct ::termios& saved) : fd_(fd), saved_(saved) {}
  int fd_;
  struct ::termios saved_;
};
/// Without output processing ("\n" stays "\n") for a pty whose bytes are a log; the rest as it is.
Status disable_output_processing(int fd);

}  // namespace caisson::linux

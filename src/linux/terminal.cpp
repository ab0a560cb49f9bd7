// Pty pairs without a look-up below /dev/pts, raw mode, window sizes.
#include "linux/terminal.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "linux/file.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::descriptor;
using detail::status;

Result<UniqueFd> open_pty_peer(int master_fd) {
  // TIOCGPTPEER of asm-generic/ioctls.h; its argument is the open flags.
  return descriptor("ioctl", [&] { return ::ioctl(master_fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC); }, "TIOCGPTPEER");
}

Result<Pty> open_pty(int devpts_fd) {
  const FileSystemStatus file_system = TRY(fstatfs(devpts_fd), "open pty");
  if (static_cast<std::int64_t>(file_system.f_type) != abi::devpts_super_magic)
    return Error(ErrorKind::invalid, "open pty: the folder is not a devpts file system", EINVAL);
  Pty out;
  out.master = TRY(openat2(devpts_fd, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV), "open pty");
  const int unlocked = 0;
  TRY(status("ioctl", [&] { return ::ioctl(out.master.get(), TIOCSPTLCK, &unlocked); }, "TIOCSPTLCK"), "open pty");
  out.slave = TRY(open_pty_peer(out.master.get()), "open pty");
  return out;
}
Result<Pty> open_pty() {
  const UniqueFd devpts = TRY(open("/dev/pts", O_RDONLY | O_DIRECTORY), "open pty");
  return open_pty(devpts.get());
}

Result<WindowSize> window_size(int fd) {
  struct ::winsize native {};
  TRY_PLAIN(status("ioctl", [&] { return ::ioctl(fd, TIOCGWINSZ, &native); }, "TIOCGWINSZ"));
  return WindowSize{native.ws_row, native.ws_col};
}
Status set_window_size(int fd, WindowSize size) {
  struct ::winsize native {};
  native.ws_row = size.rows;
  native.ws_col = size.columns;
  return status("ioctl", [&] { return ::ioctl(fd, TIOCSWINSZ, &native); }, "TIOCSWINSZ");
}
bool is_terminal(int fd) { return ::isatty(fd) == 1; }
Status set_controlling_terminal(int fd) {
  return status("ioctl", [&] { return ::ioctl(fd, TIOCSCTTY, 0); }, "TIOCSCTTY");
}

Result<RawMode> RawMode::create(int fd) {
  struct ::termios saved {};
  TRY_PLAIN(status("tcgetattr", [&] { return ::tcgetattr(fd, &saved); }));
  struct ::termios changed = saved;
  ::cfmakeraw(&changed);
  TRY_PLAIN(status("tcsetattr", [&] { return ::tcsetattr(fd, TCSANOW, &changed); }));
  return RawMode(fd, saved);
}
RawMode::~RawMode() {
  if (fd_ >= 0) ::tcsetattr(fd_, TCSANOW, &saved_);
}
Status disable_output_processing(int fd) {
  struct ::termios mode {};
  TRY_PLAIN(status("tcgetattr", [&] { return ::tcgetattr(fd, &mode); }));
  mode.c_oflag &= static_cast<tcflag_t>(~static_cast<tcflag_t>(OPOST));
  return status("tcsetattr", [&] { return ::tcsetattr(fd, TCSANOW, &mode); });
}

}  // namespace caisson::linux

// Console socket, pid file, and the foreground: bytes, signals and the exit code.
#include "runtime/oci_session.hpp"

#include <array>

#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "linux/terminal.hpp"

namespace caisson::runtime {

Status check_console(bool detached, bool terminal, const std::string& console_socket) {
  if (detached && terminal && console_socket.empty())
    return Error(ErrorKind::invalid, "cannot allocate tty if runc will detach without setting console socket");
  if (!console_socket.empty() && (!detached || !terminal))
    return Error(ErrorKind::invalid, "cannot use console socket if runc will not detach or allocate tty");
  return {};
}

void take_terminal_size(Process& process) {
  if (!process.terminal || process.console_size) return;
  if (auto size = linux::window_size(0)) process.console_size = ConsoleSize{size->rows, size->columns};
}

Status send_terminal(const std::string& socket_path, const UniqueFd& master) {
  auto socket = TRY(linux::unix_connect(socket_path, linux::UnixType::stream), "console socket");
  const std::array fds{master.get()};
  TRY(linux::send_message(socket.get(), "/dev/ptmx", fds), "console socket");
  return {};
}

Status send_pidfd(const std::string& socket_path, const UniqueFd& pidfd) {
  if (socket_path.empty()) return {};
  auto socket = TRY(linux::unix_connect(socket_path, linux::UnixType::stream), "pidfd socket");
  const std::array fds{pidfd.get()};
  TRY(linux::send_message(socket.get(), "pidfd", fds), "pidfd socket");
  return {};
}

Status write_pid_file(const std::string& path, pid_t pid) {
  if (path.empty()) return {};
  TRY(linux::write_file_atomic(path, concat(pid), 0644, linux::Durability::none), "pid file");
  return {};
}

namespace {

/// Everything that can be handed on: not what the kernel keeps to itself, nor what our own faults raise.
linux::SignalSet forwarded_signals() {
  linux::SignalSet out;
  for (int signal = 1; signal < SIGRTMAX; ++signal) {
    const bool kept = signal == SIGKILL || signal == SIGSTOP || signal == SIGCHLD || signal == SIGURG || signal == SIGSEGV ||
                      signal == SIGBUS || signal == SIGFPE || signal == SIGILL || signal == SIGTRAP || signal == SIGABRT ||
                      signal == SIGSYS || signal == SIGTTIN || signal == SIGTTOU || signal == SIGTSTP ||
                      (signal > 31 && signal < SIGRTMIN);
    if (!kept) out.add(signal);
  }
  return out;
}

linux::SignalSet watched_signals() {
  auto out = forwarded_signals();
  out.add(SIGCHLD);
  return out;
}

class Foreground {
 public:
  explicit Foreground(const ForegroundProcess& process) : process_(process) {}

  Result<int> run() {
    signals_ = TRY_PLAIN(linux::signalfd(watched_signals()));
    if (has_terminal() && linux::is_terminal(0)) {
      raw_.emplace(TRY_PLAIN(linux::RawMode::create(0)));
      copy_size();
    }
    input_open_ = output_open_ = has_terminal();
    if (process_.may_have_ended) TRY_PLAIN(reap());
    while (output_open_ || !ended_) TRY_PLAIN(turn());
    return ended_->exit_code();
  }

 private:
  [[nodiscard]] bool has_terminal() const { return process_.terminal != nullptr && static_cast<bool>(*process_.terminal); }

  void copy_size() {
    if (auto size = linux::window_size(0)) ignore(linux::set_window_size(process_.terminal->get(), *size));  // it may be closed
  }

  Status turn() {
    std::array<linux::PollEntry, 4> entries{};
    entries[0] = {ended_ ? -1 : signals_.get(), POLLIN, 0};
    entries[1] = {input_open_ ? 0 : -1, POLLIN, 0};
    entries[2] = {output_open_ ? process_.terminal->get() : -1, POLLIN, 0};
    entries[3] = {process_.notify == nullptr ? -1 : process_.notify->fd(), POLLIN, 0};
    // Once the program has ended only what its terminal still holds is wanted; somebody else may keep the terminal open.
    if (TRY_PLAIN(linux::poll(entries, ended_ ? 0 : -1)) == 0) {
      output_open_ = false;
      return {};
    }
    if (entries[0].revents != 0) TRY_PLAIN(take_signals());
    if (entries[1].revents != 0) carry_input();
    if (entries[2].revents != 0) TRY_PLAIN(carry_output());
    // We stay, so the service manager's main process is us.
    if (entries[3].revents != 0 && TRY_PLAIN(process_.notify->forward(linux::getpid()))) process_.notify = nullptr;
    return {};
  }

  Status take_signals() {
    while (!ended_) {
      const auto event = TRY_PLAIN(linux::signalfd_take(signals_.get()));
      if (!event) break;
      if (event->signal == SIGCHLD) TRY_PLAIN(reap());
      else if (event->signal == SIGWINCH && has_terminal()) copy_size();
      else ignore(linux::pidfd_send_signal(process_.pidfd->get(), event->signal));  // it may have ended just now
    }
    return {};
  }

  /// As a subreaper we inherit what the container's runtime side leaves behind. What ends after the program is the affair of who takes
  /// our children over.
  Status reap() {
    while (!ended_) {
      auto found = TRY(linux::try_wait_any(), "wait for the container");
      if (!found) return {};
      if (found->pid == process_.pid) ended_ = *found;
    }
    return {};
  }

  void carry_input() {
    auto got = linux::read(0, buffer_);
    if (!got || *got == 0) input_open_ = false;
    else if (!linux::write_all(process_.terminal->get(), std::string_view(buffer_.data(), *got))) input_open_ = false;
  }

  Status carry_output() {
    auto got = linux::read(process_.terminal->get(), buffer_);  // EIO: every slave is closed
    if (got && *got > 0) return linux::write_all(1, std::string_view(buffer_.data(), *got));
    output_open_ = false;
    return {};
  }

  ForegroundProcess process_;
  UniqueFd signals_;
  std::optional<linux::RawMode> raw_;
  std::optional<linux::ExitStatus> ended_;
  bool input_open_ = false;
  bool output_open_ = false;
  std::array<char, 8192> buffer_{};
};

}  // namespace

Status hold_foreground_signals() {
  (void)TRY_PLAIN(linux::signal_mask(SIG_BLOCK, watched_signals()));
  return {};
}

Result<int> serve_foreground(const ForegroundProcess& process) { return Foreground(process).run(); }

}  // namespace caisson::runtime

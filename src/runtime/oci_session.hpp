// What a caller of create, run, start, exec and restore is given and told: the terminal, the pid, a pidfd, readiness, and the
// container's exit while the command stays in the foreground.
#pragma once

#include <optional>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "runtime/spec.hpp"

namespace caisson::runtime {

/// The combinations of --detach, terminal and --console-socket that leave a terminal without anybody. Errors: invalid.
Status check_console(bool detached, bool terminal, const std::string& console_socket);
/// The size that our terminal has now, for a program that shares it and may ask before it is told of any change.
void take_terminal_size(Process& process);
/// Sends the pty's master over the console socket, with a name as payload (stream sockets carry no descriptor without one).
Status send_terminal(const std::string& socket_path, const UniqueFd& master);
/// Sends a pidfd in the same way (--pidfd-socket). An empty path sends nothing.
Status send_pidfd(const std::string& socket_path, const UniqueFd& pidfd);
/// Decimal, without a newline; readers never see half of it. An empty path writes nothing.
Status write_pid_file(const std::string& path, pid_t pid);

/// Readiness of a service inside a container: a socket of ours at /run/notify, whose READY=1 is passed to the NOTIFY_SOCKET
/// that we were started with (sd_notify(3)).
class NotifyProxy {
 public:
  /// Gives the container a mount of `folder` and the variable, when we have a NOTIFY_SOCKET. True when it did.
  static bool add_to(Spec& spec, const std::string& folder);
  /// Makes the folder that the mount shows; in the container's own user namespace everybody may write to what is in it.
  static Status make_folder(const std::string& folder);
  /// Listens in `folder`. Nothing when we have no NOTIFY_SOCKET or the container was made without one.
  static Result<std::optional<NotifyProxy>> listen(const std::string& folder);

  [[nodiscard]] int fd() const { return socket_.get(); }
  /// Takes what has come. True once READY=1 was passed on, with `main_pid` as MAINPID.
  Result<bool> forward(pid_t main_pid);
  /// Returns when readiness was passed on, or the process has ended without it.
  Status wait_until_ready(const UniqueFd& pidfd, pid_t main_pid);

 private:
  NotifyProxy(UniqueFd socket, std::string host) : socket_(std::move(socket)), host_(std::move(host)) {}
  UniqueFd socket_;
  std::string host_;
};

/// A process in whose place we stand while it runs.
struct ForegroundProcess {
  pid_t pid = 0;
  const UniqueFd* pidfd = nullptr;
  const UniqueFd* terminal = nullptr;  ///< master; may be empty
  NotifyProxy* notify = nullptr;
  bool may_have_ended = false;  ///< before hold_foreground_signals was called
};
/// From here on the signals that serve_foreground passes on wait for it. To be called before the program can run: one that came in
/// between would end us, and the program would go on alone.
Status hold_foreground_signals();
/// Carries bytes between our terminal and the container's, and signals to the program, until it ends; reaps what a subreaper
/// inherits meanwhile. Returns its code (128 + signal). Preconditions: the process is our child; hold_foreground_signals was called.
Result<int> serve_foreground(const ForegroundProcess& process);

}  // namespace caisson::runtime

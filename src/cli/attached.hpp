// What run, start -a, attach and exec have in common: an attached stream, its terminal, and the exit code behind it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cli/session.hpp"
#include "cli/stream.hpp"
#include "linux/terminal.hpp"

namespace caisson::cli {

/// A request for a container's end that was sent already: once its head has been read, the daemon is watching. A daemon that dies takes
/// nothing with it: container and stream live on, and the request is sent again to its successor.
class ExitWatch {
 public:
  /// `condition`: "next-exit", "removed", or "" (not-running). Errors: the daemon's.
  static Result<ExitWatch> open(Session& session, std::string_view container, std::string_view condition);
  /// Only asks; confirm() reads the head. For those who have something else to ask at the same time.
  static Result<ExitWatch> begin(Session& session, std::string_view container, std::string_view condition);
  Status confirm(Session& session);
  /// The exit code; blocks until there is one. Errors: internal with the daemon's words; not_found when the container was removed while
  /// the daemon was away; unavailable when no daemon comes back for half a minute.
  Result<int> wait();
  /// From this daemon alone, at most that long. Errors: timeout; unavailable when it ends meanwhile.
  Result<int> wait_for(int timeout_ms);

  /// What becomes readable when there is something to tend(); -1 while the daemon is away.
  [[nodiscard]] int fd() const { return client_ ? client_->fd() : -1; }
  /// Asks a daemon that has come back, without waiting for one. False: the answer is there, nothing is left to tend.
  bool tend();

 private:
  ExitWatch(Session& session, std::string container, std::string condition, std::unique_ptr<wire::Client> client)
      : session_(&session), container_(std::move(container)), condition_(std::move(condition)), client_(std::move(client)) {}
  static Status send(Session& session, wire::Client& client, std::string_view container, std::string_view condition);
  static Status ask(Session& session, wire::Client& client, std::string_view container, std::string_view condition);
  Status reopen();
  static Result<int> read_code(std::string_view body);

  Session* session_;
  std::string container_;
  std::string condition_;
  std::unique_ptr<wire::Client> client_;
};

struct AttachSettings {
  std::string resize_path;   ///< "/containers/ID/resize" or "/exec/ID/resize"
  std::string kill_path;     ///< "/containers/ID/kill"; "" passes no signals
  bool tty = false;
  bool takes_input = false;
  bool passes_signals = true;
  std::string detach_keys;
};

/// The local side of an attached stream. Puts the terminal in raw mode when it should be, and back when this object goes.
class Attached {
 public:
  /// Errors: invalid (detach keys), "the input device is not a TTY".
  static Result<Attached> create(Session& session, AttachSettings settings);
  /// Tells the daemon the window's size; a container that is not there yet is no error.
  void send_size();
  /// Until the stream ends. `watch` (may be null) is tended meanwhile.
  Result<PumpResult> run(const Session::Stream& stream, ExitWatch* watch);

 private:
  Attached(Session& session, AttachSettings settings, SignalGuard signals, DetachKeys keys)
      : session_(&session), settings_(std::move(settings)), signals_(std::move(signals)), keys_(std::move(keys)) {}
  Session* session_;
  AttachSettings settings_;
  SignalGuard signals_;
  DetachKeys keys_;
  std::optional<linux::RawMode> raw_;
};

/// A container's stream and its end, both asked for before anything is started, so that not a byte and not the exit code can be missed.
struct Watched {
  Session::Stream stream;
  ExitWatch exit;
};
Result<Watched> watch_container(Session& session, std::string_view id, const std::string& attach_target, std::string_view condition);

/// The request for a container's stream.
std::string attach_target(std::string_view id, bool in, bool out, bool err, std::string_view detach_keys);

/// docker's check before -t with an attached standard input.
Status require_terminal_input();

/// 127, 126 or 125 from the words of a start error, as docker's client decides it (docker-api.md section 2).
int exit_code_of_start_error(std::string_view text);

}  // namespace caisson::cli

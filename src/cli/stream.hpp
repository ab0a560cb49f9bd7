// Docker's framed stream, detach keys, and the loop that carries bytes between this terminal and a container.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "wire/http_client.hpp"

namespace caisson::cli {

/// Takes 8-byte heads (stream number, three zeros, big-endian length) off a stream that may be cut anywhere.
class Demultiplexer {
 public:
  /// `stream` is 1 (standard output), 2 (standard error) or 3 (an error of the daemon's).
  using Sink = std::function<Status(int stream, std::string_view payload)>;
  /// Errors: corrupt for a head that cannot be one; the sink's.
  Status feed(std::string_view bytes, const Sink& sink);
  /// False when the stream ended inside a frame.
  [[nodiscard]] bool at_boundary() const { return head_.empty() && left_ == 0; }

 private:
  std::string head_;
  int stream_ = 0;
  std::uint32_t left_ = 0;
};

/// Watches what is typed for the keys that detach ("ctrl-p,ctrl-q").
class DetachKeys {
 public:
  DetachKeys() = default;
  /// Comma-separated single characters and ctrl-X; "" means docker's default. Errors: invalid.
  static Result<DetachKeys> parse(std::string_view text);
  /// True once the whole sequence has passed. The bytes are not held back: the daemon looks for the same keys and is the one
  /// that acts on them; here we only learn that the stream's end will mean "detached".
  bool passes(std::string_view typed);
  [[nodiscard]] const std::vector<char>& keys() const { return keys_; }

 private:
  std::vector<char> keys_{'\x10', '\x11'};
  std::size_t matched_ = 0;
};

enum class StreamEnd : std::uint8_t {
  closed,       ///< the other side ended the stream
  detached,     ///< by the detach keys
  interrupted,  ///< by a signal to us that was not passed on
};

struct PumpOptions {
  bool is_multiplexed = true;
  bool takes_input = false;
  bool is_tty = false;               ///< the container has a terminal: raw bytes, window sizes, detach keys
  bool passes_signals = true;
  DetachKeys detach_keys;
  std::function<void(int signal)> on_signal;  ///< passes a signal on
  std::function<void()> on_resize;            ///< the window changed
  std::function<int()> watch_fd;              ///< polled beside the stream (-1: away, looked after now and then); may be empty
  std::function<bool()> tend_watch;           ///< it is readable or away; false: no more
};
struct PumpResult {
  StreamEnd end = StreamEnd::closed;
  int signal = 0;  ///< of `interrupted`
};

/// Carries standard input to the stream (half-closing it at its end) and the stream to standard output and error, until the
/// stream ends. One poll loop. Signals are taken by signalfd while `SignalGuard` lives.
class SignalGuard;
Result<PumpResult> pump(const wire::Hijacked& connection, const PumpOptions& options, SignalGuard& signals);

/// Blocks the signals that the loop passes on, and gives them back. SIGPIPE is ignored meanwhile, so that a raw terminal is
/// restored when standard output goes away.
class SignalGuard {
 public:
  static Result<SignalGuard> create();
  SignalGuard(SignalGuard&&) noexcept;
  SignalGuard& operator=(SignalGuard&&) = delete;
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;
  ~SignalGuard();
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  SignalGuard() = default;
  UniqueFd fd_;
  bool active_ = false;
};

/// For a thread beside the one that may come to pump: signals are the latter's, which takes them by signalfd only while no other thread can.
Status leave_signals_to_the_main_thread();

/// "INT" for 2; the number as text for signals without a name here.
std::string signal_name(int signal);

}  // namespace caisson::cli

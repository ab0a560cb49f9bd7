// Frames, keys and the poll loop.
#include "cli/stream.hpp"

#include <array>
#include <optional>

#include "base/strings.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"

namespace caisson::cli {

Status Demultiplexer::feed(std::string_view bytes, const Sink& sink) {
  constexpr std::size_t head_size = 8;
  while (!bytes.empty()) {
    if (left_ == 0) {
      std::size_t take = std::min(head_size - head_.size(), bytes.size());
      head_ += bytes.substr(0, take);
      bytes.remove_prefix(take);
      if (head_.size() < head_size) return {};
      auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(head_[i])); };
      if (byte(0) > 3 || byte(1) != 0 || byte(2) != 0 || byte(3) != 0)
        return Error(ErrorKind::corrupt, "the daemon's stream is not framed as it says");
      stream_ = static_cast<int>(byte(0));
      left_ = byte(4) << 24 | byte(5) << 16 | byte(6) << 8 | byte(7);
      head_.clear();
      continue;
    }
    std::size_t take = std::min<std::size_t>(left_, bytes.size());
    TRY_PLAIN(sink(stream_, bytes.substr(0, take)));
    bytes.remove_prefix(take);
    left_ -= static_cast<std::uint32_t>(take);
  }
  return {};
}

Result<DetachKeys> DetachKeys::parse(std::string_view text) {
  DetachKeys out;
  if (text.empty()) return out;
  out.keys_.clear();
  for (auto key : split(text, ',')) {
    std::string name = lower(key);
    if (key.size() == 1) {
      out.keys_.push_back(key[0]);
    } else if (name.size() == 6 && name.starts_with("ctrl-")) {
      char c = name[5];
      bool known = (c >= 'a' && c <= 'z') || c == '@' || c == '[' || c == '\\' || c == ']' || c == '^' || c == '_';
      if (!known) return Error(ErrorKind::invalid, concat("invalid detach keys (", text, "): unknown character '", key, "'"));
      out.keys_.push_back(static_cast<char>(c & 0x1F));
    } else {
      return Error(ErrorKind::invalid, concat("invalid detach keys (", text, "): unknown character '", key, "'"))
          .with_hint("write single characters and ctrl-X, separated by commas");
    }
  }
  return out;
}

bool DetachKeys::passes(std::string_view typed) {
  for (char c : typed) {
    matched_ = c == keys_[matched_] ? matched_ + 1 : (c == keys_[0] ? 1 : 0);
    if (matched_ == keys_.size()) {
      matched_ = 0;
      return true;
    }
  }
  return false;
}

namespace {

// Passed on to the container. Not SIGTSTP and its kin (job control of this shell), nor SIGCHLD, SIGPIPE and SIGURG, which
// are about this process.
constexpr std::array passed_signals = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM};

linux::SignalSet watched_signals() {
  linux::SignalSet set;
  for (int signal : passed_signals) set.add(signal);
  set.add(SIGWINCH);
  return set;
}

constexpr std::size_t piece_bytes = 32U << 10U;
constexpr int away_poll_ms = 100;  // how soon a daemon that has come back is asked again

// The state of one pump call.
class Loop {
 public:
  Loop(const wire::Hijacked& connection, const PumpOptions& options, int signals)
      : socket_(connection.socket.get()), options_(options), signals_(signals), keys_(options.detach_keys), reads_input_(options.takes_input), tends_watch_(options.watch_fd != nullptr) {}

  Result<PumpResult> run(std::string_view pending) {
    TRY_PLAIN(deliver(pending));
    while (!result_) {
      // Input waits while what was read before is not sent: back-pressure instead of a growing buffer.
      int watched = tends_watch_ ? options_.watch_fd() : -1;
      std::array<linux::PollEntry, 4> entries = {{
          {socket_, static_cast<short>(POLLIN | (unsent_.empty() ? 0 : POLLOUT)), 0},
          {signals_, POLLIN, 0},
          {reads_input_ && unsent_.empty() ? 0 : -1, POLLIN, 0},
          {watched, POLLIN, 0},
      }};
      bool is_away = tends_watch_ && watched < 0;
      TRY_PLAIN(linux::poll(entries, is_away ? away_poll_ms : -1));
      if (is_away || entries[3].revents != 0) tends_watch_ = options_.tend_watch();
      if ((entries[1].revents & POLLIN) != 0) TRY_PLAIN(take_signals());
      if ((entries[2].revents & ~0) != 0) TRY_PLAIN(read_input());
      if (!unsent_.empty()) TRY_PLAIN(send_input());
      if ((entries[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) TRY_PLAIN(read_stream());
    }
    return *result_;
  }

 private:
  void finish(StreamEnd end, int signal = 0) {
    if (!result_) result_ = PumpResult{end, signal};
  }

  Status take_signals() {
    for (;;) {
      auto event = TRY(linux::signalfd_take(signals_), "take a signal");
      if (!event) return {};
      if (event->signal == SIGWINCH) {
        if (options_.on_resize) options_.on_resize();
      } else if (options_.passes_signals && options_.on_signal) {
        options_.on_signal(event->signal);
      } else {
        finish(StreamEnd::interrupted, event->signal);
      }
    }
  }

  Status read_input() {
    std::array<char, piece_bytes> buffer;
    auto count = linux::read(0, buffer);
    std::string_view typed(buffer.data(), count.ok() ? *count : 0);
    if (typed.empty()) {  // its end; a closed or lost terminal ends it too
      reads_input_ = false;
      input_ended_ = true;
      if (unsent_.empty()) half_close();
      return {};
    }
    if (options_.is_tty && keys_.passes(typed)) detached_ = true;
    unsent_ = typed;
    return {};
  }

  Status send_input() {
    auto sent = linux::send(socket_, unsent_, MSG_DONTWAIT);
    if (!sent.ok()) {
      if (linux::would_block(sent.error())) return {};
      unsent_.clear();  // the container reads no more; its output may still come
      reads_input_ = false;
      return {};
    }
    unsent_.erase(0, *sent);
    if (unsent_.empty() && input_ended_) half_close();
    return {};
  }

  void half_close() { ignore(linux::shutdown(socket_, SHUT_WR)); }  // a stream that is gone shows itself when read

  Status read_stream() {
    std::array<char, piece_bytes> buffer;
    auto count = linux::recv(socket_, buffer, MSG_DONTWAIT);
    if (!count.ok()) {
      if (linux::would_block(count.error())) return {};
      finish(detached_ ? StreamEnd::detached : StreamEnd::closed);  // a daemon that died resets the connection; wait tells
      return {};
    }
    if (*count == 0) {
      finish(detached_ ? StreamEnd::detached : StreamEnd::closed);
      return {};
    }
    return deliver({buffer.data(), *count});
  }

  Status deliver(std::string_view bytes) {
    if (!options_.is_multiplexed) return print(1, bytes);
    return frames_.feed(bytes, [this](int stream, std::string_view payload) { return print(stream == 1 ? 1 : 2, payload); });
  }

  Status print(int fd, std::string_view bytes) {
    auto written = linux::write_all(fd, bytes);
    if (written.ok()) return {};
    if (written.error().error_number() == EPIPE) {
      finish(StreamEnd::interrupted, SIGPIPE);
      return {};
    }
    return std::move(written).error().in("print the container's output");
  }

  int socket_;
  const PumpOptions& options_;
  int signals_;
  DetachKeys keys_;
  Demultiplexer frames_;
  std::string unsent_;
  bool reads_input_;
  bool input_ended_ = false;
  bool detached_ = false;
  bool tends_watch_;
  std::optional<PumpResult> result_;
};

}  // namespace

Result<PumpResult> pump(const wire::Hijacked& connection, const PumpOptions& options, SignalGuard& signals) {
  Loop loop(connection, options, signals.fd());
  return loop.run(connection.pending);
}

Result<SignalGuard> SignalGuard::create() {
  SignalGuard guard;
  linux::SignalSet set = watched_signals();
  TRY(linux::signal_mask(SIG_BLOCK, set), "block signals");
  guard.active_ = true;
  guard.fd_ = TRY(linux::signalfd(set), "watch signals");
  TRY(linux::ignore_signal(SIGPIPE), "ignore SIGPIPE");
  return guard;
}

SignalGuard::SignalGuard(SignalGuard&& other) noexcept : fd_(std::move(other.fd_)), active_(std::exchange(other.active_, false)) {}

SignalGuard::~SignalGuard() {
  if (!active_) return;
  // On the way out there is nothing left to do about a failure of these.
  ignore(linux::signal_mask(SIG_UNBLOCK, watched_signals()));
  ignore(linux::default_signal(SIGPIPE));
}

Status leave_signals_to_the_main_thread() {
  TRY(linux::signal_mask(SIG_BLOCK, watched_signals()), "block signals");
  return {};
}

std::string signal_name(int signal) {
  switch (signal) {
    case SIGHUP: return "HUP";
    case SIGINT: return "INT";
    case SIGQUIT: return "QUIT";
    case SIGUSR1: return "USR1";
    case SIGUSR2: return "USR2";
    case SIGALRM: return "ALRM";
    case SIGTERM: return "TERM";
    default: return concat(signal);
  }
}

}  // namespace caisson::cli

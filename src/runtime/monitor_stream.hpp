// The streams between one process (the container's, or an exec's) and its clients and log.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "runtime/log_writer.hpp"
#include "runtime/protocol.hpp"

namespace caisson::runtime {

enum class Stream : std::uint8_t { out = 1, error = 2 };

/// One attached socket.
class Client {
 public:
  Client(UniqueFd socket, ClientBody body, bool terminal);

  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] bool wants(Stream stream) const { return stream == Stream::out ? body_.with_stdout : body_.with_stderr; }
  [[nodiscard]] bool gives_input() const { return body_.with_stdin; }
  [[nodiscard]] bool is_broken() const { return broken_; }
  [[nodiscard]] bool is_detached() const { return detached_; }
  [[nodiscard]] bool is_blocked() const { return blocked_; }

  /// Sends what the socket takes now of bytes[position(stream)…]. A frame that was begun is always finished first.
  void send(Stream stream, std::string_view bytes);
  /// How far into the stream's unconsumed bytes this client is.
  [[nodiscard]] std::size_t position(Stream stream) const { return position_[index(stream)]; }
  void set_position(Stream stream, std::size_t position) { position_[index(stream)] = position; }

  /// Input as the program may see it: detach keys taken out (terminals only). Reads the socket once, at most into `into`.
  /// Returns the number of bytes; sets ended() on half-close, is_detached() when the keys were typed.
  std::size_t read_input(std::span<char> into);
  [[nodiscard]] bool input_ended() const { return input_ended_; }
  [[nodiscard]] bool has_early_input() const { return !body_.pending_input.empty(); }

 private:
  static std::size_t index(Stream stream) { return stream == Stream::out ? 0 : 1; }
  std::size_t filter(std::span<char> into, std::size_t size, std::string_view raw);

  UniqueFd socket_;
  ClientBody body_;
  bool terminal_ = false;
  bool input_ended_ = false;
  bool broken_ = false;
  bool detached_ = false;
  bool blocked_ = false;
  std::size_t keys_matched_ = 0;
  std::size_t position_[2] = {0, 0};
  // the frame under way
  Stream frame_stream_ = Stream::out;
  char header_[8] = {};
  std::size_t header_left_ = 0;
  std::size_t frame_left_ = 0;
};

/// One output of a process. Bytes stay in the kernel's pipe until they are in the log and with every client, so that a
/// monitor killed at any moment has lost none (its successor reads the same pipe). A terminal cannot be peeked: its bytes
/// wait in `held_`.
class Channel {
 public:
  Channel(UniqueFd fd, Stream stream, bool terminal);

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] Stream stream() const { return stream_; }
  [[nodiscard]] bool is_open() const { return static_cast<bool>(fd_); }
  /// Moves bytes until nothing is there, a client is full, or the end. `log` may be null.
  void pump(std::vector<std::unique_ptr<Client>>& clients, LogWriter* log);
  /// A part of a line waits in the pipe for its rest. It must not wait for ever: a write that fills a pipe which holds
  /// something already and blocks there raises no edge in epoll (measured on 6.18), so its bytes would never be seen.
  [[nodiscard]] bool holds_part() const { return is_open() && !terminal_ && logged_ < shown_; }
  /// Logs the part as a record of its own (readers join it with its rest), and goes on.
  void end_part(std::vector<std::unique_ptr<Client>>& clients, LogWriter* log);
  /// A client that joins sees what comes from now on.
  [[nodiscard]] std::size_t shown() const { return shown_; }
  void close() { fd_.reset(); }

 private:
  enum class Peeked : std::uint8_t { bytes, nothing, end };
  Peeked peek(std::string_view& bytes);
  void consume(std::size_t count);
  bool pump_once(std::vector<std::unique_ptr<Client>>& clients, LogWriter* log, bool end_parts);
  void write_log(std::string_view bytes, LogWriter& log, bool all);

  UniqueFd fd_;
  Stream stream_;
  bool terminal_;
  bool ended_ = false;
  std::size_t shown_ = 0;   ///< of the unconsumed bytes: offered to clients
  std::size_t logged_ = 0;  ///< … and written to the log
  std::size_t partial_limit_;
  std::string held_;
};

/// All streams of one process.
class Stdio {
 public:
  Stdio(bool terminal, bool close_stdin_on_end);

  /// Errors of these, watch() and attach(): those of the kernel; whoever cannot be served is not told so by them, but sees its socket closed.
  Status set_terminal(UniqueFd master);
  Status set_input(UniqueFd write_end);
  Status add_output(UniqueFd read_end, Stream stream);

  /// Registers descriptors with the monitor's epoll under `tag`.
  Status watch(int epoll_fd, std::uint64_t tag);
  Status attach(UniqueFd socket, ClientBody body);
  /// Something happened on any of our descriptors: move what can be moved. Returns how many clients detached by keys.
  int serve(LogWriter* log);
  [[nodiscard]] bool holds_part() const;
  void end_parts(LogWriter* log);
  /// Everything the process wrote has been delivered, and nothing more can come.
  [[nodiscard]] bool is_drained() const;
  /// Stops reading (the process is gone, and strangers hold its pipes open).
  void close_outputs();
  /// Lets clients see the end.
  void close_clients();
  void close_input() { input_.reset(); }
  [[nodiscard]] bool has_clients() const { return !clients_.empty(); }
  [[nodiscard]] bool is_terminal() const { return terminal_; }
  Status resize(std::uint16_t rows, std::uint16_t columns);

  /// Borrowed ends for whoever keeps duplicates; -1 where there is none.
  [[nodiscard]] int input_fd() const { return input_.get(); }
  [[nodiscard]] int master_fd() const { return master_.get(); }
  [[nodiscard]] int output_fd(Stream stream) const;

 private:
  void serve_input();
  void flush_input();

  bool terminal_;
  bool close_stdin_on_end_;
  UniqueFd master_;  ///< a duplicate for input and resize; the channel reads its own
  UniqueFd input_;
  std::vector<Channel> channels_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::string input_pending_;
  bool input_ends_ = false;  ///< nothing comes behind input_pending_
  int epoll_fd_ = -1;
  std::uint64_t tag_ = 0;
};

}  // namespace caisson::runtime

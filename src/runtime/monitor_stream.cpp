// Peek, log, show, consume: the order that loses nothing. And input the other way, with early bytes first.
#include "runtime/monitor_stream.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "linux/child.hpp"
#include "linux/child_clone.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/stream_socket.hpp"
#include "linux/terminal.hpp"

namespace caisson::runtime {

namespace {

namespace raw = linux::raw;

constexpr std::size_t chunk_size = std::size_t{16} * 1024;  // docker's longest log record
std::array<char, chunk_size> chunk;                          // one peek at a time; static, so that an idle heap stays small
std::array<char, std::size_t{4} * 1024> input_chunk;

/// Where peeked bytes pass through, and where consumed ones go.
struct Scratch {
  linux::Pipe pipe;
  UniqueFd null;
};
Scratch* scratch() {
  static Scratch made = [] {  // belongs to the process like its buffers
    Scratch out;
    auto pipe = linux::pipe2(O_NONBLOCK);
    auto null = linux::open("/dev/null", O_WRONLY);
    if (pipe) out.pipe = std::move(pipe).value();
    if (null) out.null = std::move(null).value();
    return out;
  }();
  return made.pipe.read_end && made.null ? &made : nullptr;
}

constexpr std::string_view default_detach_keys("\x10\x11", 2);  // ctrl-p ctrl-q

}  // namespace

// --- Client --------------------------------------------------------------------------------------------------------

Client::Client(UniqueFd socket, ClientBody body, bool terminal) : socket_(std::move(socket)), body_(std::move(body)), terminal_(terminal) {
  if (body_.detach_keys.empty()) body_.detach_keys = default_detach_keys;
}

void Client::send(Stream stream, std::string_view bytes) {
  blocked_ = false;
  while (!broken_) {
    if (frame_left_ == 0 && header_left_ == 0) {
      const std::size_t left = bytes.size() - position(stream);
      if (left == 0) return;
      frame_stream_ = stream;
      frame_left_ = left;
      if (body_.framed) {
        const auto size = static_cast<std::uint32_t>(left);
        std::memset(header_, 0, sizeof header_);
        header_[0] = static_cast<char>(stream);
        for (unsigned int i = 0; i < 4; ++i) header_[4 + i] = static_cast<char>(size >> (24U - 8U * i));
        header_left_ = sizeof header_;
      }
    }
    if (frame_stream_ != stream) {  // the other stream's frame must be finished first
      blocked_ = true;
      return;
    }
    const std::string_view header(header_ + sizeof header_ - header_left_, header_left_);
    const std::string_view data = bytes.substr(position(stream), frame_left_);
    const std::array pieces{header, data};
    auto sent = linux::send_now(socket_.get(), pieces);
    if (!sent) {
      broken_ = true;
      return;
    }
    if (!*sent) {
      blocked_ = true;
      return;
    }
    const std::size_t of_header = std::min(**sent, header_left_);
    const std::size_t of_data = **sent - of_header;
    header_left_ -= of_header;
    frame_left_ -= of_data;
    position_[index(stream)] += of_data;
  }
}

std::size_t Client::filter(std::span<char> into, std::size_t size, std::string_view raw_bytes) {
  const std::string& keys = body_.detach_keys;
  for (char c : raw_bytes) {
    if (c == keys[keys_matched_]) {
      if (++keys_matched_ == keys.size()) {
        detached_ = true;
        return size;
      }
      continue;
    }
    // A broken prefix was input after all. It may itself begin the sequence anew ("ctrl-p ctrl-p ctrl-q").
    while (keys_matched_ > 0) {
      into[size++] = keys[0];
      std::size_t shorter = keys_matched_ - 1;
      while (shorter > 0 && keys.compare(keys_matched_ - shorter, shorter, keys, 0, shorter) != 0) --shorter;
      for (std::size_t i = 1; i < keys_matched_ - shorter; ++i) into[size++] = keys[i];
      keys_matched_ = shorter;
      if (c == keys[keys_matched_]) break;
    }
    if (c == keys[keys_matched_]) {
      ++keys_matched_;
      continue;
    }
    into[size++] = c;
  }
  return size;
}

std::size_t Client::read_input(std::span<char> into) {
  // The filter may give back a withheld prefix besides what it reads.
  const std::size_t room = into.size() > body_.detach_keys.size() ? into.size() - body_.detach_keys.size() : 0;
  if (!body_.pending_input.empty()) {
    const std::string early = body_.pending_input.substr(0, room);
    body_.pending_input.erase(0, early.size());
    if (terminal_) return filter(into, 0, early);
    std::memcpy(into.data(), early.data(), early.size());
    return early.size();
  }
  if (!terminal_) {
    auto got = linux::receive_now(socket_.get(), into);
    if (!got) {
      broken_ = true;
      return 0;
    }
    if (!*got) return 0;
    if (**got == 0) input_ended_ = true;
    return **got;
  }
  std::array<char, 1024> typed{};
  auto got = linux::receive_now(socket_.get(), std::span(typed).first(std::min(typed.size(), room)));
  if (!got) {
    broken_ = true;
    return 0;
  }
  if (!*got) return 0;
  if (**got == 0) {
    input_ended_ = true;
    return 0;
  }
  return filter(into, 0, std::string_view(typed.data(), **got));
}

// --- Channel -------------------------------------------------------------------------------------------------------

Channel::Channel(UniqueFd fd, Stream stream, bool terminal)
    : fd_(std::move(fd)), stream_(stream), terminal_(terminal), partial_limit_(chunk_size) {
  // A user over the kernel's pipe budget gets one-page pipes (pipe(7)): a partial line must not fill such a pipe for good.
  if (!terminal_)
    if (auto size = linux::pipe_size(fd_.get())) partial_limit_ = std::min(chunk_size, static_cast<std::size_t>(*size) / 2);
}

Channel::Peeked Channel::peek(std::string_view& bytes) {
  if (terminal_) {
    while (held_.size() < chunk_size && !ended_) {
      const long got = raw::read(fd_.get(), chunk.data(), chunk_size - held_.size());
      if (got > 0) {
        held_.append(chunk.data(), static_cast<std::size_t>(got));
        continue;
      }
      if (got != -EAGAIN) ended_ = true;  // 0, or EIO once the last slave is closed
      break;
    }
    bytes = held_;
    return !held_.empty() ? Peeked::bytes : ended_ ? Peeked::end : Peeked::nothing;
  }
  Scratch* way = scratch();
  if (way == nullptr) {  // no descriptors left: read without the safety of a second copy
    terminal_ = true;
    return peek(bytes);
  }
  const long teed = raw::tee(fd_.get(), way->pipe.write_end.get(), chunk_size);
  if (teed == 0) {
    ended_ = true;
    return Peeked::end;
  }
  if (teed < 0) {
    if (teed != -EAGAIN) ended_ = true;
    return teed == -EAGAIN ? Peeked::nothing : Peeked::end;
  }
  const long got = raw::read_exact(way->pipe.read_end.get(), chunk.data(), static_cast<std::size_t>(teed));
  bytes = std::string_view(chunk.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  return bytes.empty() ? Peeked::nothing : Peeked::bytes;
}

void Channel::consume(std::size_t count) {
  if (count == 0) return;
  if (terminal_) {
    held_.erase(0, count);
  } else {
    std::size_t left = count;
    while (left > 0) {
      const long moved = raw::splice(fd_.get(), scratch()->null.get(), left);
      if (moved <= 0) break;  // cannot be: the bytes were there a moment ago and nobody else reads
      left -= static_cast<std::size_t>(moved);
    }
  }
  shown_ -= std::min(shown_, count);
  logged_ -= std::min(logged_, count);
}

/// Whole lines, and what cannot become one: a part longer than a record, or the end.
void Channel::write_log(std::string_view bytes, LogWriter& log, bool all) {
  while (logged_ < bytes.size()) {
    const std::string_view rest = bytes.substr(logged_);
    const auto newline = rest.find('\n');
    std::size_t size = newline == std::string_view::npos ? rest.size() : newline + 1;
    if (newline == std::string_view::npos && !all && rest.size() < partial_limit_) return;
    if (newline == std::string_view::npos && size > 4 && !all) {
      // Not in the middle of a character: step back over continuation bytes.
      std::size_t cut = size;
      while (cut > size - 4 && (static_cast<unsigned char>(rest[cut - 1]) & 0xC0U) == 0x80) --cut;
      if (cut > 0 && static_cast<unsigned char>(rest[cut - 1]) >= 0xC0) size = cut - 1;
    }
    log.append(rest.substr(0, size), static_cast<int>(stream_), now_ns());
    logged_ += size;
  }
}

bool Channel::pump_once(std::vector<std::unique_ptr<Client>>& clients, LogWriter* log, bool end_parts) {
  std::string_view bytes;
  const Peeked peeked = peek(bytes);
  if (peeked == Peeked::nothing) return false;
  if (peeked == Peeked::end) {
    fd_.reset();
    return false;
  }
  std::size_t slowest = bytes.size();
  for (auto& client : clients) {
    if (client->is_broken() || client->is_detached() || !client->wants(stream_)) continue;
    client->send(stream_, bytes);
    if (!client->is_broken()) slowest = std::min(slowest, client->position(stream_));
  }
  const std::size_t seen_before = shown_;
  shown_ = bytes.size();
  if (log != nullptr && log->is_on()) {
    const std::size_t logged_before = logged_;
    write_log(bytes, *log, end_parts);
    // More waits behind a part that fills what one peek can see: the part must go, else nobody reads on.
    if (logged_ == logged_before && !terminal_ && seen_before == shown_) {
      auto waiting = linux::bytes_available(fd_.get());
      if (waiting && *waiting > bytes.size()) write_log(bytes, *log, true);
    }
    log->flush();
  } else {
    logged_ = bytes.size();
  }
  const std::size_t done = std::min(slowest, logged_);
  for (auto& client : clients) {
    if (!client->wants(stream_)) continue;
    client->set_position(stream_, client->position(stream_) - std::min(client->position(stream_), done));
  }
  consume(done);
  // Go on only when something moved; a part of a line waits for its rest, a full client for room.
  return done > 0;
}

void Channel::pump(std::vector<std::unique_ptr<Client>>& clients, LogWriter* log) {
  while (is_open() && pump_once(clients, log, false)) {
  }
  if (!is_open()) return;
  // The writers are gone, but a last part without newline is still there: peek tells "nothing new" for it, not the end.
  const bool waits_for_client = std::any_of(clients.begin(), clients.end(), [&](const auto& client) {
    return !client->is_broken() && !client->is_detached() && client->wants(stream_) && client->position(stream_) < shown_;
  });
  if (waits_for_client) return;
  const bool hung_up = terminal_ ? ended_ : linux::has_hung_up(fd_.get());
  if (!hung_up) return;
  std::string_view rest;
  if (peek(rest) == Peeked::bytes) {
    if (rest.size() > shown_) return pump(clients, log);  // it came between the two looks
    if (log != nullptr && log->is_on()) {
      write_log(rest, *log, true);
      log->flush();
    }
    for (auto& client : clients) client->set_position(stream_, 0);
    consume(rest.size());
  }
  fd_.reset();
}

void Channel::end_part(std::vector<std::unique_ptr<Client>>& clients, LogWriter* log) {
  (void)pump_once(clients, log, true);
  pump(clients, log);
}

// --- Stdio ---------------------------------------------------------------------------------------------------------

Stdio::Stdio(bool terminal, bool close_stdin_on_end) : terminal_(terminal), close_stdin_on_end_(close_stdin_on_end) {}

Status Stdio::set_terminal(UniqueFd master) {
  TRY_PLAIN(linux::set_nonblocking(master.get(), true));
  input_ = TRY_PLAIN(linux::dup(master.get()));
  master_ = TRY_PLAIN(linux::dup(master.get()));
  channels_.emplace_back(std::move(master), Stream::out, true);
  return {};
}

Status Stdio::set_input(UniqueFd write_end) {
  TRY_PLAIN(linux::set_nonblocking(write_end.get(), true));
  input_ = std::move(write_end);
  return {};
}

Status Stdio::add_output(UniqueFd read_end, Stream stream) {
  TRY_PLAIN(linux::set_nonblocking(read_end.get(), true));
  channels_.emplace_back(std::move(read_end), stream, false);
  return {};
}

Status Stdio::watch(int epoll_fd, std::uint64_t tag) {
  epoll_fd_ = epoll_fd;
  tag_ = tag;
  // Edges: a part of a line stays in the pipe, which a level would report for ever.
  for (const auto& channel : channels_) TRY_PLAIN(linux::epoll_add(epoll_fd, channel.fd(), EPOLLIN | EPOLLET, tag));
  for (const auto& client : clients_) TRY_PLAIN(linux::epoll_add(epoll_fd, client->fd(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, tag));
  if (input_) TRY_PLAIN(linux::epoll_add(epoll_fd, input_.get(), EPOLLOUT | EPOLLET, tag));
  return {};
}

Status Stdio::attach(UniqueFd socket, ClientBody body) {
  TRY_PLAIN(linux::set_nonblocking(socket.get(), true));
  auto client = std::make_unique<Client>(std::move(socket), std::move(body), terminal_);
  for (const auto& channel : channels_) client->set_position(channel.stream(), channel.shown());
  if (epoll_fd_ >= 0) TRY_PLAIN(linux::epoll_add(epoll_fd_, client->fd(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, tag_));
  clients_.push_back(std::move(client));
  return {};
}

void Stdio::flush_input() {
  while (!input_pending_.empty() && input_) {
    const long written = raw::write(input_.get(), input_pending_.data(), input_pending_.size());
    if (written == -EAGAIN) return;
    if (written <= 0) {  // the program closed its end; what is typed from now on goes nowhere, as in a shell's pipe
      input_pending_.clear();
      if (!terminal_) input_.reset();
      return;
    }
    input_pending_.erase(0, static_cast<std::size_t>(written));
  }
  if (input_ends_) input_.reset();
}

void Stdio::serve_input() {
  for (auto& client : clients_) {
    while (!client->is_broken() && !client->is_detached()) {
      flush_input();
      // A full pipe stops the reading: the client feels it as back-pressure.
      if (!input_pending_.empty()) return;
      if (client->input_ended()) break;
      const bool early = client->has_early_input();
      const std::size_t size = client->read_input(input_chunk);
      if (size > 0 && client->gives_input() && input_) input_pending_.assign(input_chunk.data(), size);
      if (client->input_ended() && client->gives_input() && close_stdin_on_end_ && !terminal_) input_.reset();
      if (size == 0 && !early) break;
    }
  }
}

int Stdio::serve(LogWriter* log) {
  serve_input();
  for (auto& channel : channels_) channel.pump(clients_, log);
  int detached = 0;
  for (auto it = clients_.begin(); it != clients_.end();) {
    if (!(*it)->is_broken() && !(*it)->is_detached()) {
      ++it;
      continue;
    }
    detached += (*it)->is_detached() ? 1 : 0;
    // Whoever was cut off (a killed client leaves a reset behind, not an end) types nothing more either.
    if ((*it)->is_broken() && (*it)->gives_input() && close_stdin_on_end_ && !terminal_) input_ends_ = true;
    it = clients_.erase(it);
    // One client less may be what the others waited for.
    for (auto& channel : channels_) channel.pump(clients_, log);
  }
  if (input_ends_) flush_input();
  return detached;
}

bool Stdio::holds_part() const {
  return std::any_of(channels_.begin(), channels_.end(), [](const Channel& channel) { return channel.holds_part(); });
}

void Stdio::end_parts(LogWriter* log) {
  for (auto& channel : channels_)
    if (channel.holds_part()) channel.end_part(clients_, log);
}

bool Stdio::is_drained() const {
  return std::none_of(channels_.begin(), channels_.end(), [](const Channel& channel) { return channel.is_open(); });
}

void Stdio::close_outputs() {
  for (auto& channel : channels_) channel.close();
}

void Stdio::close_clients() { clients_.clear(); }

Status Stdio::resize(std::uint16_t rows, std::uint16_t columns) {
  if (!terminal_ || !master_) return Error(ErrorKind::conflict, "it has no terminal");
  return linux::set_window_size(master_.get(), {rows, columns});
}

int Stdio::output_fd(Stream stream) const {
  for (const auto& channel : channels_)
    if (channel.stream() == stream) return channel.fd();
  return -1;
}

}  // namespace caisson::runtime

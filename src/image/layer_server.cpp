// Reads of a layer that is still coming: from the cache, from the blob as far as it is here, or from the registry by range.
#include "image/layer_server.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <span>
#include <thread>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "image/inflate.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/fuse_file.hpp"
#include "linux/landlock.hpp"
#include "linux/process.hpp"
#include "linux/seccomp_layer_server.hpp"
#include "linux/socket.hpp"

namespace caisson::image {

namespace {

constexpr std::uint64_t page_bytes = 4096;
/// One request brings neighbours along, so that a start is not one round trip per piece; not so many that a slow line keeps the reader waiting.
constexpr std::uint64_t read_ahead_bytes = 256 << 10;
constexpr std::uint64_t most_run_bytes = 4 << 20;
/// What readers may be promised behind a read of the largest size; see serve().
constexpr std::uint64_t most_split_bytes = 4 << 20;
constexpr std::size_t most_memory_bytes = 64 << 20;
constexpr std::size_t threads = 16;
constexpr std::size_t most_notice_bytes = 2000;

/// Headers of a tar lie between the pieces of two files.
constexpr std::uint64_t most_gap_bytes = 8 << 10;

std::uint64_t end_of(const TocChunk& piece) { return piece.blob_offset + piece.blob_bytes; }

/// Whether one request should bring both.
bool follows(const TocChunk& before, const TocChunk& piece) {
  if (before.is_zeros() || piece.is_zeros() || piece.blob_offset < end_of(before)) return false;
  return piece.blob_offset - end_of(before) <= most_gap_bytes;
}

}  // namespace

Result<std::string> decode_piece(const TocChunk& piece, std::string_view compressed) {
  MemorySource source(compressed);
  auto inflater = TRY_PLAIN(open_inflater(source));
  std::string out;
  std::uint64_t skip = piece.inner_offset;
  while (out.size() < piece.size_bytes) {
    auto bytes = TRY_PLAIN(inflater->next());
    if (bytes.empty()) return Error(ErrorKind::corrupt, "a piece that ends too early");
    const auto skipped = static_cast<std::size_t>(std::min<std::uint64_t>(skip, bytes.size()));
    skip -= skipped;
    bytes.remove_prefix(skipped);
    out += bytes.substr(0, static_cast<std::size_t>(piece.size_bytes) - out.size());
  }
  if (sha256_of(out) != Digest::from_hash(DigestAlgorithm::sha256, piece.sha256)) return Error(ErrorKind::corrupt, "bytes that are not what the layer's table of contents says");
  return out;
}

LayerContents::LayerContents(std::vector<TocChunk> pieces, std::uint64_t content_bytes, int cache_fd, PieceSource& source, Notice notice)
    : pieces_(std::move(pieces)), content_bytes_(content_bytes), cache_fd_(cache_fd), source_(source), notice_(std::move(notice)), states_(pieces_.size(), State::absent) {
  for (std::size_t i = 0; i < pieces_.size(); ++i)
    if (pieces_[i].is_zeros()) states_[i] = State::cached;  // they lie nowhere, and what nobody writes reads as zeros
}

std::uint64_t LayerContents::file_bytes() const { return (content_bytes_ + page_bytes - 1) / page_bytes * page_bytes; }

std::pair<std::size_t, std::size_t> LayerContents::pieces_of(std::uint64_t offset, std::uint64_t size_bytes) const {
  const auto first = std::partition_point(pieces_.begin(), pieces_.end(), [&](const TocChunk& piece) { return piece.file_offset + piece.size_bytes <= offset; });
  const auto end = std::partition_point(first, pieces_.end(), [&](const TocChunk& piece) { return piece.file_offset < offset + size_bytes; });
  return {static_cast<std::size_t>(first - pieces_.begin()), static_cast<std::size_t>(end - pieces_.begin())};
}

/// Those that nobody has and nobody fetches are ours to fetch now.
std::vector<std::size_t> LayerContents::claim(std::size_t first, std::size_t end) {
  std::vector<std::size_t> out;
  std::lock_guard lock(mutex_);
  for (std::size_t i = first; i < end; ++i) {
    if (states_[i] != State::absent || in_memory_.count(i) != 0) continue;
    states_[i] = State::coming;
    out.push_back(i);
  }
  if (out.empty()) return out;
  // Neighbours of the last one, as long as they lie behind it.
  std::uint64_t ahead = 0;
  for (std::size_t i = out.back() + 1; i < pieces_.size() && states_[i] == State::absent && in_memory_.count(i) == 0; ++i) {
    if (!follows(pieces_[i - 1], pieces_[i])) break;
    ahead += end_of(pieces_[i]) - end_of(pieces_[i - 1]);
    if (ahead > read_ahead_bytes) break;
    states_[i] = State::coming;
    out.push_back(i);
  }
  return out;
}

/// Claims first and waits second, so that no two wait for each other.
Status LayerContents::ensure(std::size_t first, std::size_t end, int cancel_fd, std::map<std::size_t, Held>& held) {
  for (;;) {
    const auto wanted = claim(first, end);
    if (!wanted.empty()) TRY_PLAIN(fetch(wanted, cancel_fd, held));
    std::unique_lock lock(mutex_);
    bool is_complete = true;
    for (std::size_t i = first; i < end; ++i) {
      changed_.wait(lock, [&] { return states_[i] != State::coming; });
      if (states_[i] == State::cached || held.count(i) != 0) continue;
      const auto found = in_memory_.find(i);
      if (found != in_memory_.end()) held.emplace(i, found->second);
      else is_complete = false;  // whoever fetched it has failed: now it is our turn
    }
    if (is_complete) return {};
  }
}

Status LayerContents::fetch(const std::vector<std::size_t>& wanted, int cancel_fd, std::map<std::size_t, Held>& held) {
  Status outcome;
  std::size_t begin = 0;
  while (begin < wanted.size()) {
    std::size_t end = begin + 1;
    const auto& head = pieces_[wanted[begin]];
    while (end < wanted.size()) {
      const auto& piece = pieces_[wanted[end]];
      if (!follows(pieces_[wanted[end - 1]], piece) || end_of(piece) - head.blob_offset > most_run_bytes) break;
      ++end;
    }
    const auto run = std::span(wanted).subspan(begin, end - begin);
    auto status = outcome.ok() ? fetch_run(run, cancel_fd, held) : Status();
    if (!outcome.ok() || !status.ok()) {
      std::lock_guard lock(mutex_);
      for (auto i : run)
        if (states_[i] == State::coming) states_[i] = State::absent;
    }
    if (!status.ok()) outcome = std::move(status);
    changed_.notify_all();
    begin = end;
  }
  return outcome;
}

Result<std::vector<std::string>> LayerContents::decode_run(std::span<const std::size_t> run, std::string_view compressed) const {
  std::vector<std::string> out;
  const auto begin = pieces_[run.front()].blob_offset;
  for (auto i : run) out.push_back(TRY_PLAIN(decode_piece(pieces_[i], compressed.substr(pieces_[i].blob_offset - begin, pieces_[i].blob_bytes))));
  return out;
}

Status LayerContents::fetch_run(std::span<const std::size_t> run, int cancel_fd, std::map<std::size_t, Held>& held) {
  const auto begin = pieces_[run.front()].blob_offset;
  const auto bytes = end_of(pieces_[run.back()]) - begin;
  std::optional<std::vector<std::string>> contents;
  if (auto local = source_.local(begin, bytes); local.ok() && !local->empty()) {
    // A download that is on its way may have gone wrong: then the registry is asked for these once more.
    if (auto decoded = decode_run(run, *local); decoded.ok()) contents = std::move(*decoded);
  }
  if (!contents) {
    const auto remote = TRY_PLAIN(source_.remote(begin, bytes, cancel_fd));
    contents = TRY(decode_run(run, remote), concat("bytes ", begin, " to ", begin + bytes - 1, " as the registry sent them"));
  }
  for (std::size_t i = 0; i < run.size(); ++i) keep(run[i], std::move((*contents)[i]), held);
  return {};
}

/// On the disk; where that is full, in memory for as long as there is room.
void LayerContents::keep(std::size_t piece, std::string content, std::map<std::size_t, Held>& held) {
  Status written;
  std::string_view rest = content;
  for (auto at = pieces_[piece].file_offset; !rest.empty() && written.ok();) {
    auto count = linux::pwrite(cache_fd_, rest, at);
    if (!count.ok()) {
      written = std::move(count).error();
      break;
    }
    at += *count;
    rest.remove_prefix(*count);
  }
  std::lock_guard lock(mutex_);
  if (written.ok()) {
    states_[piece] = State::cached;
    return;
  }
  if (!has_said_full_) notice_(concat("what was read cannot be kept: ", written.error().text()));
  has_said_full_ = true;
  states_[piece] = State::absent;
  auto shared = std::make_shared<const std::string>(std::move(content));
  held[piece] = shared;
  memory_bytes_ += shared->size();
  in_memory_[piece] = std::move(shared);
  memory_order_.push_back(piece);
  while (memory_bytes_ > most_memory_bytes) {
    const auto oldest = memory_order_.front();
    memory_order_.pop_front();
    memory_bytes_ -= in_memory_[oldest]->size();
    in_memory_.erase(oldest);
  }
}

Result<std::string> LayerContents::read(std::uint64_t offset, std::uint64_t size_bytes, int cancel_fd) {
  const auto [first, end] = pieces_of(offset, size_bytes);
  std::map<std::size_t, Held> held;
  TRY_PLAIN(ensure(first, end, cancel_fd, held));
  std::string out(static_cast<std::size_t>(size_bytes), '\0');
  for (std::size_t i = first; i < end; ++i) {
    const auto& piece = pieces_[i];
    if (piece.is_zeros()) continue;
    const auto from = std::max(offset, piece.file_offset);
    const auto until = std::min(offset + size_bytes, piece.file_offset + piece.size_bytes);
    const auto target = std::span(out).subspan(from - offset, until - from);
    if (const auto found = held.find(i); found != held.end()) {
      std::copy_n(found->second->data() + (from - piece.file_offset), target.size(), target.data());
      continue;
    }
    for (std::size_t done = 0; done < target.size();) {
      const auto got = TRY(linux::pread(cache_fd_, target.subspan(done), from + done), "read what was kept");
      if (got == 0) return Error(ErrorKind::io, "what was kept has become shorter", EIO);
      done += got;
    }
  }
  return out;
}

namespace {

class Source final : public PieceSource {
 public:
  Source(std::string blob, std::shared_ptr<RegistrySession> session, std::function<void()> on_request) : blob_(std::move(blob)), on_request_(std::move(on_request)), session_(std::move(session)) {}

  Result<std::string> local(std::uint64_t offset, std::uint64_t bytes) override {
    std::string out;
    if (static_cast<std::uint64_t>(TRY_PLAIN(linux::fstat(serve_fd::blob)).st_size) < offset + bytes) return out;
    out.resize(static_cast<std::size_t>(bytes));
    TRY_PLAIN(fill(serve_fd::blob, offset, out));
    return out;
  }

  Result<std::string> remote(std::uint64_t offset, std::uint64_t bytes, int cancel_fd) override {
    const auto session = current();
    auto got = ask(*session, offset, bytes, cancel_fd);
    if (got.ok() || !session->has_ended()) return got;
    const auto other = await_another(session);
    if (!other) return got;
    return ask(*other, offset, bytes, cancel_fd);
  }

  /// Of another fetch process, after the one before has ended.
  void replace(std::shared_ptr<RegistrySession> session) {
    std::lock_guard lock(mutex_);
    session_.swap(session);
    changed_.notify_all();
  }
  /// Nobody will give another one.
  void left_alone() {
    std::lock_guard lock(mutex_);
    is_alone_ = true;
    changed_.notify_all();
  }

 private:
  std::shared_ptr<RegistrySession> current() {
    std::lock_guard lock(mutex_);
    return session_;
  }
  std::shared_ptr<RegistrySession> await_another(const std::shared_ptr<RegistrySession>& ended) {
    constexpr auto patience = std::chrono::seconds(3);
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, patience, [&] { return session_ != ended || is_alone_; });
    return session_ != ended ? session_ : nullptr;
  }

  Result<std::string> ask(RegistrySession& session, std::uint64_t offset, std::uint64_t bytes, int cancel_fd) {
    on_request_();
    auto file = TRY_PLAIN(linux::memfd_create("caisson-range"));
    FetchRequest request;
    request.task = FetchTask::range;
    request.name = blob_;
    request.offset = offset;
    request.size_bytes = bytes;
    auto reply = TRY_PLAIN(session.call(std::move(request), file.get(), {}, std::array{cancel_fd}));
    if (!reply.ok) return error_of(reply);
    std::string out(static_cast<std::size_t>(bytes), '\0');
    TRY_PLAIN(fill(file.get(), 0, out));
    return out;
  }

  static Status fill(int fd, std::uint64_t offset, std::string& out) {
    for (std::size_t done = 0; done < out.size();) {
      const auto got = TRY_PLAIN(linux::pread(fd, std::span(out).subspan(done), offset + done));
      if (got == 0) return Error(ErrorKind::corrupt, "bytes that were said to be here are not");
      done += got;
    }
    return {};
  }
  std::string blob_;
  std::function<void()> on_request_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<RegistrySession> session_;  // shared: calls that are under way end with the one they began with
  bool is_alone_ = false;
};

/// The daemon may be gone, or busy: nobody waits for it.
void say(std::string_view text) { ignore(linux::send(serve_fd::notices, text.substr(0, most_notice_bytes), MSG_DONTWAIT)); }

/// Channels to further fetch processes, from the daemon, as long as there is one.
void take_channels(Source& source) {
  for (;;) {
    auto message = linux::receive_message(serve_fd::notices, 1, 1);
    if (!message.ok() || message->bytes.empty()) return source.left_alone();
    if (!message->fds.empty()) source.replace(RegistrySession::adopt(std::move(message->fds.front())));
  }
}

class Server {
 public:
  Server(LayerContents& contents) : contents_(contents) {}

  void run() {
    std::vector<std::thread> others;
    for (std::size_t i = 1; i < threads; ++i) others.emplace_back([this] { listen(); });
    listen();
    for (auto& thread : others) thread.join();
  }

 private:
  void listen() {
    for (;;) {
      auto event = linux::next_fuse_event(serve_fd::device, contents_.file_bytes());
      if (!event.ok() || event->kind == linux::FuseEvent::Kind::ended) return;
      if (event->kind == linux::FuseEvent::Kind::interrupt) interrupt(event->number);
      else serve(*event);
    }
  }

  void interrupt(std::uint64_t number) {
    std::lock_guard lock(mutex_);
    if (auto found = running_.find(number); found != running_.end()) ignore(linux::eventfd_signal(found->second));
  }

  /// EROFS takes a read that comes back short for one that ends in zeros (before Linux 7.0), and a read of more than most_fuse_read_bytes is several to us. So
  /// what may follow a read of the largest size is had before that one is answered: the rest of it cannot fail any more.
  Result<std::string> contents_for(const linux::FuseEvent& event, int cancel_fd) {
    if (event.size_bytes >= linux::most_fuse_read_bytes) {
      const auto begin = event.offset + event.size_bytes;
      const auto end = std::min(begin + most_split_bytes, contents_.file_bytes());
      if (begin < end) TRY_PLAIN(contents_.read(begin, end - begin, cancel_fd));
    }
    return contents_.read(event.offset, event.size_bytes, cancel_fd);
  }

  void serve(const linux::FuseEvent& event) {
    auto cancel = linux::eventfd();
    if (!cancel.ok()) return ignore(linux::refuse_fuse_read(serve_fd::device, event.number, EIO));
    {
      std::lock_guard lock(mutex_);
      running_[event.number] = cancel->get();
    }
    auto bytes = event.offset >= contents_.file_bytes() ? Result<std::string>(std::string()) : contents_for(event, cancel->get());
    {
      std::lock_guard lock(mutex_);
      running_.erase(event.number);
    }
    if (bytes.ok()) return ignore(linux::answer_fuse_read(serve_fd::device, event.number, *bytes));
    const bool is_cancelled = bytes.error().error_number() == ECANCELED;
    if (!is_cancelled) complain(bytes.error());
    ignore(linux::refuse_fuse_read(serve_fd::device, event.number, is_cancelled ? EINTR : EIO));
  }

  /// Readers try again and again: once in a while is often enough.
  void complain(const Error& error) {
    constexpr std::int64_t pause_ns = 1'000'000'000;
    std::lock_guard lock(mutex_);
    const auto now = monotonic_ns();
    if (complained_at_ns_ != 0 && now - complained_at_ns_ < pause_ns) return;
    complained_at_ns_ = now;
    say(concat("!", error.text()));
  }

  LayerContents& contents_;
  std::mutex mutex_;
  std::map<std::uint64_t, int> running_;
  std::int64_t complained_at_ns_ = 0;
};

Status enter_sandbox() {
  TRY_PLAIN(linux::set_no_new_privileges());
  if (linux::landlock_abi() > 0) {
    auto ruleset = TRY(linux::create_landlock_ruleset({}), "Landlock");
    TRY(linux::landlock_restrict_self(ruleset.get()), "Landlock");
  }
  auto filter = TRY(linux::layer_server_seccomp(), "seccomp");
  TRY(linux::load_seccomp(filter), "seccomp");
  return {};
}

/// A worker that had read hostile bytes has written them.
Status check_pieces(const std::vector<TocChunk>& pieces, std::uint64_t content_bytes) {
  std::uint64_t end = 0;
  for (const auto& piece : pieces) {
    const bool is_sound = piece.file_offset >= end && piece.size_bytes <= content_bytes && piece.file_offset <= content_bytes - piece.size_bytes &&
                          (piece.is_zeros() || (piece.size_bytes <= most_chunk_bytes && piece.inner_offset <= most_chunk_bytes && piece.blob_bytes <= 3 * most_chunk_bytes));
    if (!is_sound) return Error(ErrorKind::corrupt, "pieces that cannot be");
    end = piece.file_offset + piece.size_bytes;
  }
  return {};
}

Status serve_layer() {
  const auto request = TRY_PLAIN(decode<ServeRequest>(TRY_PLAIN(linux::read_all(serve_fd::request)), "request"));
  TRY_PLAIN(enter_sandbox());
  auto pieces = TRY_PLAIN(decode<std::vector<TocChunk>>(TRY_PLAIN(linux::read_all(serve_fd::pieces)), "pieces"));
  TRY_PLAIN(check_pieces(pieces, request.content_bytes));
  Source source(request.blob, RegistrySession::adopt(UniqueFd(serve_fd::channel)), [] { say("."); });
  std::thread channels([&] { take_channels(source); });
  LayerContents contents(std::move(pieces), request.content_bytes, serve_fd::cache, source, [](const std::string& text) { say("!" + text); });
  Server(contents).run();
  ignore(linux::shutdown(serve_fd::notices, SHUT_RDWR));  // wakes the thread; the daemon may have closed its end already
  channels.join();
  return {};
}

}  // namespace

int layer_server_main() {
  auto served = serve_layer();
  if (!served.ok()) say(concat("!", served.error().text()));
  return served.ok() ? 0 : 1;
}

}  // namespace caisson::image

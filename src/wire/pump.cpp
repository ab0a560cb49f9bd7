// The loop of the pump, and the two directions of a session.
#include "wire/pump.hpp"

#include <array>

#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/socket.hpp"
#include "linux/stream_socket.hpp"

namespace caisson::wire {

namespace {
constexpr std::uint64_t wake_tag = 0;
constexpr std::size_t buffer_limit = 64 << 10;
constexpr std::size_t read_bytes = 16 << 10;
/// A peer that reads nothing may keep the last bytes of a connection that is over for so long.
constexpr std::int64_t last_words_ns = 30'000'000'000;
constexpr int look_ms = 5000;
}  // namespace

struct Pump::Session {
  std::uint64_t tag = 0;
  UniqueFd network;
  UniqueFd plain;
  std::unique_ptr<Codec> codec;
  std::string to_network;
  std::string to_plain;
  bool network_ended = false;  ///< nothing more will be read from it
  bool plain_ended = false;
  bool plain_told = false;     ///< the plain side was told that the network's has ended
  bool network_told = false;
  bool over = false;           ///< what is left is to send to_network
  std::int64_t give_up_ns = 0;
  std::uint32_t network_interest = 0;
  std::uint32_t plain_interest = 0;

  void end() {
    over = true;
    to_plain.clear();
    if (give_up_ns == 0) give_up_ns = monotonic_ns() + last_words_ns;
  }

  void receive(std::string_view bytes) {
    auto taken = codec->receive(bytes, to_plain, to_network);
    if (!taken.ok()) return end();
    if (!codec->is_ended()) return;
    network_ended = true;
    if (!codec->half_closes()) end();
  }

  void read_network() {
    std::array<char, read_bytes> buffer;
    auto count = linux::receive_now(network.get(), buffer);
    if (count.ok() && !*count) return;
    if (count.ok() && **count > 0) return receive({buffer.data(), **count});
    network_ended = true;
    if (!count.ok() || !codec->half_closes()) {
      to_network.clear();
      end();
    }
  }

  void read_plain() {
    std::array<char, read_bytes> buffer;
    auto count = linux::receive_now(plain.get(), buffer);
    if (count.ok() && !*count) return;
    if (count.ok() && **count > 0) {
      if (!codec->send({buffer.data(), **count}, to_network).ok()) end();
      return;
    }
    plain_ended = true;
    codec->finish(to_network);
    if (!count.ok() || !codec->half_closes()) end();
  }

  /// False when the receiver is gone.
  static bool send(int fd, std::string& bytes) {
    if (bytes.empty()) return true;
    const std::array<std::string_view, 1> pieces{bytes};
    auto sent = linux::send_now(fd, pieces);
    if (!sent.ok()) return false;
    if (*sent) bytes.erase(0, **sent);
    return true;
  }
};

Pump::Pump(UniqueFd epoll, UniqueFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)), thread_([this] { run(); }) {}

Result<std::unique_ptr<Pump>> Pump::create() {
  UniqueFd epoll = TRY(linux::epoll_create(), "pump");
  UniqueFd wake = TRY(linux::eventfd(), "pump");
  TRY(linux::epoll_add(epoll.get(), wake.get(), EPOLLIN, wake_tag), "pump");
  return std::unique_ptr<Pump>(new Pump(std::move(epoll), std::move(wake)));
}

Pump::~Pump() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ignore(linux::eventfd_signal(wake_.get()));  // fails only for a bad descriptor
  thread_.join();
}

Result<UniqueFd> Pump::add(UniqueFd network, std::unique_ptr<Codec> codec, std::string_view early) {
  auto pair = TRY(linux::socketpair(linux::UnixType::stream), "pump");
  auto session = std::make_unique<Session>();
  session->network = std::move(network);
  session->plain = std::move(pair.first);
  session->codec = std::move(codec);
  if (!early.empty()) session->receive(early);
  std::lock_guard lock(mutex_);
  session->tag = next_tag_;
  next_tag_ += 2;
  // Both sides are told of right away (level-triggered, nothing asked for but hang-ups); the first round asks for what is wanted.
  session->network_interest = EPOLLIN;
  session->plain_interest = EPOLLIN;
  TRY(linux::epoll_add(epoll_.get(), session->network.get(), EPOLLIN | EPOLLOUT, session->tag), "pump");
  TRY(linux::epoll_add(epoll_.get(), session->plain.get(), EPOLLIN, session->tag + 1), "pump");
  session->network_interest = EPOLLIN | EPOLLOUT;
  sessions_[session->tag] = std::move(session);
  return std::move(pair.second);
}

void Pump::run() {
  std::array<linux::EpollEvent, 64> events;
  for (;;) {
    bool has_sessions = false;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
      has_sessions = !sessions_.empty();
    }
    auto count = linux::epoll_wait(epoll_.get(), events, has_sessions ? look_ms : -1);
    if (!count.ok()) return;
    for (std::size_t i = 0; i < *count; ++i) {
      if (events[i].tag == wake_tag) ignore(linux::eventfd_take(wake_.get()));  // only stopping_ matters
      else serve(events[i].tag, events[i].events);
    }
    drop_late();
  }
}

void Pump::serve(std::uint64_t tag, std::uint32_t events) {
  std::unique_ptr<Session> gone;  // closed outside the lock
  std::lock_guard lock(mutex_);
  auto found = sessions_.find(tag & ~std::uint64_t{1});
  if (found == sessions_.end()) return;
  const bool is_plain = (tag & 1) != 0;
  if (advance(*found->second, is_plain ? 0 : events, is_plain ? events : 0)) return;
  gone = std::move(found->second);
  sessions_.erase(found);
}

bool Pump::advance(Session& session, std::uint32_t network_events, std::uint32_t plain_events) {
  constexpr std::uint32_t readable = EPOLLIN | EPOLLHUP | EPOLLERR;
  const bool may_read_network = !session.over && !session.network_ended && session.to_plain.size() < buffer_limit;
  const bool may_read_plain = !session.over && !session.plain_ended && session.to_network.size() < buffer_limit;
  if ((network_events & readable) != 0 && may_read_network) session.read_network();
  if ((plain_events & readable) != 0 && may_read_plain) session.read_plain();
  if (!session.over && !Session::send(session.plain.get(), session.to_plain)) {
    // Whoever had the plain side has closed it.
    session.to_plain.clear();
    if (session.plain_ended) session.end();
    session.network_ended = session.network_ended || session.plain_ended;
  }
  // A peer that is gone altogether takes nothing any more; what it had said before is delivered all the same.
  const bool is_gone = (network_events & (EPOLLHUP | EPOLLERR)) != 0 && (session.network_ended || session.over);
  if (is_gone) session.to_network.clear();
  if (is_gone && session.to_plain.empty()) return false;
  if (!Session::send(session.network.get(), session.to_network)) return false;
  if ((plain_events & EPOLLHUP) != 0 && session.plain_ended) session.end();
  if (session.network_ended && session.to_plain.empty() && !session.over && !std::exchange(session.plain_told, true))
    ignore(linux::shutdown(session.plain.get(), SHUT_WR));  // it may be closed already
  if (session.plain_ended && session.to_network.empty() && !std::exchange(session.network_told, true))
    ignore(linux::shutdown(session.network.get(), SHUT_WR));
  if (session.network_ended && session.plain_ended && session.to_plain.empty()) session.end();
  if (session.over && session.to_network.empty()) return false;
  return watch(session).ok();
}

Status Pump::watch(Session& session) {
  std::uint32_t network = 0;
  std::uint32_t plain = 0;
  if (!session.over && !session.network_ended && session.to_plain.size() < buffer_limit) network |= EPOLLIN;
  if (!session.to_network.empty()) network |= EPOLLOUT;
  if (!session.over && !session.plain_ended && session.to_network.size() < buffer_limit) plain |= EPOLLIN;
  if (!session.over && !session.to_plain.empty()) plain |= EPOLLOUT;
  // A hang-up is told whether it is asked for or not, again and again: edge-triggered, it is told once.
  constexpr auto edge = static_cast<std::uint32_t>(EPOLLET);
  if (network == 0) network = edge;
  if (plain == 0) plain = edge;
  if (network != session.network_interest) TRY_PLAIN(linux::epoll_modify(epoll_.get(), session.network.get(), network, session.tag));
  if (plain != session.plain_interest) TRY_PLAIN(linux::epoll_modify(epoll_.get(), session.plain.get(), plain, session.tag + 1));
  session.network_interest = network;
  session.plain_interest = plain;
  return {};
}

void Pump::drop_late() {
  std::lock_guard lock(mutex_);
  const std::int64_t now = monotonic_ns();
  std::erase_if(sessions_, [&](const auto& item) { return item.second->over && item.second->give_up_ns <= now; });
}

}  // namespace caisson::wire

// Reading questions by UDP and TCP, answering the names of a container's networks, and handing on the rest.
#include "network/dns_container.hpp"

#include <algorithm>
#include <array>
#include <random>
#include <span>

#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/stream_socket.hpp"

namespace caisson::network {
namespace {

// One container's turn: then the others are looked after, however many questions it has sent.
constexpr int datagrams_per_turn = 32;
constexpr std::size_t stream_limit = 64;
constexpr std::size_t questions_per_stream = 16;   // without an answer; then nothing more is read
constexpr std::size_t unsent_limit_bytes = 65536;  // likewise
constexpr std::int64_t stream_patience_ns = 10'000'000'000;
constexpr std::int64_t accept_pause_ns = 100'000'000;

/// The order of several addresses is the cheapest way to spread load (docker shuffles as well). Nothing secret hangs on it.
template <typename Address>
void shuffle(std::vector<Address>& addresses) {
  static thread_local std::minstd_rand generator{static_cast<std::minstd_rand::result_type>(monotonic_ns())};
  std::shuffle(addresses.begin(), addresses.end(), generator);
}

}  // namespace

DnsContainer::DnsContainer(DnsThread& thread, DnsPlace place, DnsConfig config)
    : thread_(thread), place_(std::move(place)), config_(std::move(config)), forwarder_(thread, place_.netns.get()) {
  thread_.loop.begin_watch(place_.udp_watch, place_.sockets.udp.get(), EPOLLIN, [this](std::uint32_t) { read_datagrams(); });
  thread_.loop.begin_watch(place_.tcp_watch, place_.sockets.tcp.get(), EPOLLIN, [this](std::uint32_t) { accept_streams(); });
}

DnsContainer::~DnsContainer() {
  thread_.loop.cancel(accept_timer_);
  while (!streams_.empty()) close_stream(streams_.begin()->first);
  thread_.loop.unwatch(place_.tcp_watch);
  thread_.loop.unwatch(place_.udp_watch);
}

// ---- answers --------------------------------------------------------------------------------------------------------------------

void DnsContainer::answer(std::string_view message, DnsTransport transport, Reply reply) {
  if (!is_dns_query(message)) return;
  auto query = parse_dns_query(message);
  if (!query) {
    const bool is_unknown = query.error().kind() == ErrorKind::unsupported;
    return reply(dns_refusal(message, is_unknown ? DnsCode::not_implemented : DnsCode::format_error));
  }
  const std::size_t limit =
      transport == DnsTransport::tcp ? dns_message_limit : std::max<std::size_t>(query->edns_size.value_or(0), dns_plain_udp_size);
  if (auto own = own_answer(*query, limit)) return reply(std::move(*own));
  ForwardRequest request;
  request.query = std::move(*query);
  request.message = message;
  request.transport = transport;
  request.limit = limit;
  request.reply = std::move(reply);
  forwarder_.forward(std::move(request), config_.upstreams);
}

/// None: to be asked upstream.
std::optional<std::string> DnsContainer::own_answer(const DnsQuery& query, std::size_t limit) {
  if (query.type == static_cast<std::uint16_t>(DnsType::ptr)) {
    if (auto address = address_of_reverse_name(query.name)) {
      const std::string name = thread_.names.name_of(place_.container_id, *address);
      if (!name.empty())
        if (auto told = dns_name_answer(query, name)) return told;
    }
  }
  if (!query.name.empty()) {
    // Any type of a name of ours is answered here: an upstream would say that the name does not exist.
    NameAddresses addresses = thread_.names.addresses_of(place_.container_id, query.name);
    if (!addresses.empty()) {
      shuffle(addresses.ipv4);
      shuffle(addresses.ipv6);
      return dns_address_answer(query, addresses, limit);
    }
  }
  const bool asks_address = query.type == static_cast<std::uint16_t>(DnsType::a) || query.type == static_cast<std::uint16_t>(DnsType::aaaa);
  if (config_.keeps_single_labels && asks_address && query.name.find('.') == std::string::npos) return dns_empty_answer(query, DnsCode::no_error);
  if (!config_.forwards || config_.upstreams.empty()) return dns_empty_answer(query, DnsCode::server_failure);
  return std::nullopt;
}

// ---- UDP --------------------------------------------------------------------------------------------------------------------------

void DnsContainer::read_datagrams() {
  for (int i = 0; i < datagrams_per_turn; ++i) {
    auto datagram = linux::receive_datagram(place_.sockets.udp.get(), thread_.buffer);
    if (!datagram || !*datagram) return;  // an error belongs to one datagram, and its client asks again
    if ((*datagram)->size > thread_.buffer.size()) continue;
    // A copy: the buffer is used again when the question is handed on.
    const std::string message(thread_.buffer, 0, (*datagram)->size);
    answer(message, DnsTransport::udp, [this, to = (*datagram)->from](const std::string& text) {
      // Lost like any datagram when the client's buffer is full or the container's own firewall is against it: the client asks again.
      ignore(linux::send_datagram(place_.sockets.udp.get(), text, to));
    });
  }
}

// ---- TCP --------------------------------------------------------------------------------------------------------------------------

void DnsContainer::accept_streams() {
  while (streams_.size() < stream_limit) {
    auto accepted = linux::accept_connection(place_.sockets.tcp.get());
    if (!accepted) return pause_accepting();
    if (!*accepted) return;
    const std::uint64_t number = next_stream_++;
    const int fd = (*accepted)->get();
    auto watch = thread_.loop.watch(fd, EPOLLIN, [this, number](std::uint32_t events) { read_stream(number, events); });
    if (!watch) return pause_accepting();  // closes the connection; its client asks again
    Stream& stream = streams_[number];
    stream.socket = std::move(**accepted);
    stream.watch = *watch;
    touch_stream(number, stream);
  }
  thread_.loop.change(place_.tcp_watch, 0);  // until one of them is closed
}

/// Descriptors are short: those who wait are looked at again a little later, instead of at every turn of the loop.
void DnsContainer::pause_accepting() {
  thread_.loop.change(place_.tcp_watch, 0);
  thread_.loop.cancel(accept_timer_);
  accept_timer_ = thread_.loop.at(monotonic_ns() + accept_pause_ns, [this] { thread_.loop.change(place_.tcp_watch, EPOLLIN); });
}

/// A client that neither sends nor takes anything is closed after a while.
void DnsContainer::touch_stream(std::uint64_t number, Stream& stream) {
  thread_.loop.cancel(stream.timer);
  stream.timer = thread_.loop.at(monotonic_ns() + stream_patience_ns, [this, number] { close_stream(number); });
}

void DnsContainer::read_stream(std::uint64_t number, std::uint32_t events) {
  Stream& stream = streams_.at(number);
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) return close_stream(number);
  touch_stream(number, stream);
  if ((events & EPOLLIN) != 0) {
    auto size = linux::receive_now(stream.socket.get(), thread_.buffer);
    if (!size) return close_stream(number);
    if (*size) {
      stream.has_ended = **size == 0;
      stream.received.append(thread_.buffer, 0, **size);
    }
  }
  answer_stream(number);
}

void DnsContainer::answer_stream(std::uint64_t number) {
  streams_.at(number).is_answering = true;
  while (answer_next(number)) {
  }
  settle_stream(number);
}

/// Takes the next whole message, unless the client has to take answers first. False: there is none now, or the connection is closed.
bool DnsContainer::answer_next(std::uint64_t number) {
  auto found = streams_.find(number);
  if (found == streams_.end()) return false;
  Stream& stream = found->second;
  auto next = first_framed(stream.received);
  if (stream.waiting >= questions_per_stream || !next) return false;
  if (stream.unsent.size() >= unsent_limit_bytes && (!send_queued(stream) || stream.unsent.size() >= unsent_limit_bytes)) return false;
  const std::string message(*next);
  stream.received.erase(0, dns_length_size + message.size());
  if (!is_dns_query(message)) {
    close_stream(number);
    return false;
  }
  ++stream.waiting;
  answer(message, DnsTransport::tcp, [this, number](const std::string& text) { queue_answer(number, text); });
  return true;
}

/// Maybe at once, in the middle of answer_stream(), maybe much later, when the client may be gone.
void DnsContainer::queue_answer(std::uint64_t number, std::string_view answer) {
  auto found = streams_.find(number);
  if (found == streams_.end()) return;
  Stream& stream = found->second;
  --stream.waiting;
  append_framed(stream.unsent, answer);
  if (!stream.is_answering) answer_stream(number);
}

Status DnsContainer::send_queued(Stream& stream) {
  const std::array<std::string_view, 1> pieces{stream.unsent};
  auto sent = TRY_PLAIN(linux::send_now(stream.socket.get(), pieces));
  stream.unsent.erase(0, sent.value_or(0));
  return {};
}

/// Sends what can be sent now, and waits for what is still to come: for nothing when the client has all it asked for and sends no more.
void DnsContainer::settle_stream(std::uint64_t number) {
  auto found = streams_.find(number);
  if (found == streams_.end()) return;
  Stream& stream = found->second;
  stream.is_answering = false;
  if (!stream.unsent.empty() && !send_queued(stream)) return close_stream(number);
  if (stream.has_ended && stream.waiting == 0 && stream.unsent.empty()) return close_stream(number);
  const bool is_busy = stream.waiting >= questions_per_stream || stream.unsent.size() >= unsent_limit_bytes;
  const std::uint32_t events = (stream.has_ended || is_busy ? 0U : EPOLLIN) | (stream.unsent.empty() ? 0U : EPOLLOUT);
  thread_.loop.change(stream.watch, events);
}

void DnsContainer::close_stream(std::uint64_t number) {
  auto entry = streams_.extract(number);
  if (entry.empty()) return;
  thread_.loop.unwatch(entry.mapped().watch);
  thread_.loop.cancel(entry.mapped().timer);
  thread_.loop.change(place_.tcp_watch, EPOLLIN);
}

}  // namespace caisson::network

// Asking upstream servers, one after another, until one has an answer.
#include "network/dns_forwarder.hpp"

#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/stream_socket.hpp"
#include "linux/sysinfo.hpp"

namespace caisson::network {
namespace {

// Clients wait 5 s (resolv.conf(5)) before they ask again: two servers that are down must fit into it. docker waits 4 s for each.
constexpr std::int64_t patience_ns = 2'000'000'000;
constexpr std::int64_t total_patience_ns = 10'000'000'000;
constexpr auto refused = static_cast<DnsCode>(5);

Result<std::uint16_t> random_query_id() {
  std::array<char, sizeof(std::uint16_t)> bytes{};
  TRY_PLAIN(linux::random_bytes(bytes));
  return static_cast<std::uint16_t>(static_cast<unsigned char>(bytes[0]) << 8 | static_cast<unsigned char>(bytes[1]));
}

}  // namespace

DnsForwarder::~DnsForwarder() {
  thread_.questions_out -= pending_.size();
  for (auto& [number, pending] : pending_) {
    thread_.loop.cancel(pending.timer);
    for (auto& attempt : pending.attempts) close(*attempt);
  }
}

void DnsForwarder::close(Attempt& attempt) {
  thread_.loop.unwatch(attempt.watch);
  attempt.socket.reset();
}

void DnsForwarder::forward(ForwardRequest request, const std::vector<DnsUpstream>& upstreams) {
  if (pending_.size() >= limit || thread_.questions_out >= total_limit) {
    request.reply(dns_empty_answer(request.query, DnsCode::server_failure));
    return;
  }
  const std::uint64_t number = next_number_++;
  ++thread_.questions_out;
  Pending& pending = pending_[number];
  pending.request = std::move(request);
  pending.upstreams.assign(upstreams.begin(), upstreams.begin() + static_cast<std::ptrdiff_t>(std::min(upstreams.size(), dns_upstream_limit)));
  pending.deadline_ns = monotonic_ns() + total_patience_ns;
  ask_next(number);
}

void DnsForwarder::ask_next(std::uint64_t number) {
  Pending& pending = pending_.at(number);
  thread_.loop.cancel(pending.timer);
  bool is_asked = false;
  while (!is_asked && pending.next < pending.upstreams.size()) is_asked = start(number, pending, pending.upstreams[pending.next++]).ok();
  if (pending.attempts.empty()) {
    finish(number, dns_empty_answer(pending.request.query, DnsCode::server_failure));
    return;
  }
  const bool is_last = pending.next == pending.upstreams.size();
  const std::int64_t until = is_last ? pending.deadline_ns : std::min(pending.deadline_ns, monotonic_ns() + patience_ns);
  pending.timer = thread_.loop.at(until, [this, number, is_last] {
    Pending& late = pending_.at(number);
    if (is_last) finish(number, dns_empty_answer(late.request.query, DnsCode::server_failure));
    else ask_next(number);
  });
}

Status DnsForwarder::start(std::uint64_t number, Pending& pending, const DnsUpstream& upstream) {
  const bool is_udp = pending.request.transport == DnsTransport::udp;
  auto attempt = std::make_unique<Attempt>();
  attempt->id = TRY_PLAIN(random_query_id());
  attempt->socket = TRY_PLAIN(thread_.sockets.socket_in(upstream.from_host ? -1 : netns_fd_, upstream.address.storage.ss_family,
                                                        is_udp ? SOCK_DGRAM : SOCK_STREAM));
  Status connected = linux::connect(attempt->socket.get(), upstream.address);
  attempt->is_connecting = !connected && linux::connect_in_progress(connected.error());
  if (!connected && !attempt->is_connecting) return connected;
  if (!attempt->is_connecting) TRY_PLAIN(send_question(pending, *attempt));
  const std::uint32_t events = attempt->is_connecting ? EPOLLOUT : EPOLLIN;
  Attempt* borrowed = attempt.get();
  attempt->watch = TRY_PLAIN(thread_.loop.watch(attempt->socket.get(), events, [this, number, borrowed](std::uint32_t) { on_ready(number, borrowed); }));
  pending.attempts.push_back(std::move(attempt));
  return {};
}

/// A question fits into the buffer of a socket that has sent nothing yet.
Status DnsForwarder::send_question(const Pending& pending, Attempt& attempt) const {
  std::string message = pending.request.message;
  set_dns_id(message, attempt.id);
  std::string bytes;
  if (pending.request.transport == DnsTransport::tcp) append_framed(bytes, message);
  else bytes = std::move(message);
  const std::size_t sent = TRY_PLAIN(linux::send(attempt.socket.get(), bytes));
  if (sent != bytes.size()) return Error(ErrorKind::io, "the question was sent in part only");
  return {};
}

void DnsForwarder::on_ready(std::uint64_t number, Attempt* attempt) {
  const Pending& pending = pending_.at(number);
  if (attempt->is_connecting) {
    attempt->is_connecting = false;
    Status connected = linux::socket_error(attempt->socket.get());
    if (connected) connected = send_question(pending, *attempt);
    if (!connected) return fail(number, attempt);
    thread_.loop.change(attempt->watch, EPOLLIN);
    return;
  }
  auto answer = take_answer(pending, *attempt);
  if (!answer) return fail(number, attempt);
  if (*answer) judge(number, attempt, std::move(**answer));
}

/// One whole message, none when none has come yet. An error means that this server will not answer.
Result<std::optional<std::string>> DnsForwarder::take_answer(const Pending& pending, Attempt& attempt) {
  if (pending.request.transport == DnsTransport::tcp) return take_stream(attempt);
  auto size = TRY_PLAIN(linux::receive_now(attempt.socket.get(), thread_.buffer));
  if (!size) return std::optional<std::string>();
  return std::optional(thread_.buffer.substr(0, *size));
}

Result<std::optional<std::string>> DnsForwarder::take_stream(Attempt& attempt) {
  auto size = TRY_PLAIN(linux::receive_now(attempt.socket.get(), thread_.buffer));
  if (!size) return std::optional<std::string>();
  if (*size == 0) return Error(ErrorKind::io, "the server has closed the connection");
  attempt.received.append(thread_.buffer, 0, *size);
  auto message = first_framed(attempt.received);
  if (!message) return std::optional<std::string>();
  return std::optional(std::string(*message));
}

void DnsForwarder::judge(std::uint64_t number, Attempt* attempt, std::string answer) {
  const ForwardRequest& request = pending_.at(number).request;
  auto response = check_dns_response(answer, request.query, attempt->id);
  if (!response) {
    // Not what was asked: on UDP it may be forged, and the right answer may still come; a stream is no use any more.
    if (request.transport == DnsTransport::tcp) fail(number, attempt);
    return;
  }
  if (response->code == DnsCode::server_failure || response->code == refused || response->code == DnsCode::not_implemented) return fail(number, attempt);
  if (answer.size() > request.limit) answer = dns_cut_answer(request.query);
  else set_dns_id(answer, request.query.id);
  finish(number, std::move(answer));
}

void DnsForwarder::fail(std::uint64_t number, Attempt* attempt) {
  auto& attempts = pending_.at(number).attempts;
  close(*attempt);
  std::erase_if(attempts, [&](const auto& entry) { return entry.get() == attempt; });
  ask_next(number);
}

void DnsForwarder::finish(std::uint64_t number, std::string answer) {
  auto entry = pending_.extract(number);
  --thread_.questions_out;
  Pending& pending = entry.mapped();
  thread_.loop.cancel(pending.timer);
  for (auto& attempt : pending.attempts) close(*attempt);
  pending.request.reply(std::move(answer));
}

}  // namespace caisson::network

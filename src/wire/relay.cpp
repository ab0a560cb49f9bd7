// The loop that carries bytes between two sockets.
#include "wire/relay.hpp"

#include <array>
#include <string>

#include "linux/event.hpp"
#include "linux/socket.hpp"
#include "linux/stream_socket.hpp"

namespace caisson::wire {

namespace {

constexpr std::size_t read_bytes = 16 << 10;
constexpr short gone = POLLHUP | POLLERR;

/// From one socket to the other: reads only when everything that was read is sent.
struct Direction {
  int from = -1;
  int to = -1;
  std::string waiting;
  bool ended = false;

  /// False when the receiver takes nothing any more.
  bool read() {
    std::array<char, read_bytes> buffer;
    auto count = linux::receive_now(from, buffer);
    if (count.ok() && !*count) return true;
    if (count.ok() && **count > 0) {
      waiting.assign(buffer.data(), **count);
      return send();
    }
    ended = true;
    return linux::shutdown(to, SHUT_WR).ok();
  }
  bool send() {
    const std::array<std::string_view, 1> pieces{waiting};
    auto sent = linux::send_now(to, pieces);
    if (!sent.ok()) return false;
    if (*sent) waiting.erase(0, **sent);
    return true;
  }
};

short interest(const Direction& out_of, const Direction& into) {
  short events = 0;
  if (!out_of.ended && out_of.waiting.empty()) events |= POLLIN;
  if (!into.waiting.empty()) events |= POLLOUT;
  return events;
}

}  // namespace

Status relay(int one, int other, Cancel stop) {
  std::array<Direction, 2> ways{Direction{one, other, {}, false}, Direction{other, one, {}, false}};
  while (!ways[0].ended || !ways[1].ended) {
    std::array<linux::PollEntry, 3> entries{{{one, interest(ways[0], ways[1]), 0}, {other, interest(ways[1], ways[0]), 0}, {stop.fd, POLLIN, 0}}};
    // A hang-up is reported whether it is asked for or not: of a side that is not looked at now, it would be reported again and again.
    for (std::size_t i = 0; i < 2; ++i)
      if (entries[i].events == 0 && !ways[i].ended) entries[i].fd = -1;
    TRY_PLAIN(linux::poll(entries, -1));
    if (entries[2].revents != 0) return {};
    for (std::size_t i = 0; i < 2; ++i) {
      if ((entries[i].revents & gone) != 0 && ways[i].ended) return {};
      if ((entries[i].revents & POLLOUT) != 0 && !ways[1 - i].send()) return {};
      const bool may_read = !ways[i].ended && ways[i].waiting.empty();
      if (may_read && (entries[i].revents & (POLLIN | gone)) != 0 && !ways[i].read()) return {};
    }
  }
  return {};
}

}  // namespace caisson::wire

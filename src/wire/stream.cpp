// Bytes in and out of one connection.
#include "wire/stream.hpp"

#include <algorithm>
#include <array>
#include <span>

#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/socket.hpp"
#include "linux/stream_socket.hpp"

namespace caisson::wire {

namespace {
constexpr int linger_ms = 2000;
constexpr std::size_t linger_bytes = 8 << 20;

/// Milliseconds that are left, rounded up; -1 without a deadline.
Result<int> time_left_ms(std::int64_t deadline_ns) {
  if (deadline_ns == no_deadline) return -1;
  const std::int64_t left = deadline_ns - monotonic_ns();
  if (left <= 0) return Error(ErrorKind::timeout, "timed out");
  return static_cast<int>(std::min<std::int64_t>((left + 999'999) / 1'000'000, 1 << 30));
}
}  // namespace

std::int64_t deadline_after(int timeout_ms) { return monotonic_ns() + std::int64_t{timeout_ms} * 1'000'000; }

Result<std::size_t> Stream::read_some(std::string& into, std::size_t most, std::int64_t deadline_ns) {
  return receive_by(socket_.get(), into, deadline_ns, most);
}

Result<std::size_t> receive_by(int socket, std::string& into, std::int64_t deadline_ns, std::size_t most) {
  const std::size_t before = into.size();
  for (;;) {
    into.resize(before + most);
    auto got = linux::receive_now(socket, std::span<char>(into.data() + before, most));
    into.resize(before + (got.ok() && *got ? **got : 0));
    if (!got.ok()) return std::move(got).error();
    if (*got) return **got;
    const int left_ms = TRY_PLAIN(time_left_ms(deadline_ns));
    if (!TRY_PLAIN(linux::wait_readable(socket, left_ms))) return Error(ErrorKind::timeout, "timed out");
  }
}

Status Stream::write_all(std::initializer_list<std::string_view> pieces) {
  std::array<std::string_view, 4> left{};
  std::copy_n(pieces.begin(), std::min(pieces.size(), left.size()), left.begin());
  for (;;) {
    if (std::all_of(left.begin(), left.end(), [](auto piece) { return piece.empty(); })) return {};
    auto sent = TRY_PLAIN(linux::send_now(socket_.get(), left));
    if (!sent) {
      TRY_PLAIN(linux::wait_writable(socket_.get(), -1));  // a peer that is gone ends this wait too
      continue;
    }
    for (auto& piece : left) {
      const std::size_t step = std::min(piece.size(), *sent);
      piece.remove_prefix(step);
      *sent -= step;
    }
  }
}

void Stream::write_or_drop(std::string_view bytes) {
  const std::array<std::string_view, 1> piece{bytes};
  ignore(linux::send_now(socket_.get(), piece));  // the connection ends in any case
}

void Stream::linger() {
  ignore(linux::shutdown(socket_.get(), SHUT_WR));  // it ends in any case
  const std::int64_t deadline = deadline_after(linger_ms);
  std::string rest;
  for (std::size_t total = 0; total < linger_bytes;) {
    rest.clear();
    auto got = read_some(rest, 64 << 10, deadline);
    if (!got.ok() || *got == 0) break;
    total += *got;
  }
}

}  // namespace caisson::wire

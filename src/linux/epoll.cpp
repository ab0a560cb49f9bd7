// epoll and eventfd: the system calls.
#include "linux/epoll.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "linux/syscall.hpp"

namespace caisson::linux {

namespace {
constexpr std::size_t events_at_once = 64;

Status control(int epoll, int operation, int fd, std::uint64_t tag, bool one_shot) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | (one_shot ? static_cast<std::uint32_t>(EPOLLONESHOT) : 0U);
  event.data.u64 = tag;
  return detail::status("epoll_ctl", [&] { return epoll_ctl(epoll, operation, fd, &event); });
}
}  // namespace

Result<UniqueFd> make_epoll() {
  return detail::descriptor("epoll_create1", [] { return epoll_create1(EPOLL_CLOEXEC); });
}

Status epoll_add(int epoll, int fd, std::uint64_t tag, EpollMode mode) {
  return control(epoll, EPOLL_CTL_ADD, fd, tag, mode == EpollMode::one_shot);
}

Status epoll_rearm(int epoll, int fd, std::uint64_t tag) { return control(epoll, EPOLL_CTL_MOD, fd, tag, true); }

Status epoll_remove(int epoll, int fd) {
  return detail::status("epoll_ctl", [&] { return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr); });
}

Result<std::size_t> epoll_wait_some(int epoll, std::span<std::uint64_t> tags, int timeout_ms) {
  std::array<epoll_event, events_at_once> events{};
  const auto most = static_cast<int>(std::min(tags.size(), events.size()));
  const auto ready = TRY_PLAIN(detail::value<std::size_t>("epoll_wait", [&] { return epoll_wait(epoll, events.data(), most, timeout_ms); }));
  for (std::size_t i = 0; i < ready; ++i) tags[i] = events[i].data.u64;
  return ready;
}

Result<UniqueFd> make_eventfd() {
  return detail::descriptor("eventfd", [] { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
}

Status signal_eventfd(int fd) {
  const std::uint64_t one = 1;
  const auto written = detail::call_raw("write", [&] { return ::write(fd, &one, sizeof one); });
  if (written < 0 && written != -EAGAIN) return detail::failure(-written, "write", "eventfd");
  return {};  // EAGAIN: the counter is full, so it is readable already
}

Status drain_eventfd(int fd) {
  std::uint64_t count = 0;
  const auto got = detail::call_raw("read", [&] { return ::read(fd, &count, sizeof count); });
  if (got < 0 && got != -EAGAIN) return detail::failure(-got, "read", "eventfd");
  return {};
}

}  // namespace caisson::linux

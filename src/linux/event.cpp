// Thin wrappers around the ways to wait.
#include "linux/event.hpp"

#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/time.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::descriptor;
using detail::status;
using detail::value;

Result<int> poll(std::span<PollEntry> entries, int timeout_ms) {
  const std::int64_t deadline = timeout_ms < 0 ? 0 : monotonic_ns() + std::int64_t{timeout_ms} * 1'000'000;
  return value<int>("poll", [&] {
    int left_ms = timeout_ms;
    if (timeout_ms > 0) left_ms = static_cast<int>(std::max<std::int64_t>(0, (deadline - monotonic_ns() + 999'999) / 1'000'000));
    return ::poll(entries.data(), entries.size(), left_ms);
  });
}

namespace {
Result<bool> wait_one(int fd, short events, int timeout_ms) {
  PollEntry entry{};
  entry.fd = fd;
  entry.events = events;
  return TRY_PLAIN(poll(std::span(&entry, 1), timeout_ms)) > 0;
}

/// Reads exactly one u64; nothing when none waits.
Result<std::optional<std::uint64_t>> take_count(const char* name, int fd) {
  std::uint64_t count = 0;
  auto got = value<std::size_t>(name, [&] { return ::read(fd, &count, sizeof count); });
  if (got) return std::optional(count);
  if (got.error().error_number() == EAGAIN) return std::optional<std::uint64_t>();
  return std::move(got).error();
}
}  // namespace

Result<bool> wait_readable(int fd, int timeout_ms) { return wait_one(fd, POLLIN, timeout_ms); }
Result<bool> wait_writable(int fd, int timeout_ms) { return wait_one(fd, POLLOUT, timeout_ms); }

Result<UniqueFd> epoll_create() {
  return descriptor("epoll_create1", [&] { return ::epoll_create1(EPOLL_CLOEXEC); });
}

namespace {
Status epoll_control(int epoll_fd, int operation, int fd, std::uint32_t events, std::uint64_t tag) {
  struct ::epoll_event event {};
  event.events = events;
  event.data.u64 = tag;
  return status("epoll_ctl", [&] { return ::epoll_ctl(epoll_fd, operation, fd, &event); });
}
}  // namespace

Status epoll_add(int epoll_fd, int fd, std::uint32_t events, std::uint64_t tag) {
  return epoll_control(epoll_fd, EPOLL_CTL_ADD, fd, events, tag);
}
Status epoll_modify(int epoll_fd, int fd, std::uint32_t events, std::uint64_t tag) {
  return epoll_control(epoll_fd, EPOLL_CTL_MOD, fd, events, tag);
}
Status epoll_remove(int epoll_fd, int fd) { return epoll_control(epoll_fd, EPOLL_CTL_DEL, fd, 0, 0); }

Result<std::size_t> epoll_wait(int epoll_fd, std::span<EpollEvent> out, int timeout_ms) {
  std::array<struct ::epoll_event, 64> events{};
  const int room = static_cast<int>(std::min(out.size(), events.size()));
  const std::int64_t deadline = timeout_ms < 0 ? 0 : monotonic_ns() + std::int64_t{timeout_ms} * 1'000'000;
  const auto count = TRY_PLAIN(value<std::size_t>("epoll_wait", [&] {
    int left_ms = timeout_ms;
    if (timeout_ms > 0) left_ms = static_cast<int>(std::max<std::int64_t>(0, (deadline - monotonic_ns() + 999'999) / 1'000'000));
    return ::epoll_wait(epoll_fd, events.data(), room, left_ms);
  }));
  for (std::size_t i = 0; i < count; ++i) {
    out[i].events = events[i].events;
    out[i].tag = events[i].data.u64;
  }
  return count;
}

Result<UniqueFd> eventfd(unsigned int initial) {
  return descriptor("eventfd", [&] { return ::eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK); });
}
Status eventfd_signal(int fd) {
  const std::uint64_t one = 1;
  return status("eventfd_signal", [&] { return ::write(fd, &one, sizeof one); }, "eventfd");
}
Result<std::optional<std::uint64_t>> eventfd_take(int fd) { return take_count("read", fd); }

Result<UniqueFd> timerfd_create() {
  return descriptor("timerfd_create", [&] { return ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK); });
}
Status timerfd_settime(int fd, std::int64_t initial_ns, std::int64_t interval_ns) {
  struct ::itimerspec spec {};
  spec.it_value.tv_sec = initial_ns / 1'000'000'000;
  spec.it_value.tv_nsec = initial_ns % 1'000'000'000;
  spec.it_interval.tv_sec = interval_ns / 1'000'000'000;
  spec.it_interval.tv_nsec = interval_ns % 1'000'000'000;
  return status("timerfd_settime", [&] { return ::timerfd_settime(fd, 0, &spec, nullptr); });
}
Result<std::uint64_t> timerfd_take(int fd) { return TRY_PLAIN(take_count("read", fd)).value_or(0); }

Result<SignalSet> signal_mask(int how, const SignalSet& set) {
  SignalSet old;
  TRY_PLAIN(status("sigmask", [&] {
    const int error = ::pthread_sigmask(how, &set.native(), &old.native());
    errno = error;
    return error == 0 ? 0 : -1;
  }));
  return old;
}

Result<BlockedSignals> BlockedSignals::create(const SignalSet& set) {
  return BlockedSignals(TRY_PLAIN(signal_mask(SIG_BLOCK, set)));
}
BlockedSignals::~BlockedSignals() {
  if (old_) ::pthread_sigmask(SIG_SETMASK, &old_->native(), nullptr);
}

namespace {
Status set_action(int signal, void (*handler)(int)) {
  struct ::sigaction action {};
  action.sa_handler = handler;
  return status("sigaction", [&] { return ::sigaction(signal, &action, nullptr); }, "signal ", signal);
}
}  // namespace
Status ignore_signal(int signal) { return set_action(signal, SIG_IGN); }
Status default_signal(int signal) { return set_action(signal, SIG_DFL); }

Result<UniqueFd> signalfd(const SignalSet& set) {
  return descriptor("signalfd", [&] { return ::signalfd(-1, &set.native(), SFD_CLOEXEC | SFD_NONBLOCK); });
}
Result<std::optional<SignalEvent>> signalfd_take(int fd) {
  struct ::signalfd_siginfo info {};
  auto got = value<std::size_t>("read", [&] { return ::read(fd, &info, sizeof info); }, "signalfd");
  if (!got) {
    if (got.error().error_number() == EAGAIN) return std::optional<SignalEvent>();
    return std::move(got).error();
  }
  SignalEvent event;
  event.signal = static_cast<int>(info.ssi_signo);
  event.pid = static_cast<int>(info.ssi_pid);
  event.code = info.ssi_code;
  event.uid = info.ssi_uid;
  return std::optional(event);
}

Result<UniqueFd> inotify_create() {
  return descriptor("inotify_init1", [&] { return ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK); });
}
Result<int> inotify_add_watch(int inotify_fd, PathArg path, std::uint32_t mask) {
  return value<int>("inotify_add_watch", [&] { return ::inotify_add_watch(inotify_fd, path.c_str(), mask); }, path);
}
Status inotify_remove_watch(int inotify_fd, int watch) {
  return status("inotify_rm_watch", [&] { return ::inotify_rm_watch(inotify_fd, watch); });
}
Result<std::vector<InotifyEvent>> inotify_take(int inotify_fd) {
  std::vector<InotifyEvent> out;
  std::string buffer(16384, '\0');
  while (true) {
    auto got = value<std::size_t>("read", [&] { return ::read(inotify_fd, buffer.data(), buffer.size()); }, "inotify");
    if (!got && got.error().error_number() == EAGAIN) return out;
    std::string_view rest = std::string_view(buffer).substr(0, TRY_PLAIN(std::move(got)));
    while (rest.size() >= sizeof(struct ::inotify_event)) {
      struct ::inotify_event event {};
      std::memcpy(&event, rest.data(), sizeof event);
      rest.remove_prefix(sizeof event);
      InotifyEvent entry;
      entry.watch = event.wd;
      entry.mask = event.mask;
      entry.name = std::string(rest.substr(0, event.len).data(), ::strnlen(rest.data(), event.len));
      out.push_back(std::move(entry));
      rest.remove_prefix(std::min<std::size_t>(event.len, rest.size()));
    }
  }
}

}  // namespace caisson::linux

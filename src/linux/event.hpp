// Waiting: poll, epoll, eventfd, timerfd, signalfd and inotify.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/path_arg.hpp"

namespace caisson::linux {

using PollEntry = struct ::pollfd;

/// Waits for one of the entries; fills their revents. Returns how many are ready, 0 after timeout_ms (-1: no limit).
/// An interrupted wait goes on with the time that is left.
Result<int> poll(std::span<PollEntry> entries, int timeout_ms);
/// Whether `fd` became readable (or hung up) within timeout_ms.
Result<bool> wait_readable(int fd, int timeout_ms);
Result<bool> wait_writable(int fd, int timeout_ms);

Result<UniqueFd> epoll_create();
/// `events` of EPOLL*; `tag` comes back in EpollEvent.
Status epoll_add(int epoll_fd, int fd, std::uint32_t events, std::uint64_t tag);
Status epoll_modify(int epoll_fd, int fd, std::uint32_t events, std::uint64_t tag);
Status epoll_remove(int epoll_fd, int fd);
struct EpollEvent {
  std::uint32_t events = 0;
  std::uint64_t tag = 0;
};
/// Fills `out` from its start; returns how many. 0 after timeout_ms (-1: no limit). At most 64 per call.
Result<std::size_t> epoll_wait(int epoll_fd, std::span<EpollEvent> out, int timeout_ms);

/// Non-blocking counter.
Result<UniqueFd> eventfd(unsigned int initial = 0);
Status eventfd_signal(int fd);
/// Takes the count and sets it to 0; nothing when it is 0.
Result<std::optional<std::uint64_t>> eventfd_take(int fd);

/// Non-blocking CLOCK_MONOTONIC timer; disarmed.
Result<UniqueFd> timerfd_create();
/// First expiry after `initial_ns` (0 disarms), then every interval_ns (0: once).
Status timerfd_settime(int fd, std::int64_t initial_ns, std::int64_t interval_ns);
/// Expiries since the last call; 0 when none.
Result<std::uint64_t> timerfd_take(int fd);

/// A set of signal numbers.
class SignalSet {
 public:
  SignalSet() { sigemptyset(&set_); }
  SignalSet(std::initializer_list<int> signals) : SignalSet() {
    for (int signal : signals) add(signal);
  }
  static SignalSet all() {
    SignalSet out;
    sigfillset(&out.set_);
    return out;
  }
  SignalSet& add(int signal) {
    sigaddset(&set_, signal);
    return *this;
  }
  [[nodiscard]] bool contains(int signal) const { return sigismember(&set_, signal) == 1; }
  [[nodiscard]] const sigset_t& native() const { return set_; }
  [[nodiscard]] sigset_t& native() { return set_; }

 private:
  sigset_t set_{};
};

/// Sets this thread's mask (`how`: SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK) and returns the old one.
Result<SignalSet> signal_mask(int how, const SignalSet& set);
/// Blocks for this thread while it lives.
class BlockedSignals {
 public:
  static Result<BlockedSignals> create(const SignalSet& set);
  BlockedSignals(BlockedSignals&& other) noexcept : old_(std::exchange(other.old_, std::nullopt)) {}
  BlockedSignals& operator=(BlockedSignals&&) = delete;
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  ~BlockedSignals();

 private:
  explicit BlockedSignals(const SignalSet& old) : old_(old) {}
  std::optional<SignalSet> old_;
};
/// SIG_IGN or SIG_DFL for the whole process.
Status ignore_signal(int signal);
Status default_signal(int signal);

struct SignalEvent {
  int signal = 0;
  int pid = 0;   ///< sender or child
  int code = 0;  ///< si_code
  std::uint32_t uid = 0;
};
/// Non-blocking. The signals must be blocked in every thread first.
Result<UniqueFd> signalfd(const SignalSet& set);
/// One event, nothing when none waits.
Result<std::optional<SignalEvent>> signalfd_take(int fd);

/// Non-blocking inotify instance.
Result<UniqueFd> inotify_create();
/// Returns the watch number. `mask` of IN_*.
Result<int> inotify_add_watch(int inotify_fd, PathArg path, std::uint32_t mask);
Status inotify_remove_watch(int inotify_fd, int watch);
struct InotifyEvent {
  int watch = 0;
  std::uint32_t mask = 0;
  std::string name;
};
/// All events that wait now; empty when none.
Result<std::vector<InotifyEvent>> inotify_take(int inotify_fd);

}  // namespace caisson::linux

// epoll and eventfd: what the event loop of `wire` stands on.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::linux {

Result<UniqueFd> make_epoll();

enum class EpollMode {
  level,     ///< reports for as long as there is something to read
  one_shot,  ///< reports once, then sleeps until epoll_rearm()
};
/// Watches `fd` for input or the peer's end; `tag` comes back in the event. Errors: conflict when it is watched already.
Status epoll_add(int epoll, int fd, std::uint64_t tag, EpollMode mode);
/// Wakes a one-shot entry again. Thread-safe against epoll_wait_some().
Status epoll_rearm(int epoll, int fd, std::uint64_t tag);
/// Must come before a watched descriptor is handed to another process: epoll follows the open file, not the number (epoll(7)).
Status epoll_remove(int epoll, int fd);
/// Fills `tags` with what is ready and returns how many; 0 after `timeout_ms` (< 0: for ever).
Result<std::size_t> epoll_wait_some(int epoll, std::span<std::uint64_t> tags, int timeout_ms);

/// A non-blocking eventfd with value 0.
Result<UniqueFd> make_eventfd();
/// Makes it readable. Thread-safe and async-signal-safe.
Status signal_eventfd(int fd);
/// Makes it unreadable again.
Status drain_eventfd(int fd);

}  // namespace caisson::linux

// EventLoop: one thread that waits for many sockets, for deadlines and for work that other threads hand to it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::network {

/// All callbacks run on the loop's thread, one after another, so what only they touch needs no lock. Everything is for that thread
/// alone but post(), post_and_wait() and reserve_watch().
class EventLoop {
 public:
  /// `name`: of the thread, at most 15 bytes.
  static Result<std::unique_ptr<EventLoop>> create(std::string name);
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  ~EventLoop() { stop(); }

  /// Ends the thread; work that still waits is dropped. Afterwards the caller may use the loop as that thread did, to take watches away.
  void stop();

  /// Everything that can fail about watching `fd`, from any thread; begin_watch() completes it.
  Result<std::uint64_t> reserve_watch(int fd);
  void begin_watch(std::uint64_t watch, int fd, std::uint32_t events, std::function<void(std::uint32_t)> on_ready);
  /// `events` of EPOLL*. Level-triggered: what is not taken is reported again. `fd` is borrowed; unwatch before it is closed.
  Result<std::uint64_t> watch(int fd, std::uint32_t events, std::function<void(std::uint32_t)> on_ready);
  void change(std::uint64_t watch, std::uint32_t events);
  /// No callback comes after this, also none for an event that was already seen. An unknown number (0) has no effect.
  void unwatch(std::uint64_t watch);

  /// `deadline_ns` of monotonic_ns().
  std::uint64_t at(std::int64_t deadline_ns, std::function<void()> on_time);
  void cancel(std::uint64_t timer);

  /// From any thread. A loop that the kernel refused something, and that has ended by itself, goes on with what it watches. Errors: unavailable when it was stopped.
  Status post(std::function<void()> work);
  /// Returns when it has run. Not from the loop's own thread. Errors: unavailable also when the loop has ended before it.
  Status post_and_wait(std::function<void()> work);

 private:
  EventLoop(std::string name, UniqueFd epoll, UniqueFd wake) : name_(std::move(name)), epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  struct Watch {
    int fd = -1;
    // Shared because a callback may remove its own watch while it runs.
    std::shared_ptr<std::function<void(std::uint32_t)>> on_ready;
  };
  void start_thread();
  void run();
  Status run_until_stopped();
  [[nodiscard]] int time_left_ms() const;
  void run_due_timers();
  void run_posted();

  const std::string name_;
  UniqueFd epoll_;
  UniqueFd wake_;
  std::unordered_map<std::uint64_t, Watch> watches_;
  std::map<std::pair<std::int64_t, std::uint64_t>, std::function<void()>> timers_;  ///< by deadline and number
  std::unordered_map<std::uint64_t, std::int64_t> deadlines_;                       ///< by number
  std::atomic<std::uint64_t> next_number_ = 1;

  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;
  bool stopping_ = false;
  bool has_ended_ = false;     ///< the thread is only to be joined
  std::string ended_because_;  ///< the last time when it ended by itself
  std::thread thread_;
};

}  // namespace caisson::network

// EventHub: the ring of the last events and everybody who listens.
#pragma once

#include <deque>
#include <list>
#include <memory>
#include <mutex>

#include "base/unique_fd.hpp"
#include "engine/types.hpp"

namespace caisson::engine {

/// Thread-safe. A slow reader never slows the engine: beyond `queue_limit` waiting events its stream ends with an error.
/// Owned by shared_ptr, because a stream that a client still reads may outlive the engine.
class EventHub : public std::enable_shared_from_this<EventHub> {
 public:
  static constexpr std::size_t ring_size = 2048;
  static constexpr std::size_t queue_limit = 4096;

  void publish(Event event);
  Result<std::unique_ptr<EventStream>> subscribe(const EventOptions& options);
  std::size_t listeners();

 private:
  struct Listener {
    std::mutex mutex;
    std::deque<std::shared_ptr<const Event>> queue;  // shared: one event, many readers
    bool overflowed = false;
    UniqueFd wake;
  };
  class Stream;
  std::mutex mutex_;
  std::deque<std::shared_ptr<const Event>> ring_;
  std::list<std::shared_ptr<Listener>> listeners_;  // shared between the hub and the stream that reads it
};

}  // namespace caisson::engine

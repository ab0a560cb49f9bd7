// Web-hooks: what happened, told to other servers in Docker's notification format. The queue lives in the store, so it outlives this process.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.hpp"
#include "registry/metrics.hpp"
#include "state/store.hpp"

namespace caisson::registry {

struct Event {
  std::string action;  ///< "push", "pull", "mount", "delete"
  std::string repository;
  std::string digest;
  std::uint64_t size_bytes = 0;
  std::string media_type;
  std::string tag;
  std::string from_repository;  ///< of a mount
  std::string actor;
  std::string host;
  std::string address;
  std::string method;
  std::string user_agent;
};

/// One event as it stands in the envelope's array; `id` and `time` are its own, `source` names this registry.
std::string write_event(const Event& event, std::string_view id, std::int64_t time_ns, std::string_view source, std::string_view instance);

struct EventTarget {
  std::string name;                  ///< the key of its queue: stays when the URL changes
  std::vector<std::string> actions;  ///< none: all
  /// Delivers an envelope. Runs in the target's own thread. Errors: any; it will be tried again.
  std::function<Status(const std::string& envelope)> deliver;
};

struct EventPatience {
  std::int64_t first_pause_ms = 1000;
  std::int64_t longest_pause_ms = 60'000;
  std::size_t most_waiting = 10'000;  ///< the oldest is given up beyond
};

/// Thread-safe. One thread per target.
class EventSink {
 public:
  static Result<std::unique_ptr<EventSink>> open(state::Store& store, Metrics& metrics, std::string source, std::vector<EventTarget> targets, EventPatience patience = {});
  /// Ends the threads; what waits is sent by the next process.
  ~EventSink();
  EventSink(const EventSink&) = delete;
  EventSink& operator=(const EventSink&) = delete;

  [[nodiscard]] bool is_wanted(std::string_view action) const;
  /// Queues it. A store that refuses is logged: the request that happened is not undone.
  void add(const Event& event);
  std::size_t waiting();

 private:
  struct Queue {
    EventTarget target;
    std::deque<std::pair<std::string, std::string>> waiting;  ///< key and text, oldest first
    std::thread thread;
  };
  EventSink(state::Store& store, Metrics& metrics, std::string source, EventPatience patience);
  void run(Queue& queue);

  state::Store& store_;
  Metrics& metrics_;
  const std::string source_;
  const std::string instance_;
  const EventPatience patience_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::uint64_t next_ = 1;
  std::vector<std::unique_ptr<Queue>> queues_;
};

}  // namespace caisson::registry

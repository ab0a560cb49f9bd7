// WatchHub: delivers committed changes to watchers, in commit order, from one thread that exists only while needed.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "state/store.hpp"

namespace caisson::state {

class WatchHub {
 public:
  using Callback = std::function<void(const WatchEvent&)>;
  WatchHub() = default;
  ~WatchHub();
  WatchHub(const WatchHub&) = delete;
  WatchHub& operator=(const WatchHub&) = delete;

  /// The thread starts with the first watcher.
  std::int64_t add(std::string prefix, Callback on_event);
  /// When it returns, the callback runs no more (unless it is the callback itself that calls).
  void remove(std::int64_t id);
  /// Called in commit order. Nobody watching: dropped at once.
  void publish(std::vector<WatchEvent> events);

 private:
  struct Watcher {
    std::string prefix;
    std::shared_ptr<Callback> on_event;  // shared with the thread for the length of one call
  };
  struct Delivery {
    WatchEvent event;
    std::int64_t last_id;  // watchers that came later did not exist when this was committed
  };
  void run();
  void deliver(std::unique_lock<std::mutex>& lock, const Delivery& delivery);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::map<std::int64_t, Watcher> watchers_;
  std::deque<Delivery> queue_;
  std::thread thread_;
  std::int64_t next_id_ = 1;
  std::int64_t calling_ = 0;  // the watcher whose callback runs now
  bool stopping_ = false;
};

}  // namespace caisson::state

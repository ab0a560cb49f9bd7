// Worker: a few threads for what nobody waits for: teardown after an exit, restarts after a pause.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace caisson::engine {

/// Tasks run in the order of their due time. The queue is bounded by what posts to it: one task per container at a time.
class Worker {
 public:
  explicit Worker(unsigned threads);
  /// Finishes the tasks that are due, drops the later ones.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void post(std::function<void()> task) { post_after(0, std::move(task)); }
  void post_after(std::int64_t delay_ms, std::function<void()> task);
  /// Until every task that was due at the call has run; for tests and an orderly end.
  void drain();

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable idle_;
  std::multimap<std::int64_t, std::function<void()>> tasks_;  ///< by CLOCK_MONOTONIC ns
  unsigned busy_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace caisson::engine

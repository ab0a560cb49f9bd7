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
  Worker() = default;
  ~Worker() { finish(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Until then tasks are only collected: what recovery finds must not run beside it.
  void start(unsigned threads);
  /// Runs the tasks that are due, and those that they post, and drops the later ones.
  void finish();
  /// False: refused, because finish() is through (or on its way and the task is for later). The poster says so; the next start of the
  /// daemon finds the work in the records.
  [[nodiscard]] bool post(std::function<void()> task) { return post_after(0, std::move(task)); }
  [[nodiscard]] bool post_after(std::int64_t delay_ms, std::function<void()> task);

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<std::int64_t, std::function<void()>> tasks_;  ///< by CLOCK_MONOTONIC ns
  bool stopping_ = false;
  unsigned running_ = 0;  ///< threads that still look at `tasks_` before they end
  std::vector<std::thread> threads_;
};

}  // namespace caisson::engine

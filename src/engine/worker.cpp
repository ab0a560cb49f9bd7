// Threads that sleep until the first task is due.
#include "engine/worker.hpp"

#include <chrono>

#include "base/time.hpp"

namespace caisson::engine {

void Worker::start(unsigned threads) {
  {
    std::lock_guard lock(mutex_);
    running_ = threads;
  }
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

void Worker::finish() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    tasks_.erase(tasks_.upper_bound(monotonic_ns()), tasks_.end());
  }
  changed_.notify_all();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

bool Worker::post_after(std::int64_t delay_ms, std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_ && (running_ == 0 || delay_ms > 0)) return false;
    tasks_.emplace(monotonic_ns() + delay_ms * 1'000'000, std::move(task));
  }
  changed_.notify_one();
  return true;
}

void Worker::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (tasks_.empty()) {
      if (stopping_) {
        --running_;
        return;
      }
      changed_.wait(lock);
      continue;
    }
    auto first = tasks_.begin();
    std::int64_t wait_ns = first->first - monotonic_ns();
    if (wait_ns > 0 && !stopping_) {
      changed_.wait_for(lock, std::chrono::nanoseconds(wait_ns));
      continue;
    }
    auto task = std::move(first->second);
    tasks_.erase(first);
    lock.unlock();
    task();
    task = nullptr;  // what it holds must not be destroyed under the lock
    lock.lock();
  }
}

}  // namespace caisson::engine

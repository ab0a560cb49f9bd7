// One counter that all threads take from.
#include "image/side_by_side.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace caisson::image {

Status side_by_side(std::size_t items, std::size_t threads, const std::function<Status(std::size_t index)>& job) {
  std::mutex mutex;
  std::optional<Error> failure;
  std::atomic<std::size_t> next = 0;
  auto work = [&] {
    for (;;) {
      auto index = next.fetch_add(1);
      if (index >= items) return;
      auto status = job(index);
      if (status.ok()) continue;
      std::lock_guard lock(mutex);
      if (!failure) failure = std::move(status).error();
      next = items;
    }
  };
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < std::min(items, threads); ++i) others.emplace_back(work);
  work();
  for (auto& thread : others) thread.join();
  if (failure) return std::move(*failure);
  return {};
}

}  // namespace caisson::image

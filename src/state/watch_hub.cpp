// The notifier thread behind Store::watch.
#include "state/watch_hub.hpp"

#include <iterator>

namespace caisson::state {

WatchHub::~WatchHub() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::int64_t WatchHub::add(std::string prefix, Callback on_event) {
  std::lock_guard lock(mutex_);
  auto id = next_id_++;
  watchers_[id] = Watcher{std::move(prefix), std::make_shared<Callback>(std::move(on_event))};
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  return id;
}

void WatchHub::remove(std::int64_t id) {
  std::unique_lock lock(mutex_);
  watchers_.erase(id);
  if (std::this_thread::get_id() == thread_.get_id()) return;
  idle_.wait(lock, [&] { return calling_ != id; });
}

void WatchHub::publish(std::vector<WatchEvent> events) {
  std::lock_guard lock(mutex_);
  if (watchers_.empty()) return;
  for (auto& event : events) queue_.push_back(Delivery{std::move(event), next_id_ - 1});
  wake_.notify_one();
}

void WatchHub::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    Delivery delivery = std::move(queue_.front());
    queue_.pop_front();
    deliver(lock, delivery);
  }
}

void WatchHub::deliver(std::unique_lock<std::mutex>& lock, const Delivery& delivery) {
  // By id, not by iterator: the map may change while a callback runs without the lock.
  for (auto at = watchers_.begin(); at != watchers_.end() && at->first <= delivery.last_id && !stopping_;) {
    auto id = at->first;
    if (delivery.event.entry.key.starts_with(at->second.prefix)) {
      auto on_event = at->second.on_event;
      calling_ = id;
      lock.unlock();
      (*on_event)(delivery.event);
      on_event.reset();
      lock.lock();
      calling_ = 0;
      idle_.notify_all();
    }
    at = watchers_.upper_bound(id);
  }
}

}  // namespace caisson::state

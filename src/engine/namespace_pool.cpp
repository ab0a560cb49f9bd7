// A pair is in exactly one place: ready, assigned, or on its way to whoever takes or gives back.
#include "engine/namespace_pool.hpp"

#include <algorithm>

namespace caisson::engine {

namespace {
std::size_t index_of(NamespacePool::Kind kind) { return static_cast<std::size_t>(kind); }
}  // namespace

std::optional<std::uint32_t> NamespacePool::assign(const std::string& container_id, Kind kind) {
  std::optional<ReadyPair> too_old;
  std::uint32_t range = 0;
  {
    std::lock_guard lock(mutex_);
    is_used_[index_of(kind)] = true;
    auto& ready = ready_[index_of(kind)];
    if (ready.empty()) return std::nullopt;
    range = ready.front().first_host_id;
    assigned_.push_back({container_id, std::move(ready.front())});
    ready.pop_front();
    if (assigned_.size() > size_) {
      too_old = std::move(assigned_.front().pair);
      assigned_.pop_front();
    }
  }
  if (too_old) source_.unmake(std::move(*too_old));
  return range;
}

std::optional<ReadyPair> NamespacePool::remove_locked(const std::string& container_id) {
  auto found =
      std::find_if(assigned_.begin(), assigned_.end(), [&](const Assigned& entry) { return entry.container_id == container_id; });
  if (found == assigned_.end()) return std::nullopt;
  ReadyPair pair = std::move(found->pair);
  assigned_.erase(found);
  return pair;
}

std::optional<ReadyPair> NamespacePool::take(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  return remove_locked(container_id);
}

void NamespacePool::forget(const std::string& container_id) {
  if (auto pair = take(container_id)) source_.unmake(std::move(*pair));
}

std::optional<NamespacePool::Kind> NamespacePool::missing_locked() const {
  for (auto kind : {Kind::isolated, Kind::bridged})
    if (is_used_[index_of(kind)] && ready_[index_of(kind)].size() < size_) return kind;
  return std::nullopt;
}

bool NamespacePool::wants_refill() {
  std::lock_guard lock(mutex_);
  return missing_locked().has_value();
}

Status NamespacePool::refill() {
  std::unique_lock turn(refill_mutex_, std::try_to_lock);
  if (!turn.owns_lock()) return {};  // somebody is at it, and will see what is missing now
  for (;;) {
    std::optional<Kind> kind;
    {
      std::lock_guard lock(mutex_);
      kind = missing_locked();
    }
    if (!kind) return {};
    auto pair = TRY(source_.make(*kind), "namespaces kept ready");
    std::lock_guard lock(mutex_);
    ready_[index_of(*kind)].push_back(std::move(pair));
  }
}

void NamespacePool::drain() {
  std::deque<ReadyPair> unused;
  std::deque<Assigned> waiting;
  {
    std::lock_guard lock(mutex_);
    for (auto& ready : ready_)
      for (auto& pair : std::exchange(ready, {})) unused.push_back(std::move(pair));
    waiting = std::exchange(assigned_, {});
  }
  for (auto& pair : unused) source_.give_back(std::move(pair));
  for (auto& entry : waiting) source_.unmake(std::move(entry.pair));
}

}  // namespace caisson::engine

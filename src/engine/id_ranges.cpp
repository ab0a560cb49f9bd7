// Allocation goes round, so that a range is not given to the next container right after another one left it.
#include "engine/id_ranges.hpp"

namespace caisson::engine {

Result<std::uint32_t> IdRanges::allocate() {
  std::lock_guard lock(mutex_);
  for (std::uint32_t tried = 1; tried < count; ++tried) {
    std::uint32_t index = next_;
    next_ = next_ + 1 < count ? next_ + 1 : 1;
    std::uint32_t first = base_ + index * size;
    if (users_.emplace(first, 1).second) return first;
  }
  return Error(ErrorKind::unavailable, "all 4095 ranges of host user ids are taken by containers")
      .with_hint("remove containers that are not needed, or run some with --userns=host");
}

void IdRanges::share(std::uint32_t first_id) {
  if (first_id == 0) return;
  std::lock_guard lock(mutex_);
  ++users_[first_id];
}

void IdRanges::release(std::uint32_t first_id) {
  std::lock_guard lock(mutex_);
  auto found = users_.find(first_id);
  if (found == users_.end()) return;
  if (--found->second == 0) users_.erase(found);
}

std::uint32_t IdRanges::users(std::uint32_t first_id) {
  std::lock_guard lock(mutex_);
  auto found = users_.find(first_id);
  return found == users_.end() ? 0 : found->second;
}

linux::IdMap IdRanges::map_of(std::uint32_t first_id) const {
  linux::IdMap map;
  if (first_id == 0) return map;
  map.uids = {{0, root_of(first_id), count_}};
  map.gids = map.uids;
  return map;
}

}  // namespace caisson::engine

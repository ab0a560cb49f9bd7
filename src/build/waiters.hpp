// Waiting under a mutex for what other builds have, by threads of which each may be told to give up.
#pragma once

#include <functional>
#include <mutex>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"

namespace caisson::build {

/// Lives beside the mutex that guards what is waited for.
class Waiters {
 public:
  /// Until `is_over`, which is asked under `lock`; the lock is given back meanwhile. Errors: unavailable (ECANCELED).
  Status wait(std::unique_lock<std::mutex>& lock, Cancel cancel, const std::function<bool()>& is_over);
  /// Under the mutex: something has changed.
  void tell() const;

 private:
  std::vector<int> waiting_;  // an eventfd of each
};

}  // namespace caisson::build

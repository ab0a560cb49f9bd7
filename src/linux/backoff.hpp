// Backoff: looking again, less and less often.
#pragma once

#include <cstdint>

namespace caisson::linux::detail {

/// Waits for a moment that only grows: where the kernel offers no event, polling is all there is.
class Backoff {
 public:
  explicit Backoff(int timeout_ms);
  /// False when the time is over.
  bool wait();

 private:
  std::int64_t deadline_ns_;
  int next_ms_ = 1;
};

}  // namespace caisson::linux::detail

// Pauses of 1 ms, doubled up to 64.
#include "linux/backoff.hpp"

#include <algorithm>

#include "base/time.hpp"
#include "linux/event.hpp"

namespace caisson::linux::detail {

Backoff::Backoff(int timeout_ms) : deadline_ns_(monotonic_ns() + std::int64_t{timeout_ms} * 1'000'000) {}
bool Backoff::wait() {
  if (monotonic_ns() >= deadline_ns_) return false;
  ignore(poll({}, next_ms_));  // an early return only means one more look
  next_ms_ = std::min(next_ms_ * 2, 64);
  return true;
}

}  // namespace caisson::linux::detail

// One file of real blocks.
#include "state/reserve.hpp"

#include "base/time.hpp"
#include "linux/file.hpp"

namespace caisson::state {

namespace {
constexpr std::uint64_t reserve_bytes = 1 << 20;  // some hundred removals in the store's log
constexpr std::int64_t between_tries_ns = 1'000'000'000;
}  // namespace

Reserve::Reserve(std::string path) : path_(std::move(path)) { take(); }

bool Reserve::release() {
  if (!is_held_) return false;
  is_held_ = false;
  next_try_ns_ = monotonic_ns() + between_tries_ns;
  return linux::unlink(path_).ok();
}

void Reserve::refill() {
  if (is_held_ || monotonic_ns() < next_try_ns_) return;
  take();
}

void Reserve::take() {
  next_try_ns_ = monotonic_ns() + between_tries_ns;
  if (auto status = linux::stat(path_); status.ok() && static_cast<std::uint64_t>(status->st_size) == reserve_bytes) {
    is_held_ = true;
    return;
  }
  auto file = linux::open(path_, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600);
  if (!file.ok()) return;
  is_held_ = linux::fallocate(file->get(), 0, 0, reserve_bytes).ok();
  if (!is_held_) ignore(linux::unlink(path_));  // half a reserve would be taken for one
}

}  // namespace caisson::state

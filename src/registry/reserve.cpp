// One file of real blocks.
#include "registry/reserve.hpp"

#include "linux/file.hpp"

namespace caisson::registry {

namespace {
constexpr std::uint64_t reserve_bytes = 1 << 20;  // some hundred removals in the store's log
}

Reserve::Reserve(std::string path) : path_(std::move(path)) { refill(); }

bool Reserve::release() {
  auto status = linux::stat(path_);
  return status.ok() && status->st_size > 0 && linux::unlink(path_).ok();
}

void Reserve::refill() {
  if (auto status = linux::stat(path_); status.ok() && static_cast<std::uint64_t>(status->st_size) == reserve_bytes) return;
  auto file = linux::open(path_, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600);
  if (!file.ok() || !linux::fallocate(file->get(), 0, 0, reserve_bytes).ok()) ignore(linux::unlink(path_));  // half a reserve would be taken for one
}

}  // namespace caisson::registry

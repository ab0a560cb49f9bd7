// Closing, the one system call that base makes for itself.
#include "base/unique_fd.hpp"

#include <unistd.h>

namespace caisson {

void UniqueFd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

}  // namespace caisson

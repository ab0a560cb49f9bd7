// A condition variable knows no descriptors, so that each waiting thread polls an eventfd beside its Cancel.
#include "build/waiters.hpp"

#include <array>
#include <cerrno>

#include "linux/event.hpp"

namespace caisson::build {

namespace {

Status wait_once(int told_fd, Cancel cancel) {
  std::array<linux::PollEntry, 2> entries{{{told_fd, POLLIN, 0}, {cancel.fd, POLLIN, 0}}};
  TRY_PLAIN(linux::poll(entries, -1));
  if (entries[1].revents != 0) return Error(ErrorKind::unavailable, "the build was cancelled", ECANCELED);
  TRY_PLAIN(linux::eventfd_take(told_fd));
  return {};
}

}  // namespace

Status Waiters::wait(std::unique_lock<std::mutex>& lock, Cancel cancel, const std::function<bool()>& is_over) {
  if (is_over()) return {};
  const auto told = TRY_PLAIN(linux::eventfd());
  waiting_.push_back(told.get());
  Status waited;
  while (waited.ok() && !is_over()) {
    lock.unlock();
    waited = wait_once(told.get(), cancel);
    lock.lock();
  }
  std::erase(waiting_, told.get());
  return waited;
}

void Waiters::tell() const {
  for (const int waiting : waiting_) ignore(linux::eventfd_signal(waiting));  // an eventfd of ours takes a count
}

}  // namespace caisson::build

// The stage's clone and its stack.
#include "linux/child_clone.hpp"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "linux/fault.hpp"
#include "linux/syscall.hpp"

// The linker's own names for the beginning of the program and the end of its text (end(3)).
extern "C" const char __executable_start;  // NOLINT: reserved, by the linker
extern "C" const char etext;

namespace caisson::linux::raw {

namespace {
// Static, so that a start allocates nothing; the kernel backs only the pages that are touched.
constexpr std::size_t stack_size = std::size_t{128} * 1024;
alignas(64) std::array<std::byte, stack_size> stage_stack;
}  // namespace

int run_stage(int (*function)(void*), void* argument, int flags) noexcept {
  if (const int injected = fault::check("clone"); injected != 0) return -injected;
  const int pid = linux::detail::clone_sharing_memory(function, stage_stack.data() + stack_size, flags | CLONE_VFORK | CLONE_FILES | SIGCHLD, argument);
  return pid < 0 ? -errno : pid;
}

int clear_signal_mask() noexcept {
  sigset_t none;
  sigemptyset(&none);
  return ::sigprocmask(SIG_SETMASK, &none, nullptr) == 0 ? 0 : -errno;
}

long tee(int in_fd, int out_fd, std::size_t count) noexcept {
  return linux::detail::call_raw("tee", [&]() -> long { return ::tee(in_fd, out_fd, count, SPLICE_F_NONBLOCK); });
}

long splice(int in_fd, int out_fd, std::size_t count) noexcept {
  return linux::detail::call_raw("splice", [&]() -> long { return ::splice(in_fd, nullptr, out_fd, nullptr, count, SPLICE_F_NONBLOCK); });
}

int reap(pid_t pid) noexcept {
  int status = 0;
  while (::waitpid(pid, &status, __WALL) < 0)
    if (errno != EINTR) return -errno;
  return status;
}

}  // namespace caisson::linux::raw

namespace caisson::linux {

Result<int> pipe_size(int fd) {
  return detail::value<int>("fcntl F_GETPIPE_SZ", [&] { return ::fcntl(fd, F_GETPIPE_SZ); });
}

void release_free_memory() noexcept { (void)::malloc_trim(0); }

void release_program_text() noexcept {
  constexpr std::uintptr_t page = 4096;  // of every architecture we build for; a larger one only drops less
  const auto first = (reinterpret_cast<std::uintptr_t>(&__executable_start) + page - 1) & ~(page - 1);
  const auto last = reinterpret_cast<std::uintptr_t>(&etext) & ~(page - 1);
  // Advice: where it is not taken, nothing is lost.
  if (last > first) (void)::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

bool has_hung_up(int fd) noexcept {
  struct ::pollfd entry {};
  entry.fd = fd;
  return ::poll(&entry, 1, 0) == 1 && (entry.revents & (POLLHUP | POLLERR)) != 0;
}

}  // namespace caisson::linux

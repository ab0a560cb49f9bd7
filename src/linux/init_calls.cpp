// The calls of init_calls.hpp.
#include "linux/init_calls.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace caisson::linux::init {

void name_self(const char* name) noexcept { (void)::prctl(PR_SET_NAME, name); }

void block_all_signals() noexcept {
  sigset_t all;
  sigfillset(&all);
  (void)::sigprocmask(SIG_BLOCK, &all, nullptr);
}

int spawn_foreground(char** argv) noexcept {
  int status[2] = {-1, -1};
  if (::pipe2(status, O_CLOEXEC) != 0) return -errno;
  const pid_t child = ::fork();
  if (child < 0) return -errno;
  if (child == 0) {
    (void)::setpgid(0, 0);
    // SIGTTOU is still blocked here, so a background group may take the terminal (tcsetpgrp(3)).
    if (::isatty(0) == 1) (void)::tcsetpgrp(0, ::getpgrp());
    sigset_t none;
    sigemptyset(&none);
    (void)::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execvp(argv[0], argv);
    const int failure = errno;
    (void)!::write(status[1], &failure, sizeof failure);
    ::_exit(127);
  }
  (void)::close(status[1]);
  int failure = 0;
  const ssize_t size = ::read(status[0], &failure, sizeof failure);
  (void)::close(status[0]);
  return size == static_cast<ssize_t>(sizeof failure) ? -failure : child;
}

int wait_signal() noexcept {
  sigset_t all;
  sigfillset(&all);
  return ::sigwaitinfo(&all, nullptr);
}

bool is_child_signal(int signal) noexcept { return signal == SIGCHLD; }

void forward(int child, int signal) noexcept {
  if (signal == SIGTTIN || signal == SIGTTOU) return;  // ours, not the program's
  (void)::kill(-child, signal);
}

bool reap_all(int child, int& code) noexcept {
  bool ended = false;
  int status = 0;
  for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0; pid = ::waitpid(-1, &status, WNOHANG)) {
    if (pid != child) continue;
    ended = true;
    code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  return ended;
}

}  // namespace caisson::linux::init

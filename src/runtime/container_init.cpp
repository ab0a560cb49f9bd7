// The init: no heap, no descriptors of its own, gone when its program is gone.
#include "runtime/container_init.hpp"

#include <cerrno>
#include <cstring>

#include "linux/init_calls.hpp"

namespace caisson::runtime {

int run_container_init(int argc, char** argv) {
  if (argc < 3 || std::strcmp(argv[1], "--") != 0) return 127;
  char** program = argv + 2;
  linux::init::name_self("init");
  // Blocked, then taken one by one with sigwaitinfo: no handler, no race between a fork and its SIGCHLD.
  linux::init::block_all_signals();
  const int child = linux::init::spawn_foreground(program);
  if (child < 0) return child == -ENOENT ? 127 : 126;
  while (true) {
    const int signal = linux::init::wait_signal();
    if (signal <= 0) continue;
    if (!linux::init::is_child_signal(signal)) {
      linux::init::forward(child, signal);
      continue;
    }
    int code = 0;
    if (linux::init::reap_all(child, code)) return code;
  }
}

}  // namespace caisson::runtime

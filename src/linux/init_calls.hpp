// The few calls of a container's init (pid 1): no allocation, no Error; it lives inside the container and holds nothing.
#pragma once

namespace caisson::linux::init {

/// prctl(PR_SET_NAME).
void name_self(const char* name) noexcept;
void block_all_signals() noexcept;
/// Starts argv[0] (searched in PATH) in a process group of its own, which becomes the terminal's foreground group where
/// there is a terminal. Returns its pid, or -errno of exec.
int spawn_foreground(char** argv) noexcept;
/// The next signal, of all; ≤ 0 when interrupted.
int wait_signal() noexcept;
bool is_child_signal(int signal) noexcept;
/// To the child's process group, as a terminal would.
void forward(int child, int signal) noexcept;
/// Reaps everything that has ended. True when `child` was among them; `code` is then its exit code (128 + signal).
bool reap_all(int child, int& code) noexcept;

}  // namespace caisson::linux::init

// LauncherStarter: a process that keeps the rights it was started with, and forks a launcher when it is asked for one. The daemon, which hears clients, gives its own up.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/process.hpp"
#include "runtime/plan.hpp"

namespace caisson::runtime {

/// The daemon's side. Thread-safe.
class LauncherStarter {
 public:
  /// Runs `path` (caisson-runtime) from a sealed copy in memory, so that no container can write to what the host executes. The process ends with this object's
  /// last owner. Errors: not_found (path), unavailable.
  static Result<std::shared_ptr<LauncherStarter>> start(const std::string& path);

  /// A new launcher, which is served at the other end of `socket` (borrowed). It is the starter's child: its pidfd tells of its end, not how. Errors: unavailable (the
  /// starter has ended or does not answer).
  Result<linux::ChildProcess> launch(int socket);
  /// Readable once the starter has ended. There will be no other: it would have no more rights than whoever starts it.
  [[nodiscard]] int pidfd() const { return process_.pidfd.get(); }
  [[nodiscard]] pid_t pid() const { return process_.pid; }
  /// What plans may assume: the rights are the starter's, whoever makes the plan.
  [[nodiscard]] const HostFacts& facts() const { return facts_; }

 private:
  LauncherStarter(linux::ChildProcess process, UniqueFd socket, HostFacts facts)
      : process_(std::move(process)), socket_(std::move(socket)), facts_(std::move(facts)) {}
  linux::ChildProcess process_;
  std::mutex mutex_;
  UniqueFd socket_;
  const HostFacts facts_;
};

/// The process: serves the daemon on descriptor 3 until it closes. Returns the exit code.
int run_launcher_starter();

}  // namespace caisson::runtime

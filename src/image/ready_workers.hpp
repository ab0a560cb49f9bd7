// Workers that have started already and wait for a job, so that a job does not wait for its worker. Each does one job and is gone.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "image/worker.hpp"
#include "linux/process.hpp"
#include "linux/spawn.hpp"

namespace caisson::image {

/// caisson-worker's argument that makes it wait: on worker_fd::request is a socket then, and its one message has the job's descriptors, and for each
/// of them a byte, which says where it belongs.
inline constexpr std::string_view ready_argument = "--ready";

/// One worker that waits, for as long as there was use for it lately. Thread-safe.
class ReadyWorkers {
 public:
  /// The first one starts after the first job. Precondition: the workers have ids of their own. `idle_ms`: how long one waits.
  static Result<std::unique_ptr<ReadyWorkers>> create(const WorkerOptions& options, int idle_ms = 30'000);
  ReadyWorkers(const ReadyWorkers&) = delete;
  ReadyWorkers& operator=(const ReadyWorkers&) = delete;
  ~ReadyWorkers();

  /// Hands a job to the worker that waits. Nothing: there is none, or it has died; the job is the caller's to start.
  std::optional<linux::ChildProcess> hand_over(const std::vector<linux::FdMapping>& fds);
  /// A job has ended: the next one shall find a worker. `delay_ms`: until it is started, so that this does not compete with what the job was for; the
  /// shortest counts when several ask.
  void refill(int delay_ms = 0);
  /// A user namespace with the workers' ids, to map mounts by.
  [[nodiscard]] int ids() const { return ids_.get(); }
  /// Until one waits, or none does any more; for tests. False: it took longer.
  [[nodiscard]] bool await(bool is_there, int timeout_ms);

 private:
  struct Waiting {
    linux::ChildProcess process;
    UniqueFd channel;
  };
  ReadyWorkers(WorkerOptions options, int idle_ms, UniqueFd ids);
  void run();
  Result<Waiting> start() const;
  static void end(std::optional<Waiting>& waiting);
  void end_idle();

  const WorkerOptions options_;
  const int idle_ms_;
  const UniqueFd ids_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Waiting> waiting_;
  bool is_wanted_ = false;
  std::chrono::steady_clock::time_point due_;  ///< of one that is wanted
  bool is_stopped_ = false;
  std::thread thread_;  ///< starts them all: a worker dies with the thread that started it
};

/// As run_worker, but the job goes to the worker that waits, if there is one. nullptr: there is never one.
Result<WorkerResult> run_worker(const WorkerOptions& options, const WorkerJob& job, ReadyWorkers* ready);

/// main() of a worker that waits.
int ready_worker_main();

}  // namespace caisson::image

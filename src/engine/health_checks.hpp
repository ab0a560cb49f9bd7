// HealthChecks: one thread that knows when the probes of all containers are due, reads what they print, and sees their end; others start them.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.hpp"
#include "engine/health.hpp"

namespace caisson::engine {

/// Thread-safe. The threads exist from the first watch() on. Starting a probe waits for the container's monitor, so that is done by starters: one
/// usually, one more for every monitor that does not answer, so that it holds up nobody else. A probe is an exec whose only client is a socket of ours; it is over when
/// its exit code was told and that socket has ended, in either order: the two come on different ways.
class HealthChecks {
 public:
  /// Called on our threads, for one container by one at a time but for `end` beside a `begin` that was given up, with none of our locks held.
  struct Owner {
    /// Starts the probe as exec `exec_id`; its output goes raw to `client`. Returns how long it may take, in ns.
    std::function<Result<std::int64_t>(const std::string& container_id, const std::string& exec_id, UniqueFd client)> begin;
    /// Takes the result. Returns the pause until the next probe in ns, or nothing when there shall be none.
    std::function<std::optional<std::int64_t>(const std::string& container_id, ProbeResult result)> end;
  };

  explicit HealthChecks(Owner owner) : owner_(std::move(owner)) {}
  HealthChecks(const HealthChecks&) = delete;
  HealthChecks& operator=(const HealthChecks&) = delete;
  ~HealthChecks() { finish(); }

  /// The next probe of this container begins in `pause_ns`; one that runs is forgotten. Errors: io, unavailable.
  Status watch(const std::string& container_id, std::int64_t pause_ns);
  /// No more probes; the result of one that runs is not reported.
  void forget(const std::string& container_id);
  /// From the runtime's events. Ids of other execs are ignored.
  void exec_ended(const std::string& container_id, const std::string& exec_id, int exit_code);
  /// Ends the thread. Probes that run go on, until their time is over at the latest.
  void finish();

 private:
  struct Probe {
    std::string exec_id;
    UniqueFd output;
    std::uint64_t tag = 0;
    ProbeOutput text;
    TimestampNs start = 0;
    std::int64_t begun_ns = 0;     ///< monotonic
    std::int64_t timeout_ns = 0;
    std::int64_t give_up_ns = 0;   ///< monotonic: nobody tells us its end any more; 0: it is just being started
    std::optional<int> exit_code;
    bool is_silent = false;        ///< its output has ended
  };
  struct Entry {
    std::int64_t due_ns = 0;       ///< monotonic
    std::optional<Probe> probe;
  };
  struct Ended {
    std::string container_id;
    ProbeResult result;
  };

  Status start_thread();
  void run();
  void begin_due();
  void run_starter();
  void begin_one(const std::string& container_id);
  void read_outputs(std::uint64_t tag);
  /// Probes that are over, and those whose end nobody tells any more.
  void end_probes();
  void report(Ended ended);
  static Ended conclude(const std::string& container_id, const Probe& probe);
  int wait_ms();

  Owner owner_;
  std::mutex mutex_;
  std::map<std::string, Entry> entries_;
  std::uint64_t next_tag_ = 1;
  UniqueFd epoll_;
  UniqueFd wake_;
  bool stopping_ = false;
  std::thread thread_;
  std::set<std::string> starting_;     ///< containers whose probe is being started, or waits for that
  std::deque<std::string> to_start_;
  std::condition_variable start_told_;
  std::size_t idle_starters_ = 0;
  std::vector<std::thread> starters_;
};

}  // namespace caisson::engine

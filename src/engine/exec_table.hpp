// ExecTable: the execs of all containers. In memory only: what still runs after a restart of the daemon is found again.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/types.hpp"
#include "runtime/runtime.hpp"

namespace caisson::engine {

/// Thread-safe. Finished execs are kept for their exit codes, the newest `finished_limit` of them: health probes make thousands.
class ExecTable {
 public:
  static constexpr std::size_t finished_limit = 1024;

  void add(ExecInfo exec);
  /// Errors: not_found ("No such exec instance: X").
  Result<ExecInfo> find(const std::string& id);
  /// The same, after waiting (two seconds at most) for the news of an exec whose start or end is just being told: its client may
  /// have seen the end of the stream a moment before we hear of the exit.
  Result<ExecInfo> find_settled(const std::string& id);
  /// Marks it as being started. Errors: not_found, conflict when that happened before.
  Result<ExecInfo> claim(const std::string& id);
  void started(const std::string& id, pid_t pid);
  /// The end, or a start that failed. An end reported before started() is kept.
  void finished(const std::string& id, int exit_code);
  std::vector<std::string> of_container(const std::string& container_id);
  /// Of the newest exec whose program had that number; "": none had.
  std::string container_of(pid_t pid);
  void forget_container(const std::string& container_id);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, ExecInfo, std::less<>> execs_;
  std::set<std::string> launching_;  ///< claimed, and not yet started() or finished()
  std::deque<std::string> finished_;
};

}  // namespace caisson::engine

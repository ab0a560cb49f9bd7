// LogCompressor: one thread that compresses what monitors have rotated away, for the containers that ask for it.
#pragma once

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::engine {

/// Thread-safe. The thread exists from the first watch() on. What was rotated while no daemon looked is compressed at watch().
class LogCompressor {
 public:
  LogCompressor() = default;
  LogCompressor(const LogCompressor&) = delete;
  LogCompressor& operator=(const LogCompressor&) = delete;
  ~LogCompressor() { finish(); }

  /// Safe to repeat. Errors: io, unavailable (no inotify instance or watch left).
  Status watch(const std::string& log_path);
  void forget(const std::string& log_path);
  void finish();

 private:
  Status start_thread();
  void run();
  Status run_until_stopped();

  std::mutex mutex_;
  UniqueFd changes_;
  UniqueFd wake_;
  std::map<int, std::string> logs_;  ///< by watch
  std::set<std::string> due_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace caisson::engine

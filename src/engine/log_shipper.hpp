// LogShippers: brings what monitors have written into log files to syslog servers and the journal, one thread per container that asks for it.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/unique_fd.hpp"
#include "engine/log_drivers.hpp"
#include "wire/pump.hpp"

namespace caisson::engine {

/// The file is the buffer: a server that is away holds up nobody but its own thread, and what it missed is sent when it is back, as long as
/// rotation has not reached it; what rotation is about to take is passed over and counted. How far a shipper came is written beside the log,
/// so that the next daemon goes on there (docs/adr/0011-log-drivers.md).
class LogShippers {
 public:
  explicit LogShippers(std::string journal_socket) : journal_socket_(std::move(journal_socket)) {}
  LogShippers(const LogShippers&) = delete;
  LogShippers& operator=(const LogShippers&) = delete;
  ~LogShippers() { finish(); }

  /// `checked`: the server must answer now, as docker demands of a container's start; `in_background`: it may come later.
  enum class Start : std::uint8_t { checked, in_background };
  /// Begins to send `log_path`, from where an earlier shipper stopped. One that exists for the container goes on. Errors: invalid (options),
  /// unavailable, denied, not_found (no journal).
  Status begin(const ContainerInfo& info, const std::string& log_path, Start start);
  /// The container has ended: its shipper sends what is left, and ends.
  void end(const std::string& container_id);
  /// The log is about to be removed: what is unsent after `patience_ms` is lost.
  void forget(const std::string& container_id, int patience_ms);
  /// Records that were lost to rotation before their server took them.
  std::uint64_t lost(const std::string& container_id);
  void finish();

 private:
  class Shipper;
  Result<std::shared_ptr<wire::Pump>> pump();

  std::string journal_socket_;
  std::mutex mutex_;
  std::shared_ptr<wire::Pump> pump_;  // shared with the shippers that speak TLS
  std::map<std::string, std::shared_ptr<Shipper>> shippers_;  // shared with the thread that runs it
};

}  // namespace caisson::engine

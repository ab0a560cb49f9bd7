// LogTarget: the connection to a log server, opened again when it breaks.
#pragma once

#include <memory>
#include <string>

#include "base/cancel.hpp"
#include "base/unique_fd.hpp"
#include "engine/log_drivers.hpp"
#include "wire/pump.hpp"

namespace caisson::engine {

/// Not thread-safe.
class LogTarget {
 public:
  virtual ~LogTarget() = default;
  /// Errors: docker's words ("dial tcp 127.0.0.1:514: connect: connection refused").
  virtual Status connect() = 0;
  [[nodiscard]] virtual bool is_connected() const = 0;
  /// Hands over one record; waits while the server is slow. Errors: the connection broke (it is closed then), timeout (`cancel` fired).
  virtual Status send(const LogRecord& record, Cancel cancel) = 0;
};

/// `pump`: for TLS; may be null for the others.
Result<std::unique_ptr<LogTarget>> create_log_target(const ContainerInfo& info, const std::string& journal_socket, std::shared_ptr<wire::Pump> pump);

}  // namespace caisson::engine

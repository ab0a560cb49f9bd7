// Refusals: what the kernel's audit records say it refused to our containers, counted by container while the daemon runs.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.hpp"
#include "engine/security.hpp"
#include "linux/kernel_audit.hpp"

namespace caisson::engine {

/// Thread-safe. Its thread sleeps until the kernel has something to say, and costs nothing then.
class Refusals {
 public:
  /// The container whose process it is, or was; "" for none. Called on our thread.
  using FindContainer = std::function<std::string(const linux::AuditRecord& record)>;

  explicit Refusals(FindContainer find) : find_(std::move(find)) {}
  ~Refusals() { finish(); }
  Refusals(const Refusals&) = delete;
  Refusals& operator=(const Refusals&) = delete;

  /// Errors: those of AuditListener::open(); nothing is heard then, and gap() says why.
  Status begin();
  void finish();
  /// False: it is none of a container's, as far as is known now.
  bool take(const linux::AuditRecord& record, TimestampNs now);

  [[nodiscard]] std::vector<Refusal> of(const std::string& container_id) const;
  void forget(const std::string& container_id);
  /// Why nothing is heard; "" when something is.
  [[nodiscard]] std::string gap() const;

 private:
  void run();
  FindContainer find_;
  mutable std::mutex mutex_;  ///< of the next two
  std::map<std::string, std::vector<Refusal>> refusals_;  ///< by container; at most `most_kinds` of each, the rest is counted with the last
  std::string gap_ = "the kernel's audit records are not read";
  std::optional<linux::AuditListener> listener_;
  UniqueFd wake_;
  std::thread thread_;
};

}  // namespace caisson::engine

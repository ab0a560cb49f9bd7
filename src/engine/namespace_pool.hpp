// Namespaces made before anybody asks for a container: what takes long in a start, and waits for the kernel's network lock, is done then.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "network/network.hpp"

namespace caisson::engine {

/// A user namespace over one id range, a network namespace owned by it with `lo` up, and maybe a link to the default bridge.
struct ReadyPair {
  std::uint32_t first_host_id = 0;
  UniqueFd user;
  UniqueFd network;
  std::optional<network::ReadyLink> link;
};

/// Holds at most `size` pairs of each kind, and none of a kind that nobody has asked for yet. All of it lives in memory and descriptors,
/// so whatever ends the daemon gives everything back. Thread-safe; the callbacks are called without its lock.
class NamespacePool {
 public:
  enum class Kind : std::uint8_t { isolated, bridged };
  struct Source {
    std::function<Result<ReadyPair>(Kind)> make;
    std::function<void(ReadyPair)> give_back;  ///< namespaces, address and id range
    std::function<void(ReadyPair)> unmake;     ///< namespaces and address: the range has an owner
  };
  NamespacePool(std::size_t size, Source source) : size_(size), source_(std::move(source)) {}
  ~NamespacePool() { drain(); }
  NamespacePool(const NamespacePool&) = delete;
  NamespacePool& operator=(const NamespacePool&) = delete;

  /// Gives a ready pair's id range to a container, whose record owns it from now on. The namespaces wait for take(); when more than `size`
  /// containers are made and not started, the oldest of them lose theirs. None: there is nothing ready.
  std::optional<std::uint32_t> assign(const std::string& container_id, Kind kind);
  /// What assign() kept for this container.
  std::optional<ReadyPair> take(const std::string& container_id);
  /// The container will not be started: its namespaces go, its range stays with whoever owns it.
  void forget(const std::string& container_id);
  /// Makes what is missing; for a background thread. Stops at the first error, which is no failure: starts make their own then.
  Status refill();
  [[nodiscard]] bool wants_refill();
  /// Gives everything back, because ranges or addresses have run out. The next refill() begins anew.
  void drain();

 private:
  struct Assigned {
    std::string container_id;
    ReadyPair pair;
  };
  std::optional<Kind> missing_locked() const;
  std::optional<ReadyPair> remove_locked(const std::string& container_id);

  const std::size_t size_;
  const Source source_;
  std::mutex mutex_;
  std::mutex refill_mutex_;  ///< one refill at a time
  std::deque<ReadyPair> ready_[2];
  bool is_used_[2] = {false, false};
  std::deque<Assigned> assigned_;  ///< oldest first
};

}  // namespace caisson::engine

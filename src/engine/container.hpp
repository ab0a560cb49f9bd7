// Container: one container in memory, with its locks, its waiters and the clients that came before its start.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.hpp"
#include "engine/record.hpp"
#include "runtime/runtime.hpp"
#include "state/store.hpp"

namespace caisson::engine {

/// A wait that was registered and its outcome. Shared by the container, which completes it, and the client's Waiter.
class WaitState {
 public:
  static Result<std::shared_ptr<WaitState>> create(WaitCondition condition);
  void complete(WaitResult result);
  /// Until complete() or `cancel`; `timeout_ms` -1: no limit. Errors: timeout.
  Result<WaitResult> wait(Cancel cancel, int timeout_ms);
  [[nodiscard]] WaitCondition condition() const { return condition_; }
  /// Readable once complete() was called; borrowed.
  [[nodiscard]] int fd() const { return wake_.get(); }

 private:
  WaitState(WaitCondition condition, UniqueFd wake) : condition_(condition), wake_(std::move(wake)) {}
  const WaitCondition condition_;
  UniqueFd wake_;
  std::mutex mutex_;
  std::optional<WaitResult> result_;
};

/// Locks, in the order in which they may be taken: `operation`, then the inner state. Shared by the registry, running verbs and
/// background tasks, so that a container that is removed meanwhile does not vanish under them.
class Container {
 public:
  Container(Record record, state::Store& store) : id(record.info.id), store_(store), record_(std::make_shared<const Record>(std::move(record))) {}

  const std::string id;
  /// The lock of this container: start, remove, rename, update, pause and teardown exclude each other. May be held for long.
  std::mutex operation;

  /// What it is now; never waits for `operation`.
  [[nodiscard]] std::shared_ptr<const Record> snapshot() const;  // shared: readers keep what they saw while it changes

  /// Changes the record, in the store first. The change is made in memory even when the store refuses it (the kernel's truth is
  /// not undone by a full disk); flush() writes it later. `tell` is called with the new record before anyone else can change it: what it
  /// publishes comes ahead of what later changes publish. It must not come back here.
  Status change(const std::function<void(Record&)>& edit, const std::function<void(const Record&)>& tell = nullptr);
  /// The same with more writes in the same transaction; nothing changes when it is refused.
  Status change_with(state::Transaction transaction, const std::function<void(Record&)>& edit);
  /// Takes the record out of the store together with what `build` adds; later changes are refused. `build` sees the last record,
  /// already edited. A store that refuses is reported, but the container is gone for this daemon all the same. Errors: not_found when it
  /// was erased before.
  Status erase(const std::function<void(Record&)>& edit, const std::function<void(const Record&, state::Transaction&)>& build);
  /// In memory only: for what is not stored (endpoint, ports).
  void change_in_memory(const std::function<void(Record&)>& edit);
  /// A user starts it: the policy's count and pause begin anew, as docker has it. Saved with the start.
  void forget_restarts();
  /// Writes a record that the store refused earlier.
  Status flush();

  // -- start and exit meet here
  /// From now on an exit is kept instead of being handled, until finish_start() fetches it.
  void begin_start();
  std::optional<runtime::ExitStatus> finish_start();
  /// True when the exit was kept for a start that is under way.
  bool keep_exit(const runtime::ExitStatus& status);

  // -- waiters
  Result<std::shared_ptr<WaitState>> add_waiter(WaitCondition condition);
  /// Completes those whose condition is in `conditions`.
  void complete_waiters(std::initializer_list<WaitCondition> conditions, const WaitResult& result);

  // -- clients before the start
  void keep_client(runtime::AttachRequest client);
  std::vector<runtime::AttachRequest> take_clients();

  /// What the last run left on the host is still there; whoever holds `operation` clears it away.
  std::atomic<bool> teardown_pending{false};
  /// Set while a restart verb runs: an exit then neither removes nor restarts by policy.
  std::atomic<bool> restarting_by_user{false};
  std::atomic<bool> removed{false};
  std::atomic<std::int64_t> restart_delay_ms{0};

 private:
  state::Store& store_;
  std::mutex state_mutex_;
  mutable std::mutex record_mutex_;  ///< only for the pointer
  std::shared_ptr<const Record> record_;
  bool unsaved_ = false;
  bool starting_ = false;
  std::optional<runtime::ExitStatus> kept_exit_;
  std::vector<std::shared_ptr<WaitState>> waiters_;
  std::vector<runtime::AttachRequest> clients_;

  void publish(std::shared_ptr<const Record> record);
};

std::string container_key(const std::string& id);
std::string name_key(const std::string& name);
std::string garbage_key(const std::string& id);

}  // namespace caisson::engine

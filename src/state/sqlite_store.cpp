// SqliteStore: the embedded Store on one SQLite file.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/file_lock.hpp"
#include "state/reserve.hpp"
#include "state/schema.hpp"
#include "state/store.hpp"
#include "state/watch_hub.hpp"

namespace caisson::state {

namespace {

constexpr std::int64_t ns_per_ms = 1'000'000;

/// The first key that does not begin with `prefix`; "" when there is none.
std::string end_of_prefix(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && static_cast<unsigned char>(end.back()) == 0xFF) end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  return end;
}

class SqliteStore final : public Store {
 public:
  SqliteStore(linux::FileLock lock, std::unique_ptr<Database> database, const std::string& path)
      : lock_(std::move(lock)), database_(std::move(database)), reserve_(path + "-reserve"), hub_(std::make_shared<WatchHub>()) {}
  ~SqliteStore() override;

  Status begin();
  Result<Entry> get(std::string_view key) override;
  Result<std::vector<Entry>> list(std::string_view prefix) override;
  Result<Revision> commit(const Transaction& transaction) override;
  bool release_reserve() override;
  Result<std::unique_ptr<Watch>> watch(std::string_view prefix, std::function<void(const WatchEvent&)> on_event) override;
  Result<std::int64_t> grant_lease(std::int64_t ttl_ms) override;
  Status renew_lease(std::int64_t lease) override;
  Status revoke_lease(std::int64_t lease) override;

 private:
  struct Lease {
    std::int64_t ttl_ms = 0;
    std::int64_t deadline_ns = 0;  // monotonic: a set wall clock must not end a lease
  };

  Result<Revision> commit_synced_locked(const Transaction& transaction);
  Result<Revision> commit_locked(const Transaction& transaction);
  Status check_condition(const Transaction::Condition& condition);
  Status apply(const Transaction::Write& write, Revision revision, std::vector<WatchEvent>& events);
  Status erase(const std::string& key, Revision revision, std::vector<WatchEvent>& events);
  Status end_lease_locked(std::int64_t lease);
  Status store_lease(std::int64_t id, std::int64_t ttl_ms);
  void watch_leases_locked();
  void expire_leases();

  std::mutex mutex_;
  linux::FileLock lock_;
  std::unique_ptr<Database> database_;
  Reserve reserve_;
  Revision revision_ = 0;
  std::int64_t last_lease_ = 0;
  std::shared_ptr<WatchHub> hub_;  // shared with the handles, which may outlive the store
  std::map<std::int64_t, Lease> leases_;
  std::condition_variable leases_changed_;
  std::thread lease_thread_;  // started by the first lease, so that a store without leases has no thread
  bool stopping_ = false;
};

class HubWatch final : public Store::Watch {
 public:
  HubWatch(std::shared_ptr<WatchHub> hub, std::int64_t id) : hub_(std::move(hub)), id_(id) {}
  ~HubWatch() override { hub_->remove(id_); }

 private:
  std::shared_ptr<WatchHub> hub_;
  std::int64_t id_;
};

SqliteStore::~SqliteStore() {
  {
    std::lock_guard guard(mutex_);
    stopping_ = true;
  }
  leases_changed_.notify_all();
  if (lease_thread_.joinable()) lease_thread_.join();
}

Status SqliteStore::begin() {
  std::lock_guard guard(mutex_);
  {
    auto query = TRY_PLAIN(database_->prepare("SELECT name, value FROM counters"));
    while (TRY_PLAIN(query.step())) (query.text(0) == "lease" ? last_lease_ : revision_) = query.number(1);
  }
  auto query = TRY_PLAIN(database_->prepare("SELECT id, ttl_ms, expires_ns FROM leases"));
  while (TRY_PLAIN(query.step())) {
    // What was left when the last owner wrote it, but never more than a whole term: the clock may have been set back.
    auto left_ns = std::min(query.number(2) - now_ns(), query.number(1) * ns_per_ms);
    Lease lease;
    lease.ttl_ms = query.number(1);
    lease.deadline_ns = monotonic_ns() + std::max<std::int64_t>(left_ns, 0);
    leases_[query.number(0)] = lease;
  }
  if (!leases_.empty()) watch_leases_locked();
  return {};
}

Result<Entry> SqliteStore::get(std::string_view key) {
  std::lock_guard guard(mutex_);
  auto query = TRY_PLAIN(database_->prepare("SELECT value, revision FROM entries WHERE key = ?1"));
  query.bind(1, key);
  if (!TRY_PLAIN(query.step())) return Error(ErrorKind::not_found, concat("no record \"", key, "\""));
  Entry entry;
  entry.key = key;
  entry.value = query.text(0);
  entry.revision = query.number(1);
  return entry;
}

Result<std::vector<Entry>> SqliteStore::list(std::string_view prefix) {
  std::lock_guard guard(mutex_);
  std::string end = end_of_prefix(prefix);
  auto query = end.empty() ? TRY_PLAIN(database_->prepare("SELECT key, value, revision FROM entries WHERE key >= ?1 ORDER BY key"))
                           : TRY_PLAIN(database_->prepare("SELECT key, value, revision FROM entries WHERE key >= ?1 AND key < ?2 ORDER BY key"));
  query.bind(1, prefix);
  if (!end.empty()) query.bind(2, end);
  std::vector<Entry> entries;
  while (TRY_PLAIN(query.step())) {
    Entry entry;
    entry.key = query.text(0);
    entry.value = query.text(1);
    entry.revision = query.number(2);
    entries.push_back(std::move(entry));
  }
  return entries;
}

Result<Revision> SqliteStore::commit(const Transaction& transaction) {
  std::lock_guard guard(mutex_);
  auto result = commit_synced_locked(transaction);
  if (!result.ok() && result.error().error_number() == ENOSPC && transaction.frees && reserve_.release()) return commit_synced_locked(transaction);
  if (result.ok()) reserve_.refill();
  return result;
}

bool SqliteStore::release_reserve() {
  std::lock_guard guard(mutex_);
  return reserve_.release();
}

Result<Revision> SqliteStore::commit_synced_locked(const Transaction& transaction) {
  if (!transaction.durable) return commit_locked(transaction);
  // In WAL mode, NORMAL leaves the log in the page cache and FULL syncs it at each commit (sqlite.org/pragma.html#pragma_synchronous).
  TRY_PLAIN(database_->execute("PRAGMA synchronous=FULL"));
  auto result = commit_locked(transaction);
  TRY_PLAIN(database_->execute("PRAGMA synchronous=NORMAL"));
  return result;
}

Result<Revision> SqliteStore::commit_locked(const Transaction& transaction) {
  std::vector<WatchEvent> events;
  Revision revision = revision_ + 1;
  auto guard = TRY(WriteGuard::begin(*database_), "begin a transaction");
  for (const auto& condition : transaction.conditions) TRY_PLAIN(check_condition(condition));
  for (const auto& write : transaction.writes) TRY_PLAIN(apply(write, revision, events));
  {
    auto count = TRY_PLAIN(database_->prepare("UPDATE counters SET value = ?1 WHERE name = 'revision'"));
    TRY(count.bind(1, revision).run(), "write the revision");
  }
  TRY(guard.commit(), "commit");
  revision_ = revision;
  hub_->publish(std::move(events));
  return revision;
}

Status SqliteStore::check_condition(const Transaction::Condition& condition) {
  auto query = TRY_PLAIN(database_->prepare("SELECT revision FROM entries WHERE key = ?1"));
  query.bind(1, condition.key);
  Revision found = TRY_PLAIN(query.step()) ? query.number(0) : 0;
  if (found == condition.revision) return {};
  if (condition.revision == 0) return Error(ErrorKind::conflict, concat("record \"", condition.key, "\" exists already"));
  if (found == 0) return Error(ErrorKind::conflict, concat("record \"", condition.key, "\" is gone"));
  return Error(ErrorKind::conflict, concat("record \"", condition.key, "\" was changed by somebody else"));
}

Status SqliteStore::apply(const Transaction::Write& write, Revision revision, std::vector<WatchEvent>& events) {
  if (!write.value) return erase(write.key, revision, events);
  if (write.lease != 0 && leases_.count(write.lease) == 0)
    return Error(ErrorKind::not_found, concat("write record \"", write.key, "\": lease ", write.lease, " does not exist"));
  auto insert = TRY_PLAIN(database_->prepare(
      "INSERT INTO entries(key, value, revision, lease) SELECT ?1, ?2, ?3, ?4 WHERE json_valid(?2)"
      " ON CONFLICT(key) DO UPDATE SET value = excluded.value, revision = excluded.revision, lease = excluded.lease RETURNING 1"));
  insert.bind(1, write.key).bind(2, *write.value).bind(3, revision).bind(4, write.lease);
  if (!TRY(insert.step(), concat("write record \"", write.key, "\"")))
    return Error(ErrorKind::invalid, concat("write record \"", write.key, "\": the value is not valid JSON"));
  TRY(insert.run(), concat("write record \"", write.key, "\""));
  WatchEvent event;
  event.entry.key = write.key;
  event.entry.value = *write.value;
  event.entry.revision = revision;
  events.push_back(std::move(event));
  return {};
}

Status SqliteStore::erase(const std::string& key, Revision revision, std::vector<WatchEvent>& events) {
  auto query = TRY_PLAIN(database_->prepare("DELETE FROM entries WHERE key = ?1 RETURNING 1"));
  query.bind(1, key);
  if (!TRY(query.step(), concat("delete record \"", key, "\""))) return {};  // already gone: nothing changed, no event
  TRY(query.run(), concat("delete record \"", key, "\""));
  WatchEvent event;
  event.entry.key = key;
  event.entry.revision = revision;
  event.deleted = true;
  events.push_back(std::move(event));
  return {};
}

Result<std::unique_ptr<Store::Watch>> SqliteStore::watch(std::string_view prefix, std::function<void(const WatchEvent&)> on_event) {
  // Under the store's lock: "every later change" begins exactly between two commits.
  std::lock_guard guard(mutex_);
  auto id = hub_->add(std::string(prefix), std::move(on_event));
  return std::unique_ptr<Watch>(std::make_unique<HubWatch>(hub_, id));
}

Result<std::int64_t> SqliteStore::grant_lease(std::int64_t ttl_ms) {
  if (ttl_ms <= 0 || ttl_ms > INT64_MAX / (2 * ns_per_ms))
    return Error(ErrorKind::invalid, concat("lease time ", ttl_ms, " ms: want a positive number"));
  std::lock_guard guard(mutex_);
  auto id = last_lease_ + 1;
  auto write = TRY(WriteGuard::begin(*database_), "begin a transaction");
  TRY(store_lease(id, ttl_ms), "write the lease");
  {
    auto count = TRY_PLAIN(database_->prepare("UPDATE counters SET value = ?1 WHERE name = 'lease'"));
    TRY(count.bind(1, id).run(), "write the lease number");
  }
  TRY(write.commit(), "commit the lease");
  last_lease_ = id;
  Lease lease;
  lease.ttl_ms = ttl_ms;
  lease.deadline_ns = monotonic_ns() + ttl_ms * ns_per_ms;
  leases_[id] = lease;
  watch_leases_locked();
  return id;
}

Status SqliteStore::store_lease(std::int64_t id, std::int64_t ttl_ms) {
  auto insert = TRY_PLAIN(database_->prepare("INSERT OR REPLACE INTO leases VALUES(?1, ?2, ?3)"));
  return insert.bind(1, id).bind(2, ttl_ms).bind(3, now_ns() + ttl_ms * ns_per_ms).run();
}

Status SqliteStore::renew_lease(std::int64_t lease) {
  std::lock_guard guard(mutex_);
  auto found = leases_.find(lease);
  if (found == leases_.end()) return Error(ErrorKind::not_found, concat("lease ", lease, " does not exist or has ended"));
  TRY(store_lease(lease, found->second.ttl_ms), concat("renew lease ", lease));
  found->second.deadline_ns = monotonic_ns() + found->second.ttl_ms * ns_per_ms;
  return {};
}

Status SqliteStore::revoke_lease(std::int64_t lease) {
  std::lock_guard guard(mutex_);
  if (leases_.count(lease) == 0) return Error(ErrorKind::not_found, concat("lease ", lease, " does not exist or has ended"));
  TRY(end_lease_locked(lease), concat("end lease ", lease));
  return {};
}

Status SqliteStore::end_lease_locked(std::int64_t lease) {
  std::vector<WatchEvent> events;
  Revision revision = revision_ + 1;
  auto guard = TRY_PLAIN(WriteGuard::begin(*database_));
  std::vector<std::string> keys;
  {
    auto query = TRY_PLAIN(database_->prepare("SELECT key FROM entries WHERE lease = ?1 ORDER BY key"));
    query.bind(1, lease);
    while (TRY_PLAIN(query.step())) keys.push_back(query.text(0));
  }
  for (const auto& key : keys) TRY_PLAIN(erase(key, revision, events));
  {
    auto drop = TRY_PLAIN(database_->prepare("DELETE FROM leases WHERE id = ?1"));
    TRY_PLAIN(drop.bind(1, lease).run());
    auto count = TRY_PLAIN(database_->prepare("UPDATE counters SET value = ?1 WHERE name = 'revision'"));
    TRY_PLAIN(count.bind(1, revision).run());
  }
  TRY_PLAIN(guard.commit());
  revision_ = revision;
  leases_.erase(lease);
  hub_->publish(std::move(events));
  return {};
}

void SqliteStore::watch_leases_locked() {
  if (!lease_thread_.joinable()) lease_thread_ = std::thread([this] { expire_leases(); });
  leases_changed_.notify_all();
}

void SqliteStore::expire_leases() {
  // A lease that cannot be ended now (full disk) is tried again after this long.
  constexpr std::int64_t retry_ns = 1000 * ns_per_ms;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (leases_.empty()) {
      leases_changed_.wait(lock);
      continue;
    }
    auto soonest = std::min_element(leases_.begin(), leases_.end(),
                                    [](const auto& a, const auto& b) { return a.second.deadline_ns < b.second.deadline_ns; });
    auto left_ns = soonest->second.deadline_ns - monotonic_ns();
    if (left_ns > 0) {
      leases_changed_.wait_for(lock, std::chrono::nanoseconds(left_ns));
      continue;
    }
    auto id = soonest->first;
    if (!end_lease_locked(id).ok()) leases_[id].deadline_ns = monotonic_ns() + retry_ns;
  }
}

}  // namespace

Result<OpenedStore> open_sqlite_store(const SqliteOptions& options) {
  auto lock = TRY(linux::FileLock::acquire(options.path + ".lock", options.wait_ms), "open state");
  OpenedStore opened;
  auto database = TRY(open_repaired(options.path, opened.repairs), "open state");
  auto store = std::make_unique<SqliteStore>(std::move(lock), std::move(database), options.path);
  TRY(store->begin(), "open state");
  opened.store = std::move(store);
  return opened;
}

}  // namespace caisson::state

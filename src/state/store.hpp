// Store: the engine's memory. Keys are paths ("container/3f2a…", "image/name/alpine:latest"), values are JSON text.
// The same interface later stands on etcd, so keys are flat strings, and a change is a transaction of conditions and writes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::state {

using Revision = std::int64_t;  ///< grows with every transaction; 0 = "does not exist"

struct Entry {
  std::string key;
  std::string value;
  Revision revision = 0;  ///< of its last write
};

/// All conditions hold, or nothing is written (conflict).
struct Transaction {
  struct Condition {
    std::string key;
    Revision revision = 0;  ///< 0: the key must not exist
  };
  struct Write {
    std::string key;
    std::optional<std::string> value;  ///< none: delete
    std::int64_t lease = 0;            ///< 0: none
  };
  std::vector<Condition> conditions;
  std::vector<Write> writes;
  /// True: the commit must survive a power cut (costs an fsync). False: survives a crash of the process.
  bool durable = false;
  /// True: what it records gives space back. On a full disk it is written into space that is held back for that.
  bool frees = false;

  Transaction& require(std::string key, Revision revision) {
    conditions.push_back({std::move(key), revision});
    return *this;
  }
  Transaction& require_absent(std::string key) { return require(std::move(key), 0); }
  Transaction& put(std::string key, std::string value) {
    writes.push_back({std::move(key), std::move(value), 0});
    return *this;
  }
  Transaction& erase(std::string key) {
    writes.push_back({std::move(key), std::nullopt, 0});
    return *this;
  }
};

struct WatchEvent {
  Entry entry;
  bool deleted = false;
};

/// Thread-safe. Errors: unavailable (locked by another daemon), corrupt (the file is damaged; the text names it), io.
class Store {
 public:
  virtual ~Store() = default;
  /// Errors: not_found.
  virtual Result<Entry> get(std::string_view key) = 0;
  /// All entries whose key begins with `prefix`, sorted by key.
  virtual Result<std::vector<Entry>> list(std::string_view prefix) = 0;
  /// Errors: conflict when a condition does not hold; the text names the key.
  virtual Result<Revision> commit(const Transaction& transaction) = 0;
  /// For a removal that has to write something else first: gives away the space that is held back for removals, until a later commit finds as much free.
  /// False when there is none.
  virtual bool release_reserve() = 0;

  /// Calls `on_event` for every later change below `prefix`, in order, from a thread of the store, until the handle goes.
  class Watch {
   public:
    virtual ~Watch() = default;
  };
  virtual Result<std::unique_ptr<Watch>> watch(std::string_view prefix, std::function<void(const WatchEvent&)> on_event) = 0;

  /// A lease whose keys vanish when it was not renewed for `ttl_ms`.
  virtual Result<std::int64_t> grant_lease(std::int64_t ttl_ms) = 0;
  virtual Status renew_lease(std::int64_t lease) = 0;
  virtual Status revoke_lease(std::int64_t lease) = 0;
};

/// The embedded Store: one SQLite file (WAL), owned by one process at a time, and beside it a mebibyte that is held back, `path` + "-reserve". Rows that cannot be read are moved to the
/// table `damaged` and listed in `repairs`, so that the rest works.
struct SqliteOptions {
  std::string path;
  int wait_ms = 0;  ///< how long another process that holds it is waited for
};
struct OpenedStore {
  std::unique_ptr<Store> store;
  std::vector<std::string> repairs;  ///< one sentence per row or file that had to be put aside
};
/// Errors: unavailable when another process holds it, corrupt, io.
Result<OpenedStore> open_sqlite_store(const SqliteOptions& options);

}  // namespace caisson::state

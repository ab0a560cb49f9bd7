// The folders of RUN --mount=type=cache, and those of contexts that are kept: named, counted, measured behind a step's back, and gone when room is needed and no build has them.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "build/builder.hpp"
#include "build/waiters.hpp"
#include "policy/role.hpp"
#include "state/store.hpp"

namespace caisson::build {

/// Whose cache mounts somebody's builds use: "" for whoever may touch everything, else the labels and project of the role, or its name where it has bounds and neither.
std::string cache_scope_of(const policy::Role& role);
/// What the folder is called, and the record: 64 hexadecimal digits.
std::string cache_mount_key(const std::string& scope, const std::string& id);

/// How a step wants its mount, and what a new one looks like.
struct CacheMountWish {
  std::string scope;
  std::string id;
  std::string target;
  std::string sharing;
  std::uint32_t mode = 0755;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

/// Of one kind. Records "build/mount/<key>" or "build/context/<key>" in the state store, and folders <folder>/<key>; ids on disk are those in the containers. What is being made or removed has a name that
/// begins with "." and is removed by the next start. One thread measures and removes; it begins when there is something to do. Thread-safe.
class CacheMounts {
 public:
  /// `counted(path, bytes)`: a folder was found to be so large, or has gone (0). `measured()`: sizes have changed. Both are called by any thread, under no lock of ours.
  struct Listener {
    std::function<void(const std::string& path, std::uint64_t bytes)> counted;
    std::function<void()> measured;
  };
  /// `kind`: mount or context.
  CacheMounts(state::Store& store, CacheKind kind, std::string folder, Listener listener) : store_(store), kind_(kind), folder_(std::move(folder)), listener_(std::move(listener)) {}
  CacheMounts(const CacheMounts&) = delete;
  CacheMounts& operator=(const CacheMounts&) = delete;
  ~CacheMounts() { stop(); }

  /// Reads what is recorded; walks no tree: what a killed daemon had not measured the thread does. Folders without a record, of earlier versions, get one without an id, which the next use tells.
  Status open();
  /// Ends the thread. What it has yet to measure and to remove is the next start's.
  void stop();

  /// A mount in the hands of a build, for as long as it lives.
  class Use {
   public:
    Use(CacheMounts& mounts, std::string key) : mounts_(&mounts), key_(std::move(key)) {}
    Use(Use&& other) noexcept : mounts_(std::exchange(other.mounts_, nullptr)), key_(std::move(other.key_)) {}
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    Use& operator=(Use&&) = delete;
    ~Use();
    [[nodiscard]] const std::string& key() const { return key_; }
    [[nodiscard]] std::string path() const { return mounts_->path_of(key_); }

   private:
    CacheMounts* mounts_;
    std::string key_;
  };
  /// The mount, made if it is not there yet: `fill` writes what it begins with into a folder that nobody sees before. Waits while it is exported. Errors: unavailable (ECANCELED).
  Result<Use> acquire(const CacheMountWish& wish, const std::function<Status(int folder_fd)>& fill, Cancel cancel = {});
  /// A step has ended that had it: its size is found out.
  void measure_later(const std::string& key);

  [[nodiscard]] std::vector<CacheEntry> entries() const;
  /// Where the folder of that key is, if there is one.
  [[nodiscard]] std::string path_of(const std::string& key) const;
  /// Those of the keys that no build uses. They are out of sight at once; returns when their room is free.
  Result<std::vector<CacheEntry>> take(const std::vector<std::string>& keys);

  /// Keeps builds from beginning to use a mount. Errors: conflict (a build uses it, or it is held already), not_found.
  class Hold {
   public:
    Hold(CacheMounts& mounts, std::string key) : mounts_(&mounts), key_(std::move(key)) {}
    Hold(Hold&& other) noexcept : mounts_(std::exchange(other.mounts_, nullptr)), key_(std::move(other.key_)) {}
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    Hold& operator=(Hold&&) = delete;
    ~Hold();
    [[nodiscard]] std::string path() const { return mounts_->path_of(key_); }

   private:
    CacheMounts* mounts_;
    std::string key_;
  };
  Result<Hold> hold(const std::string& key);

  /// A folder that nobody sees, and that vanishes unless it is adopted.
  class Staging {
   public:
    Staging(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
    Staging(Staging&& other) noexcept : path_(std::exchange(other.path_, {})), fd_(std::move(other.fd_)) {}
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;
    Staging& operator=(Staging&&) = delete;
    ~Staging();
    [[nodiscard]] int fd() const { return fd_.get(); }

   private:
    friend class CacheMounts;
    std::string path_;
    UniqueFd fd_;
  };
  Result<Staging> stage();
  /// The folder becomes the mount, in place of the one that is there, by one rename. Errors: conflict (a build uses it).
  Result<CacheEntry> adopt(const CacheMountWish& wish, Staging staging);

  /// Until everything is measured and removed; for tests.
  void settle();

 private:
  struct Entry {
    CacheEntry shown;
    std::size_t uses = 0;
    bool is_held = false;
    bool is_measured = false;  ///< since it was last used
  };
  [[nodiscard]] std::string record_of(const std::string& key) const;
  [[nodiscard]] Entry fresh_entry(const std::string& key, const CacheMountWish& wish) const;
  Status store_entry(const Entry& entry);
  Result<Use> use(Entry& entry, const CacheMountWish& wish);  // under mutex_
  /// Until nobody holds it; `lock` is given back meanwhile.
  Status wait_for_holder(std::unique_lock<std::mutex>& lock, const std::string& key, const std::string& id, Cancel cancel);
  Status adopt_unknown(const std::string& key);
  Result<std::string> set_aside(const std::string& key);  // under mutex_
  void work_behind();  // under mutex_
  void run();
  void measure(const std::string& key);
  static void remove(const std::string& path);

  state::Store& store_;
  CacheKind kind_;
  std::string folder_;
  Listener listener_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Entry> entries_;
  std::deque<std::string> to_measure_;  // keys
  std::deque<std::string> to_remove_;   // paths
  Waiters waiters_;                     // for the end of a hold
  bool is_busy_ = false;                // the thread has taken something
  bool is_stopped_ = false;
  std::thread thread_;
};

}  // namespace caisson::build

// StoreAccount: what the image store takes on disk, what is promised to operations that are under way, and the quota that both must fit into.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "linux/file.hpp"

namespace caisson::image {

/// What a file or folder itself takes on the disk, as du(1) counts it.
std::uint64_t disk_bytes_of(const linux::FileStatus& status);
/// The same; 0 when it is not there.
Result<std::uint64_t> disk_bytes_of(const std::string& path);
/// What so many bytes take as a file: whole blocks.
std::uint64_t disk_bytes_for(std::uint64_t size_bytes);

/// Room that is kept for what is being made. It comes back when this goes.
class Reservation {
 public:
  Reservation() = default;
  Reservation(Reservation&& other) noexcept : account_(std::exchange(other.account_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Reservation& operator=(Reservation&& other) noexcept;
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  ~Reservation();
  /// It is for so many bytes from now on. Less is always granted. `before_collecting` is called when room has to be made first, which may take seconds.
  /// Errors: as StoreAccount::reserve; then it has nothing any more, because what it was kept for is undone.
  Status resize(std::uint64_t bytes, const std::function<void()>& before_collecting = {});
  /// Takes over what the other one has. Both are of one account, or the other one has nothing.
  void absorb(Reservation& other);
  /// A part of it, of its own from now on. Precondition: it has as much.
  Reservation split(std::uint64_t bytes);

 private:
  friend class StoreAccount;
  explicit Reservation(class StoreAccount& account) : account_(&account) {}
  class StoreAccount* account_ = nullptr;
  std::uint64_t bytes_ = 0;  // under the account's mutex_
};

/// Thread-safe. Nothing is asked of the disk but the things that have changed.
class StoreAccount {
 public:
  /// Lets go of what nobody needs, until `is_enough` or nothing is left of it. May be called by any thread that reserves, one at a time.
  using Collector = std::function<Status(const std::function<bool()>& is_enough)>;
  struct Reading {
    std::uint64_t quota_bytes = 0;  ///< 0: there is none
    std::uint64_t used_bytes = 0;
    std::uint64_t reserved_bytes = 0;
  };

  StoreAccount() = default;
  StoreAccount(const StoreAccount&) = delete;
  StoreAccount& operator=(const StoreAccount&) = delete;

  /// Before other threads use it. An account that nobody began counts nothing and grants everything.
  void begin(std::uint64_t quota_bytes, Collector collector);
  [[nodiscard]] bool has_begun() const { return has_begun_; }

  /// Errors: io (EDQUOT) when it does not fit, not even after collecting; the text says what is needed, used and allowed, and what to do.
  Result<Reservation> reserve(std::uint64_t bytes);
  /// A file or folder of the store: its size, under the inode that it has, so that one with several names counts once.
  struct Item {
    ino_t inode = 0;
    std::uint64_t bytes = 0;
  };
  /// `owner` (a blob, a layer) consists of `items` now; of none: it has gone. By what the store grew these reservations shrink, one after the other.
  void set(const std::string& owner, const std::vector<Item>& items, std::initializer_list<Reservation*> from = {});
  /// What of all this belongs to these owners; shared data counts once.
  [[nodiscard]] std::uint64_t bytes_of(std::span<const std::string> owners) const;
  [[nodiscard]] Reading read() const;

 private:
  friend class Reservation;
  bool take(Reservation& reservation, std::uint64_t more_bytes);
  [[nodiscard]] bool fits(std::uint64_t more_bytes) const;  // under mutex_
  Status grow(Reservation& reservation, std::uint64_t more_bytes, const std::function<void()>& before_collecting);
  void give_back(Reservation& reservation, std::uint64_t bytes);
  void drop(const std::vector<Item>& items);  // under mutex_

  struct Data {
    std::uint64_t bytes = 0;
    std::size_t names = 0;
  };
  bool has_begun_ = false;
  std::uint64_t quota_bytes_ = 0;
  Collector collector_;
  std::mutex collecting_mutex_;  // one collects, the others wait for what it frees
  mutable std::mutex mutex_;
  std::map<std::string, std::vector<Item>> owners_;
  std::map<ino_t, Data> data_;
  std::uint64_t used_bytes_ = 0;
  std::uint64_t reserved_bytes_ = 0;
};

}  // namespace caisson::image

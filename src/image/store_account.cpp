// Sums that are kept while things come and go, and the one place where an operation is told that there is no room.
#include "image/store_account.hpp"

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/strings.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

constexpr std::uint64_t stat_block_bytes = 512;  // stat(2): st_blocks
constexpr std::uint64_t disk_block_bytes = 4096;

std::uint64_t round_up(std::uint64_t bytes, std::uint64_t block) { return (bytes + block - 1) / block * block; }

Error no_room(const StoreAccount::Reading& now, std::uint64_t more_bytes) {
  auto promised = now.reserved_bytes == 0 ? std::string() : concat(", ", human_size_binary(now.reserved_bytes), " are promised to what is under way");
  return {ErrorKind::io,
          concat("the image store has no room for it: ", human_size_binary(more_bytes), " more are needed, ", human_size_binary(now.used_bytes), " are used", promised,
                 ", and the quota (store-quota) is ", human_size_binary(now.quota_bytes), "; `caisson system df` shows what takes the room, `caisson image prune` frees some"),
          EDQUOT};
}

}  // namespace

std::uint64_t disk_bytes_of(const linux::FileStatus& status) {
  const auto blocks = static_cast<std::uint64_t>(status.st_blocks) * stat_block_bytes;
  if (!S_ISREG(status.st_mode)) return blocks;
  // XFS keeps blocks ahead of a file that is being written and takes them back when it is closed (xfs(5), allocsize).
  return std::min(blocks, round_up(static_cast<std::uint64_t>(status.st_size), static_cast<std::uint64_t>(status.st_blksize)));
}

std::uint64_t disk_bytes_for(std::uint64_t size_bytes) { return round_up(size_bytes, disk_block_bytes); }

Result<std::uint64_t> disk_bytes_of(const std::string& path) {
  auto status = linux::lstat(path);
  if (!status.ok() && status.error().kind() == ErrorKind::not_found) return std::uint64_t{0};
  if (!status.ok()) return std::move(status).error();
  return disk_bytes_of(*status);
}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this == &other) return *this;
  if (account_ != nullptr) account_->give_back(*this, bytes_);
  account_ = std::exchange(other.account_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

Reservation::~Reservation() {
  if (account_ != nullptr) account_->give_back(*this, bytes_);
}

Status Reservation::resize(std::uint64_t bytes, const std::function<void()>& before_collecting) {
  if (account_ == nullptr || bytes == bytes_) return {};
  if (bytes > bytes_) return account_->grow(*this, bytes - bytes_, before_collecting);
  account_->give_back(*this, bytes_ - bytes);
  return {};
}

void Reservation::absorb(Reservation& other) {
  if (account_ == nullptr || other.account_ != account_) return;
  std::lock_guard lock(account_->mutex_);
  bytes_ += std::exchange(other.bytes_, 0);
}

Reservation Reservation::split(std::uint64_t bytes) {
  Reservation part;
  if (account_ == nullptr) return part;
  std::lock_guard lock(account_->mutex_);
  part.account_ = account_;
  part.bytes_ = std::min(bytes, bytes_);
  bytes_ -= part.bytes_;
  return part;
}

void StoreAccount::begin(std::uint64_t quota_bytes, Collector collector) {
  quota_bytes_ = quota_bytes;
  collector_ = std::move(collector);
  has_begun_ = true;
}

bool StoreAccount::fits(std::uint64_t more_bytes) const {
  if (quota_bytes_ == 0) return true;
  const auto taken = used_bytes_ + reserved_bytes_;
  return taken <= quota_bytes_ && more_bytes <= quota_bytes_ - taken;
}

bool StoreAccount::take(Reservation& reservation, std::uint64_t more_bytes) {
  std::lock_guard lock(mutex_);
  if (!fits(more_bytes)) return false;
  reservation.bytes_ += more_bytes;
  reserved_bytes_ += more_bytes;
  return true;
}

void StoreAccount::give_back(Reservation& reservation, std::uint64_t bytes) {
  std::lock_guard lock(mutex_);
  const auto given = std::min(bytes, reservation.bytes_);
  reservation.bytes_ -= given;
  reserved_bytes_ -= given;
}

Status StoreAccount::grow(Reservation& reservation, std::uint64_t more_bytes, const std::function<void()>& before_collecting) {
  if (take(reservation, more_bytes)) return {};
  const auto needed = reservation.bytes_ + more_bytes;
  const auto refuse = [&] {
    auto now = read();
    now.reserved_bytes -= std::min(now.reserved_bytes, reservation.bytes_);
    // At once, for whoever waits for the collector: of two that do not fit together one is made.
    give_back(reservation, reservation.bytes_);
    return no_room(now, needed);
  };
  // What could not fit into an empty store is no reason to throw anything away.
  if (needed <= quota_bytes_ && collector_) {
    if (before_collecting) before_collecting();
    std::lock_guard collecting(collecting_mutex_);
    if (take(reservation, more_bytes)) return {};
    auto collected = collector_([&] {
      std::lock_guard lock(mutex_);
      return fits(more_bytes);
    });
    if (take(reservation, more_bytes)) return {};
    TRY(std::move(collected), "make room in the image store");
    return refuse();
  }
  return refuse();
}

Result<Reservation> StoreAccount::reserve(std::uint64_t bytes) {
  if (!has_begun_) return Reservation();
  Reservation reservation(*this);
  if (bytes > 0) TRY_PLAIN(grow(reservation, bytes, {}));
  return reservation;
}

void StoreAccount::drop(const std::vector<Item>& items) {
  for (const auto& item : items) {
    auto found = data_.find(item.inode);
    if (found == data_.end() || --found->second.names > 0) continue;
    used_bytes_ -= found->second.bytes;
    data_.erase(found);
  }
}

void StoreAccount::set(const std::string& owner, const std::vector<Item>& items, std::initializer_list<Reservation*> from) {
  if (!has_begun_) return;
  std::lock_guard lock(mutex_);
  const auto before = used_bytes_;
  // First what is there now, then what was: data that stays must not go in between.
  for (const auto& item : items) {
    auto& data = data_[item.inode];
    used_bytes_ += item.bytes - data.bytes;  // may wrap on the way, never in sum
    data.bytes = item.bytes;
    ++data.names;
  }
  if (auto old = owners_.find(owner); old != owners_.end()) {
    drop(old->second);
    owners_.erase(old);
  }
  if (!items.empty()) owners_.emplace(owner, items);
  auto grown = used_bytes_ > before ? used_bytes_ - before : 0;
  for (auto* reservation : from) {
    if (reservation == nullptr || reservation->account_ != this) continue;
    const auto moved = std::min(grown, reservation->bytes_);
    reservation->bytes_ -= moved;
    reserved_bytes_ -= moved;
    grown -= moved;
  }
}

std::uint64_t StoreAccount::bytes_of(std::span<const std::string> owners) const {
  std::lock_guard lock(mutex_);
  std::set<ino_t> counted;
  std::uint64_t sum = 0;
  for (const auto& owner : owners) {
    auto found = owners_.find(owner);
    if (found == owners_.end()) continue;
    for (const auto& item : found->second)
      if (auto data = data_.find(item.inode); data != data_.end() && counted.insert(item.inode).second) sum += data->second.bytes;
  }
  return sum;
}

StoreAccount::Reading StoreAccount::read() const {
  std::lock_guard lock(mutex_);
  return {quota_bytes_, used_bytes_, reserved_bytes_};
}

}  // namespace caisson::image

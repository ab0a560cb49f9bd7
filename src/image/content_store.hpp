// ContentStore: blobs by digest in an OCI layout, layers by diffID as unpacked trees, and the folder where both are made.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "image/store_account.hpp"
#include "image/worker.hpp"

namespace caisson::image {

/// A folder below ingest/ that vanishes with everything in it, and the room that is kept for it.
class Staging {
 public:
  Staging(std::string path, UniqueFd fd, Reservation room) : path_(std::move(path)), fd_(std::move(fd)), room_(std::move(room)) {}
  Staging(Staging&& other) noexcept : path_(std::exchange(other.path_, {})), fd_(std::move(other.fd_)), room_(std::move(other.room_)) {}
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  Staging& operator=(Staging&&) = delete;
  ~Staging();
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// Nothing is kept at first: whoever writes into it says how much.
  [[nodiscard]] Reservation& room() { return room_; }

 private:
  std::string path_;
  UniqueFd fd_;
  Reservation room_;
};

/// What is wanted while it lives: no clean-up touches it. Take the pin first, look whether the thing exists second.
class Pins {
 public:
  explicit Pins(class ContentStore& store) : store_(&store) {}
  Pins(Pins&& other) noexcept : store_(std::exchange(other.store_, nullptr)), keys_(std::move(other.keys_)) {}
  Pins(const Pins&) = delete;
  Pins& operator=(const Pins&) = delete;
  Pins& operator=(Pins&&) = delete;
  ~Pins();
  void add_blob(const Digest& digest) { add("b " + digest.text()); }
  void add_layer(const Digest& diff_id) { add("l " + diff_id.text()); }

 private:
  void add(std::string key);
  class ContentStore* store_;
  std::vector<std::string> keys_;
};

/// Thread-safe. Paths it hands out lie below `root`, whose folders are 0700.
class ContentStore {
 public:
  /// Makes the folders that are missing. Errors: denied, unavailable (full disk), io.
  static Result<std::unique_ptr<ContentStore>> open(const std::string& root);

  Result<Staging> new_staging(std::string_view purpose);

  /// Counts what is there; from then on the account is kept. Errors: io.
  Status begin_account(std::uint64_t quota_bytes, StoreAccount::Collector collector);
  [[nodiscard]] StoreAccount& account() { return account_; }

  [[nodiscard]] std::string blob_path(const Digest& digest) const;
  /// What blobs and layers take on the disk together; shared data counts once.
  [[nodiscard]] std::uint64_t disk_bytes(const std::vector<Digest>& blobs, const std::vector<Digest>& layers) const;
  Result<bool> has_blob(const Digest& digest) const;
  /// Errors: corrupt ("blob sha256:… is missing"), invalid (larger than 16 MiB: no document is).
  Result<std::string> read_blob(const Digest& digest) const;
  Result<std::uint64_t> blob_size(const Digest& digest) const;
  /// Hashes, writes, syncs, renames. An existing blob is kept.
  Result<Digest> put_blob(std::string_view bytes, DigestAlgorithm algorithm = DigestAlgorithm::sha256);
  /// Takes over a finished file of a staging folder whose digest is known to be `digest`; syncs it first. `room`: what was kept for it.
  Status adopt_blob(const std::string& file, const Digest& digest, Reservation* room = nullptr);

  /// Where a blob grows that comes over the network. It outlives cut connections and crashes, and is a blob only once its digest was
  /// checked (adopt_blob).
  [[nodiscard]] std::string partial_path(const Digest& digest) const;
  /// Removes downloads that nobody has gone on with for `age_ns`. How many.
  Result<std::size_t> remove_stale_partials(std::int64_t age_ns);
  /// Removes those that nobody is going on with, the oldest first, until `is_enough`.
  Status free_partials(const std::function<bool()>& is_enough);
  /// Removes what has come of a blob that nobody wants any more. Precondition: nobody is going on with it.
  Status discard_partial(const Digest& digest);
  /// It grew or went away. `room`: what was kept for it.
  Status count_partial(const Digest& digest, Reservation* room = nullptr);

  /// Where the layer's tree is to be found: its directory, or where its index is mounted. The first time it is asked for an index, the
  /// index is compared with the digest that was recorded when it was made, and mounted. Thread-safe against removal.
  /// Errors: corrupt (the index is not what it was), unsupported, denied (it cannot be mounted any more).
  Result<std::string> open_layer(const Digest& diff_id);
  Result<bool> has_layer(const Digest& diff_id) const;
  /// Sum of its files' sizes. Errors: corrupt (the layer is missing or was not finished by us).
  Result<std::uint64_t> layer_size(const Digest& diff_id) const;
  /// What lies in `staging` becomes the layer: the tree "fs", or "layer.tar" and "index.erofs". Size, digest of the index and implied
  /// directories are remembered beside it. An existing layer is kept, unless it is broken. `tar_room`: what was kept for its tar elsewhere, if that
  /// is a second name of a file that is in the making.
  Status adopt_layer(Staging& staging, const Digest& diff_id, const UnpackedLayer& unpacked, Reservation* tar_room = nullptr);
  /// Directories that the layer's archive named only in passing take the attributes that they have in `below`. Once per
  /// layer: by the first image that stacks it. A tree is changed here; for an index `make_index` is called, which leaves a new one in a
  /// staging folder. Precondition: nobody else settles the same layer. Errors: io; those of make_index.
  using MakeIndex = std::function<Result<Staging>(const std::string& tar, const std::vector<DirectoryAttributes>&)>;
  /// `below`: directories of the layers below, topmost first; called when they are needed. Empty: there are none.
  using Below = std::function<Result<std::vector<std::string>>()>;
  Status settle_implied_dirs(const Digest& diff_id, const Below& below, const MakeIndex& make_index);
  /// Moves a broken layer out of the way, whoever wants it. Errors: io.
  Status set_aside_layer(const Digest& diff_id);
  /// An empty directory for images without layers: an overlay needs at least one.
  [[nodiscard]] std::string empty_layer_dir() const { return root_ + "/layers/empty/fs"; }

  /// Everything written so far is on disk when this returns (syncfs).
  Status sync();

  [[nodiscard]] bool is_pinned(const Digest& digest) const;
  /// Moves it out of the store unless it is pinned. True when it was there and is gone. A rename only, so that it can be
  /// decided under a lock; the disk space comes back with empty_trash().
  Result<bool> discard_blob(const Digest& digest);
  Result<bool> discard_layer(const Digest& diff_id);
  Status empty_trash();
  Result<std::vector<Digest>> list_blobs() const;
  Result<std::vector<Digest>> list_layers() const;
  Result<std::uint64_t> blobs_bytes() const;
  /// Undoes the mounts of layers that an earlier process has left; containers that use them keep theirs.
  Status detach_layers();
  /// Empties ingest/ and returns how many operations had left something there. Only while nothing is being made.
  Result<std::size_t> clear_staging();

  [[nodiscard]] const std::string& root() const { return root_; }

  ContentStore(const ContentStore&) = delete;
  ContentStore& operator=(const ContentStore&) = delete;
  /// Undoes its mounts.
  ~ContentStore();

 private:
  explicit ContentStore(std::string root) : root_(std::move(root)) {}
  friend class Pins;
  [[nodiscard]] std::string layer_path(const Digest& diff_id) const;
  // store_account's items of what lies at a path
  Status count_file(const std::string& path, Reservation* room = nullptr);
  Status count_layer(const std::string& path, std::initializer_list<Reservation*> rooms = {});
  Result<bool> move_to_trash(const std::string& path, const std::string& pin_key);
  [[nodiscard]] std::string new_trash() const;
  // layer_mounts.cpp
  Status mount_layer(const std::string& path);
  Status replace_index(const Digest& diff_id, const Staging& staging);
  std::string root_;
  StoreAccount account_;
  mutable std::mutex mutex_;  // of pins_, and of deleting against pinning
  std::map<std::string, int> pins_;
  std::mutex mounts_mutex_;        // of mounted_, and of mounting against removing; before mutex_
  std::set<std::string> mounted_;  // paths of layers whose index this process has checked and mounted
};

/// The files of a layer that is kept as an index, in its folder and in a staging folder.
namespace layer_file {
inline constexpr const char* tree = "fs";
inline constexpr const char* tar = "layer.tar";
inline constexpr const char* index = "index.erofs";
inline constexpr const char* mount_point = "mount";  ///< not "fs": a caisson that knows no indexes finds the layer missing instead of empty
inline constexpr const char* index_digest = "index.digest";
inline constexpr const char* disk_bytes = "disk";  ///< what the tree takes on the disk, so that nobody has to walk it
}  // namespace layer_file

/// The attributes that these directories have in the first of `layers` (their directories, topmost first) that has them; those that none has are left out.
Result<std::vector<DirectoryAttributes>> directory_attributes(const std::vector<std::string>& names, const std::vector<std::string>& layers);

/// Takes a layer's folder off whatever is mounted in it.
Status detach_layer(const std::string& path);
/// detach_layer, and remove_tree.
Status remove_layer_tree(const std::string& path);

/// The digest of a whole file, read in pieces, wherever its position is.
Result<Digest> digest_of_file(int fd, DigestAlgorithm algorithm);

}  // namespace caisson::image

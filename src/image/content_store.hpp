// ContentStore: blobs by digest in an OCI layout, layers by diffID as unpacked trees, and the folder where both are made.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "image/worker.hpp"

namespace caisson::image {

/// A folder below ingest/ that vanishes with everything in it.
class Staging {
 public:
  Staging(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  Staging(Staging&& other) noexcept : path_(std::exchange(other.path_, {})), fd_(std::move(other.fd_)) {}
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  Staging& operator=(Staging&&) = delete;
  ~Staging();
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  std::string path_;
  UniqueFd fd_;
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

  [[nodiscard]] std::string blob_path(const Digest& digest) const;
  Result<bool> has_blob(const Digest& digest) const;
  /// Errors: corrupt ("blob sha256:… is missing"), invalid (larger than 16 MiB: no document is).
  Result<std::string> read_blob(const Digest& digest) const;
  Result<std::uint64_t> blob_size(const Digest& digest) const;
  /// Hashes, writes, syncs, renames. An existing blob is kept.
  Result<Digest> put_blob(std::string_view bytes, DigestAlgorithm algorithm = DigestAlgorithm::sha256);
  /// Takes over a finished file of a staging folder whose digest is known to be `digest`; syncs it first.
  Status adopt_blob(const std::string& file, const Digest& digest);

  /// Where a blob grows that comes over the network. It outlives cut connections and crashes, and is a blob only once its digest was
  /// checked (adopt_blob).
  [[nodiscard]] std::string partial_path(const Digest& digest) const;
  /// Removes downloads that nobody has gone on with for `age_ns`. How many.
  Result<std::size_t> remove_stale_partials(std::int64_t age_ns);

  [[nodiscard]] std::string layer_dir(const Digest& diff_id) const;  ///< "…/layers/<hex>/fs"
  Result<bool> has_layer(const Digest& diff_id) const;
  /// Sum of its files' sizes. Errors: corrupt (the layer is missing or was not finished by us).
  Result<std::uint64_t> layer_size(const Digest& diff_id) const;
  /// The unpacked tree `staging`/fs becomes the layer; size and implied directories are remembered beside it. An existing
  /// layer is kept.
  Status adopt_layer(Staging& staging, const Digest& diff_id, const UnpackedLayer& unpacked);
  /// Patches directories that an archive named only in passing with the attributes they have in `below` (topmost first).
  /// Once per layer: by the first image that stacks it. Errors: io.
  Status settle_implied_dirs(const Digest& diff_id, const std::vector<Digest>& below);
  /// An empty directory for images without layers: an overlay needs at least one.
  [[nodiscard]] std::string empty_layer_dir() const { return root_ + "/layers/empty/fs"; }

  /// Everything written so far is on disk when this returns (syncfs).
  Status sync();

  /// Moves it out of the store unless it is pinned. True when it was there and is gone. A rename only, so that it can be
  /// decided under a lock; the disk space comes back with empty_trash().
  Result<bool> discard_blob(const Digest& digest);
  Result<bool> discard_layer(const Digest& diff_id);
  Status empty_trash();
  Result<std::vector<Digest>> list_blobs() const;
  Result<std::vector<Digest>> list_layers() const;
  Result<std::uint64_t> blobs_bytes() const;
  /// Empties ingest/ and returns how many operations had left something there. Only while nothing is being made.
  Result<std::size_t> clear_staging();

  [[nodiscard]] const std::string& root() const { return root_; }

 private:
  explicit ContentStore(std::string root) : root_(std::move(root)) {}
  friend class Pins;
  [[nodiscard]] std::string layer_path(const Digest& diff_id) const;
  Result<bool> move_to_trash(const std::string& path, const std::string& pin_key);

  std::string root_;
  std::mutex mutex_;  // of pins_, and of deleting against pinning
  std::map<std::string, int> pins_;
};

/// The digest of a whole file, read in pieces, wherever its position is.
Result<Digest> digest_of_file(int fd, DigestAlgorithm algorithm);

}  // namespace caisson::image

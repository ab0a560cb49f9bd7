// Uploads: blobs on their way in. The file on disk is the truth: it outlives cut connections and killed processes, and its end is where an upload goes on.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "base/unique_fd.hpp"
#include "registry/storage.hpp"
#include "state/store.hpp"

namespace caisson::registry {

class Uploads;

/// One request's hold on an upload; nobody else writes to it meanwhile.
class UploadWriter {
 public:
  UploadWriter(UploadWriter&&) noexcept = default;
  UploadWriter& operator=(UploadWriter&&) = delete;

  [[nodiscard]] const std::string& id() const;
  [[nodiscard]] std::uint64_t size_bytes() const;
  /// Writes at the end and goes on with the hash. Errors: unavailable (full disk); what was written stays, and counts.
  Status append(std::string_view bytes);
  /// The whole file has this digest, and becomes that blob. `size_bytes` new on disk, or 0 when the blob was there. The caller has pinned the
  /// blob. Errors: invalid (another digest; the upload is gone), io.
  Result<std::uint64_t> finish(const Digest& digest);
  /// Ends the upload and removes its file.
  Status cancel();

 private:
  friend class Uploads;
  struct State;
  UploadWriter(Uploads& owner, std::shared_ptr<State> state, std::unique_lock<std::timed_mutex> lock, UniqueFd fd)
      : owner_(&owner), state_(std::move(state)), lock_(std::move(lock)), fd_(std::move(fd)) {}
  Status catch_up(DigestAlgorithm algorithm);

  Uploads* owner_;
  std::shared_ptr<State> state_;  // shared with the table: a clean-up may drop it from there
  std::unique_lock<std::timed_mutex> lock_;
  UniqueFd fd_;
};

/// Thread-safe. `store` and `storage` must outlive it.
class Uploads {
 public:
  /// Takes up what an earlier process left. Files below `folder` that no record names, and the reverse, are removed.
  static Result<std::unique_ptr<Uploads>> open(const std::string& folder, state::Store& store, Storage& storage);

  /// `algorithm`: the one the digest will be in, as far as is known. Errors: unavailable (too many uploads, full disk).
  Result<UploadWriter> begin(const std::string& repository, DigestAlgorithm algorithm);
  /// Errors: not_found (no such upload in that repository), conflict (another request writes to it).
  Result<UploadWriter> take(std::string_view repository, std::string_view id);
  /// How far it has come, whoever is writing. Errors: not_found.
  Result<std::uint64_t> size_bytes(std::string_view repository, std::string_view id);
  /// Removes uploads that nobody has written to for so long. How many.
  Result<std::uint64_t> expire(std::int64_t age_ns);
  std::size_t count();

 private:
  friend class UploadWriter;
  Uploads(std::string folder, state::Store& store, Storage& storage) : folder_(std::move(folder)), store_(store), storage_(storage) {}
  Status load();
  Result<std::shared_ptr<UploadWriter::State>> find(std::string_view repository, std::string_view id);
  [[nodiscard]] std::string path(std::string_view id) const;
  Status forget(const std::string& id);

  const std::string folder_;
  state::Store& store_;
  Storage& storage_;
  std::mutex mutex_;  ///< of the table
  std::map<std::string, std::shared_ptr<UploadWriter::State>, std::less<>> table_;
};

}  // namespace caisson::registry

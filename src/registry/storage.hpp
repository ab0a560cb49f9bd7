// Storage: where a registry's blobs and manifests lie in the end: in its folder, or in a bucket of an S3-compatible service (ADR 15).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "base/unique_fd.hpp"
#include "image/content_store.hpp"
#include "registry/range.hpp"

namespace caisson::registry {

struct StoredBlob {
  Digest digest;
  std::uint64_t size_bytes = 0;
  TimestampNs written = 0;
};
/// A file that holds what was asked for, from `offset` on.
struct OpenedBlob {
  UniqueFd fd;
  std::uint64_t offset = 0;
};

/// Thread-safe. What is written is durable when the call returns. Errors of all calls name the blob.
class Storage {
 public:
  explicit Storage(image::ContentStore& local) : local_(local) {}
  virtual ~Storage() = default;
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  /// What grows, and pins: always in the registry's folder. Pin first, look second.
  [[nodiscard]] image::ContentStore& local() const { return local_; }

  virtual Result<bool> has(const Digest& digest) = 0;
  /// A document. Errors: corrupt (it is missing, or something else).
  virtual Result<std::string> read(const Digest& digest) = 0;
  /// Some of a blob of `size_bytes`. Errors: corrupt (missing).
  virtual Result<OpenedBlob> open(const Digest& digest, std::uint64_t size_bytes, ByteRange wanted) = 0;
  /// Where a client may fetch it by itself for a while; "": only here.
  virtual std::string direct_url(const Digest& /*digest*/) { return {}; }
  /// Text whose digest is known.
  virtual Status put(std::string_view bytes, const Digest& digest) = 0;
  /// Takes over a finished file of the registry's folder; when it fails the file is still there.
  virtual Status adopt(const std::string& file, const Digest& digest) = 0;
  virtual Result<std::vector<StoredBlob>> list() = 0;
  /// What list() told of a blob, as it is now; none: it is gone.
  virtual Result<std::optional<StoredBlob>> look_again(const StoredBlob& listed) = 0;
  /// How much lies there, without what only a walk through all of it would tell. None: as much as the records say.
  virtual Result<std::optional<std::uint64_t>> total_bytes() = 0;
  /// Takes it out of use unless it is pinned; quick, so that it can be decided under a lock. True when it is out.
  virtual Result<bool> discard(const Digest& digest) = 0;
  /// Removes what was discarded, and what an interrupted write has left.
  virtual Status remove_discarded() = 0;

  /// From here on it is this folder's: what lies in the bucket may leave the folder.
  virtual void joined() {}

  /// Whether records lie beside the blobs, so that they can be made anew from there.
  [[nodiscard]] virtual bool keeps_records() const { return false; }
  virtual Status put_record(std::string_view /*key*/, std::string_view /*text*/) { return {}; }
  virtual Status erase_record(std::string_view /*key*/) { return {}; }
  virtual Result<std::vector<std::string>> list_records() { return std::vector<std::string>(); }
  /// None: it is not there.
  virtual Result<std::optional<std::string>> read_record(std::string_view /*key*/) { return std::optional<std::string>(); }

 private:
  image::ContentStore& local_;
};

/// In content/ of the registry's folder.
std::unique_ptr<Storage> folder_storage(image::ContentStore& local);

}  // namespace caisson::registry

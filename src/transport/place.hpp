// Place: where a repository's manifests and blobs can be read from and written to: a registry's, or a folder's (an OCI layout).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "image/artifacts.hpp"
#include "image/manifest.hpp"
#include "image/registries.hpp"

namespace caisson::transport {

using OnBytes = std::function<void(std::uint64_t bytes)>;

/// A blob whose digest and size were checked.
struct ReadyBlob {
  int fd = -1;       ///< borrowed; its position does not matter
  std::string path;  ///< of a file that whoever takes the blob may rename; "": it belongs to somebody else
};

/// One repository. Thread-safe: blobs travel side by side. Errors of all calls name the place and what was asked for.
class Place {
 public:
  virtual ~Place() = default;

  /// "127.0.0.1:5000/app", "oci:/srv/app", for people.
  [[nodiscard]] virtual std::string name() const = 0;
  /// What the repository is called in its registry, when it is in one: a blob can be mounted from there.
  [[nodiscard]] virtual std::optional<image::Reference> repository() const { return std::nullopt; }

  /// A manifest or index, checked against its digest. `name`: a tag, a digest, or "" for the only image of a layout. Errors: not_found, corrupt.
  virtual Result<image::FetchedManifest> manifest(const std::string& name) = 0;
  virtual Result<std::vector<std::string>> tags() = 0;
  /// The file of a blob that lies at hand, not yet checked; nothing when it has to be fetched.
  virtual Result<UniqueFd> open_blob(const image::Descriptor& blob) = 0;
  /// Writes bytes from `offset` on to that place of `fd`; only of places whose open_blob gives nothing.
  virtual Status fetch_blob(const image::Descriptor& blob, int fd, std::uint64_t offset, const OnBytes& on_bytes) = 0;

  virtual Result<bool> has_blob(const image::Descriptor& blob) = 0;
  /// True: another repository of the same registry gave it, and nothing travelled.
  virtual Result<bool> mount_blob(const image::Descriptor& blob, const std::string& from_path) = 0;
  virtual Status put_blob(const image::Descriptor& blob, const ReadyBlob& ready, const OnBytes& on_bytes) = 0;
  /// Byte for byte. `tag` none: it is only part of something, or known by its digest.
  virtual Status put_manifest(const image::FetchedManifest& manifest, const std::optional<std::string>& tag) = 0;
  /// What is attached to a manifest here, as lists of referrers tell it; at most image::most_referrers.
  virtual Result<std::vector<image::Descriptor>> referrers(const Digest& subject) = 0;
  /// Byte for byte, by its digest, and listed as attached to its subject also where the place does not do that by itself.
  virtual Status put_referrer(const image::FetchedManifest& manifest, const image::Attachment& attachment) = 0;
  /// Where blobs grow on their way here, if this place has room for that itself: then they need not be copied.
  [[nodiscard]] virtual std::string spool_folder() const { return {}; }
};

}  // namespace caisson::transport

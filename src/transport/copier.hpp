// Copier: manifests byte for byte from one place to another, and of their blobs only those that are missing there.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "image/manifest.hpp"
#include "transport/place.hpp"
#include "transport/spool.hpp"

namespace caisson::transport {

struct CopyOptions {
  bool all_platforms = false;        ///< indexes whole; else the one image in them that `platform` asks for
  image::Platform platform;
  bool signatures = false;           ///< also what cosign keeps under tags of the image's digest: .sig, .att, .sbom
  bool referrers = false;            ///< also what is attached to the image, and to that in turn
  std::size_t blobs_at_once = 3;
};

/// What travelled.
struct Traffic {
  std::uint64_t manifests = 0;
  std::uint64_t blobs = 0;
  std::uint64_t bytes = 0;
  std::uint64_t mounted = 0;
  std::uint64_t there = 0;  ///< blobs that the target had
};
Traffic& operator+=(Traffic& sum, const Traffic& more);

/// Which repositories of registries are known to hold a blob, because this process has seen it there. Thread-safe.
class Holders {
 public:
  void add(const image::Reference& repository, const Digest& blob);
  /// Paths of other repositories in the same registry.
  [[nodiscard]] std::vector<std::string> others(const image::Reference& repository, const Digest& blob) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::map<Digest, std::set<std::string>>> paths_;  // by domain
};

/// Of one pair of places. Not thread-safe itself; it moves several blobs at a time.
class Copier {
 public:
  /// Everything is borrowed. `progress` is called by one thread at a time.
  Copier(Place& source, Place& target, Spool& spool, Holders& holders, CopyOptions options, image::ProgressSink progress)
      : source_(source), target_(target), spool_(spool), holders_(holders), options_(std::move(options)), progress_(std::move(progress)) {}

  /// What a name of the source stands for: the index itself with all_platforms, else the image chosen from it. Errors: those of the source, not_found
  /// (no such platform).
  Result<image::FetchedManifest> resolve(const std::string& name);
  /// Brings a resolved manifest with everything below it, children first, so that the target never names what it has not got.
  /// Errors: those of the places, naming them and the digest; corrupt for a blob that is not what it is called.
  Status copy(const image::FetchedManifest& manifest, const std::optional<std::string>& target_tag);
  /// With options.signatures: the signature tags of the manifest. How many there were.
  Result<std::size_t> copy_signatures(const image::FetchedManifest& manifest);

  /// With options.referrers: what is attached to the manifest and, of an index, to those in it; and what is attached to that. How many there were.
  /// Errors: those of copy; invalid (more than anybody attaches), corrupt (what a list names is attached to something else, so that lists may lead in a circle).
  Result<std::size_t> copy_referrers(const image::FetchedManifest& manifest);

  [[nodiscard]] Traffic traffic() const;

 private:
  Status copy_tree(const image::FetchedManifest& manifest, const std::optional<std::string>& tag, std::size_t depth);
  Status copy_parts(const image::FetchedManifest& manifest, std::size_t depth);
  struct Walk {
    std::set<Digest> image;  ///< its own manifests: what is attached to them is looked for, and they travel as parts of it
    std::set<Digest> seen;
  };
  Status copy_attached(const Digest& subject, std::size_t depth, Walk& walk);
  Status copy_attachment(const Digest& subject, const image::Descriptor& listed);
  Status copy_blobs(const image::Manifest& manifest);
  Status copy_blob(const image::Descriptor& blob);
  Result<bool> is_mounted(const image::Descriptor& blob);
  Status bring_blob(const image::Descriptor& blob);
  void tell(const image::Descriptor& blob, std::string status, std::uint64_t current = 0);

  Place& source_;
  Place& target_;
  Spool& spool_;
  Holders& holders_;
  CopyOptions options_;
  image::ProgressSink progress_;
  std::mutex progress_mutex_;
  std::set<Digest> done_;  // manifests and blobs that are at the target for certain
  std::atomic<std::uint64_t> manifests_ = 0;
  std::atomic<std::uint64_t> blobs_ = 0;
  std::atomic<std::uint64_t> bytes_ = 0;
  std::atomic<std::uint64_t> mounted_ = 0;
  std::atomic<std::uint64_t> there_ = 0;
};

}  // namespace caisson::transport

// Catalog: which repository holds which blobs, manifests, tags and referrers. The one owner of these records; every change is one transaction.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "image/content_store.hpp"
#include "registry/reserve.hpp"
#include "state/store.hpp"

namespace caisson::registry {

/// What must be known of a manifest without reading it again.
struct ManifestRecord {
  std::string media_type;
  std::uint64_t size_bytes = 0;
  std::string artifact_type;  ///< as the referrers API tells it
  std::string subject;        ///< a digest, or ""
  std::map<std::string, std::string> annotations;
  std::vector<std::string> blobs;      ///< digests that must stay: config and layers that are here
  std::vector<std::string> manifests;  ///< digests of an index's entries
  TimestampNs pushed = 0;
};

/// What a push wants to be true of a tag, from If-Match and If-None-Match.
struct TagCondition {
  std::optional<std::string> must_be;  ///< a digest; "*": any
  bool must_be_absent = false;
};

struct Page {
  std::vector<std::string> names;
  bool has_more = false;
};

/// What a clean-up has done.
struct CleanUp {
  std::uint64_t manifests = 0;
  std::uint64_t links = 0;   ///< blobs taken from a repository that no manifest there uses
  std::uint64_t blobs = 0;   ///< files that no repository held any more
  std::uint64_t bytes = 0;
  std::uint64_t uploads = 0;
};

/// Thread-safe. `store` and `content` must outlive it.
class Catalog {
 public:
  struct Limits {
    std::uint64_t total_bytes = 0;       ///< of all blobs on disk; 0: none
    std::uint64_t repository_bytes = 0;  ///< of what one repository holds; 0: none
    std::map<std::string, std::uint64_t> of_repository;  ///< exceptions by name
  };
  /// Reads all records once, to know how much each repository holds.
  static Result<std::unique_ptr<Catalog>> open(state::Store& store, image::ContentStore& content, Limits limits);

  // -- blobs
  /// The size of a blob that `repository` holds, or none.
  Result<std::optional<std::uint64_t>> blob_size(std::string_view repository, const Digest& digest);
  /// From now on the repository holds the blob, which is on disk and pinned by the caller. Errors: unavailable (EDQUOT: a quota; ENOSPC).
  Status hold_blob(const std::string& repository, const Digest& digest, std::uint64_t size_bytes);
  /// Errors: not_found.
  Status release_blob(const std::string& repository, const Digest& digest);
  /// Repositories that hold it.
  Result<std::vector<std::string>> holders(const Digest& digest);
  /// Somebody was told that the repository has it: a clean-up leaves it alone for the grace time.
  void touch(std::string_view repository, const Digest& digest);
  /// Whether `more_bytes` still fit. Errors: unavailable (EDQUOT), naming the quota.
  Status check_quota(const std::string& repository, std::uint64_t more_bytes);
  /// A blob of that size has come to disk, or gone from it.
  void count_bytes(std::int64_t difference);

  // -- manifests and tags
  Result<std::optional<ManifestRecord>> manifest(std::string_view repository, const Digest& digest);
  /// Errors: invalid (a stored digest is damaged).
  Result<std::optional<Digest>> tag(std::string_view repository, std::string_view tag);
  /// Whether the tag was put within `age_ns`.
  Result<bool> is_tag_fresh(std::string_view repository, std::string_view tag, std::int64_t age_ns);
  /// Digests of the repository's manifests that have the blob as a part.
  Result<std::vector<Digest>> manifests_naming(std::string_view repository, const Digest& blob);
  enum class Needs : std::uint8_t {
    all_parts,
    nothing,  ///< of another registry's manifest: its parts come when they are asked for
  };
  /// Survives a power cut once it returns, and so does every blob the repository was given before. Errors: not_found (a blob or manifest that it
  /// names has just been removed), conflict (the condition does not hold), unavailable (quota).
  Status put_manifest(const std::string& repository, const Digest& digest, const ManifestRecord& record, const std::vector<std::string>& tags,
                      const TagCondition& condition, Needs needs = Needs::all_parts);
  /// Errors: not_found.
  Status remove_tag(const std::string& repository, const std::string& tag);
  /// With its tags. Errors: not_found.
  Status remove_manifest(const std::string& repository, const Digest& digest);
  /// Everything of it. Errors: not_found.
  Status remove_repository(const std::string& repository);

  // -- listings, in byte order
  Result<bool> exists(std::string_view repository);
  Result<Page> tags(std::string_view repository, std::string_view after, std::size_t most);
  Result<Page> repositories(std::string_view after, std::size_t most);
  struct Referrer {
    Digest digest;
    ManifestRecord record;
  };
  Result<std::vector<Referrer>> referrers(std::string_view repository, const Digest& subject);
  struct Usage {
    std::map<std::string, std::uint64_t> by_repository;
    std::uint64_t total_bytes = 0;  ///< on disk, each blob once
  };
  Usage usage();

  // -- clean-up (clean_up.cpp)
  struct CleanUpOptions {
    std::int64_t grace_ns = 0;    ///< what was given, told or touched within it stays
    bool untagged = false;        ///< also manifests that no tag, no index and no subject leads to
  };
  /// Runs beside pushes: every decision is taken under the lock that pushes take to become visible.
  Result<CleanUp> clean_up(const CleanUpOptions& options);

 private:
  Catalog(state::Store& store, image::ContentStore& content, Limits limits);
  Status load();
  /// Commits what frees space, with the help of the reserve on a full disk.
  Status commit_removal(const state::Transaction& change);
  Status check_quota_locked(const std::string& repository, std::uint64_t more_bytes, std::uint64_t more_on_disk);
  Status check_parts_locked(const std::string& repository, const ManifestRecord& record);
  Result<std::vector<std::string>> tags_of_locked(const std::string& repository, const Digest& digest);
  bool is_fresh_locked(std::string_view repository, std::string_view digest, TimestampNs given, std::int64_t grace_ns);
  Status remove_manifest_locked(const std::string& repository, const Digest& digest);
  Status sweep_manifests(const std::string& repository, const CleanUpOptions& options, CleanUp& done);
  Status sweep_links(const std::string& repository, const CleanUpOptions& options, CleanUp& done);
  Status sweep_blobs(const CleanUpOptions& options, CleanUp& done);
  Status drop_if_empty_locked(const std::string& repository);

  state::Store& store_;
  image::ContentStore& content_;
  const Limits limits_;
  const TimestampNs opened_;
  Reserve reserve_;
  std::mutex mutex_;  ///< of every change, and of what is below
  std::map<std::string, std::uint64_t> held_bytes_;
  std::uint64_t total_bytes_ = 0;
  std::map<std::string, TimestampNs, std::less<>> touched_;  ///< by "REPOSITORY@DIGEST"; what is older than the grace time is forgotten
};

}  // namespace caisson::registry

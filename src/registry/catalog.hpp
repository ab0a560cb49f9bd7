// Catalog: which repository holds which blobs, manifests, tags and referrers. The one owner of these records; every change is one transaction.
#pragma once

#include <array>
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
#include "registry/storage.hpp"
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

/// Thread-safe. `store` and `storage` must outlive it.
class Catalog {
 public:
  struct Limits {
    std::uint64_t total_bytes = 0;       ///< of all blobs on disk; 0: none
    std::uint64_t repository_bytes = 0;  ///< of what one repository holds; 0: none
    std::map<std::string, std::uint64_t> of_repository;  ///< exceptions by name
  };
  /// Reads all records once, to know how much each repository holds.
  static Result<std::unique_ptr<Catalog>> open(state::Store& store, Storage& storage, Limits limits);

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

  // -- records beside the blobs, where the storage keeps some (catalog_mirror.cpp)
  /// Of a storage that keeps records: makes this folder the one that it belongs to. A folder that knows nothing of a storage that is in use takes its records
  /// from there; what a folder holds is brought to a storage that is not. Before anything is served. Errors: conflict (it is another folder's).
  Status join_storage();
  /// Errors: conflict (another folder has taken the storage over).
  Status check_owner();
  /// Brings the storage's records up to date after a crash or a failure.
  Status mirror_leftovers();

  // -- clean-up (clean_up.cpp)
  struct CleanUpOptions {
    std::int64_t grace_ns = 0;    ///< what was given, told or touched within it stays
    bool untagged = false;        ///< also manifests that no tag, no index and no subject leads to
  };
  /// Runs beside pushes: every decision is taken under the lock that pushes take to become visible.
  Result<CleanUp> clean_up(const CleanUpOptions& options);

 private:
  Catalog(state::Store& store, Storage& storage, Limits limits);
  Status load();
  Status check_quota_locked(const std::string& repository, std::uint64_t more_bytes, std::uint64_t more_on_disk);
  Status check_parts_locked(const std::string& repository, const ManifestRecord& record);
  Result<std::vector<std::string>> tags_of_locked(const std::string& repository, const Digest& digest);
  bool is_fresh_locked(std::string_view repository, std::string_view digest, TimestampNs given, std::int64_t grace_ns);
  using Changed = std::vector<std::string>;  ///< keys of records that the storage keeps too
  Status remove_manifest_locked(const std::string& repository, const Digest& digest, Changed& changed);
  Result<Changed> put_manifest_locked(const std::string& repository, const Digest& digest, const ManifestRecord& record, const std::vector<std::string>& tags,
                                      const TagCondition& condition, Needs needs);
  /// Notes in the transaction itself that the storage has to be told; mirror() does it, without the lock.
  Changed note(state::Transaction& change) const;
  Status mirror(const Changed& changed);
  Status mirror_one(const std::string& key);
  Status restore();
  Status restore_manifest(const state::Entry& entry, const std::map<std::string, std::uint64_t>& sizes);
  Status bring_folder();
  Status sweep_manifests(const std::string& repository, const CleanUpOptions& options, CleanUp& done);
  Status sweep_manifests_locked(const std::string& repository, const CleanUpOptions& options, CleanUp& done, Changed& changed);
  Status sweep_links(const std::string& repository, const CleanUpOptions& options, CleanUp& done);
  Status sweep_blobs(const CleanUpOptions& options, CleanUp& done);
  Status drop_if_empty_locked(const std::string& repository);

  state::Store& store_;
  Storage& storage_;
  const Limits limits_;
  const TimestampNs opened_;
  std::array<std::mutex, 32> mirror_mutexes_;  ///< one writer at a time for a record's copy; by the key's hash
  std::mutex mutex_;  ///< of every change, and of what is below
  std::map<std::string, std::uint64_t> held_bytes_;
  std::uint64_t total_bytes_ = 0;
  std::map<std::string, TimestampNs, std::less<>> touched_;  ///< by "REPOSITORY@DIGEST"; what is older than the grace time is forgotten
};

}  // namespace caisson::registry

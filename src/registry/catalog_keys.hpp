// Keys and values of the registry's records in the state store. Repository names hold no ':' and no '@', digests and tags no '/' and no '@', so a prefix
// names exactly one repository.
#pragma once

#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "registry/catalog.hpp"

namespace caisson::registry::keys {

inline constexpr std::string_view all_repositories = "repo/";
inline constexpr std::string_view all_blobs = "blob/";
inline constexpr std::string_view all_manifests = "manifest/";
inline constexpr std::string_view all_tags = "tag/";

inline std::string repository(std::string_view name) { return concat(all_repositories, name); }
inline std::string blobs(std::string_view name) { return concat(all_blobs, name, "@"); }
inline std::string blob(std::string_view name, std::string_view digest) { return concat(all_blobs, name, "@", digest); }
inline std::string manifests(std::string_view name) { return concat(all_manifests, name, "@"); }
inline std::string manifest(std::string_view name, std::string_view digest) { return concat(all_manifests, name, "@", digest); }
inline std::string tags(std::string_view name) { return concat(all_tags, name, ":"); }
inline std::string tag(std::string_view name, std::string_view tag) { return concat(all_tags, name, ":", tag); }
inline std::string referrers(std::string_view name, std::string_view subject) { return concat("referrer/", name, "@", subject, "/"); }
inline std::string referrer(std::string_view name, std::string_view subject, std::string_view digest) { return concat("referrer/", name, "@", subject, "/", digest); }
/// Whoever holds the file of a digest: as a blob or as a manifest of a repository.
inline std::string holders(std::string_view digest) { return concat("holder/", digest, "/"); }
inline std::string blob_holders(std::string_view digest) { return concat("holder/", digest, "/b/"); }
inline std::string blob_holder(std::string_view digest, std::string_view name) { return concat("holder/", digest, "/b/", name); }
inline std::string manifest_holder(std::string_view digest, std::string_view name) { return concat("holder/", digest, "/m/", name); }

inline constexpr const char* present = "{}";

struct BlobRecord {
  std::uint64_t size_bytes = 0;
  TimestampNs given = 0;
};
std::string write(const BlobRecord& record);
std::string write(const ManifestRecord& record);
std::string write_tag(const Digest& digest, TimestampNs at);
/// Errors: corrupt, naming the record.
Result<BlobRecord> read_blob(const state::Entry& entry);
Result<ManifestRecord> read_manifest(const state::Entry& entry);
Result<Digest> read_tag(const state::Entry& entry);
Result<TimestampNs> read_tag_time(const state::Entry& entry);

/// "blob/NAME@DIGEST" → its halves.
struct Held {
  std::string repository;
  std::string digest;
};
Held split_key(std::string_view key, std::string_view prefix);

}  // namespace caisson::registry::keys

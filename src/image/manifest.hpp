// The JSON documents of images: OCI manifest, index and config, and docker-archive's manifest.json. Pure parsing and writing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/json.hpp"
#include "base/result.hpp"
#include "image/image_store.hpp"
#include "image/inflate.hpp"

namespace caisson::image {

namespace media_type {
inline constexpr std::string_view oci_manifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view oci_index = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view oci_config = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view oci_layer = "application/vnd.oci.image.layer.v1.tar";  // "+gzip", "+zstd"
inline constexpr std::string_view docker_manifest = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view docker_list = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view docker_config = "application/vnd.docker.container.image.v1+json";
inline constexpr std::string_view docker_layer = "application/vnd.docker.image.rootfs.diff.tar";  // ".gzip"
inline constexpr std::string_view docker_schema1 = "application/vnd.docker.distribution.manifest.v1";  // and "+json", "+prettyjws"
// A cache mount of builds on its way: an artifact that is made as an image is, so that its configuration names its layer's diffID.
inline constexpr std::string_view cache_mount = "application/vnd.caisson.cache-mount.v1";
inline constexpr std::string_view cache_mount_config = "application/vnd.caisson.cache-mount.config.v1+json";
}  // namespace media_type

/// An OCI index or Docker's manifest list.
bool is_index_type(std::string_view type);

struct Platform {
  std::string os;
  std::string architecture;
  std::string variant;
  bool operator==(const Platform&) const = default;
};
/// This machine's, in the words of images ("amd64", "arm64", "arm" + "v7"). `machine` is uname's ("x86_64").
Platform platform_of_machine(std::string_view machine);
/// "linux/arm/v7".
std::string platform_text(const Platform& platform);
/// "linux/arm64/v8" or "arm64". Errors: invalid.
Result<Platform> parse_platform(std::string_view text);
/// True when an image of `offered` runs on `wanted`: empty and default variants (arm64/v8, amd64/v1) are the same.
bool platform_matches(const Platform& offered, const Platform& wanted);

struct Descriptor {
  std::string media_type;
  Digest digest;
  std::uint64_t size_bytes = 0;
  std::map<std::string, std::string> annotations;
  std::optional<Platform> platform;
  std::vector<std::string> urls;
  std::string artifact_type;  ///< in lists of referrers
};

struct Manifest {
  std::string media_type;  ///< may be empty in OCI's
  Descriptor config;
  std::vector<Descriptor> layers;  ///< lowest first
  std::map<std::string, std::string> annotations;
  std::string artifact_type;          ///< of what is no image, or ""
  std::optional<Descriptor> subject;  ///< what this is attached to
};

struct Index {
  std::string media_type;  ///< may be empty
  std::vector<Descriptor> manifests;
  std::map<std::string, std::string> annotations;
  std::string artifact_type;
  std::optional<Descriptor> subject;
};

/// Errors of the parsers: invalid, naming the field; unsupported for Docker's schema 1 and for artifacts that are no images.
Result<Manifest> parse_manifest(std::string_view text);
Result<Index> parse_index(std::string_view text);

/// Errors: unsupported, of a cache mount unless its type is `accepted` ("": images only), with the way to take it in.
Status check_purpose(const Manifest& manifest, std::string_view accepted);

/// An image config with the members that Docker has beside the specification's.
struct ImageConfig {
  TimestampNs created = 0;
  std::string author;
  std::string architecture;
  std::string os = "linux";
  std::string variant;
  ContainerConfig config;
  std::vector<std::string> on_build;
  std::vector<Digest> diff_ids;
  std::vector<HistoryEntry> history;
  std::string comment;
};
Result<ImageConfig> parse_image_config(std::string_view text);

/// One image of a docker-archive.
struct ArchivedImage {
  std::string config;               ///< member names, hostile
  std::vector<std::string> repo_tags;
  std::vector<std::string> layers;  ///< lowest first
};
Result<std::vector<ArchivedImage>> parse_archive_manifest(std::string_view text);

/// The OCI texts we write: compact, members in a fixed order, so that the same image has the same digest everywhere.
std::string write_image_config(const ImageConfig& config);
std::string write_manifest(const Manifest& manifest);
std::string write_index(const Index& index);
std::string write_archive_manifest(const std::vector<ArchivedImage>& images);

/// "application/vnd.oci.image.layer.v1.tar+gzip".
std::string layer_media_type(Compression compression);

}  // namespace caisson::image

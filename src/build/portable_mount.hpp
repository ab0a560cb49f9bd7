// A cache mount on its way between hosts: an OCI artifact whose manifest says which mount it is, and whose one layer is its tree.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "image/image_store.hpp"

namespace caisson::build {

/// Annotations of the manifest: the mount's id, by which it is known for one, and what the tree's root has, which no layer tells.
inline constexpr std::string_view mount_id_annotation = "org.caisson.build.cache-mount.id";
inline constexpr std::string_view mount_owner_annotation = "org.caisson.build.cache-mount.owner";  ///< "0:0"
inline constexpr std::string_view mount_mode_annotation = "org.caisson.build.cache-mount.mode";    ///< "0755"
/// Label of its configuration, by which a leftover of an interrupted export or import is known.
inline constexpr std::string_view mount_label = "org.caisson.build.cache-mount";

struct PortableMount {
  std::string id;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t mode = 0755;
};

/// The artifact of it, which is made as an image is: nothing in it depends on when and where it was made, so that the same tree has the same digests. `layer`: of the tree.
image::ComposeRequest artifact_of(const PortableMount& mount, image::MadeLayer layer);
/// Errors: invalid, naming what the source is instead, or the annotation that is wrong.
Result<PortableMount> parse_artifact(const image::LayerList& source);

}  // namespace caisson::build

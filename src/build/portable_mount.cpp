// Annotations of a cache mount's artifact, written and read.
#include "build/portable_mount.hpp"

#include <charconv>

#include "base/strings.hpp"
#include "image/manifest.hpp"

namespace caisson::build {

namespace {

constexpr std::uint32_t last_id = 65535;  // of a layer's
constexpr std::uint32_t most_mode = 07777;
constexpr std::size_t longest_id = 4096;

std::string octal(std::uint32_t mode) {
  std::string digits(8, '\0');
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), mode, 8).ptr;
  return concat("0", std::string_view(digits.data(), static_cast<std::size_t>(end - digits.data())));
}

Result<std::uint32_t> number(std::string_view text, int base, std::uint32_t most) {
  std::uint32_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size() || value > most) return Error(ErrorKind::invalid, concat("\"", text, "\" is no number up to ", base == 8 ? octal(most) : concat(most)));
  return value;
}

}  // namespace

image::ComposeRequest artifact_of(const PortableMount& mount, image::MadeLayer layer) {
  image::ComposeRequest request;
  request.artifact_type = image::media_type::cache_mount;
  request.config_type = image::media_type::cache_mount_config;
  const auto owner = concat(mount.uid, ":", mount.gid);
  const auto mode = octal(mount.mode);
  request.annotations = {{std::string(mount_id_annotation), mount.id}, {std::string(mount_owner_annotation), owner}, {std::string(mount_mode_annotation), mode}};
  request.config.labels[std::string(mount_label)] = mount.id;
  request.comment = concat("a cache mount, ", owner, " ", mode);  // the image's id knows nothing of annotations
  if (!layer.is_empty) request.layers.push_back(std::move(layer));
  return request;
}

Result<PortableMount> parse_artifact(const image::LayerList& source) {
  if (source.artifact_type != image::media_type::cache_mount)
    return Error(ErrorKind::invalid, concat(source.reference, " is no cache mount: its artifactType is not ", image::media_type::cache_mount)).with_hint("`caisson builder cache export` makes one");
  auto annotation = [&](std::string_view name) -> Result<std::string> {
    const auto found = source.annotations.find(std::string(name));
    if (found == source.annotations.end()) return Error(ErrorKind::invalid, concat(source.reference, ": the annotation ", name, " is missing"));
    return found->second;
  };
  PortableMount mount;
  mount.id = TRY_PLAIN(annotation(mount_id_annotation));
  if (mount.id.empty() || mount.id.size() > longest_id) return Error(ErrorKind::invalid, concat(source.reference, ": the annotation ", mount_id_annotation, " is no id"));
  const auto owner = TRY_PLAIN(annotation(mount_owner_annotation));
  const auto halves = split_once(owner, ':');
  mount.uid = TRY(number(halves.before, 10, last_id), concat(source.reference, ": ", mount_owner_annotation));
  mount.gid = TRY(number(halves.after, 10, last_id), concat(source.reference, ": ", mount_owner_annotation));
  const auto mode = TRY_PLAIN(annotation(mount_mode_annotation));
  mount.mode = TRY(number(mode, 8, most_mode), concat(source.reference, ": ", mount_mode_annotation));
  if (source.layers.size() > 1) return Error(ErrorKind::invalid, concat(source.reference, ": a cache mount is one layer, and this has ", source.layers.size()));
  return mount;
}

}  // namespace caisson::build

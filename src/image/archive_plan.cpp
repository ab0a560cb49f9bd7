// Reading of index.json, manifest.json and what they point at.
#include "image/archive_plan.hpp"

#include <algorithm>

#include "base/strings.hpp"
#include "image/layer_tree.hpp"

namespace caisson::image {

namespace {

constexpr int most_link_steps = 16;
constexpr int most_index_depth = 4;
constexpr std::uint64_t most_document_bytes = 16 << 20;
constexpr std::string_view annotation_name = "io.containerd.image.name";
constexpr std::string_view annotation_ref = "org.opencontainers.image.ref.name";

std::string blob_name(const Digest& digest) { return concat("blobs/", digest.algorithm(), "/", digest.hex()); }

std::string annotation(const Descriptor& descriptor, std::string_view key) {
  auto found = descriptor.annotations.find(std::string(key));
  return found == descriptor.annotations.end() ? std::string() : found->second;
}

/// The name an index entry carries. containerd's annotation is a whole reference; the specification's may be one
/// (podman, skopeo) or only a tag, which names nothing by itself.
Result<std::vector<std::string>> names_of(const Descriptor& descriptor) {
  std::vector<std::string> names;
  auto text = annotation(descriptor, annotation_name);
  if (text.empty()) {
    text = annotation(descriptor, annotation_ref);
    if (text.find_first_of(":/") == std::string::npos) return names;
  }
  auto reference = TRY(parse_reference(text), concat("index.json: image name \"", text, "\""));
  if (reference.digest && reference.tag.empty()) return names;
  reference.digest.reset();
  names.push_back(reference.canonical());
  return names;
}

class LayoutPlanner {
 public:
  LayoutPlanner(const ArchiveMembers& members, const Platform& wanted, std::string_view artifact_type) : members_(members), wanted_(wanted), artifact_type_(artifact_type) {}

  Result<std::vector<PlannedImage>> run() {
    auto index = TRY(parse_index(TRY_PLAIN(members_.text("index.json"))), "index.json");
    for (const auto& descriptor : index.manifests) {
      if (is_attestation(descriptor)) continue;
      auto names = TRY_PLAIN(names_of(descriptor));
      TRY_PLAIN(add(descriptor, names, 0));
    }
    if (images_.empty()) return Error(ErrorKind::invalid, "index.json: the archive holds no image");
    return std::move(images_);
  }

 private:
  /// BuildKit files its provenance beside the images, under a platform nobody has.
  static bool is_attestation(const Descriptor& descriptor) { return descriptor.platform && descriptor.platform->os == "unknown"; }

  Status add(const Descriptor& descriptor, const std::vector<std::string>& names, int depth) {
    if (is_index_type(descriptor.media_type)) return add_from_index(descriptor, names, depth);
    auto step = concat("manifest ", descriptor.digest.text());
    auto text = TRY(members_.blob_text(descriptor), step);
    // One image may stand in the index under several names.
    auto known = std::find_if(images_.begin(), images_.end(), [&](const PlannedImage& image) { return image.manifest_text == text; });
    if (known != images_.end()) {
      known->names.insert(known->names.end(), names.begin(), names.end());
      return {};
    }
    PlannedImage image;
    image.names = names;
    TRY(plan(text, image), step);
    image.manifest_text = std::move(text);
    images_.push_back(std::move(image));
    return {};
  }

  Status add_from_index(const Descriptor& descriptor, const std::vector<std::string>& names, int depth) {
    auto step = concat("index ", descriptor.digest.text());
    if (depth >= most_index_depth) return Error(ErrorKind::invalid, step + ": indexes nested too deep");
    auto index = TRY(parse_index(TRY(members_.blob_text(descriptor), step)), step);
    std::vector<std::string> offered;
    for (const auto& entry : index.manifests) {
      if (is_attestation(entry)) continue;
      if (entry.platform && !platform_matches(*entry.platform, wanted_)) {
        offered.push_back(concat(entry.platform->os, "/", entry.platform->architecture));
        continue;
      }
      if (!members_.has(blob_name(entry.digest))) continue;  // a sparse archive of another platform's images
      return add(entry, names, depth + 1);
    }
    return Error(ErrorKind::unsupported, concat(step, ": no image for ", wanted_.os, "/", wanted_.architecture, " (it offers: ", join(offered, ", "), ")"));
  }

  Status plan(const std::string& manifest_text, PlannedImage& image) {
    auto manifest = TRY_PLAIN(parse_manifest(manifest_text));
    TRY_PLAIN(check_purpose(manifest, artifact_type_));
    image.config_text = TRY(members_.blob_text(manifest.config), "config");
    auto config = TRY_PLAIN(parse_image_config(image.config_text));
    if (config.diff_ids.size() != manifest.layers.size())
      return Error(ErrorKind::invalid, concat("image config: rootfs.diff_ids has ", config.diff_ids.size(), " entries, the manifest has ", manifest.layers.size(), " layers"));
    for (std::size_t i = 0; i < manifest.layers.size(); ++i) {
      const auto& descriptor = manifest.layers[i];
      if (!members_.has(blob_name(descriptor.digest)) && !descriptor.urls.empty())
        return Error(ErrorKind::unsupported, concat("layer ", descriptor.digest.text(), " is not in the archive (a foreign layer)"));
      const auto* member = TRY(members_.blob(descriptor), "layer");
      PlannedLayer layer;
      layer.diff_id = config.diff_ids[i];
      layer.blob = descriptor.digest;
      layer.size_bytes = member->size_bytes;
      layer.file = member->file;
      layer.media_type = descriptor.media_type;
      image.layers.push_back(std::move(layer));
    }
    return {};
  }

  const ArchiveMembers& members_;
  const Platform& wanted_;
  std::string_view artifact_type_;
  std::vector<PlannedImage> images_;
};

Result<PlannedImage> plan_docker_image(const ArchiveMembers& members, const ArchivedImage& archived) {
  PlannedImage image;
  image.config_text = TRY_PLAIN(members.text(archived.config));
  auto config = TRY(parse_image_config(image.config_text), archived.config);
  if (config.diff_ids.size() != archived.layers.size())
    return Error(ErrorKind::invalid, concat("manifest.json: Layers has ", archived.layers.size(), " entries, ", archived.config, " has ", config.diff_ids.size(), " diff_ids"));
  Manifest manifest;
  manifest.media_type = media_type::oci_manifest;
  manifest.config.media_type = media_type::oci_config;
  manifest.config.digest = sha256_of(image.config_text);
  manifest.config.size_bytes = image.config_text.size();
  for (std::size_t i = 0; i < archived.layers.size(); ++i) {
    const auto* member = TRY_PLAIN(members.find(archived.layers[i]));
    PlannedLayer layer;
    layer.diff_id = config.diff_ids[i];
    layer.blob = TRY_PLAIN(Digest::parse(member->digest));
    layer.size_bytes = member->size_bytes;
    layer.file = member->file;
    layer.media_type = layer_media_type(TRY_PLAIN(members.compression(*member)));
    Descriptor descriptor;
    descriptor.media_type = layer.media_type;
    descriptor.digest = layer.blob;
    descriptor.size_bytes = layer.size_bytes;
    manifest.layers.push_back(std::move(descriptor));
    image.layers.push_back(std::move(layer));
  }
  image.manifest_text = write_manifest(manifest);
  for (const auto& tag : archived.repo_tags) {
    auto reference = TRY(parse_reference(tag), concat("manifest.json: RepoTags \"", tag, "\""));
    if (reference.tag.empty()) continue;
    reference.digest.reset();
    image.names.push_back(reference.canonical());
  }
  return image;
}

}  // namespace

ArchiveMembers::ArchiveMembers(const std::vector<ArchiveMember>& members, Reader read) : read_(std::move(read)) {
  for (const auto& member : members) by_name_[member.name] = &member;
}

Result<const ArchiveMember*> ArchiveMembers::find(const std::string& name) const {
  auto at = join(TRY(clean_components(name), concat("member \"", name, "\"")), "/");
  for (int step = 0; step < most_link_steps; ++step) {
    auto found = by_name_.find(at);
    if (found == by_name_.end()) return Error(ErrorKind::invalid, concat("the archive has no member \"", at, "\""));
    const auto& member = *found->second;
    if (member.type == TarType::file) return &member;
    // Old docker-archives link a layer to an earlier copy of it: "../<id>/layer.tar".
    bool is_relative = member.type == TarType::symlink && !member.link_target.starts_with('/');
    auto folder = split_last(at, '/');
    std::string target = is_relative && folder.found ? concat(folder.before, "/", member.link_target) : member.link_target;
    at = join(TRY(clean_components(target), concat("member \"", at, "\": link")), "/");
  }
  return Error(ErrorKind::invalid, concat("member \"", name, "\": links in a circle"));
}

Result<std::string> ArchiveMembers::text(const std::string& name) const {
  const auto* member = TRY_PLAIN(find(name));
  if (member->size_bytes > most_document_bytes) return Error(ErrorKind::invalid, concat("member \"", name, "\" is too large for a document"));
  return read_(*member);
}

Result<const ArchiveMember*> ArchiveMembers::blob(const Descriptor& descriptor) const {
  const auto* member = TRY_PLAIN(find(blob_name(descriptor.digest)));
  if (member->size_bytes != descriptor.size_bytes)
    return Error(ErrorKind::corrupt, concat("blob ", descriptor.digest.text(), " has ", member->size_bytes, " bytes, its descriptor says ", descriptor.size_bytes));
  if (descriptor.digest.algorithm() != "sha256") return Error(ErrorKind::unsupported, concat("blob ", descriptor.digest.text(), ": only sha256 digests are supported in archives"));
  if (member->digest != descriptor.digest.text())
    return Error(ErrorKind::corrupt, concat("blob ", descriptor.digest.text(), ": its content has the digest ", member->digest));
  return member;
}

Result<std::string> ArchiveMembers::blob_text(const Descriptor& descriptor) const {
  TRY_PLAIN(blob(descriptor));
  return text(blob_name(descriptor.digest));
}

Result<std::vector<PlannedImage>> plan_archive(const ArchiveMembers& members, const Platform& wanted, std::string_view artifact_type) {
  if (members.has("index.json") && members.has("oci-layout")) return LayoutPlanner(members, wanted, artifact_type).run();
  if (!members.has("manifest.json"))
    return Error(ErrorKind::invalid, "the archive holds neither manifest.json (docker-archive) nor index.json (OCI layout)")
        .with_hint("To make an image of a root file system's tar, use \"import\"");
  auto archived = TRY_PLAIN(parse_archive_manifest(TRY_PLAIN(members.text("manifest.json"))));
  if (archived.empty()) return Error(ErrorKind::invalid, "manifest.json: the archive holds no image");
  std::vector<PlannedImage> images;
  for (const auto& image : archived) images.push_back(TRY_PLAIN(plan_docker_image(members, image)));
  return images;
}

}  // namespace caisson::image

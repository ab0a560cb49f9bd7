// content/index.json: the store's images as an OCI layout lists them, and the way back when the state file is lost.
#include <algorithm>

#include "base/strings.hpp"
#include "image/local_image_store.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

constexpr const char* annotation_name = "io.containerd.image.name";
constexpr const char* annotation_ref = "org.opencontainers.image.ref.name";
constexpr const char* annotation_packages = "org.caisson.packages";

std::string index_path(const ContentStore& content) { return content.root() + "/content/index.json"; }

/// A record as it must have been, from the documents themselves. Errors: corrupt, invalid, when a document is missing.
Result<ImageRecord> record_of(const ContentStore& content, const Digest& manifest_digest) {
  auto manifest = TRY_PLAIN(parse_manifest(TRY_PLAIN(content.read_blob(manifest_digest))));
  auto config = TRY_PLAIN(parse_image_config(TRY_PLAIN(content.read_blob(manifest.config.digest))));
  if (config.diff_ids.size() != manifest.layers.size()) return Error(ErrorKind::corrupt, "config and manifest differ in their layers");
  ImageRecord record;
  record.id = manifest.config.digest;
  record.manifest = manifest_digest;
  if (manifest.media_type == media_type::docker_manifest) record.manifest_type = manifest.media_type;
  for (std::size_t i = 0; i < manifest.layers.size(); ++i) {
    const auto& layer = manifest.layers[i];
    record.layers.push_back({config.diff_ids[i], layer.digest, layer.size_bytes, layer.media_type});
  }
  auto packages = manifest.annotations.find(annotation_packages);
  if (packages != manifest.annotations.end())
    if (auto digest = Digest::parse(packages->second); digest.ok()) record.packages = std::move(*digest);
  return record;
}

}  // namespace

Status LocalImageStore::write_layout_index(const Without& without) {
  Index index;
  auto names = TRY_PLAIN(records_.names());
  for (const auto& record : TRY_PLAIN(records_.list()).images) {
    if (without.image && *without.image == record.id) continue;
    if (record.coming) continue;  // the layout has what is here
    auto size = content_->blob_size(record.manifest);
    if (!size.ok()) continue;  // damaged; recover() says so
    Descriptor descriptor;
    descriptor.media_type = record.manifest_type;
    descriptor.digest = record.manifest;
    descriptor.size_bytes = *size;
    bool has_name = false;
    for (const auto& name : names) {
      bool is_dropped = std::find(without.names.begin(), without.names.end(), name.reference) != without.names.end();
      if (name.id != record.id || is_dropped) continue;
      auto reference = parse_reference(name.reference);
      if (!reference.ok()) continue;
      descriptor.annotations[annotation_name] = name.reference;
      descriptor.annotations[annotation_ref] = reference->tag.empty() ? name.reference : reference->tag;
      index.manifests.push_back(descriptor);
      has_name = true;
    }
    if (!has_name) index.manifests.push_back(descriptor);
  }
  return linux::write_file_atomic(index_path(*content_), write_index(index), 0600, linux::Durability::none);
}

Result<std::vector<NewImage>> LocalImageStore::find_lost_images(const std::vector<ImageRecord>& known, std::vector<std::string>& repairs) {
  std::vector<NewImage> lost;
  auto text = linux::read_file(index_path(*content_));
  if (!text.ok() && text.error().kind() == ErrorKind::not_found) return lost;
  if (!text.ok()) return std::move(text).error();
  auto index = parse_index(*text);
  if (!index.ok()) {  // a power cut may take it, because it is not synced: it is only needed when the state file is lost as well
    repairs.push_back(concat(index_path(*content_), " was unreadable and is written anew: ", index.error().text()));
    return lost;
  }
  for (const auto& descriptor : index->manifests) {
    auto is_this = [&](const Digest& manifest) { return manifest == descriptor.digest; };
    if (std::any_of(known.begin(), known.end(), [&](const ImageRecord& record) { return is_this(record.manifest); })) continue;
    auto found = std::find_if(lost.begin(), lost.end(), [&](const NewImage& image) { return is_this(image.record.manifest); });
    if (found == lost.end()) {
      auto record = record_of(*content_, descriptor.digest);
      if (!record.ok()) {
        repairs.push_back(concat("image with manifest ", descriptor.digest.text(), " had lost its record and cannot be read again: ", record.error().text()));
        continue;
      }
      repairs.push_back(concat("image ", short_id(record->id), " had lost its record and was found again in the store"));
      NewImage image;
      image.record = std::move(*record);
      found = lost.insert(lost.end(), std::move(image));
    }
    auto name = descriptor.annotations.find(annotation_name);
    if (name == descriptor.annotations.end()) continue;
    auto reference = parse_reference(name->second);
    if (reference.ok() && !TRY_PLAIN(records_.find_name(reference->canonical()))) found->names.push_back(reference->canonical());
  }
  return lost;
}

}  // namespace caisson::image

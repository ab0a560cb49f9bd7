// pull: a reference becomes an image of this store. The manifest first, then only what is missing.
#include <algorithm>

#include "base/strings.hpp"
#include "image/local_image_store.hpp"
#include "image/registries.hpp"
#include "linux/sysinfo.hpp"

namespace caisson::image {

namespace {

Result<Platform> platform_of(const std::string& asked) {
  if (!asked.empty()) return parse_platform(asked);
  return platform_of_machine(TRY_PLAIN(linux::uname()).machine);
}

bool is_config_type(std::string_view type) { return type == media_type::oci_config || type == media_type::docker_config || type == media_type::cache_mount_config; }

/// Artifacts (signatures, charts, provenance) have manifests of the same form and no file system in them.
Status check_is_image(const Manifest& manifest, const Reference& reference, std::string_view artifact_type) {
  TRY(check_purpose(manifest, artifact_type), reference.familiar());
  if (!is_config_type(manifest.config.media_type))
    return Error(ErrorKind::unsupported, concat("Encountered remote \"", manifest.config.media_type, "\"(unknown) when fetching: ", reference.familiar(), " is no image"));
  for (const auto& layer : manifest.layers)
    if (layer.media_type.find("tar") == std::string::npos)
      return Error(ErrorKind::unsupported, concat("layer ", layer.digest.text(), " has the media type \"", layer.media_type, "\", which is no archive"));
  return {};
}

}  // namespace

Result<std::string> LocalImageStore::fetch_document(RegistrySession& session, const Descriptor& descriptor, const Cancel& cancel) {
  Pins pins(*content_);
  pins.add_blob(descriptor.digest);
  if (TRY_PLAIN(content_->has_blob(descriptor.digest))) return content_->read_blob(descriptor.digest);
  return fetch_small_blob(session, descriptor, cancel);
}

Result<LocalImageStore::AdmittedImage> LocalImageStore::fetch_image(RegistrySession& session, const Reference& reference, const Platform& wanted, const std::string& artifact_type,
                                                                     const ProgressSink& progress, const Cancel& cancel) {
  const auto name = reference.digest ? reference.digest->text() : reference.tag;
  auto top = TRY_PLAIN(fetch_manifest(session, reference, name, cancel));
  tell(progress, name, concat("Pulling from ", reference.path));
  AdmittedImage image;
  image.top = top.digest;
  auto found = TRY_PLAIN(find_manifest(session, reference, std::move(top), wanted, cancel));
  // Names are digests from here on, so that what is judged is what is used; nothing but manifests has come so far.
  image.origin = TRY_PLAIN(gate_.admit_pull(*options_.registries, session, reference, found.digests, cancel));
  image.manifest_digest = found.manifest.digest;
  image.manifest_type = std::move(found.manifest.media_type);
  image.manifest_text = std::move(found.manifest.text);
  const auto step = concat("manifest ", image.manifest_digest.text());
  image.manifest = TRY(parse_manifest(image.manifest_text), step);
  TRY(check_is_image(image.manifest, reference, artifact_type), step);
  image.config_text = TRY(fetch_document(session, image.manifest.config, cancel), "image config");
  auto config = TRY(parse_image_config(image.config_text), step);
  if (config.diff_ids.size() != image.manifest.layers.size())
    return Error(ErrorKind::invalid, concat(step, ": the config has ", config.diff_ids.size(), " diff_ids, the manifest has ", image.manifest.layers.size(), " layers"));
  image.diff_ids = std::move(config.diff_ids);
  return image;
}

Result<LayerList> LocalImageStore::list_remote_layers(const LayersRequest& request, const Cancel& cancel) {
  if (options_.registries == nullptr) return Error(ErrorKind::unsupported, "this engine was set up without registries");
  auto reference = TRY_PLAIN(parse_reference(request.reference));
  if (reference.digest) reference.tag.clear();
  auto wanted = TRY_PLAIN(platform_of(request.platform));
  auto session = TRY_PLAIN(options_.registries->open(reference, "pull", request.credentials));
  auto image = TRY_PLAIN(fetch_image(*session, reference, wanted, request.artifact_type, {}, cancel));
  LayerList list;
  list.is_remote = true;
  reference.tag.clear();
  reference.digest = image.manifest_digest;
  list.reference = reference.canonical();
  list.annotations = std::move(image.manifest.annotations);
  list.artifact_type = std::move(image.manifest.artifact_type);
  for (std::size_t i = 0; i < image.diff_ids.size(); ++i) {
    const auto& blob = image.manifest.layers[i];
    list.layers.push_back({image.diff_ids[i], blob.digest, blob.size_bytes, blob.media_type});
  }
  return list;
}

Result<Image> LocalImageStore::pull_one(RegistrySession& session, const Reference& reference, const Platform& wanted, const PullRequest& request, const ProgressSink& progress,
                                        const Cancel& cancel) {
  BegunPull begun{reference, TRY_PLAIN(fetch_image(session, reference, wanted, "", progress, cancel)), {}, {}, Pins(*content_)};
  if (TRY_PLAIN(is_here_otherwise(begun))) return name_pulled(begun, "", progress);
  const auto& manifest = begun.fetched.manifest;
  auto& record = begun.image.record;
  record.id = manifest.config.digest;
  record.manifest = begun.fetched.manifest_digest;
  record.manifest_type = begun.fetched.manifest_type;
  begun.image.origin = std::move(begun.fetched.origin);
  begun.pins.add_blob(record.id);
  begun.pins.add_blob(record.manifest);
  for (std::size_t i = 0; i < manifest.layers.size(); ++i) {
    const auto& blob = manifest.layers[i];
    const auto& diff_id = begun.fetched.diff_ids[i];
    begun.pins.add_blob(blob.digest);
    begun.pins.add_layer(diff_id);
    record.layers.push_back({diff_id, blob.digest, blob.size_bytes, blob.media_type});
    begun.layers.push_back({blob, diff_id, nullptr});
  }
  if (request.is_lazy) {
    const auto wanted_record = record;
    auto image = pull_lazily(session, begun, request, progress, cancel);
    if (!image.ok()) {
      ignore(retire_stand_ins(wanted_record));  // what stays is removed by recover()
      return std::move(image).error();
    }
    if (*image) return std::move(**image);
  }
  TRY_PLAIN(pull_layers(session, concat("image ", reference.familiar()), begun.layers, progress, cancel));
  return finish_pull(begun, "", progress);
}

/// What a push from here has sent in another compression is the image that lies here: its layers' content is the same, and need not come back.
Result<bool> LocalImageStore::is_here_otherwise(BegunPull& begun) {
  const auto& id = begun.fetched.manifest.config.digest;
  Reference by_digest = begun.reference;
  by_digest.tag.clear();
  by_digest.digest = begun.fetched.top;
  std::lock_guard lock(records_mutex_);
  const auto known = TRY_PLAIN(records_.find_name(by_digest.canonical()));
  if (!known || known->id != id) return false;
  auto record = TRY_PLAIN(records_.find(id));
  if (!record || record->coming || record->manifest == begun.fetched.manifest_digest) return false;
  begun.pins.add_blob(id);
  begun.pins.add_blob(record->manifest);
  for (const auto& layer : record->layers) {
    begun.pins.add_blob(layer.blob);
    begun.pins.add_layer(layer.diff_id);
    if (!TRY_PLAIN(content_->has_blob(layer.blob)) || !TRY_PLAIN(content_->has_layer(layer.diff_id))) return false;
  }
  if (!TRY_PLAIN(content_->has_blob(id)) || !TRY_PLAIN(content_->has_blob(record->manifest))) return false;
  begun.image.record = std::move(*record);
  begun.image.origin = std::move(begun.fetched.origin);
  return true;
}

/// `status`: of an image that is not all here yet; "": it is.
Result<Image> LocalImageStore::finish_pull(BegunPull& begun, std::string_view status, const ProgressSink& progress) {
  TRY(content_->put_blob(begun.fetched.config_text, begun.image.record.id.kind()), "store the config");
  TRY(content_->put_blob(begun.fetched.manifest_text, begun.image.record.manifest.kind()), "store the manifest");
  return name_pulled(begun, status, progress);
}

Result<Image> LocalImageStore::name_pulled(BegunPull& begun, std::string_view status, const ProgressSink& progress) {
  auto& made = begun.image;
  const auto& reference = begun.reference;
  Reference by_digest = reference;
  by_digest.tag.clear();
  by_digest.digest = begun.fetched.top;
  made.names.push_back(by_digest.canonical());
  if (!reference.digest) made.names.push_back(reference.canonical());
  bool is_new = false;
  for (const auto& canonical : made.names) {
    auto known = TRY_PLAIN(records_.find_name(canonical));
    is_new = is_new || !known || known->id != made.record.id;
  }
  std::vector<NewImage> images;
  images.push_back(std::move(made));
  TRY_PLAIN(record_images(images));
  tell(progress, "", concat("Digest: ", begun.fetched.top.text()));
  if (status.empty()) status = is_new ? "Downloaded newer image for " : "Image is up to date for ";
  tell(progress, "", concat("Status: ", status, reference.digest ? by_digest.familiar() : reference.familiar()));
  return image_of(images[0].record);
}

Result<std::vector<Image>> LocalImageStore::pull(const PullRequest& request, const ProgressSink& progress, Cancel cancel) {
  if (options_.registries == nullptr) return Error(ErrorKind::unsupported, "this engine was set up without registries");
  auto reference = TRY_PLAIN(parse_reference(request.reference));
  if (request.all_tags && reference.digest) return Error(ErrorKind::invalid, "all tags were asked for, and a digest");
  // "x:1@sha256:…" is what the digest says; the tag is decoration (docker's rule).
  if (reference.digest) reference.tag.clear();
  auto wanted = TRY_PLAIN(platform_of(request.platform));
  auto session = TRY_PLAIN(options_.registries->open(reference, "pull", request.credentials));
  std::vector<Image> images;
  if (!request.all_tags) {
    images.push_back(TRY_PLAIN(pull_one(*session, reference, wanted, request, progress, cancel)));
    return images;
  }
  FetchRequest list;
  list.task = FetchTask::tags;
  auto reply = TRY_PLAIN(session->ask(std::move(list), cancel));
  std::vector<std::string> tags;
  TRY(JsonView(TRY_PLAIN(parse_json(reply.body, "list of tags"))).read(tags), "list of tags");
  for (const auto& tag : tags) {
    auto one = TRY(parse_reference(concat(reference.repository(), ":", tag)), concat("list of tags: \"", tag, "\""));
    images.push_back(TRY_PLAIN(pull_one(*session, one, wanted, request, progress, cancel)));
  }
  return images;
}

}  // namespace caisson::image

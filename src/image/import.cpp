// import: a root file system's tar becomes an image of one layer.
#include "base/strings.hpp"
#include "image/changes.hpp"
#include "image/local_image_store.hpp"
#include "linux/file.hpp"
#include "linux/sysinfo.hpp"

namespace caisson::image {

namespace {

Result<Platform> platform_of(const std::string& asked) {
  if (!asked.empty()) return parse_platform(asked);
  auto name = TRY_PLAIN(linux::uname());
  return platform_of_machine(name.machine);
}

}  // namespace

Result<Image> LocalImageStore::import(const ImportRequest& request, const ProgressSink& progress, Cancel cancel) {
  // Everything that can be refused without reading the input is refused first.
  ImportPlan plan;
  if (!request.reference.empty()) {
    auto reference = TRY_PLAIN(parse_reference(request.reference));
    if (reference.digest) return Error(ErrorKind::invalid, "cannot import digest reference");
    plan.name = reference.canonical();
  }
  auto platform = TRY_PLAIN(platform_of(request.platform));
  plan.config.architecture = platform.architecture;
  plan.config.os = platform.os;
  plan.config.variant = platform.variant;
  TRY_PLAIN(apply_changes(request.changes, plan.config));
  plan.config.comment = request.message.empty() ? "Imported from -" : request.message;

  plan.origin = TRY(gate_.admit_local("tarball", {}), "import");

  Pins pins(*content_);
  UnpackSource source;
  source.fd = request.source_fd;
  source.keep_blob = true;
  auto archive = TRY(unpack(source, progress, cancel), "import");
  plan.config.created = now_ns();
  HistoryEntry history;
  history.created = plan.config.created;
  history.comment = plan.config.comment;
  plan.config.history.push_back(std::move(history));
  return finish_import(archive, plan, pins);
}

Result<Image> LocalImageStore::finish_import(UnpackedArchive& archive, ImportPlan& plan, Pins& pins) {
  plan.config.diff_ids = {archive.diff_id};
  auto config_text = write_image_config(plan.config);
  Manifest manifest;
  manifest.media_type = media_type::oci_manifest;
  manifest.config.media_type = media_type::oci_config;
  manifest.config.digest = sha256_of(config_text);
  manifest.config.size_bytes = config_text.size();
  Descriptor layer;
  layer.media_type = layer_media_type(archive.result.compression);
  layer.digest = archive.blob;
  layer.size_bytes = archive.result.input_bytes;
  manifest.layers.push_back(layer);
  manifest.annotations = plan.annotations;

  NewImage image;
  if (!plan.packages_text.empty()) {
    auto packages = sha256_of(plan.packages_text);
    pins.add_blob(packages);
    image.record.packages = TRY(content_->put_blob(plan.packages_text), "store the list of packages");
    manifest.annotations["org.caisson.packages"] = packages.text();
  }
  auto manifest_text = write_manifest(manifest);
  image.record.id = manifest.config.digest;
  image.record.manifest = sha256_of(manifest_text);
  image.record.layers.push_back({archive.diff_id, archive.blob, archive.result.input_bytes, layer.media_type});
  if (!plan.name.empty()) image.names.push_back(plan.name);
  plan.origin.digests = {image.record.manifest};
  image.origin = plan.origin;

  pins.add_layer(archive.diff_id);
  pins.add_blob(archive.blob);
  pins.add_blob(image.record.id);
  pins.add_blob(image.record.manifest);
  TRY(content_->adopt_blob(archive.staging.path() + "/blob", archive.blob, &archive.staging.room()), "store the layer");
  {
    auto held = layer_locks_.lock(archive.diff_id.text());
    TRY(content_->adopt_layer(archive.staging, archive.diff_id, archive.result.layer), "store the layer");
  }
  TRY(content_->put_blob(config_text), "store the config");
  TRY(content_->put_blob(manifest_text), "store the manifest");
  std::vector<NewImage> images;
  images.push_back(std::move(image));
  TRY_PLAIN(record_images(images));
  return image_of(images[0].record);
}

}  // namespace caisson::image

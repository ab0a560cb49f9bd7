// Layers from writable trees, and images from layers: what commit and builds are made of.
#include <thread>

#include "base/strings.hpp"
#include "image/local_image_store.hpp"
#include "image/pack.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "linux/sysinfo.hpp"

namespace caisson::image {

namespace {

/// Of a tar without entries: two blocks of zeros. Docker leaves such a layer out and marks the history entry.
constexpr std::string_view empty_tar_digest = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// What is wanted for as long as a MadeLayer lives.
struct Hold {
  explicit Hold(ContentStore& content) : pins(content) {}
  Pins pins;
};

/// Every entry of the history must stand for a layer, or say that it stands for none: readers pair them by position.
Status check_history(const ImageConfig& config) {
  std::size_t layers = 0;
  for (const auto& entry : config.history) layers += entry.empty_layer ? 0 : 1;
  // Images of tools that write no history at all are valid; adding to one gives no pairs either.
  if (layers > config.diff_ids.size())
    return Error(ErrorKind::invalid, concat("the history names ", layers, " layers, and the image has ", config.diff_ids.size()));
  return {};
}

}  // namespace

MadeLayer LocalImageStore::hold_layer(const LayerEntry& entry) {
  auto hold = std::make_shared<Hold>(*content_);
  hold->pins.add_layer(entry.diff_id);
  hold->pins.add_blob(entry.blob);
  MadeLayer layer;
  layer.diff_id = entry.diff_id;
  layer.blob = entry.blob;
  layer.blob_bytes = entry.blob_bytes;
  layer.media_type = entry.media_type;
  layer.is_empty = entry.diff_id.text() == empty_tar_digest;
  layer.hold = std::move(hold);
  return layer;
}

Result<MadeLayer> LocalImageStore::make_layer(const LayerTrees& source, const ProgressSink& progress, Cancel cancel) {
  auto ends = TRY_PLAIN(linux::socketpair(linux::UnixType::stream));
  Result<WorkerResult> packed = Error(ErrorKind::internal, "pack: not begun");
  std::thread packer([&] {
    WorkerJob job;
    job.request.task = WorkerTask::pack;
    job.request.pack.path = "/";
    job.request.pack.as_layer = true;
    job.request.pack.latest_mtime_s = source.latest_mtime_s;
    job.request.pack.grafts = source.grafts;
    job.request.pack.graft_uid = source.graft_uid;
    job.request.pack.graft_gid = source.graft_gid;
    job.target_fd = source.upper_fd;
    job.graft_fd = source.graft_fd;
    job.copy_fd = ends.second.get();
    job.cancel = cancel;
    packed = run_worker(worker_options(), job);
    ends.second.reset();
  });
  UnpackSource stream;
  stream.fd = ends.first.get();
  stream.keep_blob = true;
  auto archive = unpack(stream, progress, cancel);
  ends.first.reset();  // a packer that still writes ends
  packer.join();
  // A reader that ended first makes the writer fail too, and half a stream makes the reader fail: the cause is the more telling one.
  if (!packed.ok() && (archive.ok() || archive.error().kind() == ErrorKind::invalid)) return std::move(packed).error().in("layer");
  if (!archive.ok()) return std::move(archive).error().in("layer");

  auto layer = hold_layer({archive->diff_id, archive->blob, archive->result.input_bytes, layer_media_type(archive->result.compression)});
  if (layer.is_empty) {  // no image will name it, so nothing would take it away again
    layer.directory = content_->empty_layer_dir();
    return layer;
  }
  TRY(content_->adopt_blob(archive->staging.path() + "/blob", archive->blob, &archive->staging.room()), "store the layer");
  auto held = layer_locks_.lock(archive->diff_id.text());
  TRY(content_->adopt_layer(archive->staging, archive->diff_id, archive->result.layer), "store the layer");
  layer.directory = TRY_PLAIN(content_->open_layer(archive->diff_id));
  return layer;
}

Result<LocalImageStore::ComposeBase> LocalImageStore::load_base(const ComposeRequest& request, Pins& pins) {
  ComposeBase base;
  if (request.base.empty()) {
    Platform platform;
    if (request.platform.empty()) platform = platform_of_machine(TRY_PLAIN(linux::uname()).machine);
    else platform = TRY_PLAIN(parse_platform(request.platform));
    base.config.architecture = platform.architecture;
    base.config.os = platform.os;
    base.config.variant = platform.variant;
    return base;
  }
  // Under the lock: between finding the record and pinning its parts nobody may collect them.
  std::lock_guard lock(records_mutex_);
  auto record = TRY_PLAIN(find_record(request.base));
  TRY_PLAIN(must_be_here(record));
  for (const auto& layer : record.layers) {
    pins.add_layer(layer.diff_id);
    pins.add_blob(layer.blob);
  }
  base.config = TRY(parse_image_config(TRY_PLAIN(content_->read_blob(record.id))), concat("config of image ", short_id(record.id)));
  base.layers = std::move(record.layers);
  return base;
}

Result<Image> LocalImageStore::compose(const ComposeRequest& request) {
  NewImage image;
  for (const auto& name : request.references) {
    auto reference = TRY_PLAIN(parse_reference(name));
    if (reference.digest) return Error(ErrorKind::invalid, concat("\"", name, "\": a new image cannot be named by a digest"));
    image.names.push_back(reference.canonical());
  }
  Pins pins(*content_);
  auto base = TRY_PLAIN(load_base(request, pins));
  auto& config = base.config;
  config.config = request.config;
  config.on_build = request.on_build;
  config.author = request.author;
  config.comment = request.comment;
  config.created = request.created;
  config.history.insert(config.history.end(), request.history.begin(), request.history.end());
  image.record.layers = std::move(base.layers);
  for (const auto& layer : request.layers) {
    if (layer.is_empty) continue;
    image.record.layers.push_back({layer.diff_id, layer.blob, layer.blob_bytes, layer.media_type});
    config.diff_ids.push_back(layer.diff_id);
  }
  TRY_PLAIN(check_history(config));

  const auto config_text = write_image_config(config);
  Manifest manifest;
  manifest.media_type = media_type::oci_manifest;
  manifest.artifact_type = request.artifact_type;
  manifest.config.media_type = request.config_type.empty() ? media_type::oci_config : std::string_view(request.config_type);
  manifest.config.digest = sha256_of(config_text);
  manifest.config.size_bytes = config_text.size();
  for (const auto& layer : image.record.layers) {
    Descriptor descriptor;
    descriptor.media_type = layer.media_type;
    descriptor.digest = layer.blob;
    descriptor.size_bytes = layer.blob_bytes;
    manifest.layers.push_back(std::move(descriptor));
  }
  manifest.annotations = request.annotations;
  const auto manifest_text = write_manifest(manifest);
  image.record.id = manifest.config.digest;
  image.record.manifest = sha256_of(manifest_text);
  image.origin = TRY_PLAIN(gate_.admit_local("containers-storage", image.record.manifest));
  pins.add_blob(image.record.id);
  pins.add_blob(image.record.manifest);
  TRY(content_->put_blob(config_text), "store the config");
  TRY(content_->put_blob(manifest_text), "store the manifest");
  std::vector<NewImage> images;
  images.push_back(std::move(image));
  TRY_PLAIN(record_images(images));
  return image_of(images[0].record);
}

}  // namespace caisson::image

// Single layers of an image, for whoever needs some of them: a build that finds its steps done elsewhere, a cache mount that comes from there.
#include "base/strings.hpp"
#include "image/local_image_store.hpp"
#include "image/registries.hpp"
#include "linux/file.hpp"

namespace caisson::image {

Result<LayerList> LocalImageStore::list_layers(const LayersRequest& request, Cancel cancel) {
  if (request.is_remote) return list_remote_layers(request, cancel);
  auto image = TRY_PLAIN(admit(request.reference));
  LayerList list;
  list.reference = image.id.text();
  std::lock_guard lock(records_mutex_);
  auto record = TRY_PLAIN(find_record(list.reference));
  TRY_PLAIN(must_be_here(record));
  auto manifest = TRY(parse_manifest(TRY_PLAIN(content_->read_blob(record.manifest))), concat("manifest of image ", short_id(record.id)));
  list.annotations = std::move(manifest.annotations);
  list.artifact_type = std::move(manifest.artifact_type);
  for (const auto& layer : record.layers) list.layers.push_back({layer.diff_id, layer.blob, layer.blob_bytes, layer.media_type});
  return list;
}

Result<MadeLayer> LocalImageStore::bring_layer(const LayerList& list, std::size_t index, const RegistryCredentials& credentials, const ProgressSink& progress, Cancel cancel) {
  const auto& entry = list.layers.at(index);
  auto layer = hold_layer(entry);  // first, so that what is here stays
  const bool is_here = TRY_PLAIN(content_->has_layer(entry.diff_id)) && TRY_PLAIN(content_->has_blob(entry.blob));
  if (!is_here && !list.is_remote) return Error(ErrorKind::not_found, concat("layer ", entry.diff_id.text(), " of image ", list.reference, " has gone from the store"));
  if (!is_here) {
    auto reference = TRY_PLAIN(parse_reference(list.reference));
    auto session = TRY_PLAIN(options_.registries->open(reference, "pull", credentials));
    Descriptor blob;
    blob.media_type = entry.media_type;
    blob.digest = entry.blob;
    blob.size_bytes = entry.blob_bytes;
    PulledLayer wanted{std::move(blob), entry.diff_id, nullptr};
    TRY(reserve_blobs({&wanted, 1}), concat("layer ", entry.blob.text(), " of image ", list.reference));
    TRY_PLAIN(pull_layer(*session, wanted, progress, cancel));
  }
  layer.directory = TRY_PLAIN(content_->open_layer(entry.diff_id));
  return layer;
}

Status LocalImageStore::extract_layer(const MadeLayer& layer, int target_fd, Cancel cancel) {
  const auto step = concat("layer ", layer.diff_id.text());
  auto blob = TRY(linux::open(content_->blob_path(layer.blob), O_RDONLY | O_NOFOLLOW), step);
  auto room = TRY_PLAIN(content_->account().reserve(0));
  WorkerJob job;
  job.request.task = WorkerTask::unpack;
  job.request.known_digest = layer.blob.text();
  job.request.input_algorithm = layer.blob.kind();
  job.request.decoded_algorithm = layer.diff_id.kind();
  job.request.total_bytes = layer.blob_bytes;
  job.input_fd = blob.get();
  job.target_fd = target_fd;
  job.cancel = cancel;
  job.on_written = [&](std::uint64_t bytes, const std::function<void()>& pause) { return room.resize(bytes, pause); };
  const auto result = TRY(run_worker(worker_options(), job), step);
  if (result.decoded_digest != layer.diff_id.text()) return Error(ErrorKind::corrupt, concat(step, ": the archive's content has the digest ", result.decoded_digest));
  if (!result.layer.devices.empty()) return Error(ErrorKind::invalid, concat(step, ": it holds \"", result.layer.devices.front().path, "\", a device node"));
  return {};
}

}  // namespace caisson::image

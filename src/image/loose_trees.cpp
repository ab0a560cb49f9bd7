// Layers extracted, folders counted.
#include "image/loose_trees.hpp"

#include "base/strings.hpp"
#include "image/local_image_store.hpp"
#include "linux/file.hpp"

namespace caisson::image {

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

void LocalImageStore::count_folder(const std::string& path, std::uint64_t bytes) {
  const auto status = linux::lstat(path);
  const bool is_there = bytes > 0 && status.ok();
  std::lock_guard lock(folders_mutex_);
  if (content_->account().has_begun()) content_->account().set(path, is_there ? std::vector<StoreAccount::Item>{{status->st_ino, bytes}} : std::vector<StoreAccount::Item>{});
  if (is_there) folders_[path] = bytes;
  else folders_.erase(path);
}

Status extract_layer(ImageStore& store, const MadeLayer& layer, int target_fd, Cancel cancel) {
  auto* local = dynamic_cast<LocalImageStore*>(&store);
  if (local == nullptr) return Error(ErrorKind::unsupported, "this image store keeps no files");
  return local->extract_layer(layer, target_fd, cancel);
}

void count_folder(ImageStore& store, const std::string& path, std::uint64_t bytes) {
  if (auto* local = dynamic_cast<LocalImageStore*>(&store)) local->count_folder(path, bytes);
}

}  // namespace caisson::image

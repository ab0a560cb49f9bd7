// Layers come to be: a worker unpacks, the parent makes devices, and the result moves into the store.
#include <algorithm>
#include <cerrno>
#include <mutex>
#include <set>

#include "base/strings.hpp"
#include "image/index_mount.hpp"
#include "image/local_image_store.hpp"
#include "image/side_by_side.hpp"
#include "image/transplant.hpp"
#include "linux/file.hpp"
#include "linux/sysinfo.hpp"

namespace caisson::image {

namespace {

Result<UniqueFd> new_file(const Staging& staging, const char* name) { return linux::openat(staging.fd(), name, O_RDWR | O_CREAT | O_EXCL, 0600); }

}  // namespace

KeyedLocks::Held KeyedLocks::lock(const std::string& key) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return held_.count(key) == 0; });
  held_.insert(key);
  return {*this, key};
}

KeyedLocks::Held::~Held() {
  if (locks_ == nullptr) return;
  {
    std::lock_guard lock(locks_->mutex_);
    locks_->held_.erase(key_);
  }
  locks_->changed_.notify_all();
}

WorkerOptions LocalImageStore::worker_options() const { return {options_.worker_path, options_.worker_first_id}; }

Result<WorkerResult> LocalImageStore::make_tree(const Staging& staging, WorkerJob& job) {
  TRY(linux::mkdirat(staging.fd(), layer_file::tree, 0755), "unpack");
  auto root = TRY(linux::openat(staging.fd(), layer_file::tree, O_RDONLY | O_DIRECTORY), "unpack");
  job.request.task = WorkerTask::unpack;
  job.target_fd = root.get();
  auto result = TRY_PLAIN(run_worker(worker_options(), job));
  for (const auto& device : result.layer.devices) TRY(make_device(root.get(), device), concat("make device \"", device.path, "\""));
  return result;
}

/// One pass leaves tar and index. What an index cannot tell becomes a tree after all, from the tar that is here by then.
Result<WorkerResult> LocalImageStore::make_index(const Staging& staging, const UnpackSource& source, WorkerJob& job) {
  auto tar = TRY(new_file(staging, layer_file::tar), "unpack");
  auto index = TRY(new_file(staging, layer_file::index), "unpack");
  job.request.task = WorkerTask::index;
  job.tar_fd = tar.get();
  job.index_fd = index.get();
  auto result = TRY_PLAIN(run_worker(worker_options(), job));
  if (!result.has_tar) {
    // The input is the tar, and stays: one file under two names.
    const auto kept = source.keep_blob ? staging.path() + "/blob" : source.kept_file;
    TRY(linux::unlinkat(staging.fd(), layer_file::tar), "unpack");
    TRY(linux::linkat(AT_FDCWD, kept, staging.fd(), layer_file::tar), "unpack");
    tar = TRY(linux::openat(staging.fd(), layer_file::tar, O_RDONLY | O_NOFOLLOW), "unpack");
  }
  if (result.has_index) return result;
  TRY(linux::unlinkat(staging.fd(), layer_file::index), "unpack");
  TRY(linux::lseek(tar.get(), 0, SEEK_SET), "unpack");
  WorkerJob again;
  again.request.is_decoded = true;
  again.request.known_digest = result.decoded_digest;
  again.request.decoded_algorithm = again.request.input_algorithm = job.request.decoded_algorithm;
  again.input_fd = tar.get();
  again.cancel = job.cancel;
  const auto before = disk_bytes_of(TRY(linux::fstat(tar.get()), "unpack"));
  if (job.on_written) again.on_written = [&](std::uint64_t bytes, const std::function<void()>& pause) { return job.on_written(before + bytes, pause); };
  auto tree = TRY_PLAIN(make_tree(staging, again));
  result.layer = std::move(tree.layer);
  TRY(linux::unlinkat(staging.fd(), layer_file::tar), "unpack");
  return result;
}

/// The index of a layer's tar once more, with what was not known when it was made.
Result<Staging> LocalImageStore::settled_index(const Digest& diff_id, const std::string& tar, const std::vector<DirectoryAttributes>& settled) {
  auto staging = TRY_PLAIN(content_->new_staging("index"));
  auto input = TRY_PLAIN(linux::open(tar, O_RDONLY | O_NOFOLLOW));
  auto index = TRY_PLAIN(new_file(staging, layer_file::index));
  WorkerJob job;
  job.request.task = WorkerTask::index;
  job.request.is_decoded = job.request.keeps_input = true;
  job.request.known_digest = diff_id.text();
  job.request.decoded_algorithm = job.request.input_algorithm = diff_id.kind();
  job.request.settled = settled;
  job.input_fd = input.get();
  job.index_fd = index.get();
  auto result = TRY_PLAIN(run_worker(worker_options(), job));
  if (!result.has_index) return Error(ErrorKind::unsupported, "its directories cannot take the attributes of the layers below in an index");
  return staging;
}

Result<UniqueFd> LocalImageStore::open_unpacked(const UnpackedArchive& archive) {
  const int folder = archive.staging.fd();
  if (!archive.result.has_index) return linux::openat(folder, layer_file::tree, O_RDONLY | O_DIRECTORY);
  auto index = TRY_PLAIN(linux::openat(folder, layer_file::index, O_RDONLY | O_NOFOLLOW));
  auto tar = TRY_PLAIN(linux::openat(folder, layer_file::tar, O_RDONLY | O_NOFOLLOW));
  auto mounted = TRY_PLAIN(mount_index(index.get(), tar.get()));
  return linux::openat(mounted.get(), ".", O_RDONLY | O_DIRECTORY);
}

/// What a finished archive takes on the disk; a tar that is a second name of another file takes nothing.
Result<std::uint64_t> LocalImageStore::unpacked_bytes(const Staging& staging, const WorkerResult& result) {
  auto sum = TRY_PLAIN(disk_bytes_of(staging.path() + "/blob")) + result.layer.disk_bytes;
  if (!result.has_index) return sum;
  sum += TRY_PLAIN(disk_bytes_of(concat(staging.path(), "/", layer_file::index)));
  if (result.has_tar) sum += TRY_PLAIN(disk_bytes_of(concat(staging.path(), "/", layer_file::tar)));
  return sum;
}

Result<UnpackedArchive> LocalImageStore::unpack(const UnpackSource& source, const ProgressSink& progress, Cancel cancel) {
  auto staging = TRY(content_->new_staging("layer"), "unpack");
  UniqueFd blob;
  if (source.keep_blob) blob = TRY(linux::openat(staging.fd(), "blob", O_WRONLY | O_CREAT | O_EXCL, 0600), "unpack");
  WorkerJob job;
  job.request.copy_input = source.keep_blob;
  job.request.keeps_input = !source.kept_file.empty();
  job.request.known_digest = source.known_digest;
  job.request.total_bytes = source.total_bytes;
  job.request.input_algorithm = source.input_algorithm;
  job.request.decoded_algorithm = source.decoded_algorithm;
  job.input_fd = source.fd;
  job.copy_fd = blob.get();
  job.cancel = cancel;
  if (progress) {
    job.on_progress = [&](std::uint64_t bytes) {
      Progress line;
      line.id = source.progress_id;
      line.status = source.progress_status;
      line.current = bytes;
      line.total = source.total_bytes;
      progress(line);
    };
  }
  const auto kept = source.room == nullptr ? 0 : disk_bytes_for(source.total_bytes);
  if (source.room != nullptr) staging.room().absorb(*source.room);
  job.on_written = [&](std::uint64_t bytes, const std::function<void()>& pause) { return staging.room().resize(std::max(bytes, kept), pause); };
  auto result = form_ == SnapshotForm::erofs ? TRY_PLAIN(make_index(staging, source, job)) : TRY_PLAIN(make_tree(staging, job));
  TRY(staging.room().resize(TRY_PLAIN(unpacked_bytes(staging, result))), "unpack");
  auto diff_id = TRY(Digest::parse(result.decoded_digest), "the worker's answer");
  auto blob_digest = TRY(Digest::parse(result.input_digest), "the worker's answer");
  return UnpackedArchive{std::move(staging), std::move(result), std::move(diff_id), std::move(blob_digest)};
}

Status LocalImageStore::ensure_layer(const LayerSource& source, const ProgressSink& progress, Cancel cancel) {
  auto held = layer_locks_.lock(source.diff_id.text());
  auto report = [&](const char* status) {
    if (!progress) return;
    Progress line;
    line.id = short_id(source.diff_id);
    line.status = status;
    line.current = line.total = source.size_bytes;
    progress(line);
  };
  if (TRY_PLAIN(content_->has_layer(source.diff_id))) {
    report("Already exists");
    return {};
  }
  auto step = concat("layer ", source.diff_id.text());
  auto file = TRY(linux::open(source.file, O_RDONLY), step);
  UnpackSource from;
  from.fd = file.get();
  from.known_digest = source.blob.text();
  from.kept_file = source.file;
  from.total_bytes = source.size_bytes;
  from.progress_id = short_id(source.diff_id);
  from.decoded_algorithm = source.diff_id.kind();
  auto archive = TRY(unpack(from, progress, cancel), step);
  if (archive.diff_id != source.diff_id)
    return Error(ErrorKind::corrupt, concat(step, ": the archive's content has the digest ", archive.diff_id.text()));
  TRY(content_->adopt_layer(archive.staging, source.diff_id, archive.result.layer, source.room), step);
  report("Loaded");
  return {};
}

Status LocalImageStore::ensure_layers(const std::vector<LayerSource>& sources, const ProgressSink& progress, Cancel cancel) {
  std::mutex mutex;
  ProgressSink serial = [&](const Progress& line) {
    std::lock_guard lock(mutex);
    if (progress) progress(line);
  };
  return side_by_side(sources.size(), static_cast<std::size_t>(linux::cpu_count()), [&](std::size_t index) { return ensure_layer(sources[index], serial, cancel); });
}

/// Of those that are here, or whose stand-ins are.
Result<std::vector<std::string>> LocalImageStore::folders_of(const std::vector<Digest>& layers) {
  std::vector<std::string> out;
  for (const auto& layer : layers) {
    if (TRY_PLAIN(content_->has_layer(layer))) out.push_back(TRY_PLAIN(content_->open_layer(layer)));
    else if (stand_ins_.has(layer)) out.push_back(TRY_PLAIN(stand_ins_.open(layer)));
  }
  return out;
}

Status LocalImageStore::settle(const ImageRecord& record) {
  std::vector<Digest> below;  // topmost first
  for (const auto& layer : record.layers) {
    auto held = layer_locks_.lock(layer.diff_id.text());
    ContentStore::Below folders;
    if (!below.empty()) folders = [&] { return folders_of(below); };
    auto remake = [&](const std::string& tar, const std::vector<DirectoryAttributes>& settled) { return settled_index(layer.diff_id, tar, settled); };
    TRY(content_->settle_implied_dirs(layer.diff_id, folders, remake), "settle directories");
    below.insert(below.begin(), layer.diff_id);
  }
  return {};
}

Status LocalImageStore::record_images(std::vector<NewImage>& images) {
  state::Transaction transaction;
  transaction.durable = true;
  std::vector<std::pair<Digest, const Origin*>> origins;
  for (auto& image : images) {
    image.record.size_bytes = 0;
    TRY_PLAIN(settle(image.record));
    std::set<Digest> counted;
    for (const auto& layer : image.record.layers) {
      if (!counted.insert(layer.diff_id).second) continue;
      const bool is_coming = image.record.coming && !TRY_PLAIN(content_->has_layer(layer.diff_id));
      image.record.size_bytes += is_coming ? TRY_PLAIN(stand_ins_.size(layer.diff_id)) : TRY_PLAIN(content_->layer_size(layer.diff_id));
    }
    ImageRecords::put(transaction, image.record);
    if (image.origin) origins.emplace_back(image.record.id, &*image.origin);
    for (const auto& name : image.names) ImageRecords::put_name(transaction, name, image.record.id);
  }
  // Layers are thousands of files: one syncfs costs less than an fsync of each, and the record must not outlive them.
  TRY(content_->sync(), "write images to disk");
  std::lock_guard lock(records_mutex_);
  // Under the lock: an origin is added to those that are there.
  for (const auto& [id, origin] : origins) TRY(gate_.put(transaction, id, *origin), "record images");
  TRY(store_.commit(transaction), "record images");
  TRY(write_layout_index(), "record images");
  return {};
}

}  // namespace caisson::image

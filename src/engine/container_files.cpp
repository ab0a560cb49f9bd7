// changes, export, and archives in and out: what concerns a container's files. Hostile bytes are met by a worker, never here.
#include <algorithm>

#include "base/strings.hpp"
#include "engine/file_changes.hpp"
#include "engine/liveness.hpp"
#include "engine/local_engine.hpp"
#include "image/worker.hpp"
#include "linux/file.hpp"
#include "runtime/root_view.hpp"

namespace caisson::engine {

namespace {

/// docker's words for a path that is not there.
Error no_such_path(Error error, const std::string& path, const ContainerInfo& info) {
  if (error.error_number() != ENOENT) return error;
  return {ErrorKind::not_found, concat("Could not find the file ", path, " in container ", info.name)};
}

std::size_t depth_of(const std::string& path) { return static_cast<std::size_t>(std::count(path.begin(), path.end(), '/')); }

/// What a stopped container would have mounted: volumes, binds and its three network files. A tmpfs is empty until it runs.
std::vector<runtime::ViewMount> mounts_of(const ContainerInfo& info) {
  std::vector<runtime::ViewMount> mounts;
  auto add_file = [&](const std::string& source, const char* target) {
    if (!source.empty() && linux::exists(source).value_or(false)) mounts.push_back({source, target, info.spec.read_only_rootfs, false});
  };
  add_file(info.resolv_conf_path, "/etc/resolv.conf");
  add_file(info.hostname_path, "/etc/hostname");
  add_file(info.hosts_path, "/etc/hosts");
  for (const auto& point : info.mounts) {
    if (point.type == MountType::tmpfs) continue;
    std::erase_if(mounts, [&](const runtime::ViewMount& mount) { return mount.target == point.destination; });
    mounts.push_back({point.source, point.destination, !point.read_write, point.type == MountType::bind});
  }
  std::stable_sort(mounts.begin(), mounts.end(), [](const auto& a, const auto& b) { return depth_of(a.target) < depth_of(b.target); });
  return mounts;
}

/// docker's words for a write that a mount forbade. By the path's text: a link may lead elsewhere, but the mount has refused in any case.
Error read_only_error(const std::string& path, const ContainerInfo& info) {
  auto lies_in = [&](const MountPoint& point) { return path == point.destination || path.starts_with(point.destination + "/"); };
  const bool in_volume = std::any_of(info.mounts.begin(), info.mounts.end(), lies_in);
  return {ErrorKind::denied, in_volume ? "mounted volume is marked read-only" : "container rootfs is marked read-only"};
}
}  // namespace

/// Files of one container, held open for one job.
struct LocalEngine::OpenFiles {
  OpenFiles() = default;
  OpenFiles(OpenFiles&&) = default;
  OpenFiles& operator=(OpenFiles&&) = delete;
  OpenFiles(const OpenFiles&) = delete;
  OpenFiles& operator=(const OpenFiles&) = delete;
  ~OpenFiles() {
    view = {};  // its clones of volumes' file systems go first
    if (at_end) at_end();
  }
  std::unique_lock<std::mutex> operation;  ///< held while a stopped container's layer is mounted here
  runtime::RootView view;
  std::uint32_t first_view_id = 0;
  std::function<void()> at_end;  ///< unmounts volumes that were mounted for this job
};

Result<std::vector<std::string>> LocalEngine::lower_layers(const ContainerInfo& info, bool has_mount_points) {
  auto layers = TRY_PLAIN(images_->lowerdirs(TRY_PLAIN(Digest::parse(info.image_id))));
  if (has_mount_points && !info.hosts_path.empty()) layers.push_back(mount_points_dir());
  return layers;
}

Result<LocalEngine::OpenFiles> LocalEngine::open_files(const Pointer& container) {
  OpenFiles files;
  files.operation = std::unique_lock(container->operation);
  if (container->removed) return Error(ErrorKind::not_found, concat("No such container: ", container->id));
  auto record = container->snapshot();
  if (is_alive(record->info.state)) {
    // The descriptor keeps the root alive by itself; a stop must not wait for a slow reader.
    files.view = TRY_PLAIN(runtime::open_running_root(record->info.pid, record->start_time));
    files.first_view_id = IdRanges::root_of(record->info.first_host_id);
    files.operation.unlock();
    return files;
  }
  ContainerInfo info = record->info;
  fill_derived(info);
  runtime::ViewRequest request;
  request.rootfs.lowerdirs = TRY_PLAIN(lower_layers(info));
  request.rootfs.upperdir = info.upper_dir;
  request.rootfs.workdir = info.work_dir;
  request.read_only = info.spec.read_only_rootfs;
  files.at_end = [this, record] { release_volumes(record->info.id, volume_names(record->info)); };
  VolumeSources sources;
  {
    std::lock_guard turn(volume_creation_mutex_);
    sources = TRY_PLAIN(open_volume_sources(info, volume_loader()));
  }
  apply_volume_sources(info, sources);
  request.mounts = mounts_of(info);
  request.first_host_id = options_.worker.first_host_id;
  files.view = TRY(runtime::open_root_view(request), concat("files of container ", container->id.substr(0, 12)));
  files.first_view_id = request.first_host_id;
  return files;
}

Result<std::vector<FileChange>> LocalEngine::changes(const Caller& caller, const std::string& name) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_changes, name));
  ContainerInfo info = container->snapshot()->info;
  fill_derived(info);
  auto layers = TRY_PLAIN(lower_layers(info));
  return TRY(find_changes(info.upper_dir, layers), concat("changes of container ", container->id.substr(0, 12)));
}

Status LocalEngine::export_container(const Caller& caller, const std::string& name, const ExportOptions& options, int target_fd, Cancel cancel) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_export, name));
  ContainerInfo info = container->snapshot()->info;
  fill_derived(info);
  const auto step = concat("export container ", container->id.substr(0, 12));
  runtime::ViewRequest request;
  // The writable layer as the topmost of read-only ones: nothing is written, and a running container is not disturbed.
  request.rootfs.lowerdirs = TRY(lower_layers(info, options.has_mount_points), step);
  request.rootfs.lowerdirs.insert(request.rootfs.lowerdirs.begin(), info.upper_dir);
  request.first_host_id = options_.worker.first_host_id;
  auto view = TRY(runtime::open_root_view(request), step);
  image::WorkerJob job;
  job.request.task = image::WorkerTask::pack;
  job.request.pack.path = "/";
  job.target_fd = view.root.get();
  job.copy_fd = target_fd;
  job.first_view_id = request.first_host_id;
  job.cancel = cancel;
  TRY(image::run_worker(options_.worker, job), step);
  publish(*container->snapshot(), "export");
  return {};
}

Result<image::PathStatus> LocalEngine::stat_path(const Caller& caller, const std::string& name, const std::string& path) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_stat_path, name));
  auto files = TRY_PLAIN(open_files(container));
  image::WorkerJob job;
  job.request.task = image::WorkerTask::look;
  job.request.path = path;
  job.target_fd = files.view.root.get();
  job.first_view_id = files.first_view_id;
  auto result = image::run_worker(options_.worker, job);
  if (!result.ok()) return no_such_path(std::move(result).error(), path, container->snapshot()->info);
  if (!result->path_status) return Error(ErrorKind::internal, "the worker did not say what lies at the path");
  return *result->path_status;
}

Status LocalEngine::read_archive(const Caller& caller, const std::string& name, const std::string& path, const std::string& entry_name, int target_fd, Cancel cancel) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_copy_from, name));
  auto files = TRY_PLAIN(open_files(container));
  image::WorkerJob job;
  job.request.task = image::WorkerTask::pack;
  job.request.pack.path = path;
  job.request.pack.name = entry_name;
  job.target_fd = files.view.root.get();
  job.copy_fd = target_fd;
  job.first_view_id = files.first_view_id;
  job.cancel = cancel;
  auto result = image::run_worker(options_.worker, job);
  if (!result.ok()) return no_such_path(std::move(result).error(), path, container->snapshot()->info);
  publish(*container->snapshot(), "archive-path");
  return {};
}

Status LocalEngine::write_archive(const Caller& caller, const std::string& name, const PlaceOptions& options, int source_fd, Cancel cancel) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_copy_to, name));
  image::WorkerJob job;
  job.request.task = image::WorkerTask::place;
  job.request.place.path = options.path;
  job.request.place.keep_kinds = options.keep_kinds;
  auto record = container->snapshot();
  if (options.own_by_user) {
    auto user = TRY_PLAIN(resolve_container_user(record->info, record->info.spec.user, {}));
    job.request.place.owner = image::FileOwner{user.uid, user.gid};
  }
  auto files = TRY_PLAIN(open_files(container));
  job.input_fd = source_fd;
  job.target_fd = files.view.root.get();
  job.first_view_id = files.first_view_id;
  job.cancel = cancel;
  auto result = image::run_worker(options_.worker, job);
  if (!result.ok() && result.error().error_number() == EROFS) return read_only_error(options.path, record->info);
  if (!result.ok()) return no_such_path(std::move(result).error(), options.path, record->info);
  publish(*record, "extract-to-dir");
  return {};
}

}  // namespace caisson::engine

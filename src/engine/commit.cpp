// commit: a container's writable layer and its configuration as a new image.
#include <algorithm>

#include "base/json.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/liveness.hpp"
#include "engine/local_engine.hpp"
#include "image/changes.hpp"
#include "image/coming.hpp"
#include "linux/file.hpp"

namespace caisson::engine {

namespace {

void add_unique(std::vector<std::string>& list, const std::string& item) {
  if (std::find(list.begin(), list.end(), item) == list.end()) list.push_back(item);
}

/// The configuration that the container was created with. `from_image` has what only images know.
image::ContainerConfig config_of(const ContainerSpec& spec, const image::ContainerConfig& from_image) {
  image::ContainerConfig config;
  config.user = spec.user;
  config.exposed_ports = spec.exposed_ports;
  config.env = spec.env;
  config.entrypoint = spec.entrypoint.value_or(std::vector<std::string>{});
  config.cmd = spec.cmd.value_or(std::vector<std::string>{});
  config.volumes = from_image.volumes;
  for (const auto& mount : spec.mounts)
    if (mount.origin == "volumes") add_unique(config.volumes, mount.target);  // `-v /data`; named ones and binds belong to the host
  config.working_dir = spec.working_dir;
  config.labels = spec.labels;
  config.stop_signal = spec.stop_signal;
  config.shell = from_image.shell;
  config.healthcheck = spec.healthcheck;
  return config;
}

/// docker's merge of a configuration in the request's body with the container's own (runconfig.Merge).
void merge_config(image::ContainerConfig& wanted, const image::ContainerConfig& own) {
  if (wanted.user.empty()) wanted.user = own.user;
  for (const auto& port : own.exposed_ports) add_unique(wanted.exposed_ports, port);
  for (const auto& item : own.env) {
    auto name = split_once(item, '=').before;
    const bool is_set = std::any_of(wanted.env.begin(), wanted.env.end(), [&](const std::string& other) { return split_once(other, '=').before == name; });
    if (!is_set) wanted.env.push_back(item);
  }
  for (const auto& [key, value] : own.labels) wanted.labels.emplace(key, value);
  if (wanted.entrypoint.empty()) {
    if (wanted.cmd.empty()) wanted.cmd = own.cmd;
    wanted.entrypoint = own.entrypoint;
  }
  if (!wanted.healthcheck) wanted.healthcheck = own.healthcheck;
  if (wanted.working_dir.empty()) wanted.working_dir = own.working_dir;
  for (const auto& path : own.volumes) add_unique(wanted.volumes, path);
  if (wanted.stop_signal.empty()) wanted.stop_signal = own.stop_signal;
  if (wanted.shell.empty()) wanted.shell = own.shell;
}

}  // namespace

/// Keeps a container paused while its layer is read. A file in its run folder remembers that, so that after a crash of the daemon the
/// next one lets it go on. The operation lock must be held.
class LocalEngine::PausedForCommit {
 public:
  static Result<PausedForCommit> create(LocalEngine& engine, Pointer container, bool wanted) {
    if (!wanted || container->snapshot()->info.state != State::running) return PausedForCommit(engine, nullptr);
    // Without cgroups nothing can be paused: what is written meanwhile is in the image or not, as with --pause=false.
    if (!engine.options_.has_cgroups) return PausedForCommit(engine, nullptr);
    TRY_PLAIN(linux::write_file(engine.commit_mark(container->id), ""));
    PausedForCommit paused(engine, container);
    TRY(engine.runtime_->pause(container->id), "pause");
    TRY_PLAIN(container->change([](Record& record) {
      if (record.info.state == State::running) record.info.state = State::paused;  // unless it ended meanwhile
    }));
    engine.publish(*container->snapshot(), "pause");
    return paused;
  }
  PausedForCommit(PausedForCommit&& other) noexcept : engine_(other.engine_), container_(std::exchange(other.container_, nullptr)) {}
  PausedForCommit& operator=(PausedForCommit&&) = delete;
  PausedForCommit(const PausedForCommit&) = delete;
  PausedForCommit& operator=(const PausedForCommit&) = delete;
  ~PausedForCommit() {
    if (container_) engine_.end_commit_pause(container_);
  }

 private:
  PausedForCommit(LocalEngine& engine, Pointer container) : engine_(engine), container_(std::move(container)) {}
  LocalEngine& engine_;
  Pointer container_;
};

/// Lets a container go on that was paused for a commit, this daemon's or an earlier one's, unless somebody has done so, or ended it.
void LocalEngine::end_commit_pause(const Pointer& container) {
  auto is_marked = linux::exists(commit_mark(container->id));
  if (!is_marked.ok() || !*is_marked) return;
  if (is_alive(container->snapshot()->info.state)) {
    auto resumed = runtime_->resume(container->id);
    if (!resumed.ok() && is_alive(container->snapshot()->info.state)) log_error("commit", concat("container ", container->id.substr(0, 12)), resumed.error());
    auto saved = container->change([](Record& record) {
      if (record.info.state == State::paused) record.info.state = State::running;
    });
    if (!saved.ok()) log_error("commit", concat("container ", container->id.substr(0, 12)), saved.error());
    publish(*container->snapshot(), "unpause");
  }
  if (auto removed = linux::unlink(commit_mark(container->id)); !removed.ok() && removed.error().kind() != ErrorKind::not_found)
    log_error("commit", concat("container ", container->id.substr(0, 12)), removed.error());
}

Result<image::ComposeRequest> LocalEngine::plan_commit(const ContainerInfo& info, const CommitOptions& options) {
  if (!options.reference.empty()) TRY_PLAIN(image::parse_reference(options.reference));
  auto base = TRY_PLAIN(images_->find(info.image_id));
  TRY_PLAIN(image::must_be_here(base));
  const auto own = config_of(info.spec, base.config);
  image::ImageConfig changed;
  changed.config = options.config.value_or(own);
  TRY_PLAIN(image::apply_changes(options.changes, changed));
  if (options.config) merge_config(changed.config, own);

  image::ComposeRequest request;
  request.base = info.image_id;
  request.config = std::move(changed.config);
  request.on_build = std::move(changed.on_build);
  request.author = options.author;
  request.comment = options.comment;
  request.created = now_ns();
  image::HistoryEntry entry;
  entry.created = request.created;
  entry.created_by = join(own.cmd, " ");
  entry.author = options.author;
  entry.comment = options.comment;
  request.history.push_back(std::move(entry));
  if (!options.reference.empty()) request.references.push_back(options.reference);
  return request;
}

Result<image::Image> LocalEngine::commit(const Caller& caller, const std::string& name, const CommitOptions& options, Cancel cancel) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_commit, name));
  std::unique_lock lock(container->operation);
  if (container->removed) return Error(ErrorKind::not_found, concat("No such container: ", name));
  ContainerInfo info = container->snapshot()->info;
  fill_derived(info);
  const auto step = concat("commit container ", container->id.substr(0, 12));
  auto request = TRY_PLAIN(plan_commit(info, options));
  auto upper = TRY(linux::open(info.upper_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), step);
  {
    auto paused = TRY(PausedForCommit::create(*this, container, options.pause), step);
    crash_point("commit:paused");
    request.layers.push_back(TRY(images_->make_layer({.upper_fd = upper.get()}, {}, cancel), step));
  }
  crash_point("commit:layer");
  request.history.back().empty_layer = request.layers.back().is_empty;
  auto image = TRY(images_->compose(request), step);
  publish(*container->snapshot(), "commit", {{"comment", options.comment}, {"imageID", image.id.text()}, {"imageRef", options.reference}});
  return image;
}

}  // namespace caisson::engine

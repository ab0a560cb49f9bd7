// Layers and folders of a build that is going on.
#include "build/build_state.hpp"

#include <cerrno>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"
#include "build/tree.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"
#include "runtime/root_view.hpp"

namespace caisson::build {

Result<BuildFolder> BuildFolder::create(const std::string& parent) {
  auto path = concat(parent, "/", random_id().substr(0, 16));
  TRY(linux::mkdir(path, 0700), "build folder");
  return BuildFolder(std::move(path), true);
}

BuildFolder BuildFolder::create_later(const std::string& parent) { return {concat(parent, "/", random_id().substr(0, 16)), false}; }

BuildFolder::~BuildFolder() {
  if (path_.empty() || !is_there_) return;
  auto removed = linux::remove_tree(path_);
  if (!removed.ok()) log_error("remove build folder", path_, removed.error());
}

Result<std::string> BuildFolder::make(std::string_view purpose) {
  if (!is_there_) {
    auto made = linux::mkdir(path_, 0700);
    if (!made.ok() && made.error().error_number() != EEXIST) return std::move(made).error().in("build folder");  // another thread of ours was first
    is_there_ = true;
  }
  auto path = concat(path_, "/", purpose, "-", count_++);
  TRY(linux::mkdir(path, 0755), "build folder");
  return path;
}

void Reporter::send(std::size_t stage, Event event) {
  event.stage = static_cast<std::uint32_t>(stage);
  std::lock_guard lock(mutex_);
  if (at_once_) at_once_(event);
  if (stage == current_) sink_(event);
  else waiting_[stage].push_back(std::move(event));
}

void Reporter::send_now(const Event& event) {
  std::lock_guard lock(mutex_);
  if (at_once_) at_once_(event);
  sink_(event);
}

void Reporter::finish(std::size_t stage) {
  std::lock_guard lock(mutex_);
  done_[stage] = true;
  while (current_ < done_.size() && done_[current_]) {
    if (++current_ == done_.size()) return;
    for (auto& event : std::exchange(waiting_[current_], {})) sink_(event);
  }
}

void Reporter::flush() {
  std::lock_guard lock(mutex_);
  for (auto& events : waiting_)
    for (auto& event : std::exchange(events, {})) sink_(event);
}

std::string git_work_prefix(const BuilderOptions& options) { return concat("caisson-git-", sha256_of(options.root).hex().substr(0, 12), "-"); }

GitOptions git_options(const BuilderOptions& options, const dockerfile::GitSource& source, const BuildRequest& request, BuildAgents* agents) {
  constexpr std::uint32_t nobody = 65534;  // where the worker has no ids of its own either
  GitOptions out;
  out.work_prefix = git_work_prefix(options);
  out.user_id = options.worker.first_host_id != 0 ? options.worker.first_host_id : nobody;
  out.authorization = git_authorization(source, request.secrets);
  if (request.agents.contains("default")) out.agents = agents;
  const auto given = request.secrets.find("GIT_KNOWN_HOSTS");
  out.known_hosts = given == request.secrets.end() ? request.known_hosts : given->second;
  return out;
}

Result<std::vector<std::string>> lower_folders(SharedBuild& build, const StageState& state) {
  std::vector<std::string> folders;
  for (auto layer = state.layers.rbegin(); layer != state.layers.rend(); ++layer)
    if (!layer->is_empty) folders.push_back(layer->directory);
  if (!state.base_image.empty()) {
    auto image = TRY_PLAIN(build.images.find(state.base_image));
    for (auto& folder : TRY_PLAIN(build.images.lowerdirs(image.id))) folders.push_back(std::move(folder));
  }
  if (folders.empty()) folders.push_back(TRY_PLAIN(build.folder.make("empty")));
  return folders;
}

Result<image::MadeLayer> layer_of(SharedBuild& build, const std::string& upper, image::LayerTrees source) {
  const auto fd = TRY_PLAIN(linux::open(upper, O_RDONLY | O_DIRECTORY));
  source.upper_fd = fd.get();
  source.latest_mtime_s = build.source_date_epoch_s;
  return build.images.make_layer(source, {}, build.cancel);
}

Result<std::string> compose_step(SharedBuild& build, const StageState& state, const image::MadeLayer& layer) {
  if (layer.is_empty) return state.image;
  image::ComposeRequest request;
  request.base = state.base_image;
  request.platform = state.platform;
  request.layers = state.layers;
  request.layers.push_back(layer);
  // Nothing but files: whoever uses the cached step brings its own configuration.
  request.comment = "a step of the build cache";
  return TRY_PLAIN(build.images.compose(request)).id.text();
}

void add_layer(SharedBuild& build, StageState& state, const std::string& key, const Made& made) {
  build.use_key(key);
  state.layers.push_back(made.layer);
  state.image = made.image;
  // What follows depends on what the step has made, not only on what it was: a step that was done again may have made something else.
  state.key = made.layer.is_empty ? key : KeyHasher("upon").add(key).add(made.layer.diff_id.text()).finish();
  state.keys.push_back(key);
}

Result<TreeLimits> tree_limits(const SharedBuild& build) {
  const auto disk = TRY(linux::statfs(build.options.root), "the builder's disk");
  TreeLimits limits;
  limits.cancel = build.cancel;
  limits.most_hole_bytes = static_cast<std::uint64_t>(disk.f_bavail) * static_cast<std::uint64_t>(disk.f_bsize);
  return limits;
}

Result<OpenedTree> hold_tree(SharedBuild& build, const std::vector<std::string>& lowers, bool writable) {
  OpenedTree tree;
  runtime::ViewRequest request;
  request.rootfs.lowerdirs = lowers;
  request.read_only = !writable;
  // An overlay without a writable layer needs two others.
  if (!writable && lowers.size() == 1) request.rootfs.lowerdirs.push_back(TRY_PLAIN(build.folder.make("empty")));
  if (writable) {
    auto place = TRY_PLAIN(build.folder.make("layer"));
    tree.upper = place + "/upper";
    TRY_PLAIN(linux::mkdir(tree.upper, 0755));
    TRY_PLAIN(linux::mkdir(place + "/work", 0700));
    request.rootfs.upperdir = tree.upper;
    request.rootfs.workdir = place + "/work";
  }
  auto view = TRY(runtime::open_root_view(request), "open the stage's files");
  tree.mounts = std::move(view.mount_namespace);
  tree.root = std::move(view.root);
  return tree;
}

}  // namespace caisson::build

// The root as an overlay of idmapped layers, by detached mounts or through a private mount namespace.

#include "linux/child.hpp"
#include "base/environment.hpp"
#include "linux/child_clone.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "runtime/launch.hpp"

namespace caisson::runtime {

namespace {

namespace raw = linux::raw;

/// A detached clone of one folder, shown through the container's id map.
Result<UniqueFd> clone_layer(const std::string& path, int userns) {
  auto tree = TRY(linux::open_tree(AT_FDCWD, path, OPEN_TREE_CLONE), concat("layer ", path));
  if (userns >= 0) TRY(linux::idmap_mount(tree.get(), userns), concat("layer ", path));
  return tree;
}

struct Layers {
  std::vector<UniqueFd> lower;
  UniqueFd upper_parent;    ///< holds upper and work: overlay wants both on one mount
  std::string upper_name;
  std::string work_name;
};

Result<Layers> clone_layers(const linux::Overlay& overlay, int userns) {
  Layers out;
  if (overlay.lowerdirs.empty()) return Error(ErrorKind::invalid, "root: an overlay needs at least one lower folder");
  for (const auto& path : overlay.lowerdirs) out.lower.push_back(TRY_PLAIN(clone_layer(path, userns)));
  if (overlay.upperdir.empty()) return out;
  auto upper = split_last(overlay.upperdir, '/');
  auto work = split_last(overlay.workdir, '/');
  if (!upper.found || !work.found || upper.before != work.before || upper.before.empty())
    return Error(ErrorKind::invalid, concat("root: ", overlay.upperdir, " and ", overlay.workdir, " are not in the same folder"));
  out.upper_name = upper.after;
  out.work_name = work.after;
  out.upper_parent = TRY_PLAIN(clone_layer(std::string(upper.before), userns));
  return out;
}

/// Layers that are kept as indexes are file systems of their own.
Result<bool> spans_file_systems(const Layers& layers) {
  std::optional<dev_t> first;
  auto differs = [&](const UniqueFd& layer) -> Result<bool> {
    const auto device = TRY_PLAIN(linux::fstat(layer.get())).st_dev;
    if (!first) first = device;
    return device != *first;
  };
  if (layers.upper_parent) TRY_PLAIN(differs(layers.upper_parent));
  for (const auto& layer : layers.lower)
    if (TRY_PLAIN(differs(layer))) return true;
  return false;
}

/// Overlays of ours always carry user.overlay.* attributes, so that layers are the same for root and rootless engines.
Status set_common(linux::FileSystemContext& context, const Layers& layers, bool is_volatile) {
  TRY_PLAIN(context.set_flag("userxattr"));
  // Else files would show the device of their layer, and another inode once they are written to (overlayfs.rst, "Inode properties"): tar and
  // find take that for another file system. On one file system the kernel calls it useless in its log.
  if (TRY_PLAIN(spans_file_systems(layers))) TRY_PLAIN(context.set_string("xino", "on"));
  if (is_volatile) TRY_PLAIN(context.set_flag("volatile"));
  return {};
}

Result<UniqueFd> mount_detached_layers(const Layers& layers, bool is_volatile) {
  auto context = TRY_PLAIN(linux::FileSystemContext::create("overlay"));
  TRY_PLAIN(set_common(context, layers, is_volatile && layers.upper_parent));
  for (const auto& layer : layers.lower) TRY_PLAIN(context.set_fd("lowerdir+", layer.get()));
  if (layers.upper_parent) {
    auto upper = TRY_PLAIN(linux::openat(layers.upper_parent.get(), layers.upper_name, O_PATH | O_DIRECTORY | O_NOFOLLOW));
    TRY_PLAIN(context.set_fd("upperdir", upper.get()));
    auto work = TRY_PLAIN(linux::openat(layers.upper_parent.get(), layers.work_name, O_PATH | O_DIRECTORY | O_NOFOLLOW));
    TRY_PLAIN(context.set_fd("workdir", work.get()));
  }
  TRY_PLAIN(context.create_superblock());
  return context.mount(0);
}

/// The plain way, run in a private mount namespace that vanishes with the stage; the overlay keeps clones of its layers.
struct AttachedJob {
  const Layers* layers = nullptr;
  bool is_volatile = false;
  std::optional<Result<UniqueFd>> result;
};

std::string short_name(std::size_t number) {
  static constexpr std::string_view digits = "0123456789abcdefghijklmnopqrstuvwxyz";
  std::string out;
  do {
    out.insert(out.begin(), digits[number % digits.size()]);
    number /= digits.size();
  } while (number != 0);
  return out;
}

Result<UniqueFd> mount_attached_layers(const Layers& layers, bool is_volatile) {
  TRY(linux::make_all_mounts(MS_PRIVATE), "isolating the staging mounts");
  auto stage = TRY(linux::mount_detached("tmpfs", {{"mode", "700"}}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV), "staging layers");
  // Over the root, where nothing looks: only descriptors and relative names are used from here on.
  TRY(linux::move_mount(stage.get(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), "staging layers");
  TRY(linux::fchdir(stage.get()), "staging layers");
  auto attach = [&](const UniqueFd& layer, const std::string& name) -> Status {
    TRY(linux::mkdirat(stage.get(), name, 0700), "staging layers");
    return linux::move_mount(layer.get(), "", stage.get(), name, MOVE_MOUNT_F_EMPTY_PATH);
  };
  std::string lower;
  for (std::size_t i = 0; i < layers.lower.size(); ++i) {
    const std::string name = short_name(i);
    TRY(attach(layers.lower[i], name), "staging layers");
    lower += lower.empty() ? name : concat(":", name);
  }
  if (layers.upper_parent) TRY(attach(layers.upper_parent, "+"), "staging layers");
  const std::string upper = concat("+/", layers.upper_name);
  const std::string work = concat("+/", layers.work_name);
  constexpr std::size_t fsconfig_limit = 255;  // longer values are refused with EINVAL on 6.1, 6.12 and 6.18
  if (lower.size() <= fsconfig_limit && upper.size() <= fsconfig_limit && work.size() <= fsconfig_limit) {
    auto context = TRY_PLAIN(linux::FileSystemContext::create("overlay"));
    TRY_PLAIN(set_common(context, layers, is_volatile && layers.upper_parent));
    TRY_PLAIN(context.set_string("lowerdir", lower));
    if (layers.upper_parent) {
      TRY_PLAIN(context.set_string("upperdir", upper));
      TRY_PLAIN(context.set_string("workdir", work));
    }
    TRY_PLAIN(context.create_superblock());
    return context.mount(0);
  }
  std::string data = concat("userxattr,", TRY_PLAIN(spans_file_systems(layers)) ? "xino=on," : "", "lowerdir=", lower);
  if (layers.upper_parent) data += concat(",upperdir=", upper, ",workdir=", work, is_volatile ? ",volatile" : "");
  TRY(linux::mkdirat(stage.get(), "merged", 0700), "staging layers");
  TRY(linux::mount("overlay", "merged", "overlay", 0, data), "root");
  return linux::open_tree(AT_FDCWD, "merged", OPEN_TREE_CLONE);
}

int run_attached_job(void* argument) {
  auto& job = *static_cast<AttachedJob*>(argument);
  job.result = mount_attached_layers(*job.layers, job.is_volatile);
  return 0;
}

Result<UniqueFd> mount_in_stage(const Layers& layers, bool is_volatile) {
  AttachedJob job;
  job.layers = &layers;
  job.is_volatile = is_volatile;
  const int pid = raw::run_stage(run_attached_job, &job, CLONE_NEWNS);
  if (pid < 0) return Error::from_errno(-pid, "root: clone of the staging process");
  (void)raw::reap(pid);
  if (!job.result) return Error(ErrorKind::internal, "root: the staging process died");
  return std::move(*job.result);
}

/// An overlay of two detached folders, as a container would have it. Costs some 15 calls, once.
bool kernel_takes_detached_layers() {
  auto try_it = []() -> Status {
    auto tree = TRY_PLAIN(linux::mount_detached("tmpfs", {}, 0));
    TRY_PLAIN(linux::mkdirat(tree.get(), "a", 0700));
    TRY_PLAIN(linux::mkdirat(tree.get(), "b", 0700));
    auto first = TRY_PLAIN(linux::openat(tree.get(), "a", O_PATH | O_DIRECTORY));
    auto second = TRY_PLAIN(linux::openat(tree.get(), "b", O_PATH | O_DIRECTORY));
    auto context = TRY_PLAIN(linux::FileSystemContext::create("overlay"));
    TRY_PLAIN(context.set_flag("userxattr"));
    TRY_PLAIN(context.set_fd("lowerdir+", first.get()));
    TRY_PLAIN(context.set_fd("lowerdir+", second.get()));
    return context.create_superblock();
  };
  return try_it().ok();
}

}  // namespace

OverlayWay overlay_way() {
  static const OverlayWay way = [] {  // an answer of the kernel that does not change while it runs
    const char* forced = environment("CAISSON_OVERLAY");
    if (forced != nullptr && std::string_view(forced) == "plain") return OverlayWay::attached;
    return kernel_takes_detached_layers() ? OverlayWay::detached : OverlayWay::attached;
  }();
  return way;
}

namespace detail {

Result<FileIdentity> FileIdentity::assume(RootIds ids) {
  if (ids.uid == 0 && ids.gid == 0) return FileIdentity(false);
  auto state = TRY(linux::capget(), "reading our capabilities");
  (void)raw::setfsgid(ids.gid);
  (void)raw::setfsuid(ids.uid);
  FileIdentity identity(true);
  const int taken = raw::capset(state);
  if (taken < 0) return Error::from_errno(-taken, "capset after setfsuid");
  if (raw::setfsuid(ids.uid) != ids.uid) return Error(ErrorKind::denied, concat("setfsuid ", ids.uid, ": refused by the kernel"), 1);
  return identity;
}

FileIdentity::~FileIdentity() {
  if (!active_) return;
  // Going back to 0 cannot be refused: it is our real id.
  (void)raw::setfsuid(0);
  (void)raw::setfsgid(0);
}

Result<UniqueFd> mount_overlay(const linux::Overlay& overlay, int userns, OverlayWay way, RootIds ids) {
  auto layers = TRY_PLAIN(clone_layers(overlay, userns));
  // The overlay makes its work folder as whoever mounts it; through an idmapped layer the host's root is nobody, and then the
  // kernel silently falls back to a read-only mount.
  auto identity = TRY_PLAIN(FileIdentity::assume(ids));
  if (way == OverlayWay::detached) return TRY(mount_detached_layers(layers, overlay.is_volatile), "root");
  return TRY(mount_in_stage(layers, overlay.is_volatile), "root");
}

}  // namespace detail

}  // namespace caisson::runtime

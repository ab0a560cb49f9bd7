// The overlay is the launcher's; what is new is that its mounts are kept by a namespace without processes.
#include "runtime/root_view.hpp"

#include <cerrno>
#include <mutex>
#include <optional>

#include "linux/child_clone.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "linux/tree.hpp"
#include "runtime/launch.hpp"

namespace caisson::runtime {

namespace {

constexpr std::uint32_t id_count = 65536;

struct StagedMount {
  const ViewMount* wanted = nullptr;
  UniqueFd tree;
  bool is_folder = false;
};

/// What the staging process does; it shares our memory and descriptors, and this thread waits for it.
struct StageJob {
  int root = -1;
  RootIds ids;
  bool read_only = false;
  const std::vector<StagedMount>* mounts = nullptr;
  std::optional<Result<UniqueFd>> mount_namespace;
};

/// A file system that cannot map ids is shown as it is: its files belong to nobody then, as in the container itself.
Result<StagedMount> stage_mount(const ViewMount& wanted, int userns) {
  StagedMount staged;
  staged.wanted = &wanted;
  const unsigned recursive = wanted.recursive ? AT_RECURSIVE : 0;
  staged.tree = TRY(linux::open_tree(AT_FDCWD, wanted.source, OPEN_TREE_CLONE | recursive), concat("mount ", wanted.target));
  staged.is_folder = S_ISDIR(TRY(linux::fstat(staged.tree.get()), concat("mount ", wanted.target)).st_mode);
  auto mapped = userns < 0 ? Status() : linux::idmap_mount(staged.tree.get(), userns, wanted.recursive);
  if (!mapped.ok() && mapped.error().kind() != ErrorKind::invalid && mapped.error().kind() != ErrorKind::unsupported && mapped.error().kind() != ErrorKind::denied)
    return std::move(mapped).error().in(concat("mount ", wanted.target));
  linux::MountAttributes attributes;
  attributes.propagation = MS_PRIVATE;
  if (wanted.read_only) attributes.set = MOUNT_ATTR_RDONLY;
  TRY(linux::mount_setattr(staged.tree.get(), "", AT_EMPTY_PATH | recursive, attributes), concat("mount ", wanted.target));
  return staged;
}

/// The place of a mount, made as the container's root would. The image's links are followed inside the root only.
Result<UniqueFd> open_target(int root, const StagedMount& mount, RootIds ids) {
  auto identity = TRY_PLAIN(detail::FileIdentity::assume(ids));
  const auto& target = mount.wanted->target;
  if (mount.is_folder) return linux::make_dirs_in_root(root, target, 0755);
  auto place = linux::open_in_root(root, target, O_PATH);
  if (place.ok() || place.error().error_number() != ENOENT) return place;
  auto halves = split_last(target, '/');
  auto folder = TRY_PLAIN(linux::make_dirs_in_root(root, std::string(halves.before.empty() ? "/" : halves.before), 0755));
  auto made = TRY_PLAIN(linux::openat(folder.get(), std::string(halves.after), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644));
  return linux::open_in_root(root, target, O_PATH);
}

Status forbid_writing(int root) {
  linux::MountAttributes attributes;
  attributes.set = MOUNT_ATTR_RDONLY;
  TRY(linux::mount_setattr(root, "", AT_EMPTY_PATH, attributes), "read-only root");
  return {};
}

Result<UniqueFd> build_namespace(const StageJob& job) {
  TRY(linux::make_all_mounts(MS_PRIVATE), "isolate the view's mounts");
  auto mount_namespace = TRY(linux::open("/proc/self/ns/mnt", O_RDONLY), "keep the view's mounts");
  TRY(linux::move_mount(job.root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), "place the root");
  for (const auto& mount : *job.mounts) {
    auto target = TRY(open_target(job.root, mount, job.ids), concat("mount ", mount.wanted->target));
    TRY(linux::attach_mount(mount.tree.get(), target.get()), concat("mount ", mount.wanted->target));
  }
  if (job.read_only) TRY_PLAIN(forbid_writing(job.root));  // only now: places of mounts had to be made
  // The host's own mounts go from this namespace, so that a long copy keeps none of them busy.
  TRY(linux::fchdir(job.root), "place the root");
  TRY(linux::pivot_root(".", "."), "leave the host's mounts");
  TRY(linux::umount2(".", MNT_DETACH), "leave the host's mounts");
  return mount_namespace;
}

int run_stage_job(void* argument) {
  auto& job = *static_cast<StageJob*>(argument);
  job.mount_namespace = build_namespace(job);
  return 0;
}

Result<UniqueFd> run_in_stage(StageJob& job) {
  const int pid = linux::raw::run_stage(run_stage_job, &job, CLONE_NEWNS);
  if (pid < 0) return Error::from_errno(-pid, "clone of the staging process");
  (void)linux::raw::reap(pid);
  if (!job.mount_namespace) return Error(ErrorKind::internal, "the staging process died");
  return std::move(*job.mount_namespace);
}

}  // namespace

Result<RootView> open_root_view(const ViewRequest& request) {
  const RootIds ids{request.first_host_id, request.first_host_id};
  UniqueFd userns;
  if (request.first_host_id != 0) {
    linux::IdMap map;
    map.uids.push_back({0, request.first_host_id, id_count});
    map.gids.push_back({0, request.first_host_id, id_count});
    userns = TRY(linux::create_user_namespace(map), "ids of the view");
  }
  static std::mutex turn;  // staging processes of one program share a stack
  std::lock_guard lock(turn);
  auto root = TRY_PLAIN(detail::mount_overlay(request.rootfs, userns.get(), overlay_way(), ids));
  std::vector<StagedMount> mounts;
  for (const auto& mount : request.mounts) mounts.push_back(TRY_PLAIN(stage_mount(mount, userns.get())));
  RootView view;
  if (!mounts.empty()) {
    StageJob job;
    job.root = root.get();
    job.ids = ids;
    job.read_only = request.read_only;
    job.mounts = &mounts;
    view.mount_namespace = TRY_PLAIN(run_in_stage(job));
  } else if (request.read_only) {
    TRY_PLAIN(forbid_writing(root.get()));
  }
  view.root = TRY(linux::openat(root.get(), ".", O_RDONLY | O_DIRECTORY), "open the root");
  return view;
}

Result<RootView> open_running_root(int pid, std::uint64_t start_time) {
  auto gone = [&] { return Error(ErrorKind::conflict, "the container has ended"); };
  RootView view;
  auto root = linux::open(concat("/proc/", pid, "/root"), O_RDONLY | O_DIRECTORY);
  // Asked for after the root was opened: the same process then is the one whose root it is.
  auto now = linux::process_start_time(pid);
  if (!now.ok() || *now != start_time) return gone();
  if (!root.ok() && root.error().kind() == ErrorKind::not_found) return gone();
  view.root = TRY(std::move(root), "root of the container");
  return view;
}

}  // namespace caisson::runtime

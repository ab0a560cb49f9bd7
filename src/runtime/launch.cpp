// Both halves of a launch: prepare, stage, clone, and listening to the child until it is the program.
#include "runtime/launch.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "linux/child.hpp"
#include "linux/child_clone.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"

namespace caisson::runtime {

namespace {

namespace raw = linux::raw;

struct StageJoin {
  int fd = -1;
  int flags = 0;
  std::uint32_t index = 0;
  bool done = false;
};

/// Shared with the stage, which runs in our memory.
struct Stage {
  ChildSetup* setup = nullptr;
  std::vector<StageJoin> joins;  ///< the user namespace last
  std::uint64_t clone_flags = 0;
  int cgroup_fd = -1;
  bool is_exec = false;
  // result
  int pid = -1;
  int pidfd = -1;
  ChildMessage failure;
};

int fail_stage(Stage& stage, ChildStep step, std::uint32_t index, int error_number) {
  stage.failure = {ChildMessageKind::failed, step, index, error_number};
  return 1;
}

/// What must be done with the host's rights and is inherited by the child.
int set_inherited(Stage& stage) {
  const ProcessPlan& process = *stage.setup->process;
  if (process.set_oom_score) {
    const std::string text = concat(process.oom_score_adj);
    const int written = raw::write_kernel_file(AT_FDCWD, "/proc/self/oom_score_adj", text.data(), text.size());
    if (written < 0) return fail_stage(stage, ChildStep::stage_oom_score, 0, -written);
  }
  for (std::size_t i = 0; i < process.rlimits.size(); ++i) {
    if (!process.rlimits[i].raises_hard) continue;
    struct ::rlimit value {};
    value.rlim_cur = process.rlimits[i].hard;
    value.rlim_max = process.rlimits[i].hard;
    const int set = raw::prlimit(0, static_cast<int>(process.rlimits[i].resource), &value);
    if (set < 0) return fail_stage(stage, ChildStep::stage_rlimit, static_cast<std::uint32_t>(i), -set);
  }
  return 0;
}

/// Everything but the user namespace first, with the host's rights: a namespace of another owner could not be joined from
/// inside. What the host's rights do not reach (we are unprivileged) is tried again from inside.
int join_namespaces(Stage& stage) {
  for (int round = 0; round < 2; ++round) {
    for (auto& join : stage.joins) {
      if (join.done) continue;
      const int joined = raw::setns(join.fd, join.flags);
      const bool is_user = (join.flags & CLONE_NEWUSER) != 0;
      if (joined < 0 && (round == 1 || is_user || joined != -EPERM))
        return fail_stage(stage, ChildStep::stage_join, join.index, -joined);
      join.done = joined == 0;
    }
  }
  return 0;
}

/// `parent_flags`: CLONE_PARENT from the stage, whose parent the child gets together with its exit signal; else 0.
int clone_child(Stage& stage, std::uint64_t parent_flags) {
  struct ::clone_args args {};
  args.flags = stage.clone_flags | parent_flags | CLONE_PIDFD;
  args.exit_signal = parent_flags == 0 ? SIGCHLD : 0;
  args.pidfd = reinterpret_cast<std::uintptr_t>(&stage.pidfd);
  if (stage.cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<unsigned int>(stage.cgroup_fd);
  }
  const int pid = raw::clone3(&args, sizeof args);
  if (pid == 0) {
    if (stage.is_exec) run_exec_child(*stage.setup);
    run_container_child(*stage.setup);
  }
  if (pid < 0) return fail_stage(stage, ChildStep::stage_clone, 0, -pid);
  stage.pid = pid;
  return 0;
}

int run_launch_stage(void* argument) {
  auto& stage = *static_cast<Stage*>(argument);
  if (set_inherited(stage) != 0 || join_namespaces(stage) != 0) return 1;
  return clone_child(stage, CLONE_PARENT);
}

/// A child that inherits nothing but what we are ourselves needs no stage (one clone and one wait less).
bool needs_stage(const Stage& stage) {
  const ProcessPlan& process = *stage.setup->process;
  return !stage.joins.empty() || process.set_oom_score ||
         std::any_of(process.rlimits.begin(), process.rlimits.end(), [](const PlanRlimit& limit) { return limit.raises_hard; });
}

void fill_arguments(ChildSetup& setup, const ProcessPlan& process, const LaunchInputs& inputs) {
  if (process.use_init) {
    setup.init_fd = inputs.init_fd;
    setup.argv.push_back("/dev/init");
    setup.argv.push_back("--");
  }
  for (const auto& arg : process.args) setup.argv.push_back(arg.c_str());
  setup.argv.push_back(nullptr);
  for (const auto& entry : process.env) setup.envp.push_back(entry.c_str());
  setup.home_slot = setup.envp.size();
  setup.envp.push_back(nullptr);
  if (process.find_home) setup.envp.push_back(nullptr);
  for (int i = 0; i < 3; ++i) setup.standard_fds[i] = inputs.standard_fds[i];
  setup.exec_fifo = inputs.exec_fifo;
  setup.preserve_fds = inputs.preserve_fds;
}

Result<Launching> run_stage(Stage& stage, const LaunchPlan* plan) {
  auto pair = TRY(linux::socketpair(linux::UnixType::seqpacket), "start");
  stage.setup->sync_fd = pair.second.get();
  if (needs_stage(stage)) {
    const int pid = raw::run_stage(run_launch_stage, &stage, 0);
    if (pid < 0) return Error::from_errno(-pid, "clone of the stage");
    (void)raw::reap(pid);
  } else {
    (void)clone_child(stage, 0);  // a failure stands in the stage
  }
  Launching launching;
  launching.pid = stage.pid;
  launching.pidfd.reset(stage.pidfd);
  launching.sync = std::move(pair.first);
  if (stage.pid < 0) return describe_failure(stage.failure, *stage.setup->process, plan);
  return launching;
}

/// uid_map and gid_map of a namespace that is known by its descriptor only: read by a stage that has entered it.
struct MapReader {
  int userns = -1;
  std::optional<Result<std::string>> uids;
  std::optional<Result<std::string>> gids;
};
int run_map_reader(void* argument) {
  auto& reader = *static_cast<MapReader*>(argument);
  if (raw::setns(reader.userns, CLONE_NEWUSER) < 0) return 1;
  reader.uids = linux::read_file("/proc/self/uid_map");
  reader.gids = linux::read_file("/proc/self/gid_map");
  return 0;
}
Result<linux::IdMap> read_id_map(int userns) {
  MapReader reader;
  reader.userns = userns;
  const int pid = raw::run_stage(run_map_reader, &reader, 0);
  if (pid < 0) return Error::from_errno(-pid, "clone of the stage");
  (void)raw::reap(pid);
  if (!reader.uids || !reader.uids->ok() || !reader.gids || !reader.gids->ok())
    return Error(ErrorKind::denied, "the user namespace cannot be entered");
  linux::IdMap map;
  map.uids = TRY(linux::parse_id_map(reader.uids->value()), "uid_map");
  map.gids = TRY(linux::parse_id_map(reader.gids->value()), "gid_map");
  return map;
}

/// Everything made for a container before its process exists; descriptors close when the launch is under way.
class Preparation {
 public:
  Preparation(const LaunchPlan& plan, const LaunchInputs& inputs) : plan_(plan), inputs_(inputs) {}
  ~Preparation() {
    // Only reached with a cgroup when the launch failed. What cannot be removed is found by the next create of that path.
    if (cgroup_) ignore(cgroup_->remove());
  }
  Preparation(const Preparation&) = delete;
  Preparation& operator=(const Preparation&) = delete;

  Status prepare(ChildSetup& setup, Stage& stage) {
    TRY_PLAIN(open_namespaces(stage));
    TRY_PLAIN(make_cgroup(setup, stage));
    TRY_PLAIN(make_root(setup));
    return make_mounts(setup);
  }
  std::optional<linux::Cgroup> take_cgroup() { return std::exchange(cgroup_, std::nullopt); }

 private:
  Status open_namespaces(Stage& stage) {
    StageJoin user;
    for (std::size_t i = 0; i < plan_.joins.size(); ++i) {
      const auto& join = plan_.joins[i];
      StageJoin entry;
      entry.flags = static_cast<int>(join.flag);
      entry.index = static_cast<std::uint32_t>(i);
      if (join.path.empty()) {
        entry.fd = join.flag == CLONE_NEWUSER ? inputs_.user_namespace : inputs_.network_namespace;
        if (entry.fd < 0) return Error(ErrorKind::internal, "the plan wants a namespace descriptor that was not given");
      } else {
        auto fd = TRY(linux::open(join.path, O_RDONLY), concat("namespace ", join.path));
        auto type = TRY(linux::namespace_type(fd.get()), concat("namespace ", join.path));
        if (static_cast<std::uint64_t>(type) != join.flag)
          return Error(ErrorKind::invalid, concat("namespace ", join.path, ": is of another type"));
        entry.fd = fd.get();
        owned_.push_back(std::move(fd));
      }
      if (join.flag == CLONE_NEWUSER) user = entry;
      else stage.joins.push_back(entry);
    }
    if (plan_.new_user_namespace) {
      owned_.push_back(TRY(linux::create_user_namespace(plan_.id_map), "user namespace"));
      user.fd = owned_.back().get();
      user.flags = CLONE_NEWUSER;
    }
    if (user.fd >= 0) stage.joins.push_back(user);
    userns_ = user.fd;
    return {};
  }

  Status make_cgroup(ChildSetup& setup, Stage& stage) {
    if (plan_.cgroups_path.empty()) return {};
    cgroup_ = TRY(linux::Cgroup::create(inputs_.layout, plan_.cgroups_path), "cgroup");
    TRY(cgroup_->apply(plan_.limits), "cgroup");
    handle_ = TRY(cgroup_->handle(), "cgroup");
    stage.cgroup_fd = handle_.v2_dir.get();
    for (const auto& fd : handle_.v1_procs_fds) setup.cgroup_procs_fds.push_back(fd.get());
    return {};
  }

  Status make_root(ChildSetup& setup) {
    if (plan_.overlay) {
      root_ = TRY_PLAIN(detail::mount_overlay(*plan_.overlay, userns_, overlay_way(), outside_root(plan_)));
    } else {
      auto tree = linux::open_tree(AT_FDCWD, plan_.root_path, OPEN_TREE_CLONE | AT_RECURSIVE);
      if (!tree && tree.error().error_number() == ENOENT)
        return Error(ErrorKind::not_found, concat("root.path: ", plan_.root_path, " does not exist"), ENOENT);
      root_ = TRY(std::move(tree), concat("root.path ", plan_.root_path));
      linux::MountAttributes attributes;
      attributes.propagation = MS_PRIVATE;
      TRY(linux::mount_setattr(root_.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, attributes), concat("root.path ", plan_.root_path));
    }
    setup.root_fd = root_.get();
    return {};
  }

  Status make_mounts(ChildSetup& setup) {
    setup.mount_fds.assign(plan_.mounts.size(), -1);
    setup.cgroup_binds.resize(plan_.mounts.size());
    setup.device_done.assign(plan_.devices.size(), false);
    for (std::size_t i = 0; i < plan_.mounts.size(); ++i) {
      const auto& mount = plan_.mounts[i];
      if (mount.kind == MountKind::bind) {
        PlanMount with_source = mount;
        if (mount.type == "cgroup" && mount.source.empty()) with_source.source = own_v2_directory();
        keep(setup.mount_fds[i], TRY_PLAIN(detail::clone_bind(with_source, i, userns_)));
      } else if (mount.kind == MountKind::device_folder) {
        keep(setup.mount_fds[i], TRY(detail::make_device_folder(mount, plan_, setup.device_done), concat("mounts[", i, "]: /dev")));
        setup.has_device_folder = true;
      } else if (mount.kind == MountKind::cgroup_v1) {
        TRY_PLAIN(clone_cgroups(setup, i));
      }
    }
    return {};
  }

  [[nodiscard]] std::string own_v2_directory() const {
    if (cgroup_)
      for (std::size_t h = 0; h < cgroup_->layout().hierarchies.size(); ++h)
        if (cgroup_->layout().hierarchies[h].is_v2) return cgroup_->directory(h);
    return "/sys/fs/cgroup";
  }

  Status clone_cgroups(ChildSetup& setup, std::size_t index) {
    const auto& names = plan_.mounts[index].folders;
    setup.cgroup_binds[index].assign(names.size(), -1);
    if (!cgroup_) return {};
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto& hierarchies = cgroup_->layout().hierarchies;
      for (std::size_t h = 0; h < hierarchies.size(); ++h) {
        if (hierarchies[h].is_v2 || split_last(hierarchies[h].mount_point, '/').after != names[i]) continue;
        const std::string path = cgroup_->directory(h);  // a relative cgroups path lies elsewhere in every hierarchy
        auto tree = TRY(linux::open_tree(AT_FDCWD, path, OPEN_TREE_CLONE), concat("cgroup ", path));
        keep(setup.cgroup_binds[index][i], std::move(tree));
        break;
      }
    }
    return {};
  }

  void keep(int& slot, UniqueFd fd) {
    slot = fd.get();
    owned_.push_back(std::move(fd));
  }

  const LaunchPlan& plan_;
  const LaunchInputs& inputs_;
  std::vector<UniqueFd> owned_;
  UniqueFd root_;
  int userns_ = -1;
  std::optional<linux::Cgroup> cgroup_;
  linux::CgroupHandle handle_;
};

/// Waits for the process that must be gone, and takes its cgroup away. The first error is the one to report.
void abandon(Launching& launching) {
  linux::kill_and_reap(launching.pidfd.get());
  launching.pidfd.reset();
  if (launching.cgroup) {
    ignore(launching.cgroup->kill_all());
    ignore(launching.cgroup->remove());
    launching.cgroup.reset();
  }
}

Status listen(Launching& launching, const ProcessPlan& process, const LaunchPlan* plan, const LaunchInputs& inputs) {
  while (true) {
    auto received = TRY(linux::receive_message(launching.sync.get(), sizeof(ChildMessage), 1), "start");
    if (received.bytes.empty()) {
      // Closed by exec; or by a death nobody announced, which the pidfd tells. A program that has already ended looks the
      // same as one that was killed before exec, except that only the latter dies by SIGKILL while it is still ours.
      return {};
    }
    if (received.bytes.size() != sizeof(ChildMessage)) return Error(ErrorKind::internal, "start: malformed message of the child");
    ChildMessage message;
    std::memcpy(&message, received.bytes.data(), sizeof message);
    switch (message.kind) {
      case ChildMessageKind::failed: return describe_failure(message, process, plan);
      case ChildMessageKind::console:
        if (received.fds.empty()) return Error(ErrorKind::internal, "start: the terminal is missing");
        launching.terminal = std::move(received.fds.front());
        break;
      case ChildMessageKind::mounted:
        if (inputs.on_mounted) TRY_PLAIN(inputs.on_mounted(launching.pid));
        TRY(linux::send_message(launching.sync.get(), "g"), "start");
        break;
      case ChildMessageKind::ready: return {};
    }
  }
}

}  // namespace

std::uint64_t exec_namespaces(const LaunchPlan& plan) {
  std::uint64_t flags = plan.clone_flags | CLONE_NEWNS;
  for (const auto& join : plan.joins) flags |= join.flag;
  if (plan.new_cgroup_namespace) flags |= CLONE_NEWCGROUP;
  if (plan.new_user_namespace) flags |= CLONE_NEWUSER;
  return flags;
}

Result<Launching> begin_launch(const LaunchPlan& given, const LaunchInputs& inputs) {
  LaunchPlan with_map;  // filled only when the maps have to be read from a namespace
  const LaunchPlan* plan = &given;
  if (given.in_user_namespace && given.id_map.empty()) {
    with_map = given;
    for (const auto& join : given.joins) {
      if (join.flag != CLONE_NEWUSER) continue;
      UniqueFd opened;
      if (!join.path.empty()) opened = TRY(linux::open(join.path, O_RDONLY), concat("namespace ", join.path));
      with_map.id_map = TRY(read_id_map(opened ? opened.get() : inputs.user_namespace), "user namespace");
    }
    plan = &with_map;
  }
  ChildSetup setup;
  setup.process = &plan->process;
  setup.launch = plan;
  setup.in_user_namespace = plan->in_user_namespace;
  setup.wait_after_mounts = static_cast<bool>(inputs.on_mounted);
  fill_arguments(setup, plan->process, inputs);
  Stage stage;
  stage.setup = &setup;
  stage.clone_flags = plan->clone_flags;
  Preparation preparation(*plan, inputs);
  TRY_PLAIN(preparation.prepare(setup, stage));
  auto launching = TRY_PLAIN(run_stage(stage, plan));
  launching.cgroup = preparation.take_cgroup();
  return launching;
}

Status finish_launch(Launching& launching, const LaunchPlan& plan, const LaunchInputs& inputs) {
  auto outcome = listen(launching, plan.process, &plan, inputs);
  if (!outcome) abandon(launching);
  return outcome;
}

Result<Launching> begin_exec(const ProcessPlan& process, const ExecTarget& target, const LaunchInputs& inputs) {
  ChildSetup setup;
  setup.process = &process;
  setup.in_user_namespace = target.in_user_namespace;
  fill_arguments(setup, process, inputs);
  Stage stage;
  stage.setup = &setup;
  stage.is_exec = true;
  // The cgroup namespace comes last, by the child: on a v2 mounted with nsdelegate (systemd does) nobody is moved across a
  // namespace's root, and clone3 into the container's cgroup from inside its namespace is ENOENT (cgroups(7), found in a guest).
  const auto before_cgroup = target.namespaces & ~static_cast<std::uint64_t>(CLONE_NEWCGROUP);
  if (before_cgroup != target.namespaces) setup.cgroup_namespace_pidfd = target.pidfd;
  stage.joins.push_back({target.pidfd, static_cast<int>(before_cgroup), 0, false});
  linux::CgroupHandle handle;
  if (target.cgroup != nullptr) {
    handle = TRY(target.cgroup->handle(), "exec");
    stage.cgroup_fd = handle.v2_dir.get();
    for (const auto& fd : handle.v1_procs_fds) setup.cgroup_procs_fds.push_back(fd.get());
  }
  return run_stage(stage, nullptr);
}

Status finish_exec(Launching& launching, const ProcessPlan& process, const LaunchInputs& inputs) {
  auto outcome = listen(launching, process, nullptr, inputs);
  if (!outcome) abandon(launching);
  return outcome;
}

}  // namespace caisson::runtime

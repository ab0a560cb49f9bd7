// Both halves of a launch: prepare, stage, clone, and listening to the child until it is the program.
#include "runtime/launch.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "linux/resctrl.hpp"
#include "linux/socket.hpp"
#include "runtime/launch_stage.hpp"

namespace caisson::runtime {

namespace {

using detail::Stage;
using detail::StageJoin;

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

/// The files of a process that is not dumpable belong to root (proc(5)), and an ordinary user must write some: the maps of a user
/// namespace, the oom score. While this lives nothing of the container runs yet, and its process is born non-dumpable: entering
/// the user namespace sees to that (commit_creds), and the stage once more.
class DumpableMoment {
 public:
  explicit DumpableMoment(const LaunchInputs& inputs) : active_(inputs.is_rootless && !inputs.may_mount) {
    if (active_) ignore(linux::set_dumpable(true));  // what is refused without it names itself
  }
  ~DumpableMoment() {
    if (active_) ignore(linux::set_dumpable(false));  // cannot be refused (prctl(2))
  }
  DumpableMoment(const DumpableMoment&) = delete;
  DumpableMoment& operator=(const DumpableMoment&) = delete;
  [[nodiscard]] bool is_active() const { return active_; }

 private:
  bool active_;
};

void close_together(std::vector<UniqueFd> fds, linux::CgroupHandle handle) {
  fds.push_back(std::move(handle.v2_dir));
  for (auto& fd : handle.v1_tasks_fds) fds.push_back(std::move(fd));
  linux::close_all(std::move(fds));
}

/// Everything made for a container before its process exists; descriptors close when the launch is under way.
class Preparation {
 public:
  Preparation(const LaunchPlan& plan, const LaunchInputs& inputs) : plan_(plan), inputs_(inputs) {}
  ~Preparation() {
    // Only reached with a cgroup when the launch failed. What cannot be removed is found by the next create of that path.
    if (cgroup_) ignore(cgroup_->remove());
    owned_.push_back(std::move(root_));
    close_together(std::move(owned_), std::move(handle_));  // some twenty in a row
  }
  Preparation(const Preparation&) = delete;
  Preparation& operator=(const Preparation&) = delete;

  Status prepare(ChildSetup& setup, Stage& stage) {
    TRY_PLAIN(open_namespaces(setup, stage));
    TRY_PLAIN(make_cgroup(setup, stage));
    if (inputs_.may_mount || userns_ < 0) return make_tree(setup);
    stage.prepare = [this, &setup] { return make_tree(setup); };
    return {};
  }
  std::optional<linux::Cgroup> take_cgroup() { return std::exchange(cgroup_, std::nullopt); }

 private:
  Status open_namespaces(ChildSetup& setup, Stage& stage) {
    StageJoin user;
    StageJoin cgroup_namespace;
    for (std::size_t i = 0; i < plan_.joins.size(); ++i) {
      const auto& join = plan_.joins[i];
      StageJoin entry;
      entry.flags = static_cast<int>(join.flag);
      entry.index = static_cast<std::uint32_t>(i);
      if (join.path.empty()) {
        entry.fd = join.flag == CLONE_NEWUSER ? inputs_.user_namespace : inputs_.network_namespace;
        if (entry.fd < 0) return Error(ErrorKind::internal, "the plan wants a namespace descriptor that was not given");
      } else {
        auto fd = TRY(linux::open(join.path, O_RDONLY), concat("linux.namespaces[", join.index, "].path"));
        TRY_PLAIN(detail::check_join(plan_, join, fd.get()));
        entry.fd = fd.get();
        owned_.push_back(std::move(fd));
      }
      if (join.flag == CLONE_NEWUSER) user = entry;
      else if (join.flag == CLONE_NEWTIME) stage.time_namespace = entry.fd;
      else if (join.flag == CLONE_NEWCGROUP) cgroup_namespace = entry;
      else stage.joins.push_back(entry);
    }
    if (plan_.new_user_namespace) {
      owned_.push_back(TRY(linux::create_user_namespace(plan_.id_map), "user namespace"));
      user.fd = owned_.back().get();
      user.flags = CLONE_NEWUSER;
    }
    // By the child, once it is in its cgroup (begin_exec says why); by the stage where the child would lack the right.
    if (cgroup_namespace.fd >= 0) {
      if (user.fd < 0 || detail::is_owned_by(cgroup_namespace.fd, user.fd)) setup.cgroup_namespace_fd = cgroup_namespace.fd;
      else stage.joins.push_back(cgroup_namespace);
    }
    if (user.fd >= 0) stage.joins.push_back(user);
    userns_ = user.fd;
    return {};
  }

  Status make_cgroup(ChildSetup& setup, Stage& stage) {
    if (plan_.cgroups_path.empty()) return {};
    cgroup_ = TRY(linux::Cgroup::create(inputs_.layout, plan_.cgroups_path, {&plan_.limits, &plan_.systemd_properties}), "cgroup");
    TRY(cgroup_->apply(plan_.limits), "cgroup");
    if (plan_.hand_over_cgroup) {
      const RootIds root = outside_root(plan_);
      TRY(cgroup_->delegate(root.uid, root.gid), "cgroup");
    }
    handle_ = TRY(cgroup_->handle(), "cgroup");
    stage.cgroup_fd = handle_.v2_dir.get();
    for (const auto& fd : handle_.v1_tasks_fds) setup.cgroup_procs_fds.push_back(fd.get());
    return plan_.delegated_cgroup.empty() ? Status{} : make_delegated_cgroup(setup);
  }

  /// The program lives one level deeper, in a group of its own that it manages; the limits are those of the group above.
  Status make_delegated_cgroup(ChildSetup& setup) {
    const std::string& name = plan_.delegated_cgroup;
    auto made = linux::mkdirat(handle_.v2_dir.get(), name, 0755);
    if (!made && made.error().kind() != ErrorKind::conflict) return std::move(made).error().in("delegated cgroup");
    auto procs = TRY(linux::open_beneath(handle_.v2_dir.get(), concat(name, "/cgroup.procs"), O_WRONLY), "delegated cgroup");
    keep(setup.delegated_procs_fd, std::move(procs));
    return {};
  }

  Status make_tree(ChildSetup& setup) {
    TRY_PLAIN(make_root(setup));
    return make_mounts(setup);
  }

  Status make_root(ChildSetup& setup) {
    if (plan_.overlay) {
      root_ = TRY_PLAIN(detail::mount_overlay(*plan_.overlay, mapping_userns(), overlay_way(), outside_root(plan_)));
    } else {
      auto tree = linux::open_tree(AT_FDCWD, plan_.root_path, OPEN_TREE_CLONE | AT_RECURSIVE);
      if (!tree && tree.error().error_number() == ENOENT)
        return Error(ErrorKind::not_found, concat("root.path: ", plan_.root_path, " does not exist"), ENOENT);
      root_ = TRY(std::move(tree), concat("root.path ", plan_.root_path));
      linux::MountAttributes attributes;
      // A clone of a shared mount is its peer. As a slave it gets the host's later mounts, and none of ours goes out.
      attributes.propagation = plan_.root_propagation == MS_SLAVE ? std::uint64_t{MS_SLAVE} : std::uint64_t{MS_PRIVATE};
      TRY(linux::mount_setattr(root_.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, attributes), concat("root.path ", plan_.root_path));
    }
    setup.root_fd = root_.get();
    return {};
  }

  Status make_mounts(ChildSetup& setup) {
    setup.mount_fds.assign(plan_.mounts.size(), -1);
    setup.mount_userns_fds.assign(plan_.mounts.size(), -1);
    setup.mount_links.resize(plan_.mounts.size());
    setup.cgroup_binds.resize(plan_.mounts.size());
    setup.device_done.assign(plan_.devices.size(), false);
    for (std::size_t i = 0; i < plan_.mounts.size(); ++i) {
      const auto& mount = plan_.mounts[i];
      if (mount.copy_symlink) {
        if (auto text = linux::readlinkat(AT_FDCWD, mount.source)) {
          setup.mount_links[i] = std::move(text).value();
          continue;
        }
      }
      if (mount.id_mapped && mount.kind != MountKind::bind && !maps_to_itself(mount)) TRY_PLAIN(open_id_map(setup, i));
      if (mount.kind == MountKind::bind) {
        PlanMount with_source = mount;
        if (mount.type == "cgroup" && mount.source.empty()) with_source.source = own_v2_directory();
        if (maps_to_itself(mount)) with_source.id_mapped = false;
        keep(setup.mount_fds[i], TRY_PLAIN(detail::clone_bind(with_source, i, userns_)));
      } else if (mount.kind == MountKind::device_folder) {
        keep(setup.mount_fds[i], TRY(detail::make_device_folder(mount, plan_, setup.device_done), concat("mounts[", i, "]: /dev")));
        if (setup.mount_userns_fds[i] >= 0)
          TRY(linux::idmap_mount(setup.mount_fds[i], setup.mount_userns_fds[i]), concat("mounts[", i, "]: /dev"));
        setup.has_device_folder = true;
      } else if (mount.kind == MountKind::cgroup_v1) {
        TRY_PLAIN(clone_cgroups(setup, i));
      }
    }
    return {};
  }

  /// What layers are shown through; -1: as they are. A map of every id to itself changes nothing, and is all that an engine without root can
  /// have: only the host's root may map the ids of the host's file systems.
  [[nodiscard]] int mapping_userns() const { return linux::is_identity(plan_.id_map) ? -1 : userns_; }
  [[nodiscard]] bool maps_to_itself(const PlanMount& mount) const {
    return linux::is_identity(mount.id_map.empty() ? plan_.id_map : mount.id_map);
  }

  /// For a mount the child makes: a user namespace with its map.
  Status open_id_map(ChildSetup& setup, std::size_t index) {
    const auto& map = plan_.mounts[index].id_map;
    if (map.empty()) setup.mount_userns_fds[index] = userns_;
    else keep(setup.mount_userns_fds[index], TRY(linux::create_user_namespace(map), concat("mounts[", index, "]")));
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

/// What the process itself may not do once it is in a user namespace.
Status set_scheduling(pid_t pid, const ProcessPolicy& policy) {
  if (policy.scheduler) {
    linux::abi::SchedAttr attributes{};
    attributes.sched_policy = policy.scheduler->policy;
    attributes.sched_flags = policy.scheduler->flags;
    attributes.sched_nice = policy.scheduler->nice;
    attributes.sched_priority = policy.scheduler->priority;
    attributes.sched_runtime = policy.scheduler->runtime_ns;
    attributes.sched_deadline = policy.scheduler->deadline_ns;
    attributes.sched_period = policy.scheduler->period_ns;
    auto set = linux::sched_setattr(pid, attributes);
    if (!set && set.error().error_number() == EPERM)
      return Error(ErrorKind::denied, "process.scheduler: the kernel does not permit it (EPERM)", EPERM)
          .with_hint(
              "in a cgroup v1 a realtime policy needs linux.resources.cpu.realtimeRuntime, in the groups above too; else CAP_SYS_NICE "
              "is missing");
    if (!set)
      return Error(set.error().kind(), concat("process.scheduler: the kernel refused it: ", set.error().text()),
                   set.error().error_number());
  }
  if (policy.io_priority) {
    auto set = linux::ioprio_set(pid, policy.io_priority->io_class, policy.io_priority->level);
    if (!set)
      return Error(set.error().kind(), concat("process.ioPriority: the kernel refused it (errno ", set.error().error_number(), ")"),
                   set.error().error_number());
  }
  return {};
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
      case ChildMessageKind::listener:
        if (received.fds.empty()) return Error(ErrorKind::internal, "start: the seccomp listener is missing");
        if (!inputs.on_listener)
          return Error(ErrorKind::unsupported, "linux.seccomp.listenerPath: only caisson-runtime itself serves listeners");
        TRY_PLAIN(inputs.on_listener(launching.pid, received.fds.front().get()));
        break;
      case ChildMessageKind::joined:
        TRY_PLAIN(set_scheduling(launching.pid, process.policy));
        TRY(linux::send_message(launching.sync.get(), "g"), "start");
        break;
      case ChildMessageKind::mounted:
        if (plan != nullptr) TRY_PLAIN(detail::move_net_devices(plan->net_devices, launching.pid));
        if (inputs.on_mounted) TRY_PLAIN(inputs.on_mounted(launching.pid));
        TRY(linux::send_message(launching.sync.get(), "g"), "start");
        break;
      case ChildMessageKind::ready: return {};
    }
  }
}

/// The process is alone and has not become the program: from its first instruction on that one has its share of the caches.
Status join_resctrl(Launching& launching, const PlanIntelRdt& rdt, const LaunchInputs& inputs) {
  linux::ResctrlRequest request;
  request.root = inputs.resctrl_root.empty() ? TRY(linux::find_resctrl(), "linux.intelRdt") : inputs.resctrl_root;
  request.group = rdt.group;
  request.schemata = rdt.schemata;
  request.monitor = rdt.monitor;
  auto group = TRY(linux::ResctrlGroup::create(request), "linux.intelRdt");
  launching.resctrl_folders = group.made();
  TRY(group.add(launching.pid), "linux.intelRdt");
  return {};
}

}  // namespace

void abandon(Launching& launching) {
  linux::kill_and_reap(launching.pidfd.get());
  launching.pidfd.reset();
  if (launching.cgroup) {
    ignore(launching.cgroup->kill_all());
    ignore(launching.cgroup->remove());
    launching.cgroup.reset();
  }
  ignore(linux::ResctrlGroup::remove(std::exchange(launching.resctrl_folders, {})));
}

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
  for (const auto& join : given.joins) {
    if (join.flag != CLONE_NEWUSER || (join.path.empty() && !given.id_map.empty())) continue;
    UniqueFd opened;
    if (!join.path.empty()) opened = TRY(linux::open(join.path, O_RDONLY), concat("linux.namespaces[", join.index, "].path"));
    auto map = TRY(detail::read_id_map(opened ? opened.get() : inputs.user_namespace), "user namespace");
    if (!given.id_map.empty() && (map.uids != given.id_map.uids || map.gids != given.id_map.gids))
      return Error(ErrorKind::invalid, concat("linux.uidMappings: differ from those of the user namespace ", join.path));
    if (!given.id_map.empty()) continue;
    with_map = given;
    with_map.id_map = std::move(map);
    plan = &with_map;
  }
  ChildSetup setup;
  setup.process = &plan->process;
  setup.launch = plan;
  setup.in_user_namespace = plan->in_user_namespace;
  setup.wait_after_mounts = inputs.on_mounted || !plan->net_devices.empty();
  setup.open_to_user = inputs.is_rootless && !inputs.may_mount && (plan->clone_flags & CLONE_NEWPID) != 0;
  fill_arguments(setup, plan->process, inputs);
  Stage stage;
  stage.setup = &setup;
  stage.clone_flags = plan->clone_flags;
  if (!plan->time_offsets.empty()) {
    stage.clone_flags &= ~std::uint64_t{CLONE_NEWTIME};
    stage.time_offsets = detail::offsets_text(plan->time_offsets);
  }
  Preparation preparation(*plan, inputs);
  const DumpableMoment moment(inputs);
  stage.is_dumpable = moment.is_active();
  TRY_PLAIN(preparation.prepare(setup, stage));
  auto launching = TRY_PLAIN(detail::run_stage(stage, plan));
  launching.cgroup = preparation.take_cgroup();
  if (plan->intel_rdt)
    if (auto joined = join_resctrl(launching, *plan->intel_rdt, inputs); !joined) {
      abandon(launching);
      return std::move(joined).error();
    }
  return launching;
}

Status finish_launch(Launching& launching, const LaunchPlan& plan, const LaunchInputs& inputs) {
  auto outcome = listen(launching, plan.process, &plan, inputs);
  if (outcome && launching.cgroup) outcome = launching.cgroup->settle();
  if (!outcome) abandon(launching);
  return outcome;
}

namespace {
constexpr int ending_limit_ms = 1000;  // for the others in it to be killed; without memory, what an exec is late with its error

/// Of a process that has others to end it may be long before its pidfd says so.
bool is_exiting(int pidfd) {
  const auto pid = linux::pidfd_pid(pidfd);
  if (!pid.ok()) return false;
  const auto stat = linux::process_stat(*pid);
  return stat.ok() && stat->is_exiting;
}
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
  const auto before_cgroup = target.namespaces & ~static_cast<std::uint64_t>(CLONE_NEWCGROUP | CLONE_NEWTIME);
  if ((target.namespaces & CLONE_NEWCGROUP) != 0) setup.cgroup_namespace_fd = target.pidfd;
  if ((target.namespaces & CLONE_NEWTIME) != 0) stage.time_namespace = target.pidfd;
  stage.joins.push_back({target.pidfd, static_cast<int>(before_cgroup), 0, false});
  linux::CgroupHandle handle;
  UniqueFd v2_procs;
  if (target.cgroup != nullptr) {
    handle = TRY(target.cgroup->handle(), "exec");
    stage.cgroup_fd = handle.v2_dir.get();
    for (const auto& fd : handle.v1_tasks_fds) setup.cgroup_procs_fds.push_back(fd.get());
    // Who is born in the cgroup has never run on the initial CPUs: then it moves there by itself.
    if (!process.policy.initial_cpus.empty() && stage.cgroup_fd >= 0) {
      v2_procs = TRY(linux::openat(stage.cgroup_fd, "cgroup.procs", O_WRONLY), "exec");
      setup.cgroup_procs_fds.push_back(v2_procs.get());
      stage.cgroup_fd = -1;
    }
  }
  const DumpableMoment moment(inputs);
  stage.is_dumpable = moment.is_active();
  auto launching = detail::run_stage(stage, nullptr);
  // EBUSY: the container (a systemd inside) has moved its init deeper, and its own cgroup takes no processes any more.
  const bool inner_node = !launching && stage.failure.step == ChildStep::stage_clone && stage.failure.error_number == EBUSY;
  close_together({}, std::move(handle));
  // Nobody enters the namespaces of a process that has ended.
  if (!launching && stage.failure.error_number == ESRCH) return not_running_any_more();
  // A PID namespace whose first process is ending takes no others and says ENOMEM (pid_namespaces(7)); when it is over, so is that process.
  const bool may_be_ending = !launching && stage.failure.step == ChildStep::stage_clone && stage.failure.error_number == ENOMEM;
  if (may_be_ending && (is_exiting(target.pidfd) || linux::wait_readable(target.pidfd, ending_limit_ms).value_or(false))) return not_running_any_more();
  if (!inner_node || target.cgroup == nullptr) return launching;
  handle = TRY(target.cgroup->handle_beside(TRY(linux::pidfd_pid(target.pidfd), "exec")), "exec");
  stage.cgroup_fd = handle.v2_dir.get();
  setup.cgroup_procs_fds.clear();
  for (const auto& fd : handle.v1_tasks_fds) setup.cgroup_procs_fds.push_back(fd.get());
  for (auto& join : stage.joins) join.done = false;
  stage.failure = {};
  const DumpableMoment again(inputs);
  return detail::run_stage(stage, nullptr);
}

Status finish_exec(Launching& launching, const ProcessPlan& process, const LaunchInputs& inputs) {
  auto outcome = listen(launching, process, nullptr, inputs);
  if (outcome) return outcome;
  abandon(launching);
  if (outcome.error().error_number() == ESRCH) return not_running_any_more();  // as above, of the namespaces that the child enters by itself
  return outcome;
}

}  // namespace caisson::runtime

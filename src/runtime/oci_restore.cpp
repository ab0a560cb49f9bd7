// restore: a container's processes out of files, by CRIU.
#include <algorithm>
#include <array>

#include "linux/file.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "linux/tree.hpp"
#include "runtime/oci_create.hpp"
#include "runtime/oci_criu.hpp"

namespace caisson::runtime {

namespace {

/// A mount namespace of our own while CRIU works: the root must be a mount point, and whatever is mounted for it vanishes with us.
class PrivateMounts {
 public:
  static Result<PrivateMounts> create() {
    auto home = TRY_PLAIN(linux::open_namespace(0, "mnt"));
    TRY(linux::unshare(CLONE_NEWNS), "restore");
    TRY(linux::make_all_mounts(MS_PRIVATE), "restore");
    return PrivateMounts(std::move(home));
  }
  /// Back to the host's, where hooks and the rest of our work belong.
  Status leave() { return linux::setns(home_.get(), CLONE_NEWNS); }

 private:
  explicit PrivateMounts(UniqueFd home) : home_(std::move(home)) {}
  UniqueFd home_;
};

/// Where a destination really is: links in the root file system were followed when it was mounted.
std::string mount_point_of(const std::string& root, const std::string& destination) {
  auto root_fd = linux::open(root, O_PATH | O_DIRECTORY);
  if (!root_fd) return destination;
  auto target = linux::open_in_root(root_fd->get(), destination, O_PATH);
  if (!target) return destination;  // below another mount, which is not there yet
  auto base = linux::readlinkat(AT_FDCWD, concat("/proc/self/fd/", root_fd->get()));
  auto path = linux::readlinkat(AT_FDCWD, concat("/proc/self/fd/", target->get()));
  if (!base || !path || !path->starts_with(*base)) return destination;
  return *base == "/" ? *path : path->substr(base->size());
}

void add_cgroup_mounts(const PlanMount& mount, const linux::Cgroup& cgroup, std::vector<CriuPair>& out) {
  const auto& hierarchies = cgroup.layout().hierarchies;
  for (const auto& name : mount.folders)
    for (std::size_t i = 0; i < hierarchies.size(); ++i)
      if (!hierarchies[i].is_v2 && split_last(hierarchies[i].mount_point, '/').after == name)
        out.push_back({concat(mount.destination, "/", name), cgroup.directory(i)});
}

std::vector<CriuPair> external_mounts(const LaunchPlan& plan, const std::string& root, const std::optional<linux::Cgroup>& cgroup) {
  std::vector<CriuPair> out;
  for (const auto& mount : plan.mounts) {
    if (mount.kind == MountKind::bind && !mount.source.empty()) out.push_back({mount_point_of(root, mount.destination), mount.source});
    if (mount.kind == MountKind::cgroup_v1 && cgroup) add_cgroup_mounts(mount, *cgroup, out);
  }
  // Names that the images do not know are not asked for: folders among the masked, devices that are nodes.
  for (const auto& path : plan.masked_paths) out.push_back({path, "/dev/null"});
  for (const auto& device : plan.devices) out.push_back({device.path, device.path});
  return out;
}

/// CRIU's names of the hierarchies and where in them the container belongs now.
std::vector<CriuPair> cgroup_roots(const linux::Cgroup& cgroup) {
  std::vector<CriuPair> out;
  const auto& hierarchies = cgroup.layout().hierarchies;
  for (std::size_t i = 0; i < hierarchies.size(); ++i)
    out.push_back({hierarchies[i].is_v2 ? "" : join(hierarchies[i].controllers, ","),
                   cgroup.directory(i).substr(hierarchies[i].mount_point.size())});
  return out;
}

class Restoration {
 public:
  explicit Restoration(OciContext& context) : context_(context), arguments_(context.arguments) {}

  Result<int> run() {
    TRY_PLAIN(read());
    TRY_PLAIN(begin_record(context_, state_, bundle_.config));
    auto restored = restore();
    if (!restored) {
      if (pidfd_) linux::kill_and_reap(pidfd_.get());
      if (cgroup_) {
        ignore(cgroup_->kill_all());  // the first error is the one to report
        ignore(cgroup_->remove());
      }
      context_.store.forget(state_.id);
      return std::move(restored).error();
    }
    if (arguments_.has("detach")) return 0;
    TRY_PLAIN(hold_foreground_signals());
    const int code = TRY_PLAIN(serve_foreground({state_.pid, &pidfd_, &terminal_, nullptr, true}));
    TRY_PLAIN(oci_destroy(context_, state_));
    return code;
  }

 private:
  Status read() {
    state_.id = TRY_PLAIN(arguments_.id());
    TRY_PLAIN(OciStore::check_id(state_.id));
    bundle_ = TRY_PLAIN(load_bundle(arguments_, context_.store.filters()));
    TRY_PLAIN(check_console(arguments_.has("detach"), bundle_.spec.process.terminal, arguments_.value("console-socket")));
    folders_ = TRY_PLAIN(open_criu_folders(arguments_, CriuImages::use, "restore.log"));
    TRY_PLAIN(take_criu_flags(arguments_, bundle_.spec.annotations, options_));
    const auto facts = TRY_PLAIN(read_host_facts(*context_.layout));
    bundle_.spec.cgroups_path = TRY_PLAIN(choose_cgroup(bundle_.spec, state_.id, context_.globals.cgroup_driver, *context_.layout, facts.is_rootless));
    PlanOptions options;
    options.bundle = bundle_.path;
    plan_ = TRY_PLAIN(compute_plan(bundle_.spec, facts, options));
    state_.bundle = bundle_.path;
    state_.rootfs = plan_.root_path;
    state_.cgroup_path = plan_.cgroups_path;
    state_.exec_namespaces = exec_namespaces(plan_);
    state_.in_user_namespace = plan_.in_user_namespace;
    state_.created = now_ns();
    state_.owner = linux::getuid();
    state_.annotations = bundle_.spec.annotations;
    return {};
  }

  Status restore() {
    if (!arguments_.has("detach") && !arguments_.has("no-subreaper")) TRY_PLAIN(linux::set_child_subreaper(true));
    if (!state_.cgroup_path.empty()) {
      cgroup_ = TRY(linux::Cgroup::create(context_.layout, state_.cgroup_path), "cgroup");
      TRY(cgroup_->apply(plan_.limits), "cgroup");
    }
    const std::string root = concat(context_.store.folder(state_.id), "/criu-root");
    TRY_PLAIN(linux::make_dirs(root, 0700));
    auto mounts = TRY_PLAIN(PrivateMounts::create());
    auto outcome = ask_criu(root);
    TRY(mounts.leave(), "restore");
    TRY_PLAIN(std::move(outcome));
    ignore(linux::rmdir(root));  // delete takes the whole folder
    return run_hooks(bundle_.spec.hooks.poststart, "poststart", state_, OciStatus::running, HookPlace::runtime_namespaces);
  }

  Status ask_criu(const std::string& root) {
    auto tree = TRY(linux::open_tree(AT_FDCWD, plan_.root_path, OPEN_TREE_CLONE | AT_RECURSIVE), "root.path");
    TRY_PLAIN(linux::move_mount(tree.get(), "", AT_FDCWD, root, MOVE_MOUNT_F_EMPTY_PATH));
    CriuStart start;
    start.program = context_.globals.criu;
    TRY_PLAIN(add_namespaces(start));
    TRY_PLAIN(add_streams(start));
    // Opened again: CRIU works in this folder, and nothing can be mounted in a mount namespace that it is not in.
    folders_ = TRY_PLAIN(open_criu_folders(arguments_, CriuImages::use, "restore.log"));
    options_.images_fd = folders_.images.get();
    options_.work_fd = folders_.work.get();
    options_.log_file = "restore.log";
    options_.root = root;
    options_.restore_as_sibling = true;
    options_.orphan_terminal = true;
    options_.evasive_devices = true;
    options_.external_mounts = external_mounts(plan_, root, cgroup_);
    if (cgroup_) options_.cgroup_roots = cgroup_roots(*cgroup_);
    auto client = TRY_PLAIN(CriuClient::start(start));
    // What CRIU forks is born in the cgroup, so its limits hold from the first page.
    if (cgroup_) TRY(cgroup_->add(client.pid()), "cgroup");
    auto answer = TRY_PLAIN(client.request(CriuRequest::restore, &options_, [this](const CriuMessage& message, UniqueFd fd) {
      return take_notification(message, std::move(fd));
    }));
    if (!answer.success) return criu_failure("restore the container", answer, folders_);
    return publish(answer.pid);
  }

  Status add_namespaces(CriuStart& start) {
    for (auto [type, file] : {std::pair{NamespaceType::network, "net"}, {NamespaceType::pid, "pid"}}) {
      const auto* given = bundle_.spec.find_namespace(type);
      if (given == nullptr || given->path.empty()) continue;
      kept_.push_back(TRY(linux::open(given->path, O_RDONLY), concat("namespace ", given->path)));
      inherit(std::string(external_namespace_name(type)), kept_.back().get(), start);
    }
    return {};
  }

  void inherit(std::string name, int fd, CriuStart& start) {
    options_.inherited_fds.emplace_back(std::move(name), CriuClient::first_inherited_fd + static_cast<int>(start.inherited.size()));
    start.inherited.push_back(fd);
  }

  /// Pipes and files of the old container's caller are replaced by our own streams.
  Status add_streams(CriuStart& start) {
    for (int i = 0; i < 3; ++i) start.standard_fds[i] = i;
    auto text = linux::read_file(concat(folders_.images_path, "/descriptors.json"));
    if (!text) return {};  // of another runtime
    auto names = TRY_PLAIN(parse_json(*text, "descriptors.json"));
    if (!names.is_array()) return Error(ErrorKind::corrupt, "descriptors.json: must be an array");
    std::vector<std::string> seen;
    for (std::size_t i = 0; i < names.as_array().size() && i < 3; ++i) {
      const auto& entry = names.as_array()[i];
      const std::string name = entry.is_string() ? std::string(entry.as_string()) : std::string();
      // One pipe may be both stdout and stderr.
      if (!(name.starts_with("pipe:") || name.starts_with("file[")) || std::find(seen.begin(), seen.end(), name) != seen.end())
        continue;
      seen.push_back(name);
      options_.inherited_fds.emplace_back(name, static_cast<int>(i));
    }
    return {};
  }

  Status take_notification(const CriuMessage& message, UniqueFd fd) {
    if (message.script == "orphan-pts-master") {
      terminal_ = std::move(fd);
      const std::string socket = arguments_.value("console-socket");
      if (!socket.empty()) TRY_PLAIN(send_terminal(socket, terminal_));
    }
    if (message.script == "setup-namespaces") {
      state_.pid = message.pid;
      const auto& hooks = bundle_.spec.hooks;
      TRY_PLAIN(run_hooks(hooks.prestart, "prestart", state_, OciStatus::creating, HookPlace::runtime_namespaces));
      return run_hooks(hooks.create_runtime, "createRuntime", state_, OciStatus::creating, HookPlace::runtime_namespaces);
    }
    return {};
  }

  Status publish(int pid) {
    state_.pid = pid;
    pidfd_ = TRY(linux::pidfd_open(pid), "restore");
    state_.start_time = TRY(linux::process_start_time(pid), "restore");
    state_.creator.reset();
    TRY_PLAIN(context_.store.save(state_));
    return write_pid_file(arguments_.value("pid-file"), pid);
  }

  OciContext& context_;
  const OciArguments& arguments_;
  OciState state_;
  Bundle bundle_;
  LaunchPlan plan_;
  CriuFolders folders_;
  CriuOptions options_;
  std::optional<linux::Cgroup> cgroup_;
  std::vector<UniqueFd> kept_;
  UniqueFd pidfd_;
  UniqueFd terminal_;
};

}  // namespace

Result<int> oci_restore(OciContext& context) { return Restoration(context).run(); }

}  // namespace caisson::runtime

// create: flags, bundle, plan, record, launch, and what the caller is handed.
#include "runtime/oci_create.hpp"

#include <cerrno>

#include "base/environment.hpp"
#include "linux/file.hpp"
#include "linux/mount_api.hpp"
#include "linux/own_image.hpp"
#include "linux/process.hpp"
#include "linux/resctrl.hpp"

namespace caisson::runtime {

namespace {

/// Our arguments and environment as we were given them.
struct Invocation {
  std::vector<std::string> argv;
  std::vector<std::string> env;
};
Result<Invocation> own_invocation() {
  Invocation out;
  const std::string text = TRY(linux::read_file("/proc/self/cmdline"), "our arguments");
  for (auto piece : split(std::string_view(text).substr(0, text.empty() ? 0 : text.size() - 1), '\0')) out.argv.emplace_back(piece);
  out.env = whole_environment();
  return out;
}

/// Goes on as `file`, which is our own binary where nobody can write to it: in place, or where the kernel does not let us (without
/// CAP_SYS_ADMIN) by executing it.
Status take_place_of(const UniqueFd& file) {
  if (linux::replace_own_file(file.get())) return {};
  const auto invocation = TRY_PLAIN(own_invocation());
  return linux::execveat(file.get(), "", invocation.argv, invocation.env, AT_EMPTY_PATH).in("our binary");
}

/// The way of those who may not clone a mount: a copy in memory that nobody can write to.
Status become_sealed_copy() {
  const auto binary = TRY(linux::open("/proc/self/exe", O_RDONLY), "our binary");
  if (auto seals = linux::get_seals(binary.get()); seals && (*seals & F_SEAL_WRITE) != 0) return {};  // we are that copy
  return take_place_of(TRY(linux::sealed_memfd("caisson-runtime", TRY(linux::read_all(binary.get()), "our binary")), "our binary"));
}

}  // namespace

Status protect_binary() {
  constexpr std::int64_t read_only_flag = 1;  // ST_RDONLY, statfs(2)
  auto status = TRY(linux::statfs("/proc/self/exe"), "our binary");
  if ((static_cast<std::int64_t>(status.f_flags) & read_only_flag) != 0) return {};
  auto cloned = linux::open_tree(AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE);
  if (!cloned && (cloned.error().error_number() == EPERM || cloned.error().error_number() == EINVAL)) return become_sealed_copy();
  const UniqueFd tree = TRY(std::move(cloned), "our binary");
  linux::MountAttributes attributes;
  attributes.set = MOUNT_ATTR_RDONLY;
  attributes.propagation = MS_PRIVATE;
  TRY(linux::mount_setattr(tree.get(), "", AT_EMPTY_PATH, attributes), "our binary");
  return take_place_of(TRY(linux::reopen(tree.get(), O_RDONLY), "our binary"));
}

bool container_may_own_binary(const Spec& spec) {
  if (spec.may_be_host_root()) return true;
  // Its root is the user who started us, and may have installed us too.
  return linux::geteuid() != 0 && linux::faccessat(AT_FDCWD, "/proc/self/exe", W_OK).ok();
}

namespace {

/// Whether the configuration may ask for a user namespace, without parsing it: the word stands there as a value, or there is an
/// escape that could hide it. Says true too often rather than too seldom.
bool may_have_user_namespace(std::string_view config) {
  constexpr std::string_view word = "\"user\"";
  if (config.find("\\u") != std::string_view::npos) return true;
  for (auto at = config.find(word); at != std::string_view::npos; at = config.find(word, at + word.size())) {
    const auto next = config.find_first_not_of(" \t\r\n", at + word.size());
    if (next == std::string_view::npos || config[next] != ':') return true;
  }
  return false;
}

}  // namespace

Result<Bundle> load_bundle(const OciArguments& arguments, const SeccompCache& filters) {
  Bundle out;
  const std::string given = arguments.value("bundle", ".");
  out.path = given.starts_with("/") ? given : concat(TRY_PLAIN(linux::getcwd()), given == "." ? "" : "/", given == "." ? "" : given);
  const std::string file = arguments.value("config", "config.json");
  const std::string path = file.starts_with("/") ? file : concat(out.path, "/", file);
  auto text = linux::read_file(path);
  if (!text && text.error().kind() == ErrorKind::not_found)
    return Error(ErrorKind::not_found, concat("JSON specification file ", path, " is missing"));
  out.config = TRY_PLAIN(std::move(text));
  // Before anything is worked out that would have to be worked out again where we have to execute ourselves.
  const bool in_doubt = may_have_user_namespace(out.config);
  if (!in_doubt) TRY_PLAIN(protect_binary());
  auto parsed = TRY(parse_config(out.config, filters), path);
  out.spec = std::move(parsed.spec);
  out.filter = std::move(parsed.filter);
  if (in_doubt && container_may_own_binary(out.spec)) TRY_PLAIN(protect_binary());
  return out;
}

/// The path that Cgroup takes, which names the driver too; empty: none of its own.
Result<std::string> choose_cgroup(const Spec& spec, const std::string& id, linux::CgroupDriver driver, const linux::CgroupLayout& layout,
                                  bool is_rootless) {
  if (driver == linux::CgroupDriver::disabled) return std::string();
  if (driver == linux::CgroupDriver::cgroupfs) {
    if (!linux::systemd_unit_name(spec.cgroups_path).empty())
      return Error(ErrorKind::invalid,
                   concat("linux.cgroupsPath: \"", spec.cgroups_path, "\" is for the systemd driver (--systemd-cgroup)"));
    std::string path = spec.cgroups_path;
    // An ordinary user has at most the own cgroup, when that was delegated.
    if (path.empty()) path = is_rootless ? id : concat("/", id);
    if (!is_rootless || linux::may_make_cgroup(layout, path)) return path;
    // Without the right to make one, and without limits, none is needed; podman gives a path all the same.
    const auto limits = TRY_PLAIN(plan_limits(spec.resources));
    return linux::asks_for_limits(limits) ? path : std::string();
  }
  std::string path = TRY_PLAIN(linux::systemd_cgroup_path(spec.cgroups_path, id, TRY_PLAIN(linux::own_systemd_manager())));
  auto below = spec.annotations.find("run.oci.systemd.subgroup");
  if (below != spec.annotations.end() && !below->second.empty()) path += concat("/", below->second);
  return path;
}

std::string notify_folder(const OciStore& store, const std::string& id) { return concat(store.folder(id), "/notify"); }

Status begin_record(const OciContext& context, OciState& state, const std::string& config) {
  TRY_PLAIN(context.store.reserve(state.id));
  auto write = [&]() -> Status {
    if (!state.cgroup_path.empty()) {
      // Asked before the record says that it is ours: a delete would kill what is in it.
      auto cgroup = TRY_PLAIN(linux::Cgroup::open(context.layout, state.cgroup_path));
      if (auto pids = cgroup.pids(); pids && !pids->empty())
        return Error(ErrorKind::conflict, concat("container's cgroup is not empty: ", pids->size(), " process(es) found"));
    }
    state.creator = OciProcess{linux::getpid(), TRY_PLAIN(linux::process_start_time(0))};
    TRY_PLAIN(context.store.save_config(state.id, config));
    return context.store.save(state);
  };
  auto written = write();
  if (!written) context.store.forget(state.id);
  return written;
}

Result<unsigned int> preserved_descriptors(const OciArguments& arguments, unsigned int before) {
  const auto count = TRY(parse_integer<unsigned int>(arguments.value("preserve-fds", "0")), "--preserve-fds");
  constexpr unsigned int most = 65536;
  if (count > most || before > most) return Error(ErrorKind::invalid, concat("--preserve-fds ", count, ": too many"));
  // A number that the caller left closed would be given to a descriptor of ours, and that one to the container.
  for (unsigned int i = 0; i < before + count; ++i) {
    if (linux::fstat(static_cast<int>(3 + i))) continue;
    if (i < before) return Error(ErrorKind::invalid, concat("LISTEN_FDS=", before, ": descriptor ", 3 + i, " is not open"), EBADF);
    return Error(ErrorKind::invalid, concat("unable to stat preserved-fd ", i - before, " (of ", count, "): it is not open"), EBADF);
  }
  return before + count;
}

namespace {

/// Of --preserve-fds and of systemd's socket activation, whose descriptors come first (sd_listen_fds(3)).
Result<unsigned int> passed_descriptors(const OciArguments& arguments, Process& process) {
  unsigned int listening = 0;
  const char* count = environment("LISTEN_FDS");
  const char* pid = environment("LISTEN_PID");
  if (count != nullptr && (pid == nullptr || pid == std::string_view(concat(linux::getpid())))) {
    listening = TRY(parse_integer<unsigned int>(count), "LISTEN_FDS");
    process.env.push_back(concat("LISTEN_FDS=", listening));
    process.env.emplace_back("LISTEN_PID=1");  // the program's pid as it sees itself
    if (const char* names = environment("LISTEN_FDNAMES")) process.env.push_back(concat("LISTEN_FDNAMES=", names));
  }
  return preserved_descriptors(arguments, listening);
}

class Creation {
 public:
  Creation(OciContext& context, CreateFor purpose) : context_(context), arguments_(context.arguments), purpose_(purpose) {}

  Result<Created> run() {
    TRY_PLAIN(read());
    TRY_PLAIN(make_plan());
    describe();
    TRY_PLAIN(begin_record(context_, created_.state, bundle_.config));
    auto built = build();
    if (!built) {
      context_.store.forget(id_);
      return std::move(built).error();
    }
    created_.spec = std::move(bundle_.spec);
    return std::move(created_);
  }

 private:
  /// Everything that can be refused before the kernel is asked for anything.
  Status read() {
    id_ = TRY_PLAIN(arguments_.id());
    TRY_PLAIN(OciStore::check_id(id_));
    bundle_ = TRY_PLAIN(load_bundle(arguments_, context_.store.filters()));
    inputs_.preserve_fds = TRY_PLAIN(passed_descriptors(arguments_, bundle_.spec.process));
    console_socket_ = arguments_.value("console-socket");
    const bool detached = purpose_ == CreateFor::create || arguments_.has("detach");
    TRY_PLAIN(check_console(detached, bundle_.spec.process.terminal, console_socket_));
    if (!detached) take_terminal_size(bundle_.spec.process);
    return context_.find_cgroups();
  }

  Status make_plan() {
    // startContainer hooks come between everything else and the program, so run with such hooks is create and start.
    created_.waits = purpose_ == CreateFor::create || !bundle_.spec.hooks.start_container.empty();
    TRY_PLAIN(linux::set_dumpable(false));
    PlanOptions options;
    options.bundle = bundle_.path;
    options.container_id = id_;
    options.check_program_early = created_.waits;
    options.new_session_keyring = !arguments_.has("no-new-keyring");
    options.no_pivot = arguments_.has("no-pivot");
    options.filter = bundle_.filter ? &*bundle_.filter : nullptr;
    if (bundle_.spec.annotations.contains(force_cgroup_v1))
      context_.layout = std::make_shared<const linux::CgroupLayout>(
          TRY(context_.layout->with_named("name=systemd"), concat("annotations[\"", force_cgroup_v1, "\"]")));
    auto facts = TRY_PLAIN(read_host_facts(*context_.layout, FactsNeeded::of(bundle_.spec)));
    if (!facts.may_mount) add_user_namespace(bundle_.spec);
    bundle_.spec.cgroups_path = TRY_PLAIN(choose_cgroup(bundle_.spec, id_, context_.globals.cgroup_driver, *context_.layout, facts.is_rootless));
    inputs_.is_rootless = facts.is_rootless;
    inputs_.may_mount = facts.may_mount;
    notifies_ = NotifyProxy::add_to(bundle_.spec, notify_folder(context_.store, id_));
    plan_ = TRY_PLAIN(compute_plan(bundle_.spec, facts, options));
    for (const auto& warning : plan_.warnings) warn(context_.globals.log, warning);
    return {};
  }

  /// crun's way with a configuration that was written for root.
  void add_user_namespace(Spec& spec) {
    if (spec.find_namespace(NamespaceType::user) != nullptr) return;
    warn(context_.globals.log, "non root user need to have an 'user' namespace");
    spec.namespaces.push_back({NamespaceType::user, ""});
    if (spec.id_map.uids.empty()) spec.id_map.uids.push_back({0, linux::geteuid(), 1});
    if (spec.id_map.gids.empty()) spec.id_map.gids.push_back({0, linux::getegid(), 1});
  }

  void describe() {
    OciState& state = created_.state;
    state.id = id_;
    state.bundle = bundle_.path;
    state.rootfs = plan_.root_path;
    state.cgroup_path = plan_.cgroups_path;
    if (!state.cgroup_path.empty()) state.cgroup_layout = *context_.layout;
    state.exec_namespaces = exec_namespaces(plan_);
    state.in_user_namespace = plan_.in_user_namespace;
    state.created = now_ns();
    state.owner = linux::getuid();
    state.annotations = bundle_.spec.annotations;
  }

  Status build() {
    inputs_.layout = context_.layout;
    UniqueFd fifo;
    if (created_.waits) {
      TRY(linux::mknodat(AT_FDCWD, context_.store.fifo(id_), S_IFIFO | 0600, 0), "exec fifo");
      fifo = TRY(linux::open(context_.store.fifo(id_), O_RDWR), "exec fifo");
      inputs_.exec_fifo = fifo.get();
    }
    if (notifies_) TRY_PLAIN(NotifyProxy::make_folder(notify_folder(context_.store, id_)));
    if (notifies_ && purpose_ == CreateFor::run) created_.notify = TRY_PLAIN(NotifyProxy::listen(notify_folder(context_.store, id_)));
    const bool has_hooks = add_hooks();
    if (!has_hooks && !created_.waits) TRY_PLAIN(hold_signals());
    const auto receiver = TRY_PLAIN(connect_listener(plan_.process.policy));
    inputs_.on_listener = [&](pid_t pid, int listener) {
      return send_listener(receiver.get(), plan_.process.policy, created_.state, OciStatus::creating, pid, listener);
    };
    created_.launching = TRY_PLAIN(begin_launch(plan_, inputs_));
    if (auto named = name_process(); !named) {
      abandon(created_.launching);
      return named;
    }
    created_.state.resctrl_folders = created_.launching.resctrl_folders;
    // With a cgroup it is found by that.
    if (plan_.cgroups_path.empty()) ignore(context_.store.save(created_.state));  // publish() below reports a full disk
    TRY_PLAIN(finish_launch(created_.launching, plan_, inputs_));
    auto published = publish();
    if (!published) abandon(created_.launching);
    return published;
  }

  /// A hook that hangs is to be interrupted by the terminal, so nothing is held before the last one.
  Status hold_signals() {
    return purpose_ == CreateFor::run && !arguments_.has("detach") ? hold_foreground_signals() : Status{};
  }

  /// Whether there are any.
  bool add_hooks() {
    const auto& hooks = bundle_.spec.hooks;
    if (hooks.prestart.empty() && hooks.create_runtime.empty() && hooks.create_container.empty()) return false;
    inputs_.on_mounted = [this, &hooks](pid_t pid) -> Status {
      created_.state.pid = pid;
      const OciState& state = created_.state;
      TRY_PLAIN(run_hooks(hooks.prestart, "prestart", state, OciStatus::creating, HookPlace::runtime_namespaces));
      TRY_PLAIN(run_hooks(hooks.create_runtime, "createRuntime", state, OciStatus::creating, HookPlace::runtime_namespaces));
      TRY_PLAIN(run_hooks(hooks.create_container, "createContainer", state, OciStatus::creating, HookPlace::container_namespaces));
      return created_.waits ? Status{} : hold_signals();
    };
    return true;
  }

  /// Without the start time the record would name no process, and the container would pass for stopped.
  Status name_process() {
    created_.state.pid = created_.launching.pid;
    created_.state.start_time = TRY(linux::process_start_time(created_.launching.pid), "create");
    return {};
  }

  /// The record last: who sees it may use the rest.
  Status publish() {
    if (bundle_.spec.process.terminal && !console_socket_.empty())
      TRY_PLAIN(send_terminal(console_socket_, created_.launching.terminal));
    TRY_PLAIN(send_pidfd(arguments_.value("pidfd-socket"), created_.launching.pidfd));
    created_.state.creator.reset();
    TRY_PLAIN(context_.store.save(created_.state));
    return write_pid_file(arguments_.value("pid-file"), created_.state.pid);
  }

  OciContext& context_;
  const OciArguments& arguments_;
  CreateFor purpose_;
  std::string id_;
  std::string console_socket_;
  Bundle bundle_;
  LaunchPlan plan_;
  LaunchInputs inputs_;
  bool notifies_ = false;
  Created created_;
};

}  // namespace

Result<Created> create_container(OciContext& context, CreateFor purpose) { return Creation(context, purpose).run(); }

}  // namespace caisson::runtime

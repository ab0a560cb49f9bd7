// create, run, start and exec.
#include <array>
#include <cstdlib>

#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "linux/terminal.hpp"
#include "runtime/launch.hpp"
#include "runtime/oci_commands.hpp"

extern "C" char** environ;  // NOLINT: POSIX's own name (environ(7))

namespace caisson::runtime {

namespace {

/// Where the container's root may be the host's (Spec::may_be_host_root): our own binary, which is what a child is until it execs, must
/// not be reachable through a writable mount (CVE-2019-5736). Runs us again from a read-only clone; returns when we are that.
Status protect_binary() {
  constexpr std::int64_t read_only_flag = 1;  // ST_RDONLY, statfs(2)
  auto status = TRY(linux::statfs("/proc/self/exe"), "our binary");
  if ((static_cast<std::int64_t>(status.f_flags) & read_only_flag) != 0) return {};
  auto tree = TRY(linux::open_tree(AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE), "our binary");
  linux::MountAttributes attributes;
  attributes.set = MOUNT_ATTR_RDONLY;
  attributes.propagation = MS_PRIVATE;
  TRY(linux::mount_setattr(tree.get(), "", AT_EMPTY_PATH, attributes), "our binary");
  const std::string text = TRY(linux::read_file("/proc/self/cmdline"), "our arguments");
  std::vector<std::string> argv;
  for (auto piece : split(std::string_view(text).substr(0, text.empty() ? 0 : text.size() - 1), '\0')) argv.emplace_back(piece);
  std::vector<std::string> env;
  for (char** entry = environ; *entry != nullptr; ++entry) env.emplace_back(*entry);
  return linux::execveat(tree.get(), "", argv, env, AT_EMPTY_PATH).in("our binary");
}

Status send_terminal(const std::string& socket_path, const UniqueFd& master) {
  auto socket = TRY(linux::unix_connect(socket_path, linux::UnixType::stream), "console socket");
  const std::array fds{master.get()};
  TRY(linux::send_message(socket.get(), "/dev/ptmx", fds), "console socket");
  return {};
}

Status write_pid_file(const std::string& path, pid_t pid) {
  if (path.empty()) return {};
  TRY(linux::write_file_atomic(path, concat(pid), 0644, linux::Durability::none), "pid file");
  return {};
}

/// Carries bytes between our terminal and the container's, and signals to the program, until it ends. Returns its code.
Result<int> serve_foreground(const UniqueFd& pidfd, const UniqueFd& master) {
  linux::SignalSet forwarded{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, SIGPIPE};
  (void)TRY_PLAIN(linux::signal_mask(SIG_BLOCK, forwarded));
  auto signals = TRY_PLAIN(linux::signalfd(forwarded));
  std::optional<linux::RawMode> raw;
  auto copy_size = [&] {
    if (auto size = linux::window_size(0)) ignore(linux::set_window_size(master.get(), *size));
  };
  if (master && linux::is_terminal(0)) {
    raw.emplace(TRY_PLAIN(linux::RawMode::create(0)));
    copy_size();
  }
  bool input_open = static_cast<bool>(master);
  bool output_open = static_cast<bool>(master);
  std::array<char, 8192> buffer;
  while (true) {
    std::array<linux::PollEntry, 4> entries{};
    entries[0] = {output_open ? -1 : pidfd.get(), POLLIN, 0};
    entries[1] = {signals.get(), POLLIN, 0};
    entries[2] = {input_open ? 0 : -1, POLLIN, 0};
    entries[3] = {output_open ? master.get() : -1, POLLIN, 0};
    (void)TRY_PLAIN(linux::poll(entries, -1));
    if (entries[1].revents != 0) {
      auto event = TRY_PLAIN(linux::signalfd_take(signals.get()));
      if (event && event->signal == SIGWINCH && master) copy_size();
      else if (event) ignore(linux::pidfd_send_signal(pidfd.get(), event->signal));  // it may have ended just now
    }
    if (entries[2].revents != 0) {
      auto got = linux::read(0, buffer);
      if (!got || *got == 0) input_open = false;
      else ignore(linux::write_all(master.get(), std::string_view(buffer.data(), *got)));
    }
    if (entries[3].revents != 0) {
      auto got = linux::read(master.get(), buffer);  // EIO: every slave is closed
      if (!got || *got == 0) output_open = false;
      else TRY_PLAIN(linux::write_all(1, std::string_view(buffer.data(), *got)));
    }
    if (entries[0].revents != 0) break;
  }
  return TRY_PLAIN(linux::wait_pidfd(pidfd.get())).exit_code();
}

struct Bundle {
  std::string path;
  std::string config;
  Spec spec;
};

Result<Bundle> load_bundle(const OciArguments& arguments) {
  Bundle out;
  const std::string given = arguments.value("bundle", ".");
  out.path = given.starts_with("/") ? given : concat(TRY_PLAIN(linux::getcwd()), given == "." ? "" : "/", given == "." ? "" : given);
  const std::string file = arguments.value("config", "config.json");
  const std::string path = file.starts_with("/") ? file : concat(out.path, "/", file);
  auto text = linux::read_file(path);
  if (!text && text.error().kind() == ErrorKind::not_found)
    return Error(ErrorKind::not_found, concat("JSON specification file ", path, " is missing"));
  out.config = TRY_PLAIN(std::move(text));
  out.spec = TRY(parse_spec(out.config), path);
  return out;
}

/// Everything between the flags and a process that runs (or waits for start).
struct Created {
  OciState state;
  Launching launching;
  Spec spec;
};

enum class CreateFor : std::uint8_t { create, run };

Result<Created> create_container(OciContext& context, CreateFor purpose) {
  const auto& arguments = context.arguments;
  if (arguments.words.size() != 1) return Error(ErrorKind::invalid, "exactly one argument is needed: the container's ID");
  const std::string& id = arguments.words[0];
  TRY_PLAIN(OciStore::check_id(id));
  auto bundle = TRY_PLAIN(load_bundle(arguments));
  if (bundle.spec.may_be_host_root()) TRY_PLAIN(protect_binary());
  TRY_PLAIN(context.find_cgroups());
  const std::string console_socket = arguments.value("console-socket");
  // startContainer hooks come between everything else and the program, so run with such hooks is create and start.
  const bool wait_for_start = purpose == CreateFor::create || !bundle.spec.hooks.start_container.empty();
  const bool detached = purpose == CreateFor::create || arguments.has("detach");
  const bool terminal = bundle.spec.process.terminal;
  if (detached && terminal && console_socket.empty())
    return Error(ErrorKind::invalid, "cannot allocate tty if runc will detach without setting console socket");
  if (!console_socket.empty() && (!detached || !terminal))
    return Error(ErrorKind::invalid, "cannot use console socket if runc will not detach or allocate tty");
  TRY_PLAIN(linux::set_dumpable(false));

  PlanOptions options;
  options.bundle = bundle.path;
  options.check_program_early = wait_for_start;
  options.new_session_keyring = !arguments.has("no-new-keyring");
  options.no_pivot = arguments.has("no-pivot");
  auto facts = TRY_PLAIN(read_host_facts(*context.layout));
  if (bundle.spec.cgroups_path.empty()) bundle.spec.cgroups_path = concat("/", id);
  auto plan = TRY_PLAIN(compute_plan(bundle.spec, facts, options));
  if (!plan.warnings.empty() && context.globals.debug)
    for (const auto& warning : plan.warnings) ignore(linux::write_all(2, concat("warning: ", warning, "\n")));

  TRY_PLAIN(context.store.reserve(id));
  Created created;
  created.state.id = id;
  created.state.bundle = bundle.path;
  created.state.rootfs = plan.root_path;
  created.state.exec_namespaces = exec_namespaces(plan);
  created.state.in_user_namespace = plan.in_user_namespace;
  created.state.created = now_ns();
  created.state.owner = linux::getuid();
  created.state.annotations = bundle.spec.annotations;

  auto build = [&]() -> Status {
    LaunchInputs inputs;
    inputs.layout = context.layout;
    inputs.preserve_fds = TRY(parse_integer<unsigned int>(arguments.value("preserve-fds", "0")), "--preserve-fds");
    UniqueFd fifo;
    if (wait_for_start) {
      TRY(linux::mknodat(AT_FDCWD, context.store.fifo(id), S_IFIFO | 0600, 0), "exec fifo");
      fifo = TRY(linux::open(context.store.fifo(id), O_RDWR), "exec fifo");
      inputs.exec_fifo = fifo.get();
    }
    const auto& hooks = bundle.spec.hooks;
    if (!hooks.prestart.empty() || !hooks.create_runtime.empty() || !hooks.create_container.empty())
      inputs.on_mounted = [&](pid_t pid) -> Status {
        created.state.pid = pid;
        TRY_PLAIN(run_hooks(hooks.prestart, "prestart", created.state, OciStatus::creating, HookPlace::runtime_namespaces));
        TRY_PLAIN(run_hooks(hooks.create_runtime, "createRuntime", created.state, OciStatus::creating, HookPlace::runtime_namespaces));
        return run_hooks(hooks.create_container, "createContainer", created.state, OciStatus::creating, HookPlace::container_namespaces);
      };
    created.launching = TRY_PLAIN(begin_launch(plan, inputs));
    TRY_PLAIN(finish_launch(created.launching, plan, inputs));
    created.state.pid = created.launching.pid;
    created.state.start_time = linux::process_start_time(created.launching.pid).value_or(0);
    if (created.launching.cgroup) created.state.cgroup_path = created.launching.cgroup->path();
    auto publish = [&]() -> Status {
      if (terminal && !console_socket.empty()) TRY_PLAIN(send_terminal(console_socket, created.launching.terminal));
      TRY_PLAIN(context.store.save(created.state, bundle.config));
      return write_pid_file(arguments.value("pid-file"), created.state.pid);
    };
    auto published = publish();
    if (!published) {
      linux::kill_and_reap(created.launching.pidfd.get());
      if (created.launching.cgroup) ignore(created.launching.cgroup->remove());
    }
    return published;
  };
  auto built = build();
  if (!built) {
    context.store.forget(id);
    return std::move(built).error();
  }
  created.spec = std::move(bundle.spec);
  return created;
}

/// Runs the startContainer hooks and lets the waiting process go on.
Status release(const OciContext& context, const OciState& state, const Spec& spec) {
  TRY_PLAIN(run_hooks(spec.hooks.start_container, "startContainer", state, OciStatus::created, HookPlace::container_namespaces));
  // Fails with ENXIO when nobody holds the other side: the process died meanwhile.
  auto fifo = linux::open(context.store.fifo(state.id), O_WRONLY | O_NONBLOCK);
  if (!fifo) return Error(ErrorKind::conflict, "cannot start a container that has stopped");
  TRY(linux::write_all(fifo->get(), "s"), "exec fifo");
  TRY(linux::unlinkat(AT_FDCWD, context.store.fifo(state.id), 0), "exec fifo");
  return {};
}

}  // namespace

Result<int> oci_create(OciContext& context) {
  (void)TRY_PLAIN(create_container(context, CreateFor::create));
  return 0;
}

Result<int> oci_run(OciContext& context) {
  auto created = TRY_PLAIN(create_container(context, CreateFor::run));
  auto begin = [&]() -> Status {
    if (!created.spec.hooks.start_container.empty()) TRY_PLAIN(release(context, created.state, created.spec));
    return run_hooks(created.spec.hooks.poststart, "poststart", created.state, OciStatus::running, HookPlace::runtime_namespaces);
  };
  if (auto begun = begin(); !begun) {
    linux::kill_and_reap(created.launching.pidfd.get());
    ignore(oci_destroy(context, created.state));  // the hook's failure is the one to report
    return std::move(begun).error();
  }
  if (context.arguments.has("detach")) return 0;
  const int code = TRY_PLAIN(serve_foreground(created.launching.pidfd, created.launching.terminal));
  if (!context.arguments.has("keep")) TRY_PLAIN(oci_destroy(context, created.state));
  return code;
}

Result<int> oci_start(OciContext& context) {
  if (context.arguments.words.size() != 1) return Error(ErrorKind::invalid, "exactly one argument is needed: the container's ID");
  auto state = TRY_PLAIN(context.store.load(context.arguments.words[0]));
  const auto status = status_of(state, context.store, context.layout);
  if (status == OciStatus::stopped) return Error(ErrorKind::conflict, "cannot start a container that has stopped");
  if (status != OciStatus::created) return Error(ErrorKind::conflict, "cannot start an already running container");
  auto spec = TRY_PLAIN(context.store.load_spec(state.id));
  TRY_PLAIN(release(context, state, spec));
  TRY_PLAIN(run_hooks(spec.hooks.poststart, "poststart", state, OciStatus::running, HookPlace::runtime_namespaces));
  return 0;
}

namespace {

/// "1000", "1000:100": whole numbers only, anything else is refused, nothing as well (CVE-2026-30892).
Status take_user(const std::string& text, User& user) {
  auto halves = split_once(text, ':');
  user.uid = TRY(parse_integer<std::uint32_t>(halves.before), "--user");
  user.gid = halves.found ? TRY(parse_integer<std::uint32_t>(halves.after), "--user") : user.gid;
  if (user.uid == 0xffffffffU || user.gid == 0xffffffffU) return Error(ErrorKind::invalid, "--user: id 4294967295 is reserved");
  return {};
}

Result<Process> exec_process(const OciContext& context, const Spec& spec) {
  const auto& arguments = context.arguments;
  if (arguments.has("process")) {
    auto text = TRY(linux::read_file(arguments.value("process")), "--process");
    return parse_process(text);
  }
  Process process = spec.process;
  process.terminal = arguments.has("tty");
  process.args.assign(arguments.words.begin() + 1, arguments.words.end());
  if (process.args.empty()) return Error(ErrorKind::invalid, "exec: a command or --process is needed");
  if (arguments.has("cwd")) process.cwd = arguments.value("cwd");
  if (auto found = arguments.values.find("env"); found != arguments.values.end())
    process.env.insert(process.env.end(), found->second.begin(), found->second.end());
  if (arguments.has("user")) TRY_PLAIN(take_user(arguments.value("user"), process.user));
  if (arguments.has("no-new-privs")) process.no_new_privileges = true;
  if (auto found = arguments.values.find("additional-gids"); found != arguments.values.end())
    for (const auto& text : found->second) process.user.additional_gids.push_back(TRY(parse_integer<std::uint32_t>(text), "--additional-gids"));
  if (auto found = arguments.values.find("cap"); found != arguments.values.end()) {
    if (!process.capabilities) process.capabilities.emplace();
    for (const auto& name : found->second)
      // Never inheritable or ambient (CVE-2022-29162).
      for (auto* set : {&process.capabilities->bounding, &process.capabilities->effective, &process.capabilities->permitted}) set->push_back(name);
  }
  return process;
}

}  // namespace

Result<int> oci_exec(OciContext& context) {
  const auto& arguments = context.arguments;
  if (arguments.words.empty()) return Error(ErrorKind::invalid, "exec: the container's ID is needed");
  auto state = TRY_PLAIN(context.store.load(arguments.words[0]));
  const auto status = status_of(state, context.store, context.layout);
  if (status == OciStatus::stopped) return Error(ErrorKind::conflict, "cannot exec in a stopped container");
  if (status == OciStatus::paused && !arguments.has("ignore-paused"))
    return Error(ErrorKind::conflict, "cannot exec in a paused container (use --ignore-paused to override)");
  auto spec = TRY_PLAIN(context.store.load_spec(state.id));
  if (spec.may_be_host_root()) TRY_PLAIN(protect_binary());
  TRY_PLAIN(linux::set_dumpable(false));
  auto process = TRY_PLAIN(exec_process(context, spec));
  const bool detached = arguments.has("detach");
  const std::string console_socket = arguments.value("console-socket");
  if (detached && process.terminal && console_socket.empty())
    return Error(ErrorKind::invalid, "cannot allocate tty if runc will detach without setting console socket");

  auto facts = TRY_PLAIN(read_host_facts(*context.layout));
  std::vector<std::string> warnings;
  auto plan = TRY_PLAIN(compute_process_plan(process, spec.seccomp, facts, {}, warnings));
  auto pidfd = TRY(linux::pidfd_open(state.pid), "exec");
  // Between the look and the open the pid may have been given to another process.
  if (linux::process_start_time(state.pid).value_or(0) != state.start_time) return Error(ErrorKind::conflict, "cannot exec in a stopped container");
  std::optional<linux::Cgroup> cgroup;
  if (!state.cgroup_path.empty()) cgroup = TRY_PLAIN(linux::Cgroup::open(context.layout, state.cgroup_path));
  ExecTarget target;
  target.pidfd = pidfd.get();
  target.namespaces = state.exec_namespaces;
  target.in_user_namespace = state.in_user_namespace;
  target.cgroup = cgroup ? &*cgroup : nullptr;
  LaunchInputs inputs;
  inputs.preserve_fds = TRY(parse_integer<unsigned int>(arguments.value("preserve-fds", "0")), "--preserve-fds");
  TRY_PLAIN(linux::set_child_subreaper(true));
  auto launching = TRY_PLAIN(begin_exec(plan, target, inputs));
  TRY_PLAIN(finish_exec(launching, plan, inputs));
  if (process.terminal && !console_socket.empty()) TRY_PLAIN(send_terminal(console_socket, launching.terminal));
  TRY_PLAIN(write_pid_file(arguments.value("pid-file"), launching.pid));
  if (detached) return 0;
  return serve_foreground(launching.pidfd, launching.terminal);
}

}  // namespace caisson::runtime

// exec: one more process in a running container.
#include <algorithm>

#include "linux/file.hpp"
#include "linux/process.hpp"
#include "runtime/oci_create.hpp"

namespace caisson::runtime {

namespace {

/// "1000", "1000:100": whole numbers only, anything else is refused (CVE-2026-30892).
Status take_user(const std::string& text, User& user) {
  auto halves = split_once(text, ':');
  user.uid = TRY(parse_integer<std::uint32_t>(halves.before), "--user");
  user.gid = halves.found ? TRY(parse_integer<std::uint32_t>(halves.after), "--user") : user.gid;
  if (user.uid == 0xffffffffU || user.gid == 0xffffffffU) return Error(ErrorKind::invalid, "--user: id 4294967295 is reserved");
  return {};
}

void add_capabilities(const std::vector<std::string>& names, Process& process) {
  if (!process.capabilities) process.capabilities.emplace();
  for (const auto& name : names)
    // Never inheritable or ambient (CVE-2022-29162).
    for (auto* set : {&process.capabilities->bounding, &process.capabilities->effective, &process.capabilities->permitted})
      if (std::find(set->begin(), set->end(), name) == set->end()) set->push_back(name);
}

/// The container's own process object with the flags' changes.
Result<Process> process_from_flags(const OciArguments& arguments, const Spec& spec) {
  Process process = spec.process;
  process.terminal = arguments.has("tty");
  process.args.assign(arguments.words.begin() + 1, arguments.words.end());
  if (process.args.empty()) return Error(ErrorKind::invalid, "exec: a command or --process is needed");
  process.cwd = arguments.value("cwd", process.cwd);
  for (const auto& entry : arguments.all("env")) process.env.push_back(entry);
  if (arguments.has("user")) TRY_PLAIN(take_user(arguments.value("user"), process.user));
  if (arguments.has("no-new-privs")) process.no_new_privileges = true;
  for (const auto& text : arguments.all("additional-gids"))
    process.user.additional_gids.push_back(TRY(parse_integer<std::uint32_t>(text), "--additional-gids"));
  if (arguments.has("cap")) add_capabilities(arguments.all("cap"), process);
  process.apparmor_profile = arguments.value("apparmor", process.apparmor_profile);
  process.selinux_label = arguments.value("process-label", process.selinux_label);
  return process;
}

Result<Process> exec_process(const OciArguments& arguments, const Spec& spec) {
  if (!arguments.has("process")) return process_from_flags(arguments, spec);
  auto text = TRY(linux::read_file(arguments.value("process")), "--process");
  auto process = TRY_PLAIN(parse_process(text));
  process.terminal = process.terminal || arguments.has("tty");
  return process;
}

/// Goes down to "PATH", or in some hierarchies of v1 to "CONTROLLER[,CONTROLLER]:PATH".
Status descend(linux::Cgroup& cgroup, std::string_view text) {
  auto halves = split_once(text, ':');
  std::string_view path = halves.found ? halves.after : halves.before;
  while (path.starts_with('/')) path.remove_prefix(1);  // runc's users write "/sub"; it is below the container's all the same
  std::vector<std::string_view> controllers;
  if (halves.found) controllers = split(halves.before, ',');
  if (!path.empty()) cgroup = TRY(cgroup.below(path, controllers), concat("--cgroup ", text));
  return {};
}

/// Where the new process goes: the container's cgroup or the asked-for one below it. Where the init has left the container's own
/// (on v2 an inner node holds no processes; runc#5101), begin_exec follows it.
Result<linux::Cgroup> exec_cgroup(const OciContext& context, const OciState& state) {
  auto cgroup = TRY_PLAIN(oci_cgroup(context, state));
  for (const auto& text : context.arguments.all("cgroup")) TRY_PLAIN(descend(cgroup, text));
  return cgroup;
}

/// The hierarchies as they were mounted when the container was made, unless its cgroup is not there: then as they are now.
Status find_cgroups_of(OciContext& context, const OciState& state) {
  if (!state.cgroup_layout.hierarchies.empty()) {
    context.layout = std::make_shared<const linux::CgroupLayout>(state.cgroup_layout);
    if (auto cgroup = linux::Cgroup::open(context.layout, state.cgroup_path); cgroup && cgroup->exists()) return {};
    context.layout.reset();
  }
  return context.find_cgroups();
}

Status check_status(const OciContext& context, const OciState& state) {
  const auto status = TRY_PLAIN(status_of(state, context.store, context.layout));
  if (status == OciStatus::stopped) return Error(ErrorKind::conflict, "cannot exec in a stopped container");
  if (status == OciStatus::creating) return Error(ErrorKind::conflict, "cannot exec in a container that is still being created");
  if (status == OciStatus::paused && !context.arguments.has("ignore-paused"))
    return Error(ErrorKind::conflict, "cannot exec in a paused container (use --ignore-paused to override)");
  return {};
}

Result<Launching> launch(const OciContext& context, const OciState& state, const ProcessPlan& plan, const HostFacts& facts,
                         unsigned int preserve_fds) {
  auto pidfd = open_init(state);
  if (!pidfd) return Error(ErrorKind::conflict, "cannot exec in a stopped container");
  std::optional<linux::Cgroup> cgroup;
  if (!state.cgroup_path.empty()) cgroup = TRY_PLAIN(exec_cgroup(context, state));
  ExecTarget target;
  target.pidfd = pidfd->get();
  target.namespaces = state.exec_namespaces;
  target.in_user_namespace = state.in_user_namespace;
  target.cgroup = cgroup ? &*cgroup : nullptr;
  LaunchInputs inputs;
  inputs.is_rootless = facts.is_rootless;
  inputs.may_mount = facts.may_mount;
  inputs.preserve_fds = preserve_fds;
  const auto receiver = TRY_PLAIN(connect_listener(plan.policy));
  inputs.on_listener = [&](pid_t pid, int listener) {
    return send_listener(receiver.get(), plan.policy, state, OciStatus::running, pid, listener);
  };
  auto launching = TRY_PLAIN(begin_exec(plan, target, inputs));
  TRY_PLAIN(finish_exec(launching, plan, inputs));
  return launching;
}

}  // namespace

Result<int> oci_exec(OciContext& context) {
  const auto& arguments = context.arguments;
  if (arguments.words.empty()) return Error(ErrorKind::invalid, "exec: the container's ID is needed");
  auto state = TRY_PLAIN(context.store.load(arguments.words[0]));
  if (!state.in_user_namespace) TRY_PLAIN(protect_binary());
  const auto preserve_fds = TRY_PLAIN(preserved_descriptors(arguments, 0));
  TRY_PLAIN(find_cgroups_of(context, state));
  TRY_PLAIN(check_status(context, state));
  TRY_PLAIN(linux::set_dumpable(false));
  auto config = TRY_PLAIN(context.store.load_config(state.id));
  if (state.in_user_namespace && container_may_own_binary(config.spec)) TRY_PLAIN(protect_binary());
  auto process = TRY_PLAIN(exec_process(arguments, config.spec));
  const bool detached = arguments.has("detach");
  const std::string console_socket = arguments.value("console-socket");
  TRY_PLAIN(check_console(detached, process.terminal, console_socket));
  if (!detached) take_terminal_size(process);
  auto facts = TRY_PLAIN(read_host_facts(*context.layout, FactsNeeded::of(process)));
  if (state.in_user_namespace) facts = facts.behind(config.spec.id_map);
  std::vector<std::string> warnings;
  PlanOptions options;
  options.filter = config.filter ? &*config.filter : nullptr;
  auto plan = TRY_PLAIN(compute_process_plan(process, SharedSettings::of(config.spec), facts, options, warnings));
  for (const auto& warning : warnings) warn(context.globals.log, warning);
  if (!detached) TRY_PLAIN(linux::set_child_subreaper(true));
  if (!detached) TRY_PLAIN(hold_foreground_signals());
  auto launching = TRY_PLAIN(launch(context, state, plan, facts, preserve_fds));
  auto publish = [&]() -> Status {
    if (process.terminal && !console_socket.empty()) TRY_PLAIN(send_terminal(console_socket, launching.terminal));
    TRY_PLAIN(send_pidfd(arguments.value("pidfd-socket"), launching.pidfd));
    return write_pid_file(arguments.value("pid-file"), launching.pid);
  };
  if (auto published = publish(); !published) {
    linux::kill_and_reap(launching.pidfd.get());
    return std::move(published).error();
  }
  if (detached) return 0;
  return serve_foreground({launching.pid, &launching.pidfd, &launching.terminal, nullptr, false});
}

}  // namespace caisson::runtime

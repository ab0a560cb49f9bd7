// state, kill, delete, list, ps, pause, resume, update, spec and features.
#include <array>

#include "linux/capabilities.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "runtime/oci_commands.hpp"

namespace caisson::runtime {

Status oci_print(std::string_view text) { return linux::write_all(1, text); }

namespace {

Result<OciState> load_only(OciContext& context) {
  if (context.arguments.words.size() != 1) return Error(ErrorKind::invalid, "exactly one argument is needed: the container's ID");
  return context.store.load(context.arguments.words[0]);
}

Result<linux::Cgroup> cgroup_of(const OciContext& context, const OciState& state) {
  if (state.cgroup_path.empty()) return Error(ErrorKind::unsupported, "the container has no cgroup of its own");
  return linux::Cgroup::open(context.layout, state.cgroup_path);
}

}  // namespace

Result<int> parse_signal(std::string_view text) {
  static constexpr std::array<std::string_view, 32> names{"",       "HUP",  "INT",    "QUIT", "ILL",   "TRAP", "ABRT", "BUS",
                                                          "FPE",    "KILL", "USR1",   "SEGV", "USR2",  "PIPE", "ALRM", "TERM",
                                                          "STKFLT", "CHLD", "CONT",   "STOP", "TSTP",  "TTIN", "TTOU", "URG",
                                                          "XCPU",   "XFSZ", "VTALRM", "PROF", "WINCH", "IO",   "PWR",  "SYS"};
  if (auto number = parse_integer<int>(text)) {
    if (*number >= 0 && *number <= 64) return *number;
    return Error(ErrorKind::invalid, concat("unknown signal \"", text, "\""));
  }
  std::string_view name = text.starts_with("SIG") ? text.substr(3) : text;
  for (std::size_t i = 1; i < names.size(); ++i)
    if (names[i] == name) return static_cast<int>(i);
  return Error(ErrorKind::invalid, concat("unknown signal \"", text, "\""));
}

Status oci_destroy(OciContext& context, const OciState& state, const Spec* spec) {
  std::optional<Spec> loaded;
  if (spec == nullptr)
    if (auto read = context.store.load_spec(state.id)) spec = &loaded.emplace(std::move(read).value());
  if (!state.cgroup_path.empty()) {
    auto cgroup = TRY_PLAIN(linux::Cgroup::open(context.layout, state.cgroup_path));
    // Empty as a rule, and then it goes at once; only where something lives in it must that be frozen and killed first.
    if (auto gone = cgroup.remove(0); !gone) {
      if (cgroup.exists()) TRY(cgroup.kill_all(), "delete");
      TRY(cgroup.remove(), "delete");
    }
  }
  context.store.forget(state.id);
  // The container is gone whatever these say (runtime-spec: a failure is only worth a warning).
  if (spec != nullptr)
    if (auto done = run_hooks(spec->hooks.poststop, "poststop", state, OciStatus::stopped, HookPlace::runtime_namespaces); !done)
      ignore(linux::write_all(2, concat("warning: ", done.error().text(), "\n")));
  return {};
}

Result<int> oci_state(OciContext& context) {
  auto state = TRY_PLAIN(load_only(context));
  TRY_PLAIN(oci_print(concat(to_text(state_json(state, status_of(state, context.store, context.layout))), "\n")));
  return 0;
}

Result<int> oci_kill(OciContext& context) {
  const auto& words = context.arguments.words;
  if (words.empty() || words.size() > 2) return Error(ErrorKind::invalid, "kill needs the container's ID and perhaps a signal");
  auto state = TRY_PLAIN(context.store.load(words[0]));
  const int signal = TRY_PLAIN(parse_signal(words.size() > 1 ? words[1] : "TERM"));
  const auto status = status_of(state, context.store, context.layout);
  if (context.arguments.has("all")) {
    auto cgroup = TRY_PLAIN(cgroup_of(context, state));
    if (!cgroup.exists()) return 0;
    if (signal == SIGKILL) {
      TRY_PLAIN(cgroup.kill_all());
      return 0;
    }
    for (int pid : TRY_PLAIN(cgroup.pids())) ignore(linux::kill(pid, signal));  // one that has just ended is no error
    return 0;
  }
  if (status == OciStatus::stopped) return Error(ErrorKind::conflict, "container not running");
  auto pidfd = linux::pidfd_open(state.pid);
  if (!pidfd || linux::process_start_time(state.pid).value_or(0) != state.start_time)
    return Error(ErrorKind::conflict, "container not running");
  TRY_PLAIN(linux::pidfd_send_signal(pidfd->get(), signal));
  // A frozen process dies only once it is thawed.
  if (status == OciStatus::paused && signal == SIGKILL)
    if (auto cgroup = cgroup_of(context, state)) TRY_PLAIN(cgroup->thaw());
  return 0;
}

Result<int> oci_delete(OciContext& context) {
  const bool force = context.arguments.has("force");
  auto loaded = load_only(context);
  if (!loaded) {
    if (force && loaded.error().kind() == ErrorKind::not_found) {
      context.store.forget(context.arguments.words[0]);  // a create that was killed half-way leaves a folder without state
      return 0;
    }
    return std::move(loaded).error();
  }
  const auto status = status_of(*loaded, context.store, context.layout);
  // "created" is killed and deleted without force by both peers, and callers rely on it.
  if (status != OciStatus::stopped && status != OciStatus::created && !force)
    return Error(ErrorKind::conflict, concat("cannot delete container ", loaded->id, " that is not stopped: ", to_string(status)));
  if (status != OciStatus::stopped) {
    auto pidfd = linux::pidfd_open(loaded->pid);
    if (pidfd) {
      ignore(linux::pidfd_send_signal(pidfd->get(), SIGKILL));  // it may end by itself meanwhile
      if (auto cgroup = cgroup_of(context, *loaded)) ignore(cgroup->thaw());
      for (int waited = 0; waited < 1000 && !linux::pidfd_has_ended(pidfd->get()).value_or(true); ++waited)
        ignore(linux::wait_readable(pidfd->get(), 10));
    }
  }
  TRY_PLAIN(oci_destroy(context, *loaded));
  return 0;
}

Result<int> oci_list(OciContext& context) {
  auto ids = TRY_PLAIN(context.store.ids());
  if (context.arguments.has("quiet")) {
    for (const auto& id : ids) TRY_PLAIN(oci_print(concat(id, "\n")));
    return 0;
  }
  json::array states;
  std::string table = "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n";
  for (const auto& id : ids) {
    auto state = context.store.load(id);
    if (!state) continue;  // deleted between the two looks
    const auto status = status_of(*state, context.store, context.layout);
    auto object = state_json(*state, status);
    table += concat(id, "\t", status == OciStatus::stopped ? 0 : state->pid, "\t", to_string(status), "\t", state->bundle, "\t",
                    to_rfc3339(state->created), "\t", std::string_view(object.at("owner").as_string()), "\n");
    states.push_back(std::move(object));
  }
  const std::string format = context.arguments.value("format", "table");
  if (format != "table" && format != "json") return Error(ErrorKind::invalid, concat("invalid format option \"", format, "\""));
  TRY_PLAIN(oci_print(format == "json" ? concat(to_text(states), "\n") : table));
  return 0;
}

Result<int> oci_ps(OciContext& context) {
  if (context.arguments.words.empty()) return Error(ErrorKind::invalid, "ps: the container's ID is needed");
  auto state = TRY_PLAIN(context.store.load(context.arguments.words[0]));
  auto cgroup = TRY_PLAIN(cgroup_of(context, state));
  auto pids = TRY_PLAIN(cgroup.pids());
  json::array list;
  std::string table = "PID\n";
  for (int pid : pids) {
    list.emplace_back(pid);
    table += concat(pid, "\n");
  }
  TRY_PLAIN(oci_print(context.arguments.value("format", "table") == "json" ? concat(to_text(list), "\n") : table));
  return 0;
}

Result<int> oci_pause(OciContext& context) {
  auto state = TRY_PLAIN(load_only(context));
  const auto status = status_of(state, context.store, context.layout);
  if (status != OciStatus::running && status != OciStatus::created) return Error(ErrorKind::conflict, "container not running");
  auto cgroup = TRY_PLAIN(cgroup_of(context, state));
  TRY_PLAIN(cgroup.freeze());
  return 0;
}

Result<int> oci_resume(OciContext& context) {
  auto state = TRY_PLAIN(load_only(context));
  if (status_of(state, context.store, context.layout) != OciStatus::paused) return Error(ErrorKind::conflict, "container not paused");
  auto cgroup = TRY_PLAIN(cgroup_of(context, state));
  TRY_PLAIN(cgroup.thaw());
  return 0;
}

Result<int> oci_update(OciContext& context) {
  auto state = TRY_PLAIN(load_only(context));
  const auto& arguments = context.arguments;
  Resources resources;
  if (arguments.has("resources")) {
    const std::string path = arguments.value("resources");
    auto text = path == "-" ? linux::read_all(0) : linux::read_file(path);
    resources = TRY_PLAIN(parse_resources(TRY(std::move(text), "--resources")));
  }
  auto number = [&](const char* flag, auto& out) -> Status {
    using Value = typename std::remove_reference_t<decltype(out)>::value_type;
    if (arguments.has(flag)) out = TRY(parse_integer<Value>(arguments.value(flag)), concat("--", flag));
    return {};
  };
  auto size = [&](const char* flag, std::optional<std::int64_t>& out) -> Status {
    if (!arguments.has(flag)) return {};
    const std::string text = arguments.value(flag);
    out = text == "-1" ? -1 : TRY(parse_size_bytes(text), concat("--", flag));
    return {};
  };
  TRY_PLAIN(size("memory", resources.memory.limit_bytes));
  TRY_PLAIN(size("memory-reservation", resources.memory.reservation_bytes));
  TRY_PLAIN(size("memory-swap", resources.memory.swap_bytes));
  TRY_PLAIN(number("cpu-share", resources.cpu.shares));
  TRY_PLAIN(number("cpu-quota", resources.cpu.quota_us));
  TRY_PLAIN(number("cpu-period", resources.cpu.period_us));
  TRY_PLAIN(number("cpu-burst", resources.cpu.burst_us));
  TRY_PLAIN(number("cpu-rt-period", resources.cpu.realtime_period_us));
  TRY_PLAIN(number("cpu-rt-runtime", resources.cpu.realtime_runtime_us));
  TRY_PLAIN(number("cpu-idle", resources.cpu.idle));
  TRY_PLAIN(number("pids-limit", resources.pids_limit));
  TRY_PLAIN(number("blkio-weight", resources.block_io.weight));
  if (arguments.has("cpuset-cpus")) resources.cpu.cpus = arguments.value("cpuset-cpus");
  if (arguments.has("cpuset-mems")) resources.cpu.mems = arguments.value("cpuset-mems");
  auto cgroup = TRY_PLAIN(cgroup_of(context, state));
  auto limits = TRY_PLAIN(plan_limits(resources));
  TRY_PLAIN(cgroup.apply(limits));
  return 0;
}

namespace {

Mount mount_of(std::string destination, std::string type, std::string source, std::vector<std::string> options) {
  Mount out;
  out.destination = std::move(destination);
  out.type = std::move(type);
  out.source = std::move(source);
  out.options = std::move(options);
  return out;
}

Spec default_spec(bool rootless) {
  Spec spec;
  spec.root.path = "rootfs";
  spec.root.readonly = true;
  spec.hostname = "caisson";
  spec.process.terminal = true;
  spec.process.args = {"sh"};
  spec.process.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"};
  spec.process.no_new_privileges = true;
  CapabilitySets caps;
  caps.bounding = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  caps.effective = caps.bounding;
  caps.permitted = caps.bounding;
  spec.process.capabilities = caps;
  spec.process.rlimits.push_back({"RLIMIT_NOFILE", 1024, 1024});
  spec.mounts = {mount_of("/proc", "proc", "proc", {}),
                 mount_of("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
                 mount_of("/dev/pts", "devpts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}),
                 mount_of("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}),
                 mount_of("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
                 mount_of("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}),
                 mount_of("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"})};
  if (!rootless) spec.mounts[2].options.emplace_back("gid=5");
  for (auto type : {NamespaceType::pid, NamespaceType::network, NamespaceType::ipc, NamespaceType::uts, NamespaceType::mount,
                    NamespaceType::cgroup})
    spec.namespaces.push_back({type, ""});
  if (rootless) {
    spec.namespaces.push_back({NamespaceType::user, ""});
    spec.id_map.uids.push_back({0, linux::geteuid(), 1});
    spec.id_map.gids.push_back({0, linux::getegid(), 1});
  }
  DeviceRule deny;
  deny.access = "rwm";
  spec.resources.devices.push_back(deny);
  spec.masked_paths = {
      "/proc/acpi",        "/proc/asound",      "/proc/kcore",   "/proc/keys", "/proc/latency_stats",          "/proc/timer_list",
      "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi", "/sys/devices/virtual/powercap"};
  spec.readonly_paths = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  return spec;
}

json::array strings(std::initializer_list<std::string_view> items) {
  json::array out;
  for (auto item : items) out.emplace_back(json::string(item));
  return out;
}

}  // namespace

Result<int> oci_spec(OciContext& context) {
  const std::string path = concat(context.arguments.value("bundle", "."), "/", context.arguments.value("file", "config.json"));
  if (linux::exists(path).value_or(false)) return Error(ErrorKind::conflict, concat("file ", path, " exists. Remove it first"));
  TRY_PLAIN(linux::write_file(path, concat(to_text(to_json(default_spec(context.arguments.has("rootless")))), "\n"), 0644));
  return 0;
}

Result<int> oci_features(OciContext& /*context*/) {
  json::array capabilities;
  for (int number = 0; number <= linux::max_known_capability; ++number) capabilities.emplace_back(linux::capability_name(number));
  json::object linux_part;
  linux_part["namespaces"] = strings({"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"});
  linux_part["capabilities"] = std::move(capabilities);
  linux_part["cgroup"] = json::object{{"v1", true}, {"v2", true}, {"systemd", false}, {"systemdUser", false}, {"rdma", false}};
  linux_part["seccomp"] = json::object{
      {"enabled", true},
      {"actions", strings({"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                           "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"})},
      {"operators",
       strings({"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"})},
      {"archs", strings({"SCMP_ARCH_AARCH64", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"})}};
  linux_part["apparmor"] = json::object{{"enabled", true}};
  linux_part["selinux"] = json::object{{"enabled", true}};
  linux_part["intelRdt"] = json::object{{"enabled", false}};
  linux_part["mountExtensions"] = json::object{{"idmap", json::object{{"enabled", true}}}};
  json::object out;
  out["ociVersionMin"] = "1.0.0";
  out["ociVersionMax"] = "1.3.0";
  out["hooks"] = strings({"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"});
  out["mountOptions"] = strings(
      {"async",        "atime",      "bind",       "defaults",    "dev",        "diratime",      "dirsync",        "exec",
       "idmap",        "iversion",   "lazytime",   "loud",        "mand",       "noatime",       "nodev",          "nodiratime",
       "noexec",       "noiversion", "nolazytime", "nomand",      "norelatime", "nostrictatime", "nosuid",         "nosymfollow",
       "private",      "ratime",     "rbind",      "rdev",        "rdiratime",  "relatime",      "remount",        "rexec",
       "ridmap",       "rnoatime",   "rnodev",     "rnodiratime", "rnoexec",    "rnorelatime",   "rnostrictatime", "rnosuid",
       "rnosymfollow", "ro",         "rprivate",   "rrelatime",   "rro",        "rrw",           "rshared",        "rslave",
       "rstrictatime", "rsuid",      "rsymfollow", "runbindable", "rw",         "shared",        "silent",         "slave",
       "strictatime",  "suid",       "symfollow",  "sync",        "unbindable"});
  out["linux"] = std::move(linux_part);
  out["annotations"] = json::object{};
  out["potentiallyUnsafeConfigAnnotations"] = json::array{};
  TRY_PLAIN(oci_print(concat(to_text(out), "\n")));
  return 0;
}

}  // namespace caisson::runtime

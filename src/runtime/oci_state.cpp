// State files, status and hooks.
#include "runtime/oci_state.hpp"

#include <array>

#include "linux/child.hpp"
#include "linux/child_clone.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"
#include "linux/tree.hpp"

namespace caisson::runtime {

std::string_view to_string(OciStatus status) {
  switch (status) {
    case OciStatus::creating: return "creating";
    case OciStatus::created: return "created";
    case OciStatus::running: return "running";
    case OciStatus::paused: return "paused";
    case OciStatus::stopped: return "stopped";
  }
  return "unknown";
}

Status OciStore::check_id(std::string_view id) {
  auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '+' || c == '-';
  };
  bool good = !id.empty() && id.size() <= 1024 && plain(id[0]);
  for (char c : id) good = good && (plain(c) || c == '.');
  if (!good)
    return Error(ErrorKind::invalid, concat("invalid container ID \"", id, "\": want letters, digits, _ + - and, after the first, ."));
  return {};
}

Status OciStore::reserve(const std::string& id) const {
  // Below XDG_RUNTIME_DIR the sticky bit keeps the folder from being pruned (XDG Base Directory Specification).
  auto made = linux::mkdirat(AT_FDCWD, folder(id), 0711);
  if (!made && made.error().kind() == ErrorKind::not_found) {
    TRY(linux::make_dirs(root_, linux::geteuid() == 0 ? 0700 : 01700), "state folder");
    made = linux::mkdirat(AT_FDCWD, folder(id), 0711);
  }
  if (!made && made.error().kind() == ErrorKind::conflict) return Error(ErrorKind::conflict, "container with given ID already exists");
  return made;
}

bool OciStore::has_folder(const std::string& id) const { return check_id(id) && linux::exists(folder(id)).value_or(false); }

// A container that a power cut ended needs no state; so no fsync.
Status OciStore::save(const OciState& state) const {
  return linux::write_file_atomic(concat(folder(state.id), "/state.json"), write_oci_state(state), 0600, linux::Durability::none);
}
Status OciStore::save_config(const std::string& id, const std::string& config) const {
  // Only state.json makes it a container, so only that one must come whole.
  return linux::write_file(concat(folder(id), "/config.json"), config, 0600);
}

namespace {

json::array write_hierarchies(const linux::CgroupLayout& layout) {
  json::array out;
  for (const auto& hierarchy : layout.hierarchies) {
    json::array controllers;
    for (const auto& name : hierarchy.controllers) controllers.emplace_back(name);
    out.push_back(json::object{{"mountPoint", hierarchy.mount_point},
                               {"root", hierarchy.root},
                               {"controllers", std::move(controllers)},
                               {"v2", hierarchy.is_v2}});
  }
  return out;
}

Status read_hierarchies(const JsonView& view, linux::CgroupLayout& layout) {
  std::string mode;
  TRY_PLAIN(view.read("cgroupMode", mode));
  using enum linux::CgroupMode;
  for (const auto known : {v1, hybrid, unified})
    if (mode == to_string(known)) layout.mode = known;
  const auto list = TRY_PLAIN(view.at("cgroups"));
  if (!list.is_set() || layout.mode == none) return {};
  return list.for_each_element([&](const JsonView& item) -> Status {
    linux::CgroupHierarchy& hierarchy = layout.hierarchies.emplace_back();
    TRY_PLAIN(item.read("mountPoint", hierarchy.mount_point));
    TRY_PLAIN(item.read("root", hierarchy.root));
    TRY_PLAIN(item.read("controllers", hierarchy.controllers));
    return item.read("v2", hierarchy.is_v2);
  });
}

}  // namespace

std::string write_oci_state(const OciState& state) {
  json::object annotations;
  for (const auto& [key, value] : state.annotations) annotations[key] = value;
  json::object out{{"id", state.id},
                   {"pid", state.pid},
                   {"startTime", state.start_time},
                   {"bundle", state.bundle},
                   {"rootfs", state.rootfs},
                   {"cgroupPath", state.cgroup_path},
                   {"cgroupMode", std::string(to_string(state.cgroup_layout.mode))},
                   {"cgroups", write_hierarchies(state.cgroup_layout)},
                   {"namespaces", state.exec_namespaces},
                   {"userNamespace", state.in_user_namespace},
                   {"created", state.created},
                   {"owner", state.owner},
                   {"annotations", std::move(annotations)}};
  if (state.creator) out["creator"] = json::object{{"pid", state.creator->pid}, {"startTime", state.creator->start_time}};
  if (!state.resctrl_folders.empty()) {
    json::array folders;
    for (const auto& folder : state.resctrl_folders) folders.emplace_back(folder);
    out["resctrl"] = std::move(folders);
  }
  return to_text(out);
}

Result<OciState> read_oci_state(std::string_view text) {
  auto document = TRY_PLAIN(parse_json(text, "state.json"));
  JsonView view(document);
  OciState out;
  TRY_PLAIN(view.read("id", out.id));
  TRY_PLAIN(view.read("pid", out.pid));
  TRY_PLAIN(view.read("startTime", out.start_time));
  TRY_PLAIN(view.read("bundle", out.bundle));
  TRY_PLAIN(view.read("rootfs", out.rootfs));
  TRY_PLAIN(view.read("cgroupPath", out.cgroup_path));
  TRY_PLAIN(read_hierarchies(view, out.cgroup_layout));
  TRY_PLAIN(view.read("namespaces", out.exec_namespaces));
  TRY_PLAIN(view.read("userNamespace", out.in_user_namespace));
  TRY_PLAIN(view.read("created", out.created));
  TRY_PLAIN(view.read("owner", out.owner));
  TRY_PLAIN(view.read("annotations", out.annotations));
  TRY_PLAIN(view.read("resctrl", out.resctrl_folders));
  auto creator = TRY_PLAIN(view.at("creator"));
  if (creator.is_set()) {
    out.creator.emplace();
    TRY_PLAIN(creator.read("pid", out.creator->pid));
    TRY_PLAIN(creator.read("startTime", out.creator->start_time));
  }
  TRY_PLAIN(OciStore::check_id(out.id));
  return out;
}

Result<OciState> OciStore::load(const std::string& id) const {
  TRY_PLAIN(check_id(id));
  auto text = linux::read_file(concat(folder(id), "/state.json"));
  if (!text && text.error().kind() == ErrorKind::not_found) return Error(ErrorKind::not_found, "container does not exist");
  auto state = TRY(read_oci_state(TRY_PLAIN(std::move(text))), concat("container ", id));
  if (state.id != id) return Error(ErrorKind::corrupt, concat("container ", id, ": state.json is of ", state.id));
  return state;
}

Result<Spec> OciStore::load_spec(const std::string& id) const {
  auto text = TRY(linux::read_file(concat(folder(id), "/config.json")), concat("container ", id));
  return parse_spec_without_seccomp(text);
}

Result<ConfigWithFilter> OciStore::load_config(const std::string& id) const {
  auto text = TRY(linux::read_file(concat(folder(id), "/config.json")), concat("container ", id));
  return parse_config(text, filters());
}

void OciStore::forget(const std::string& id) const {
  // By their names first: in almost every case that is all there is (start has taken the fifo away).
  for (const char* name : {"/state.json", "/config.json"}) ignore(linux::unlink(concat(folder(id), name)));
  if (!linux::rmdir(folder(id))) ignore(linux::remove_tree(folder(id)));  // delete again shows what is left
}

Result<std::vector<std::string>> OciStore::ids() const {
  std::vector<std::string> out;
  auto entries = linux::list_dir(root_);
  if (!entries && entries.error().kind() == ErrorKind::not_found) return out;
  for (auto& entry : TRY_PLAIN(std::move(entries)))
    if (check_id(entry.name) && linux::exists(concat(folder(entry.name), "/state.json")).value_or(false)) out.push_back(entry.name);
  return out;
}

Result<bool> OciProcess::lives() const {
  if (pid <= 0) return false;
  auto now = linux::process_stat(pid);
  if (!now && now.error().kind() != ErrorKind::not_found) return std::move(now).error();
  return now.ok() && now->start_time == start_time && now->state != 'Z' && now->state != 'X';
}

Result<OciStatus> status_of(const OciState& state, const OciStore& store, const std::shared_ptr<const linux::CgroupLayout>& layout) {
  if (state.creator) return TRY_PLAIN(state.creator->lives()) ? OciStatus::creating : OciStatus::stopped;
  const OciProcess init{state.pid, state.start_time};
  if (!TRY_PLAIN(init.lives())) return OciStatus::stopped;
  if (TRY_PLAIN(linux::exists(store.fifo(state.id)))) return OciStatus::created;
  if (!state.cgroup_path.empty())
    if (auto cgroup = linux::Cgroup::open(layout, state.cgroup_path))
      if (auto frozen = cgroup->freeze_state(); frozen && *frozen != linux::FreezeState::thawed) return OciStatus::paused;
  return OciStatus::running;
}

json::object state_json(const OciState& state, OciStatus status) {
  json::object annotations;
  for (const auto& [key, value] : state.annotations) annotations[key] = value;
  json::object out{{"ociVersion", "1.3.0"},
                   {"id", state.id},
                   {"pid", status == OciStatus::stopped ? 0 : state.pid},
                   {"status", std::string(to_string(status))},
                   {"bundle", state.bundle},
                   {"rootfs", state.rootfs},
                   {"created", to_rfc3339(state.created)},
                   {"owner", state.owner == 0 ? "root" : concat(state.owner)}};
  if (!annotations.empty()) out["annotations"] = std::move(annotations);
  // crun's name for it; podman and people look here for the unit.
  if (auto unit = linux::systemd_unit_name(state.cgroup_path); !unit.empty()) out["systemd-scope"] = std::move(unit);
  return out;
}

Result<UniqueFd> connect_listener(const ProcessPolicy& policy) {
  if (policy.listener_path.empty()) return UniqueFd();
  auto socket = linux::unix_connect(policy.listener_path, linux::UnixType::stream);
  if (socket) return socket;
  // Not the kernel's words: "no such file" is read as a missing program.
  return Error(ErrorKind::unavailable,
               concat("linux.seccomp.listenerPath: nobody takes the listener at ", policy.listener_path, " (errno ",
                      socket.error().error_number(), ")"),
               socket.error().error_number());
}

Status send_listener(int socket, const ProcessPolicy& policy, const OciState& state, OciStatus status, pid_t pid, int listener) {
  OciState of_process = state;
  if (of_process.pid == 0) of_process.pid = pid;
  json::object message{{"ociVersion", "1.3.0"},
                       {"fds", json::array{"seccompFd"}},
                       {"pid", pid},
                       {"metadata", policy.listener_metadata},
                       {"state", state_json(of_process, status)}};
  const std::array fds{listener};
  TRY(linux::send_message(socket, to_text(message), fds), "linux.seccomp.listenerPath");
  return {};
}

namespace {

/// Where hooks print to; crun's annotations.
Status append_to(const OciState& state, std::string_view stream, std::string_view text) {
  auto found = state.annotations.find(concat("run.oci.hooks.", stream));
  if (found == state.annotations.end() || text.empty()) return {};
  auto file =
      TRY(linux::open(found->second, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NOCTTY, 0700), concat("run.oci.hooks.", stream));
  return linux::write_all(file.get(), text);
}

Result<linux::ProgramOutput> run_hook(const Hook& hook, const std::string& state_text) {
  // args carry their own argv[0], by which a multi-call program knows its part (dockerd: /proc/PID/exe as "libnetwork-setkey");
  // the path alone decides what is executed.
  const std::vector<std::string> argv = hook.args.empty() ? std::vector{hook.path} : hook.args;
  linux::RunOptions options;
  options.path = hook.path;
  options.standard_input = state_text;
  options.env = hook.env;
  if (hook.timeout_seconds) options.timeout_ms = static_cast<int>(std::min<std::int64_t>(*hook.timeout_seconds, 1'000'000) * 1000);
  return linux::run_program(argv, options);
}

Status judge_hook(Result<linux::ProgramOutput> ran, const OciState& state) {
  auto output = TRY_PLAIN(std::move(ran));
  TRY_PLAIN(append_to(state, "stdout", output.standard_output));
  TRY_PLAIN(append_to(state, "stderr", output.standard_error));
  if (output.status.exit_code() == 0) return {};
  std::string_view said = trim(output.standard_error);
  if (said.size() > 500) said.remove_prefix(said.size() - 500);
  return Error(ErrorKind::io, concat("exit code ", output.status.exit_code(), said.empty() ? "" : ": ", said));
}

struct HookJob {
  int pidfd = -1;
  int flags = 0;
  bool in_user_namespace = false;
  const Hook* hook = nullptr;
  const std::string* state = nullptr;
  std::optional<Result<linux::ProgramOutput>> outcome;
};
int run_hook_job(void* argument) {
  auto& job = *static_cast<HookJob*>(argument);
  int joined = linux::raw::setns(job.pidfd, job.flags);
  // An ordinary user has the right only inside the user namespace.
  if (joined == -EPERM && job.in_user_namespace) joined = linux::raw::setns(job.pidfd, job.flags | CLONE_NEWUSER);
  if (joined < 0) job.outcome.emplace(Error::from_errno(-joined, "joining the container's namespaces"));
  else job.outcome.emplace(run_hook(*job.hook, *job.state));
  return 0;
}

}  // namespace

Status run_hooks(const std::vector<Hook>& hooks, std::string_view name, const OciState& state, OciStatus status, HookPlace place) {
  if (hooks.empty()) return {};
  const std::string text = to_text(state_json(state, status));
  for (std::size_t i = 0; i < hooks.size(); ++i) {
    const std::string at = concat("hooks.", name, "[", i, "] ", hooks[i].path);
    if (place == HookPlace::runtime_namespaces) {
      TRY(judge_hook(run_hook(hooks[i], text), state), at);
      continue;
    }
    auto pidfd = TRY(linux::pidfd_open(state.pid), at);
    HookJob job;
    job.pidfd = pidfd.get();
    // The time namespace cannot be entered by who shares memory, and no hook's work depends on it.
    job.flags = static_cast<int>(state.exec_namespaces & ~std::uint64_t{CLONE_NEWUSER | CLONE_NEWTIME});
    job.in_user_namespace = state.in_user_namespace;
    job.hook = &hooks[i];
    job.state = &text;
    const int stage = linux::raw::run_stage(run_hook_job, &job, 0);
    if (stage < 0) return Error::from_errno(-stage, at);
    (void)linux::raw::reap(stage);
    if (!job.outcome) return Error(ErrorKind::internal, concat(at, ": the process that runs it died"));
    TRY(judge_hook(std::move(*job.outcome), state), at);
  }
  return {};
}

}  // namespace caisson::runtime

// State files, status and hooks.
#include "runtime/oci_state.hpp"

#include "linux/child.hpp"
#include "linux/child_clone.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
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
  auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '+' || c == '-'; };
  bool good = !id.empty() && id.size() <= 1024 && plain(id[0]);
  for (char c : id) good = good && (plain(c) || c == '.');
  if (!good) return Error(ErrorKind::invalid, concat("invalid container ID \"", id, "\": want letters, digits, _ + - and, after the first, ."));
  return {};
}

Status OciStore::reserve(const std::string& id) const {
  TRY(linux::make_dirs(root_, 0700), "state folder");
  auto made = linux::mkdirat(AT_FDCWD, folder(id), 0711);
  if (!made && made.error().kind() == ErrorKind::conflict) return Error(ErrorKind::conflict, "container with given ID already exists");
  return made;
}

Status OciStore::save(const OciState& state, const std::string& config) const {
  json::object annotations;
  for (const auto& [key, value] : state.annotations) annotations[key] = value;
  json::object out{{"id", state.id},
                   {"pid", state.pid},
                   {"startTime", state.start_time},
                   {"bundle", state.bundle},
                   {"rootfs", state.rootfs},
                   {"cgroupPath", state.cgroup_path},
                   {"namespaces", state.exec_namespaces},
                   {"userNamespace", state.in_user_namespace},
                   {"created", state.created},
                   {"owner", state.owner},
                   {"annotations", std::move(annotations)}};
  // A container that a power cut ended needs no state; so no fsync.
  TRY_PLAIN(linux::write_file_atomic(concat(folder(state.id), "/config.json"), config, 0600, linux::Durability::none));
  return linux::write_file_atomic(concat(folder(state.id), "/state.json"), to_text(out), 0600, linux::Durability::none);
}

Result<OciState> OciStore::load(const std::string& id) const {
  TRY_PLAIN(check_id(id));
  auto text = linux::read_file(concat(folder(id), "/state.json"));
  if (!text && text.error().kind() == ErrorKind::not_found) return Error(ErrorKind::not_found, "container does not exist");
  auto document = TRY(parse_json(TRY_PLAIN(std::move(text)), "state.json"), concat("container ", id));
  JsonView view(document);
  OciState out;
  TRY_PLAIN(view.read("id", out.id));
  TRY_PLAIN(view.read("pid", out.pid));
  TRY_PLAIN(view.read("startTime", out.start_time));
  TRY_PLAIN(view.read("bundle", out.bundle));
  TRY_PLAIN(view.read("rootfs", out.rootfs));
  TRY_PLAIN(view.read("cgroupPath", out.cgroup_path));
  TRY_PLAIN(view.read("namespaces", out.exec_namespaces));
  TRY_PLAIN(view.read("userNamespace", out.in_user_namespace));
  TRY_PLAIN(view.read("created", out.created));
  TRY_PLAIN(view.read("owner", out.owner));
  TRY_PLAIN(view.read("annotations", out.annotations));
  return out;
}

Result<Spec> OciStore::load_spec(const std::string& id) const {
  auto text = TRY(linux::read_file(concat(folder(id), "/config.json")), concat("container ", id));
  return parse_spec(text);
}

void OciStore::forget(const std::string& id) const { ignore(linux::remove_tree(folder(id))); }  // delete again shows what is left

Result<std::vector<std::string>> OciStore::ids() const {
  std::vector<std::string> out;
  auto entries = linux::list_dir(root_);
  if (!entries && entries.error().kind() == ErrorKind::not_found) return out;
  for (auto& entry : TRY_PLAIN(std::move(entries)))
    if (check_id(entry.name) && linux::exists(concat(folder(entry.name), "/state.json")).value_or(false)) out.push_back(entry.name);
  return out;
}

OciStatus status_of(const OciState& state, const OciStore& store, const std::shared_ptr<const linux::CgroupLayout>& layout) {
  auto started = linux::process_start_time(state.pid);
  auto letter = linux::process_state(state.pid);
  if (state.pid <= 0 || !started || *started != state.start_time || !letter || *letter == 'Z' || *letter == 'X') return OciStatus::stopped;
  if (linux::exists(store.fifo(state.id)).value_or(false)) return OciStatus::created;
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
  return out;
}

namespace {

Status run_hook(const Hook& hook, const std::string& state_text) {
  // args carry their own argv[0], by which a multi-call program knows its part (dockerd: /proc/PID/exe as "libnetwork-setkey");
  // the path alone decides what is executed.
  const std::vector<std::string> argv = hook.args.empty() ? std::vector{hook.path} : hook.args;
  linux::RunOptions options;
  options.path = hook.path;
  options.standard_input = state_text;
  options.env = hook.env;
  if (hook.timeout_seconds) options.timeout_ms = static_cast<int>(std::min<std::int64_t>(*hook.timeout_seconds, 1'000'000) * 1000);
  auto output = TRY_PLAIN(linux::run_program(argv, options));
  if (output.status.exit_code() == 0) return {};
  std::string_view said = trim(output.standard_error);
  if (said.size() > 500) said.remove_prefix(said.size() - 500);
  return Error(ErrorKind::io, concat("exit code ", output.status.exit_code(), said.empty() ? "" : ": ", said));
}

struct HookJob {
  int pidfd = -1;
  int flags = 0;
  const Hook* hook = nullptr;
  const std::string* state = nullptr;
  Status outcome;
};
int run_hook_job(void* argument) {
  auto& job = *static_cast<HookJob*>(argument);
  const int joined = linux::raw::setns(job.pidfd, job.flags);
  if (joined < 0) job.outcome = Error::from_errno(-joined, "joining the container's namespaces");
  else job.outcome = run_hook(*job.hook, *job.state);
  return 0;
}

}  // namespace

Status run_hooks(const std::vector<Hook>& hooks, std::string_view name, const OciState& state, OciStatus status, HookPlace place) {
  if (hooks.empty()) return {};
  const std::string text = to_text(state_json(state, status));
  for (std::size_t i = 0; i < hooks.size(); ++i) {
    const std::string at = concat("hooks.", name, "[", i, "] ", hooks[i].path);
    if (place == HookPlace::runtime_namespaces) {
      TRY(run_hook(hooks[i], text), at);
      continue;
    }
    auto pidfd = TRY(linux::pidfd_open(state.pid), at);
    HookJob job;
    job.pidfd = pidfd.get();
    job.flags = static_cast<int>(state.exec_namespaces & ~std::uint64_t{CLONE_NEWUSER});
    job.hook = &hooks[i];
    job.state = &text;
    const int stage = linux::raw::run_stage(run_hook_job, &job, 0);
    if (stage < 0) return Error::from_errno(-stage, at);
    (void)linux::raw::reap(stage);
    TRY(std::move(job.outcome), at);
  }
  return {};
}

}  // namespace caisson::runtime

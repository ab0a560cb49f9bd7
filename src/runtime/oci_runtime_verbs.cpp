// What is asked of a running container: attach, signals, exec, limits, figures; and its removal.
#include <algorithm>

#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/tree.hpp"
#include "runtime/oci_runtime_parts.hpp"

namespace caisson::runtime {

namespace detail {

Status OciRuntime::attach(const std::string& id, AttachRequest request) {
  AttachBody body;
  body.client = to_body(request);
  const std::array fds{request.client.get()};
  return ask_monitor(id, MessageKind::attach, body, fds).status;
}

Status OciRuntime::kill(const std::string& id, int signal) {
  std::lock_guard lock(mutex_);
  auto container = TRY_PLAIN(find(id));
  if (!container->running || !container->pidfd) return not_running(id);
  auto sent = linux::pidfd_send_signal(container->pidfd.get(), signal);
  if (!sent && sent.error().kind() == ErrorKind::not_found) return not_running(id);
  if (!sent) return std::move(sent).error().in(concat("container ", id));
  return {};
}

bool OciRuntime::has_no_cgroup(const std::string& id) {
  std::lock_guard lock(mutex_);
  auto container = find(id);
  return container.ok() && (*container)->cgroup_path.empty();
}

Result<linux::Cgroup> OciRuntime::cgroup_of(const std::string& id) {
  std::string path;
  {
    std::lock_guard lock(mutex_);
    auto container = TRY_PLAIN(find(id));
    if (!container->running) return not_running(id);
    path = container->cgroup_path;
  }
  if (path.empty())
    return Error(ErrorKind::unsupported, concat("container ", id, " has no cgroup of its own"))
        .with_hint("without root a user needs cgroups that are delegated: see `caisson doctor`");
  return TRY(linux::Cgroup::open(layout_, path), concat("container ", id));
}

/// The processes of the container's PID namespace, whose first one is `pid`; of one that it has not for itself, nothing.
Result<std::vector<pid_t>> OciRuntime::processes_without_cgroup(const std::string& id) {
  pid_t first = 0;
  bool is_own = false;
  {
    std::lock_guard lock(mutex_);
    auto container = TRY_PLAIN(find(id));
    if (!container->running) return not_running(id);
    first = container->pid;
    is_own = container->own_pid_namespace;
  }
  if (!is_own) return Error(ErrorKind::unsupported, concat("container ", id, " has neither a cgroup nor a pid namespace of its own"));
  const auto space = TRY(linux::readlinkat(AT_FDCWD, concat("/proc/", first, "/ns/pid")), concat("container ", id));
  std::vector<pid_t> out;
  for (const auto& entry : TRY(linux::list_dir("/proc"), concat("container ", id))) {
    auto pid = parse_integer<pid_t>(entry.name);
    if (!pid.ok()) continue;
    auto theirs = linux::readlinkat(AT_FDCWD, concat("/proc/", entry.name, "/ns/pid"));
    if (theirs.ok() && *theirs == space) out.push_back(*pid);  // else it has ended, or is not ours to see
  }
  return out;
}

Status OciRuntime::kill_all(const std::string& id) {
  if (has_no_cgroup(id)) return kill(id, SIGKILL);  // the kernel ends its PID namespace with it (pid_namespaces(7))
  auto cgroup = TRY_PLAIN(cgroup_of(id));
  TRY(cgroup.kill_all(), concat("container ", id));
  return {};
}

Status OciRuntime::pause(const std::string& id) {
  auto cgroup = TRY_PLAIN(cgroup_of(id));
  TRY(cgroup.freeze(), concat("container ", id));
  return {};
}

Status OciRuntime::resume(const std::string& id) {
  auto cgroup = TRY_PLAIN(cgroup_of(id));
  TRY(cgroup.thaw(), concat("container ", id));
  return {};
}

Status OciRuntime::update(const std::string& id, const Resources& resources) {
  auto cgroup = TRY_PLAIN(cgroup_of(id));
  auto limits = TRY_PLAIN(plan_limits(resources));
  TRY(cgroup.apply(limits), concat("container ", id));
  return {};
}

Result<std::vector<pid_t>> OciRuntime::processes(const std::string& id) {
  if (has_no_cgroup(id)) return processes_without_cgroup(id);
  auto cgroup = TRY_PLAIN(cgroup_of(id));
  return TRY(cgroup.pids(), concat("container ", id));
}

Result<pid_t> OciRuntime::exec(const std::string& id, ExecRequest request) {
  const std::string where = concat("container ", id);
  SharedSettings shared;
  {
    std::lock_guard lock(mutex_);
    const auto found = find(id);
    if (!found || !(*found)->running) return not_running(id);
    const auto& container = *found;
    if (container->execs.contains(request.exec_id))
      return Error(ErrorKind::conflict, concat("exec ", request.exec_id, " is already running"));
    shared = container->shared;
    if (request.privileged) shared.seccomp.reset();
  }
  PlanOptions options;
  options.clamp_rlimits = true;
  std::vector<std::string> warnings;
  ExecBody body;
  body.exec_id = request.exec_id;
  body.process = TRY_PLAIN(compute_process_plan(request.process, shared, options_.starter->facts(), options, warnings));
  if (request.privileged) {
    const std::uint64_t all = options_.starter->facts().our_bounding_set & ((2ULL << options_.starter->facts().last_capability) - 1);
    body.process.capabilities.bounding = all;
    body.process.capabilities.permitted = all;
    body.process.capabilities.effective = request.process.user.uid == 0 ? all : 0;
  }
  body.with_stdin = request.with_stdin;
  body.timeout_ms = request.timeout_ms;
  std::vector<int> fds;
  if (request.attached) {
    body.has_client = true;
    body.client = to_body(*request.attached);
    fds.push_back(request.attached->client.get());
  }
  auto reply = ask_monitor(id, MessageKind::exec, body, fds);
  std::lock_guard lock(mutex_);
  auto found = containers_.find(id);
  if (!reply.status && reply.status.error().kind() == ErrorKind::not_found && found == containers_.end()) return not_running(id);
  if (!reply.status) return std::move(reply.status).error();
  if (found != containers_.end()) found->second->execs[request.exec_id] = reply.answer.pid;
  return pid_t{reply.answer.pid};
}

Status OciRuntime::resize(const std::string& id, const std::string& exec_id, ConsoleSize size) {
  ResizeBody body;
  body.exec_id = exec_id;
  body.rows = size.height;
  body.columns = size.width;
  return ask_monitor(id, MessageKind::resize, body, {}).status;
}

Result<Stats> OciRuntime::stats(const std::string& id) {
  auto cgroup = TRY_PLAIN(cgroup_of(id));
  auto raw = TRY(cgroup.stats(), concat("container ", id));
  Stats out;
  out.read_at = now_ns();
  out.cpu_total_ns = raw.cpu_usage_ns;
  out.cpu_user_ns = raw.cpu_user_ns;
  out.cpu_system_ns = raw.cpu_system_ns;
  out.per_cpu_ns = std::move(raw.cpu_per_cpu_ns);
  out.periods = raw.cpu_periods;
  out.throttled_periods = raw.cpu_throttled_periods;
  out.throttled_ns = raw.cpu_throttled_ns;
  out.memory_usage_bytes = raw.memory_usage_bytes;
  out.memory_max_usage_bytes = raw.memory_peak_bytes;
  out.memory_limit_bytes = std::min(raw.memory_limit_bytes, memory_total_);
  out.memory_stat = std::move(raw.memory_stat);
  out.pids = raw.pids_current;
  out.pids_limit = raw.pids_limit == UINT64_MAX ? 0 : raw.pids_limit;
  for (const auto& device : raw.io) {
    out.block_read_bytes += device.read_bytes;
    out.block_write_bytes += device.write_bytes;
  }
  out.oom_kills = raw.oom_kills;
  return out;
}

Status OciRuntime::remove(const std::string& id, const std::string& run_dir, const std::string& cgroups_path) {
  {
    std::unique_lock lock(mutex_);
    auto found = containers_.find(id);
    if (found != containers_.end()) {
      if (found->second->running) return Error(ErrorKind::conflict, concat("container ", id, " is still running"));
      auto container = found->second;
      if (container->control) {
        ExitBody nothing;
        ignore(send_body(container->control.get(), MessageKind::exit_recorded, 0, nothing));
        forget_connection(*container);
      }
      containers_.erase(id);
    }
  }
  if (!cgroups_path.empty()) {
    auto cgroup = TRY(linux::Cgroup::open(layout_, cgroups_path), concat("container ", id));
    constexpr int dying_ms = 500;
    auto removed = cgroup.remove(dying_ms);
    if (!removed && removed.error().kind() == ErrorKind::conflict) {
      // What still runs in it has nobody who would tell of its end: of a container without a PID namespace of its own, or of a start that was cut short.
      TRY(cgroup.kill_all(), concat("container ", id));
      removed = cgroup.remove();
    }
    TRY(std::move(removed), concat("container ", id));
  }
  auto folder = linux::open(run_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!folder) {
    if (folder.error().kind() == ErrorKind::not_found) return {};
    return std::move(folder).error().in(concat("container ", id));
  }
  TRY(linux::remove_children(folder->get()), concat("container ", id));
  return {};
}

}  // namespace detail

}  // namespace caisson::runtime

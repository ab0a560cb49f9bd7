// Spawning: the plan is laid out here, in the parent; the child only carries it out (spawn_child.cpp).
#include "linux/spawn.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <set>

#include "linux/child.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/spawn_child.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::ChildPlan;
using detail::ChildReport;
using detail::ChildStep;

namespace {

/// A plan with the arrays of pointers that it points to.
struct OwnedPlan {
  ChildPlan plan;
  std::vector<const char*> argv;
  std::vector<const char*> envp;
};

bool has_nul(const std::string& text) { return text.find('\0') != std::string::npos; }

Status check_texts(const ProcessRequest& request) {
  if (request.argv.empty()) return Error(ErrorKind::invalid, concat("start ", request.path, ": argv is empty"), EINVAL);
  if (request.exe_fd < 0 && !request.path.starts_with('/'))
    return Error(ErrorKind::invalid, concat("start \"", request.path, "\": the path is not absolute"), EINVAL);
  const bool broken = has_nul(request.path) || has_nul(request.cwd) ||
                      std::any_of(request.argv.begin(), request.argv.end(), has_nul) ||
                      std::any_of(request.env.begin(), request.env.end(), has_nul);
  if (broken) return Error(ErrorKind::invalid, concat("start ", request.path, ": a text contains a NUL character"), EINVAL);
  return {};
}

Status fill_descriptors(const ProcessRequest& request, ChildPlan& plan) {
  std::set<int> targets;
  plan.fds = request.fds;
  for (const FdMapping& mapping : request.fds) {
    if (mapping.target < 0 || mapping.source < 0 || !targets.insert(mapping.target).second)
      return Error(ErrorKind::invalid,
                   concat("start ", request.path, ": descriptor ", mapping.source, " cannot be number ", mapping.target), EBADF);
  }
  for (const int standard : {0, 1, 2})
    if (targets.insert(standard).second) plan.fds.push_back({-1, standard});
  plan.moved.resize(plan.fds.size(), -1);
  plan.lowest_free = *targets.rbegin() + 1;
  return {};
}

/// `out` must not move afterwards; `request` must outlive it.
Status lay_out(const ProcessRequest& request, OwnedPlan& out) {
  TRY_PLAIN(check_texts(request));
  for (const std::string& text : request.argv) out.argv.push_back(text.c_str());
  for (const std::string& text : request.env) out.envp.push_back(text.c_str());
  out.argv.push_back(nullptr);
  out.envp.push_back(nullptr);
  out.plan.path = request.path.c_str();
  out.plan.exe_fd = request.exe_fd;
  out.plan.argv = out.argv.data();
  out.plan.envp = out.envp.data();
  out.plan.cwd = request.cwd.empty() ? nullptr : request.cwd.c_str();
  out.plan.new_session = request.new_session;
  out.plan.parent_death_signal = request.parent_death_signal;
  return fill_descriptors(request, out.plan);
}

Error report_error(const ChildReport& report, const ProcessRequest& request) {
  std::string step = concat("start ", request.path.empty() && !request.argv.empty() ? request.argv[0] : request.path);
  if (report.step != ChildStep::exec) step += concat(": ", detail::step_name(report.step));
  if (report.step == ChildStep::working_directory) step += concat(' ', request.cwd);
  return Error::from_errno(report.error_number, step);
}

struct VforkCall {
  ChildPlan* plan;
  ChildReport report;
};

int vfork_child(void* argument) {
  auto* call = static_cast<VforkCall*>(argument);
  call->report = detail::run_child(*call->plan);  // our memory is the parent's: this is how it learns
  raw::exit(127);
}

constexpr std::size_t child_stack_bytes = 131072;

}  // namespace

Result<ChildProcess> spawn_process(const ProcessRequest& request) {
  OwnedPlan owned;
  TRY_PLAIN(lay_out(request, owned));
  const auto stack = std::make_unique<char[]>(child_stack_bytes);
  VforkCall call{&owned.plan, {}};
  int pidfd = -1;
  // No handler of ours may run in the child; it sets an empty mask itself.
  const auto blocked = TRY_PLAIN(BlockedSignals::create(SignalSet::all()));
  ChildProcess child;
  child.pid = TRY(detail::value<int>("clone",
                                     [&] {
                                       return detail::clone_sharing_memory(vfork_child, stack.get() + child_stack_bytes - 64, CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &call, &pidfd);
                                     }),
                  concat("start ", request.path));
  child.pidfd.reset(pidfd);
  if (call.report.step == ChildStep::none) return child;
  ignore(wait_pidfd(child.pidfd.get()));  // it has exited; its report is the error
  return report_error(call.report, request);
}

namespace {

Status lay_out_sandbox(const SpawnRequest& request, ChildPlan& plan, UniqueFd& landlock) {
  const CapabilityState own = TRY_PLAIN(capget());
  const bool own_user_namespace = !request.id_map.empty();
  plan.sandboxed = true;
  plan.cgroup_procs_fds = request.cgroup_procs_fds;
  plan.new_cgroup_namespace = request.namespaces.cgroup;
  plan.private_mounts = request.namespaces.mount;
  plan.mount_proc = request.mount_proc;
  if (request.mount_proc && !(request.namespaces.mount && request.namespaces.pid))
    return Error(ErrorKind::invalid, "a fresh /proc needs a new mount and a new pid namespace", EINVAL);
  plan.change_ids = own_user_namespace || own.effective.contains(CAP_SETUID);
  plan.uid = request.uid;
  plan.gid = request.gid;
  plan.limit_bounding = own_user_namespace || own.effective.contains(CAP_SETPCAP);
  plan.last_capability = TRY_PLAIN(last_capability());
  plan.capabilities = request.capabilities;
  plan.no_new_privileges = request.no_new_privileges;
  plan.seccomp = request.seccomp;
  if (plan.seccomp.size() > 4096) return Error(ErrorKind::invalid, "the seccomp program is longer than 4096 instructions", EINVAL);
  for (const ProcessLimit& limit : request.limits) {
    const ResourceLimit have = TRY_PLAIN(get_limit(0, limit.resource));
    plan.limits.push_back({limit.resource, std::min(limit.value, have.hard)});
  }
  if (request.landlock && landlock_abi() > 0) {
    landlock = TRY_PLAIN(create_landlock_ruleset(*request.landlock));
    plan.landlock_fd = landlock.get();
  }
  return {};
}

/// CLONE_NEWCGROUP is missing on purpose: the child unshares it once it is in its cgroup.
std::uint64_t clone_flags(const SpawnRequest& request) {
  std::uint64_t flags = 0;
  if (!request.id_map.empty()) flags |= CLONE_NEWUSER;
  if (request.namespaces.pid) flags |= CLONE_NEWPID;
  if (request.namespaces.mount) flags |= CLONE_NEWNS;
  if (request.namespaces.network) flags |= CLONE_NEWNET;
  if (request.namespaces.ipc) flags |= CLONE_NEWIPC;
  if (request.namespaces.uts) flags |= CLONE_NEWUTS;
  return flags;
}

/// Whether setgroups may be called in the child's user namespace (user_namespaces(7)).
Result<bool> groups_allowed(const ChildProcess& child, const SpawnRequest& request) {
  if (request.id_map.empty()) {
    const CapabilityState own = TRY_PLAIN(capget());
    return own.effective.contains(CAP_SETGID);
  }
  const std::string text = TRY_PLAIN(read_file(concat("/proc/", child.pid, "/setgroups")));
  return trim(text) == "allow";
}

/// The parent's half after clone: maps, the go-ahead, the report.
Status accompany(const ChildProcess& child, const SpawnRequest& request, UniqueFd& sync, int report_fd) {
  if (!request.id_map.empty()) TRY_PLAIN(write_id_maps(child.pid, request.id_map));
  const bool allowed = TRY_PLAIN(groups_allowed(child, request));
  TRY_PLAIN(write_all(sync.get(), allowed ? "g" : "n"));
  ChildReport report;
  const std::string bytes = TRY_PLAIN(read_all(report_fd, sizeof report));
  if (bytes.empty()) return {};  // closed by exec
  if (bytes.size() != sizeof report) return Error(ErrorKind::internal, "the child's report is cut off");
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(&report));
  return report_error(report, request.process);
}

}  // namespace

Result<ChildProcess> spawn_sandboxed(const SpawnRequest& request) {
  OwnedPlan owned;
  UniqueFd landlock;
  TRY_PLAIN(lay_out(request.process, owned));
  TRY(lay_out_sandbox(request, owned.plan, landlock), concat("start ", request.process.path));
  Pipe sync = TRY_PLAIN(pipe2());
  Pipe report = TRY_PLAIN(pipe2());
  owned.plan.sync_fd = sync.read_end.get();
  owned.plan.sync_write_fd = sync.write_end.get();
  owned.plan.report_fd = report.write_end.get();

  ChildProcess child;
  {
    const auto blocked = TRY_PLAIN(BlockedSignals::create(SignalSet::all()));
    child = TRY(fork_with_pidfd(clone_flags(request), request.cgroup_fd), concat("start ", request.process.path));
    if (child.pid == 0) {
      const ChildReport failed = detail::run_child(owned.plan);
      raw::write_all(owned.plan.report_fd, &failed, sizeof failed);
      raw::exit(127);
    }
  }
  sync.read_end.reset();
  report.write_end.reset();
  auto accompanied = accompany(child, request, sync.write_end, report.read_end.get());
  if (!accompanied) {
    kill_and_reap(child.pidfd.get());
    const std::string step = concat("start ", request.process.path);
    if (accompanied.error().text().starts_with(step)) return std::move(accompanied).error();
    return std::move(accompanied).error().in(step);
  }
  return child;
}

}  // namespace caisson::linux

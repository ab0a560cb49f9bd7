// The stage: a process that borrows our memory for a moment, enters namespaces and clones the container's process there.
#include "runtime/launch_stage.hpp"

#include <algorithm>
#include <cerrno>

#include "linux/child.hpp"
#include "linux/child_clone.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"

namespace caisson::runtime::detail {

namespace {

namespace raw = linux::raw;

int fail_stage(Stage& stage, ChildStep step, std::uint32_t index, int error_number) {
  stage.failure = {ChildMessageKind::failed, step, index, error_number};
  return 1;
}

/// What must be done with the host's rights and is inherited by the child.
int set_inherited(Stage& stage) {
  const ProcessPlan& process = *stage.setup->process;
  if (process.set_oom_score) {
    const std::string text = concat(process.oom_score_adj);
    const int written = raw::write_kernel_file(AT_FDCWD, "/proc/self/oom_score_adj", text.data(), text.size());
    if (written < 0) return fail_stage(stage, ChildStep::stage_oom_score, 0, -written);
  }
  for (std::size_t i = 0; i < process.rlimits.size(); ++i) {
    if (!process.rlimits[i].raises_hard) continue;
    struct ::rlimit value {};
    value.rlim_cur = process.rlimits[i].hard;
    value.rlim_max = process.rlimits[i].hard;
    const int set = raw::prlimit(0, static_cast<int>(process.rlimits[i].resource), &value);
    if (set < 0) return fail_stage(stage, ChildStep::stage_rlimit, static_cast<std::uint32_t>(i), -set);
  }
  const auto& cpus = process.policy.initial_cpus;
  if (stage.is_exec && !cpus.empty()) {
    const int set = raw::sched_setaffinity(0, cpus.data(), cpus.size() * sizeof cpus[0]);
    if (set < 0) return fail_stage(stage, ChildStep::stage_affinity, 0, -set);
  }
  return 0;
}

/// The offsets of a time namespace are written before its first process exists (time_namespaces(7)), so it is unshared here; what
/// is cloned next is born in it. `file` was opened with the host's rights, while /proc was the host's.
int make_time_namespace(Stage& stage, int file) {
  const int made = raw::unshare(CLONE_NEWTIME);
  if (made < 0) return fail_stage(stage, ChildStep::stage_time_offsets, 0, -made);
  const int written = raw::write_all(file, stage.time_offsets.data(), stage.time_offsets.size());
  if (written < 0) return fail_stage(stage, ChildStep::stage_time_offsets, 0, -written);
  return 0;
}

/// Everything but the user namespace first, with the host's rights: a namespace of another owner could not be joined from
/// inside. What the host's rights do not reach (we are unprivileged) is tried again from inside.
int join_namespaces(Stage& stage) {
  for (int round = 0; round < 2; ++round) {
    for (auto& join : stage.joins) {
      if (join.done) continue;
      const int joined = raw::setns(join.fd, join.flags);
      const bool is_user = (join.flags & CLONE_NEWUSER) != 0;
      if (joined < 0 && (round == 1 || is_user || joined != -EPERM))
        return fail_stage(stage, ChildStep::stage_join, join.index, -joined);
      join.done = joined == 0;
    }
  }
  return 0;
}

/// `parent_flags`: CLONE_PARENT from the stage, whose parent the child gets together with its exit signal; else 0.
int clone_child(Stage& stage, std::uint64_t parent_flags) {
  struct ::clone_args args {};
  args.flags = stage.clone_flags | parent_flags | CLONE_PIDFD;
  args.exit_signal = parent_flags == 0 ? SIGCHLD : 0;
  args.pidfd = reinterpret_cast<std::uintptr_t>(&stage.pidfd);
  if (stage.cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<unsigned int>(stage.cgroup_fd);
  }
  // Nobody may look into the child before it is the program (CVE-2016-9962); an ordinary user had to be dumpable until now.
  if (stage.is_dumpable) {
    const int hidden = raw::prctl(PR_SET_DUMPABLE, 0);
    if (hidden < 0) return fail_stage(stage, ChildStep::stage_clone, 0, -hidden);
  }
  const int pid = raw::clone3(&args, sizeof args);
  if (pid == 0) {
    if (stage.is_exec) run_exec_child(*stage.setup);
    run_container_child(*stage.setup);
  }
  if (pid < 0) return fail_stage(stage, ChildStep::stage_clone, 0, -pid);
  stage.pid = pid;
  return 0;
}

/// An ordinary user has CAP_SYS_ADMIN only over what belongs to the user namespace, so first come mounts that do. The child is born
/// among them: nobody else has them, and they need not be copied again.
int prepare_inside(Stage& stage) {
  const int made = raw::unshare(CLONE_NEWNS);
  if (made < 0) return fail_stage(stage, ChildStep::isolate_mounts, 0, -made);
  stage.clone_flags &= ~std::uint64_t{CLONE_NEWNS};
  auto prepared = stage.prepare();
  if (prepared) return 0;
  stage.error = std::move(prepared).error();
  return 1;
}

int run_launch_stage(void* argument) {
  auto& stage = *static_cast<Stage*>(argument);
  int offsets = -1;
  if (!stage.time_offsets.empty()) {
    offsets = raw::openat(AT_FDCWD, "/proc/self/timens_offsets", O_WRONLY, 0);
    if (offsets < 0) return fail_stage(stage, ChildStep::stage_time_offsets, 0, -offsets);
  }
  const UniqueFd offsets_file(offsets);  // our descriptors are the parent's
  if (set_inherited(stage) != 0 || join_namespaces(stage) != 0) return 1;
  if (offsets >= 0 && make_time_namespace(stage, offsets) != 0) return 1;
  if (stage.prepare && prepare_inside(stage) != 0) return 1;
  return clone_child(stage, CLONE_PARENT);
}

/// A child that inherits nothing but what we are ourselves needs no stage (one clone and one wait less).
bool needs_stage(const Stage& stage) {
  const ProcessPlan& process = *stage.setup->process;
  return !stage.joins.empty() || !stage.time_offsets.empty() || process.set_oom_score || (stage.is_exec && !process.policy.initial_cpus.empty()) ||
         std::any_of(process.rlimits.begin(), process.rlimits.end(), [](const PlanRlimit& limit) { return limit.raises_hard; });
}

/// We ourselves are in a time namespace while this lives, and what we clone is born there. The stage cannot enter one: it shares
/// our memory, and the kernel wants the memory's only user (time_namespaces(7); EUSERS).
class TimeNamespaceVisit {
 public:
  /// `fd` -1: no visit. Errors: denied, unavailable.
  static Result<TimeNamespaceVisit> begin(int fd) {
    if (fd < 0) return TimeNamespaceVisit(UniqueFd());
    auto own = TRY(linux::open_namespace(0, "time"), "our time namespace");
    TRY(linux::setns(fd, CLONE_NEWTIME), "joining the time namespace");
    return TimeNamespaceVisit(std::move(own));
  }
  TimeNamespaceVisit(TimeNamespaceVisit&&) noexcept = default;
  TimeNamespaceVisit& operator=(TimeNamespaceVisit&&) = delete;
  ~TimeNamespaceVisit() {
    if (own_) ignore(linux::setns(own_.get(), CLONE_NEWTIME));  // back to where we had the right to come from
  }

 private:
  explicit TimeNamespaceVisit(UniqueFd own) : own_(std::move(own)) {}
  UniqueFd own_;
};

}  // namespace

Result<Launching> run_stage(Stage& stage, const LaunchPlan* plan) {
  auto visit = TimeNamespaceVisit::begin(stage.time_namespace);
  if (!visit) {
    if (visit.error().error_number() != EPERM) return std::move(visit).error();
    stage.setup->time_namespace_fd = stage.time_namespace;  // the child's rights in its own user namespace may do
  }
  auto pair = TRY(linux::socketpair(linux::UnixType::seqpacket), "start");
  stage.setup->sync_fd = pair.second.get();
  if (needs_stage(stage)) {
    const int pid = raw::run_stage(run_launch_stage, &stage, 0);
    if (pid < 0) return Error::from_errno(-pid, "clone of the stage");
    (void)raw::reap(pid);
  } else {
    (void)clone_child(stage, 0);  // a failure stands in the stage
  }
  Launching launching;
  launching.pid = stage.pid;
  launching.pidfd.reset(stage.pidfd);
  launching.sync = std::move(pair.first);
  if (stage.error) return std::move(*stage.error);
  if (stage.pid < 0) return describe_failure(stage.failure, *stage.setup->process, plan);
  return launching;
}

}  // namespace caisson::runtime::detail

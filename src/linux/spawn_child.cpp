// The child's way from clone to exec: raw calls only, in an order where each step still has the rights it needs.
#include "linux/spawn_child.hpp"

#include <linux/prctl.h>
#include <linux/seccomp.h>

#include <cerrno>

#include "linux/child.hpp"

namespace caisson::linux::detail {

std::string_view step_name(ChildStep step) {
  switch (step) {
    case ChildStep::none: return "start";
    case ChildStep::wait_for_parent: return "wait for the id maps";
    case ChildStep::join_cgroup: return "join the cgroup";
    case ChildStep::private_mounts: return "make mounts private";
    case ChildStep::mount_proc: return "mount /proc";
    case ChildStep::new_session: return "start a session";
    case ChildStep::descriptors: return "arrange file descriptors";
    case ChildStep::working_directory: return "enter the working directory";
    case ChildStep::limits: return "set resource limits";
    case ChildStep::bounding_set: return "drop capabilities from the bounding set";
    case ChildStep::groups: return "clear supplementary groups";
    case ChildStep::group_id: return "set the group id";
    case ChildStep::user_id: return "set the user id";
    case ChildStep::capabilities: return "set capabilities";
    case ChildStep::parent_death_signal: return "set the parent death signal";
    case ChildStep::no_new_privileges: return "set no_new_privs";
    case ChildStep::landlock: return "restrict by landlock";
    case ChildStep::signals: return "reset signals";
    case ChildStep::seccomp: return "load the seccomp filter";
    case ChildStep::exec: return "exec";
  }
  return "start";
}

namespace {

/// Every source first moves above all targets, so that no dup3 can overwrite a source that is still needed.
int arrange_descriptors(ChildPlan& plan) noexcept {
  for (std::size_t i = 0; i < plan.fds.size(); ++i) {
    int source = plan.fds[i].source;
    if (source < 0) source = raw::openat(AT_FDCWD, "/dev/null", O_RDWR, 0);
    if (source < 0) return source;
    plan.moved[i] = raw::dup_at_least(source, plan.lowest_free);
    if (plan.moved[i] < 0) return plan.moved[i];
  }
  // The ones we still need ourselves move up too, if a target wants their number.
  for (int* own : {&plan.sync_fd, &plan.report_fd, &plan.landlock_fd, &plan.exe_fd}) {
    if (*own < 0 || *own >= plan.lowest_free) continue;
    *own = raw::dup_at_least(*own, plan.lowest_free);
    if (*own < 0) return *own;
  }
  // Everything that whoever started us had open without close-on-exec goes at exec.
  const int marked = raw::close_range(3, ~0U, 1U << 2U /* CLOSE_RANGE_CLOEXEC */);
  if (marked < 0) return marked;
  for (std::size_t i = 0; i < plan.fds.size(); ++i) {
    const int done = raw::dup3(plan.moved[i], plan.fds[i].target, 0);
    if (done < 0) return done;
  }
  return 0;
}

int join_cgroups(const ChildPlan& plan) noexcept {
  for (const int fd : plan.cgroup_procs_fds) {
    const long written = raw::write(fd, "0", 1);
    if (written < 0) return static_cast<int>(written);
  }
  // After joining, so that the new namespace's root is the cgroup we are in.
  return plan.new_cgroup_namespace ? raw::unshare(CLONE_NEWCGROUP) : 0;
}

int mount_proc() noexcept {
  const int context = raw::fsopen("proc");
  if (context < 0) return context;
  const int created = raw::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
  if (created < 0) return created;
  const int mounted = raw::fsmount(context, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  if (mounted < 0) return mounted;
  raw::close(context);
  const int moved = raw::move_mount(mounted, "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH);
  raw::close(mounted);
  return moved;
}

int set_limits(const ChildPlan& plan) noexcept {
  for (const ChildLimit& limit : plan.limits) {
    struct ::rlimit native {};
    native.rlim_cur = limit.value;
    native.rlim_max = limit.value;
    const int done = raw::prlimit(0, limit.resource, &native);
    if (done < 0) return done;
  }
  return 0;
}

/// Ids first, with the capabilities kept across the change; then exactly the asked set. Ambient ones survive exec for
/// a user other than 0; for 0 the bounding set decides.
ChildReport take_identity(const ChildPlan& plan, bool may_set_groups) noexcept {
  int done = 0;
  if (plan.limit_bounding && (done = raw::limit_bounding(plan.capabilities, plan.last_capability)) < 0)
    return {ChildStep::bounding_set, -done};
  if (plan.change_ids) {
    if (plan.capabilities.bits != 0 && (done = raw::prctl(PR_SET_KEEPCAPS, 1)) < 0) return {ChildStep::capabilities, -done};
    if (may_set_groups && (done = raw::setgroups(nullptr, 0)) < 0) return {ChildStep::groups, -done};
    if ((done = raw::setresgid(plan.gid, plan.gid, plan.gid)) < 0) return {ChildStep::group_id, -done};
    if ((done = raw::setresuid(plan.uid, plan.uid, plan.uid)) < 0) return {ChildStep::user_id, -done};
  }
  CapabilityState state;
  state.effective = plan.capabilities;
  state.permitted = plan.capabilities;
  state.inheritable = plan.capabilities;
  if ((done = raw::clear_ambient()) < 0) return {ChildStep::capabilities, -done};
  if ((done = raw::capset(state)) < 0) return {ChildStep::capabilities, -done};
  if ((done = raw::raise_ambient(plan.capabilities, plan.last_capability)) < 0) return {ChildStep::capabilities, -done};
  return {};
}

/// The part before descriptors and directory: what needs the rights of the beginning.
ChildReport enter_sandbox(ChildPlan& plan, bool& may_set_groups) noexcept {
  int done = 0;
  raw::close(plan.sync_write_fd);  // else our own copy would hide the parent's death from the read below
  char byte = 0;
  const long got = raw::read(plan.sync_fd, &byte, 1);
  if (got <= 0) return {ChildStep::wait_for_parent, got == 0 ? EPIPE : static_cast<std::int32_t>(-got)};
  may_set_groups = byte == 'g';
  if ((done = join_cgroups(plan)) < 0) return {ChildStep::join_cgroup, -done};
  if (plan.private_mounts && (done = raw::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr)) < 0)
    return {ChildStep::private_mounts, -done};
  if (plan.mount_proc && (done = mount_proc()) < 0) return {ChildStep::mount_proc, -done};
  return {};
}

ChildReport restrict_self(const ChildPlan& plan) noexcept {
  int done = 0;
  if (plan.no_new_privileges && (done = raw::prctl(PR_SET_NO_NEW_PRIVS, 1)) < 0) return {ChildStep::no_new_privileges, -done};
  if (plan.landlock_fd >= 0 && (done = raw::landlock_restrict_self(plan.landlock_fd)) < 0) return {ChildStep::landlock, -done};
  return {};
}

}  // namespace

ChildReport run_child(ChildPlan& plan) noexcept {
  int done = 0;
  bool may_set_groups = false;
  // Set twice: now for the time until the ids change, and again after, because changing them clears it (prctl(2)).
  if (plan.parent_death_signal != 0 &&
      (done = raw::prctl(PR_SET_PDEATHSIG, static_cast<unsigned long>(plan.parent_death_signal))) < 0)
    return {ChildStep::parent_death_signal, -done};
  if (plan.sandboxed) {
    const ChildReport entered = enter_sandbox(plan, may_set_groups);
    if (entered.step != ChildStep::none) return entered;
  }
  if (plan.new_session && (done = raw::setsid()) < 0) return {ChildStep::new_session, -done};
  if ((done = arrange_descriptors(plan)) < 0) return {ChildStep::descriptors, -done};
  if (plan.cwd != nullptr && (done = raw::chdir(plan.cwd)) < 0) return {ChildStep::working_directory, -done};
  if ((done = set_limits(plan)) < 0) return {ChildStep::limits, -done};
  if (plan.sandboxed) {
    const ChildReport taken = take_identity(plan, may_set_groups);
    if (taken.step != ChildStep::none) return taken;
    const ChildReport restricted = restrict_self(plan);
    if (restricted.step != ChildStep::none) return restricted;
  }
  if (plan.parent_death_signal != 0 &&
      (done = raw::prctl(PR_SET_PDEATHSIG, static_cast<unsigned long>(plan.parent_death_signal))) < 0)
    return {ChildStep::parent_death_signal, -done};
  if ((done = raw::reset_signals()) < 0) return {ChildStep::signals, -done};
  if (!plan.seccomp.empty() &&
      (done = raw::seccomp_filter(plan.seccomp.data(), static_cast<std::uint16_t>(plan.seccomp.size()), 0)) < 0)
    return {ChildStep::seccomp, -done};
  if (plan.exe_fd >= 0) done = raw::execveat(plan.exe_fd, "", plan.argv, plan.envp, AT_EMPTY_PATH);
  else done = raw::execve(plan.path, plan.argv, plan.envp);
  return {ChildStep::exec, -done};
}

}  // namespace caisson::linux::detail

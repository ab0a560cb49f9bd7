// The order of the child's steps. README.md of this folder gives the reason for the order.
#include "runtime/child.hpp"

#include <cerrno>
#include <cstring>

#include "linux/child.hpp"
#include "linux/child_clone.hpp"

namespace caisson::runtime {

namespace raw = linux::raw;

namespace detail {

void child_fail(const ChildSetup& setup, ChildStep step, std::uint32_t index, int error_number) noexcept {
  ChildMessage message;
  message.kind = ChildMessageKind::failed;
  message.step = step;
  message.index = index;
  message.error_number = error_number;
  // When even this fails, the parent sees the process end and says so.
  (void)raw::send_message(setup.sync_fd, &message, sizeof message, nullptr, 0);
  raw::exit(1);
}

void child_check(const ChildSetup& setup, int result, ChildStep step, std::uint32_t index) noexcept {
  if (result < 0) child_fail(setup, step, index, -result);
}

}  // namespace detail

namespace {

using detail::child_check;
using detail::child_fail;

constexpr int signal_kill = 9;

/// Tells the parent how far we are and stands still until it has done its part.
void ask_parent(const ChildSetup& setup, ChildMessageKind kind) noexcept {
  ChildMessage message;
  message.kind = kind;
  child_check(setup, raw::send_message(setup.sync_fd, &message, sizeof message, nullptr, 0), ChildStep::wait_for_parent);
  char answer = 0;
  if (raw::read(setup.sync_fd, &answer, 1) != 1) raw::exit(1);  // the parent gave up; it knows why
}

/// The cgroup first, by descriptors opened outside: nothing may be charged to others, and a scheduling class counts there.
void enter_cgroup(const ChildSetup& setup) noexcept {
  for (std::size_t i = 0; i < setup.cgroup_procs_fds.size(); ++i)
    child_check(setup, raw::write_all(setup.cgroup_procs_fds[i], "0", 1), ChildStep::join_cgroup, static_cast<std::uint32_t>(i));
  const ProcessPolicy& policy = setup.process->policy;
  // At once: whoever is realtime in this cgroup already could starve us.
  if (policy.needs_host()) ask_parent(setup, ChildMessageKind::joined);
  if (!policy.final_cpus.empty() && setup.launch == nullptr)
    child_check(setup, raw::sched_setaffinity(0, policy.final_cpus.data(), policy.final_cpus.size() * sizeof(std::uint64_t)),
                ChildStep::final_affinity);
}

/// Born as the host's root inside the container's namespaces: first into the cgroup, then into the skin of the container's root,
/// for only that one owns files the container may touch.
void enter(const ChildSetup& setup) noexcept {
  if (setup.time_namespace_fd >= 0) child_check(setup, raw::setns(setup.time_namespace_fd, CLONE_NEWTIME), ChildStep::time_namespace);
  enter_cgroup(setup);
  if (setup.in_user_namespace) {
    // Host groups must not be carried in. EPERM where the namespace denies setgroups: there the groups are our own anyway.
    const int groups = setup.process->policy.keep_groups ? 0 : raw::setgroups(nullptr, 0);
    if (groups < 0 && groups != -EPERM) child_fail(setup, ChildStep::become_root, 0, -groups);
    child_check(setup, raw::setresgid(0, 0, 0), ChildStep::become_root);
    child_check(setup, raw::setresuid(0, 0, 0), ChildStep::become_root);
  }
  // Nobody would know of a half-made container whose parent died. Cleared again before exec.
  child_check(setup, raw::prctl(PR_SET_PDEATHSIG, signal_kill), ChildStep::parent_death_signal);
  (void)raw::clear_signal_mask();
  child_check(setup, raw::setsid(), ChildStep::new_session);
  if (setup.process->new_session_keyring) {
    const int keyring = raw::join_new_session_keyring();
    // No keyrings in this kernel, or the host's key quota is used up: there is none to share either (peers go on as well).
    if (keyring < 0 && keyring != -ENOSYS && keyring != -EDQUOT && keyring != -EPERM && keyring != -EACCES)
      child_fail(setup, ChildStep::session_keyring, 0, -keyring);
  }
}

void enter_root(const ChildSetup& setup) noexcept {
  const LaunchPlan& plan = *setup.launch;
  if (plan.root_readonly)
    child_check(setup, raw::mount_setattr(setup.root_fd, "", AT_EMPTY_PATH, MOUNT_ATTR_RDONLY, 0, 0, -1), ChildStep::readonly_root);
  child_check(setup, raw::fchdir(setup.root_fd), ChildStep::pivot);
  if (plan.no_pivot) {
    child_check(setup, raw::mount(".", "/", nullptr, MS_MOVE, nullptr), ChildStep::pivot);
    child_check(setup, raw::chroot("."), ChildStep::pivot);
  } else {
    // pivot_root(2), NOTES: with "." for both, the old root ends up on top of the new one and can be detached there.
    child_check(setup, raw::pivot_root(".", "."), ChildStep::pivot);
    child_check(setup, raw::umount2(".", MNT_DETACH), ChildStep::pivot);
  }
  child_check(setup, raw::chdir("/"), ChildStep::pivot);
  if (plan.root_propagation != MS_PRIVATE) {
    const unsigned int flags = plan.root_propagation_recursive ? AT_RECURSIVE : 0;
    child_check(setup, raw::mount_setattr(AT_FDCWD, "/", flags, 0, 0, plan.root_propagation, -1), ChildStep::root_propagation);
  }
}

/// Over "/", where no path is looked up any more. With hooks over its own folder instead: who joins the namespace before
/// pivot_root must still find the host's paths (runtime-spec: createContainer hooks resolve in the runtime's namespace).
void attach_root(const ChildSetup& setup) noexcept {
  const LaunchPlan& plan = *setup.launch;
  if (setup.wait_after_mounts && !plan.overlay &&
      raw::move_mount(setup.root_fd, "", AT_FDCWD, plan.root_path.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0)
    return;
  child_check(setup, raw::move_mount(setup.root_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), ChildStep::attach_root);
}

/// A procfs of our own, attached nowhere: what is mounted on the container's /proc cannot lead these writes astray
/// (CVE-2019-16884, CVE-2025-52881).
int own_proc() noexcept {
  const int context = raw::fsopen("proc");
  if (context < 0) return context;
  const int created = raw::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
  // The host's pid namespace from a user namespace of one's own: no new procfs of it may be made (user_namespaces(7)). The root is still
  // the host's here, so its procfs is as little in the container's hands.
  if (created == -EPERM) return raw::openat2(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS, 0);
  if (created < 0) return created;
  return raw::fsmount(context, 0);
}

void write_sysctls(const ChildSetup& setup, int proc) noexcept {
  const auto& sysctls = setup.launch->sysctls;
  for (std::size_t i = 0; i < sysctls.size(); ++i) {
    const auto index = static_cast<std::uint32_t>(i);
    const int folder = raw::openat2(proc, "sys", O_PATH | O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS, 0);
    child_check(setup, folder, ChildStep::sysctl, index);
    const int file =
        raw::openat2(folder, sysctls[i].path.c_str(), O_WRONLY, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS, 0);
    child_check(setup, file, ChildStep::sysctl, index);
    child_check(setup, raw::write_all(file, sysctls[i].value.data(), sysctls[i].value.size()), ChildStep::sysctl, index);
  }
}

/// Labels take effect at the next exec.
void write_label(const ChildSetup& setup, int proc, const char* path, const char* prefix, const std::string& label,
                 ChildStep step) noexcept {
  char text[1024];
  const std::size_t prefix_size = std::strlen(prefix);
  if (prefix_size + label.size() >= sizeof text) child_fail(setup, step, 0, ENAMETOOLONG);
  std::memcpy(text, prefix, prefix_size);
  std::memcpy(text + prefix_size, label.data(), label.size());
  const int file = raw::openat2(proc, path, O_WRONLY, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS, 0);
  child_check(setup, file, step);
  child_check(setup, raw::write_all(file, text, prefix_size + label.size()), step);
}

void write_labels(const ChildSetup& setup, int proc) noexcept {
  if (!setup.process->apparmor_profile.empty())
    write_label(setup, proc, "thread-self/attr/apparmor/exec", "exec ", setup.process->apparmor_profile, ChildStep::apparmor);
  if (!setup.process->selinux_label.empty())
    write_label(setup, proc, "thread-self/attr/exec", "", setup.process->selinux_label, ChildStep::selinux);
}

void join_cgroup_namespace(const ChildSetup& setup) noexcept {
  if (setup.cgroup_namespace_fd >= 0)
    child_check(setup, raw::setns(setup.cgroup_namespace_fd, CLONE_NEWCGROUP), ChildStep::cgroup_namespace);
}

bool has_labels(const ProcessPlan& process) { return !process.apparmor_profile.empty() || !process.selinux_label.empty(); }

}  // namespace

void run_container_child(ChildSetup& setup) noexcept {
  const LaunchPlan& plan = *setup.launch;
  enter(setup);
  // After the cgroup was joined: a cgroup namespace's root is where its maker stands.
  if (plan.new_cgroup_namespace) child_check(setup, raw::unshare(CLONE_NEWCGROUP), ChildStep::cgroup_namespace);
  join_cgroup_namespace(setup);
  if (setup.delegated_procs_fd >= 0) child_check(setup, raw::write_all(setup.delegated_procs_fd, "0", 1), ChildStep::delegate_cgroup);
  // Modes in the plan are exact.
  (void)raw::umask(0);
  child_check(setup, raw::mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, 0, 0, MS_SLAVE, -1), ChildStep::isolate_mounts);
  attach_root(setup);
  detail::child_mount_all(setup);
  detail::child_make_devices(setup);
  if (plan.process.terminal) {
    const int devpts =
        raw::openat2(setup.root_fd, "dev/pts", O_PATH | O_DIRECTORY, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS, 0);
    child_check(setup, devpts, ChildStep::console);
    const int slave = detail::child_open_console(setup, devpts);
    const int clone = raw::open_tree(slave, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
    child_check(setup, clone, ChildStep::console);
    const int target = detail::child_open_target(setup.root_fd, "/dev/console", false, RESOLVE_NO_SYMLINKS);
    child_check(setup, target, ChildStep::console);
    child_check(setup, raw::attach_mount(clone, target), ChildStep::console);
  }
  if (setup.wait_after_mounts) {
    if (setup.open_to_user) child_check(setup, raw::prctl(PR_SET_DUMPABLE, 1), ChildStep::wait_for_parent);
    ask_parent(setup, ChildMessageKind::mounted);
    if (setup.open_to_user) child_check(setup, raw::prctl(PR_SET_DUMPABLE, 0), ChildStep::wait_for_parent);
  }
  detail::child_cover_paths(setup);
  if (!plan.sysctls.empty() || has_labels(plan.process)) {
    const int proc = own_proc();
    child_check(setup, proc, ChildStep::sysctl);
    write_sysctls(setup, proc);
    write_labels(setup, proc);
  }
  enter_root(setup);
  if (!plan.hostname.empty()) child_check(setup, raw::sethostname(plan.hostname.data(), plan.hostname.size()), ChildStep::hostname);
  if (!plan.domainname.empty())
    child_check(setup, raw::setdomainname(plan.domainname.data(), plan.domainname.size()), ChildStep::domainname);
  detail::child_become_program(setup);
}

void run_exec_child(ChildSetup& setup) noexcept {
  enter(setup);
  join_cgroup_namespace(setup);
  (void)raw::umask(0);
  if (setup.process->terminal) {
    // The container may have put anything at /dev/pts: only devpts itself is accepted (child_open_console asks fstatfs).
    const int devpts = raw::openat2(AT_FDCWD, "/dev/pts", O_PATH | O_DIRECTORY, RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS, 0);
    child_check(setup, devpts, ChildStep::console);
    (void)detail::child_open_console(setup, devpts);
  }
  if (has_labels(*setup.process)) {
    const int proc = own_proc();
    child_check(setup, proc, ChildStep::apparmor);
    write_labels(setup, proc);
  }
  detail::child_become_program(setup);
}

}  // namespace caisson::runtime

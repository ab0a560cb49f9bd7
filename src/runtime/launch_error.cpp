// What went wrong in a child, as a sentence. Clients read exit codes out of these words, so those of a failed exec are
// docker's, and no other error may use them.
#include <cerrno>
#include <cstring>

#include "runtime/launch.hpp"

namespace caisson::runtime {

namespace {

/// The kernel's reason in words that are not mistaken for those of a failed exec (126 and 127 are read from them).
std::string reason(int error_number) {
  switch (error_number) {
    case ENOENT: return "path is missing";
    case EACCES: return "access was refused (EACCES)";
    case EPERM: return "the kernel does not permit it (EPERM)";
    case ENOTDIR: return "a part of the path is no folder";
    case ELOOP: return "a symbolic link is in the way (ELOOP)";
    default: break;
  }
  const char* text = strerrordesc_np(error_number);
  return text == nullptr ? concat("error ", error_number) : std::string(text);
}

Error program_error(const ChildMessage& message, const std::string& program) {
  const int number = message.error_number;
  const std::string name = concat("exec: \"", program, "\": ");
  const bool has_slash = program.find('/') != std::string::npos;
  switch (number) {
    case ENOENT:
      if (message.index == 1)  // the file is there, its interpreter or loader is not
        return {ErrorKind::not_found, concat("exec ", program, ": no such file or directory"), number};
      if (!has_slash) return {ErrorKind::not_found, concat(name, "executable file not found in $PATH"), number};
      return {ErrorKind::not_found, concat(name, "stat ", program, ": no such file or directory"), number};
    case ENOTDIR: return {ErrorKind::not_found, concat(name, "stat ", program, ": not a directory"), number};
    case EISDIR: return {ErrorKind::denied, concat(name, "is a directory"), number};
    case EACCES:
    case EPERM: return {ErrorKind::denied, concat(name, "permission denied"), number};
    case ENOEXEC: return {ErrorKind::invalid, concat("exec ", program, ": exec format error"), number};
    default: return Error::from_errno(number, concat("exec: \"", program, "\""));
  }
}

template <typename Item, typename Name>
std::string item_name(const std::vector<Item>& items, std::uint32_t index, Name&& name) {
  return index < items.size() ? std::string(name(items[index])) : std::string("?");
}

std::string mount_name(const LaunchPlan* launch, std::uint32_t index) {
  if (launch == nullptr || index >= launch->mounts.size()) return "mount";
  const auto& mount = launch->mounts[index];
  return concat("mounts[", index, "]: ", mount.type.empty() ? "mount" : mount.type, " on ", mount.destination);
}

std::string step_text(const ChildMessage& message, const ProcessPlan& process, const LaunchPlan* launch) {
  const std::uint32_t index = message.index;
  switch (message.step) {
    case ChildStep::time_namespace: return "joining the time namespace";
    case ChildStep::join_cgroup: return "joining the cgroup";
    case ChildStep::final_affinity: return "process.execCPUAffinity.final";
    case ChildStep::delegate_cgroup: return "entering the delegated cgroup";
    case ChildStep::become_root: return "becoming the container's root";
    case ChildStep::parent_death_signal: return "setting the parent death signal";
    case ChildStep::new_session: return "starting a session";
    case ChildStep::cgroup_namespace: return "the cgroup namespace";
    case ChildStep::session_keyring: return "making a session keyring";
    case ChildStep::isolate_mounts: return "isolating the mount namespace";
    case ChildStep::attach_root: return "attaching the root file system";
    case ChildStep::mount_target: return concat(mount_name(launch, index), ": finding or making the destination");
    case ChildStep::mount_create: return concat(mount_name(launch, index), ": making the file system");
    case ChildStep::mount_option: return concat(mount_name(launch, index), ": setting options");
    case ChildStep::mount_attach: return concat(mount_name(launch, index), ": attaching");
    case ChildStep::mount_attributes: return concat(mount_name(launch, index), ": setting attributes");
    case ChildStep::mount_id_map: return concat(mount_name(launch, index), ": mapping its ids (can this file system be idmapped?)");
    case ChildStep::mount_copy_up: return concat(mount_name(launch, index), ": copying what lies at the destination");
    case ChildStep::mount_link: return concat(mount_name(launch, index), ": making the symbolic link");
    case ChildStep::cgroup_mount: return concat(mount_name(launch, index), ": showing the cgroup");
    case ChildStep::device:
      return concat("device ", launch == nullptr ? "?" : item_name(launch->devices, index, [](const auto& d) { return d.path; }));
    case ChildStep::device_link: return "making the links in /dev";
    case ChildStep::console: return "setting up the terminal";
    case ChildStep::console_send: return "handing over the terminal";
    case ChildStep::masked_path:
      return concat("masking ", launch == nullptr ? "?" : item_name(launch->masked_paths, index, [](const auto& p) { return p; }));
    case ChildStep::readonly_path:
      return concat("making read-only: ",
                    launch == nullptr ? "?" : item_name(launch->readonly_paths, index, [](const auto& p) { return p; }));
    case ChildStep::readonly_root: return "making the root read-only";
    case ChildStep::pivot: return "entering the root (pivot_root)";
    case ChildStep::root_propagation: return "setting the root's propagation";
    case ChildStep::hostname: return "setting the hostname";
    case ChildStep::domainname: return "setting the domain name";
    case ChildStep::sysctl:
      return concat("sysctl ", launch == nullptr ? "?" : item_name(launch->sysctls, index, [](const auto& s) { return s.path; }));
    case ChildStep::apparmor: return concat("AppArmor profile ", process.apparmor_profile);
    case ChildStep::selinux: return concat("SELinux label ", process.selinux_label);
    case ChildStep::no_new_privileges: return "setting no_new_privs";
    case ChildStep::personality: return "linux.personality";
    case ChildStep::memory_policy: return "linux.memoryPolicy";
    case ChildStep::bounding_set: return "limiting the bounding set";
    case ChildStep::keep_capabilities: return "keeping capabilities";
    case ChildStep::groups: return "setting the groups";
    case ChildStep::ids: return concat("becoming user ", process.uid, ":", process.gid);
    case ChildStep::capabilities: return "setting capabilities";
    case ChildStep::ambient: return "setting ambient capabilities";
    case ChildStep::working_directory: return concat("changing to the working directory ", process.cwd);
    case ChildStep::working_directory_outside:
      return concat("the working directory ", process.cwd, " is outside the container's root");
    case ChildStep::standard_streams: return "connecting the standard streams";
    case ChildStep::rlimit:
    case ChildStep::stage_rlimit:
      return concat("rlimit ",
                    item_name(process.rlimits, index, [](const auto& r) { return concat(r.resource, " to ", r.soft, ":", r.hard); }));
    case ChildStep::seccomp: return "loading the seccomp filter";
    case ChildStep::seccomp_listener: return "handing over the seccomp listener";
    case ChildStep::close_descriptors: return "closing descriptors";
    case ChildStep::wait_for_start: return "waiting for start";
    case ChildStep::wait_for_parent: return "waiting for the hooks";
    case ChildStep::stage_oom_score: return concat("oom_score_adj ", process.oom_score_adj);
    case ChildStep::stage_affinity: return "process.execCPUAffinity.initial";
    case ChildStep::stage_time_offsets: return "linux.timeOffsets";
    case ChildStep::stage_join:
      return concat("joining namespace ", launch == nullptr ? "of the container" : item_name(launch->joins, index, [](const auto& j) {
                      return j.path.empty() ? std::string("given by the caller") : j.path;
                    }));
    case ChildStep::stage_clone: return "clone3";
    case ChildStep::exec_init: return "executing the container's init (is caisson-runtime a static binary?)";
    case ChildStep::none:
    case ChildStep::program_lookup:
    case ChildStep::exec: break;
  }
  return "start";
}

}  // namespace

Error not_running_any_more() { return {ErrorKind::conflict, "the container is not running any more", ESRCH}; }

Error describe_failure(const ChildMessage& message, const ProcessPlan& process, const LaunchPlan* launch) {
  if (message.step == ChildStep::exec || message.step == ChildStep::program_lookup)
    return program_error(message, process.args.empty() ? std::string() : process.args.front());
  // There is nobody left whose namespaces could be joined.
  if (message.step == ChildStep::stage_join && launch == nullptr && message.error_number == ESRCH) return not_running_any_more();
  Error error(kind_of_errno(message.error_number), concat(step_text(message, process, launch), ": ", reason(message.error_number)),
              message.error_number);
  const bool limit =
      message.step == ChildStep::rlimit || message.step == ChildStep::stage_rlimit || message.step == ChildStep::stage_oom_score;
  if (limit && message.error_number == EPERM) return std::move(error).with_hint("raising it needs CAP_SYS_RESOURCE on the host");
  if (message.step == ChildStep::seccomp && message.error_number == EINVAL)
    if (auto unknown = linux::seccomp_flags_unknown_here(process.seccomp_flags); !unknown.empty())
      return Error(ErrorKind::unsupported, concat("linux.seccomp.flags: this kernel does not know ", unknown.front()), EINVAL);
  if (message.step == ChildStep::stage_clone && message.error_number == ENOSPC)
    return std::move(error).with_hint("a limit on namespaces is reached: see /proc/sys/user/max_*_namespaces");
  return error;
}

}  // namespace caisson::runtime

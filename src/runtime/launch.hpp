// launch: makes a container's first process, or one more process in it, from a plan. Used by the monitor and by
// `caisson-runtime create`.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/cgroup.hpp"
#include "runtime/child.hpp"
#include "runtime/plan.hpp"

namespace caisson::runtime {

/// What comes beside a plan. All descriptors are borrowed for the call.
struct LaunchInputs {
  int user_namespace = -1;
  int network_namespace = -1;
  int standard_fds[3] = {-1, -1, -1};  ///< without terminal; -1: what we have ourselves
  int exec_fifo = -1;                  ///< opened for reading and writing: the child waits for one byte before it execs
  int init_fd = -1;                    ///< our own binary, needed when the plan uses init
  unsigned int preserve_fds = 0;
  /// We are not the host's root (HostFacts::is_rootless, may_mount). Who may not mount prepares the mounts inside the user namespace,
  /// in the stage.
  bool is_rootless = false;
  bool may_mount = true;
  std::shared_ptr<const linux::CgroupLayout> layout;
  /// Called when everything is mounted and nothing pivoted (hooks); its error ends the launch.
  std::function<Status(pid_t)> on_mounted;
  /// Takes the listener of the process's seccomp filter (borrowed); its error ends the launch.
  std::function<Status(pid_t, int)> on_listener;
  std::string resctrl_root;  ///< empty: where it is mounted
};

/// How an overlay is put together. Probed once per process; CAISSON_OVERLAY=plain in the environment forces the plain way.
enum class OverlayWay : std::uint8_t {
  detached,  ///< layers as descriptors of detached mounts (6.18; EINVAL or EBADF before)
  attached,  ///< layers attached in a private mount namespace and named by short paths (every kernel since 5.12)
};
/// Asks the kernel on its first call in a process and remembers the answer.
OverlayWay overlay_way();

/// A process that exists but may not have become the program yet.
struct Launching {
  pid_t pid = 0;
  UniqueFd pidfd;
  UniqueFd sync;                             ///< our end; the child's messages arrive here, its end is closed by exec
  UniqueFd terminal;                         ///< master of its pty, once it has sent it
  std::optional<linux::Cgroup> cgroup;       ///< made for it (container only)
  std::vector<std::string> resctrl_folders;  ///< made for it; ResctrlGroup::remove takes them away
};

/// First half: prepares mounts, devices and cgroup with the host's rights and makes the process. After it returns the caller
/// may do other work while the child sets itself up. Single-threaded callers only.
/// Errors: by kind of the step that failed; nothing is left behind.
Result<Launching> begin_launch(const LaunchPlan& plan, const LaunchInputs& inputs);
/// Second half: returns when the program runs (or, with exec_fifo, when only the start signal is missing).
/// Errors: not_found, denied with docker's words for a program that cannot be executed; else as begin_launch. The process
/// is reaped and its cgroup removed then.
Status finish_launch(Launching& launching, const LaunchPlan& plan, const LaunchInputs& inputs);

/// One more process in a running container.
struct ExecTarget {
  int pidfd = -1;                ///< of the container's init (borrowed)
  std::uint64_t namespaces = 0;  ///< CLONE_NEW* that differ from ours
  bool in_user_namespace = false;
  const linux::Cgroup* cgroup = nullptr;  ///< borrowed; null: ours
};
Result<Launching> begin_exec(const ProcessPlan& process, const ExecTarget& target, const LaunchInputs& inputs);
/// Ends a process of either kind whose caller cannot go on with it: kills and reaps it, and takes away what was made for it. The first error is the one to report.
void abandon(Launching& launching);
Status finish_exec(Launching& launching, const ProcessPlan& process, const LaunchInputs& inputs);

/// The namespaces of a running container that an exec must enter, worked out from its plan.
std::uint64_t exec_namespaces(const LaunchPlan& plan);

/// Where the container's root stands outside; 0:0 without a user namespace.
struct RootIds {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};
RootIds outside_root(const LaunchPlan& plan);
/// An inside user's ids outside, for descriptors that it should own.
RootIds outside_user(const LaunchPlan& plan, std::uint32_t uid, std::uint32_t gid);

/// The sentence for what a child reported. `launch` is null for exec.
Error describe_failure(const ChildMessage& message, const ProcessPlan& process, const LaunchPlan* launch);
/// Of an exec that came while the container was ending.
Error not_running_any_more();

namespace detail {
/// Moves the plan's network devices from our network namespace into that of `pid`.
Status move_net_devices(const std::vector<PlanNetDevice>& devices, pid_t pid);
/// Detached mount of the container's root. `userns` -1: no id mapping. Errors name the layer.
Result<UniqueFd> mount_overlay(const linux::Overlay& overlay, int userns, OverlayWay way, RootIds ids);
/// The plan's /dev: a detached tmpfs with nodes, links and folders, owned by the container's root.
Result<UniqueFd> make_device_folder(const PlanMount& mount, const LaunchPlan& plan, std::vector<bool>& done);
Result<UniqueFd> clone_bind(const PlanMount& mount, std::size_t index, int container_userns);

/// Acts on files as the container's root while it lives, without losing the rights over files (they go with the ids,
/// capabilities(7): "Effect of user ID changes", and are taken back here).
class FileIdentity {
 public:
  static Result<FileIdentity> assume(RootIds ids);
  FileIdentity(FileIdentity&& other) noexcept : active_(std::exchange(other.active_, false)) {}
  FileIdentity& operator=(FileIdentity&&) = delete;
  FileIdentity(const FileIdentity&) = delete;
  FileIdentity& operator=(const FileIdentity&) = delete;
  ~FileIdentity();

 private:
  explicit FileIdentity(bool active) : active_(active) {}
  bool active_;
};
}  // namespace detail

}  // namespace caisson::runtime

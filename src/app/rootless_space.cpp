// Making, finding and joining the namespaces of an engine without root.
#include "app/rootless_space.hpp"

#include <cerrno>

#include "app/rootless.hpp"
#include "base/codec.hpp"
#include "base/strings.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/mount_api.hpp"
#include "linux/socket.hpp"

namespace caisson::app {

namespace {
constexpr int space_flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET;
constexpr std::size_t longest_report_bytes = 8192;

Status become_root_inside() {
  TRY(linux::setgroups({}), "give up groups");
  TRY(linux::setresgid(0, 0, 0), "become root of the user namespace");
  TRY(linux::setresuid(0, 0, 0), "become root of the user namespace");
  return {};
}

/// /sys shows the interfaces of the network namespace it was mounted in. Cgroups are mounted below it and move along.
Status mount_own_sys() {
  auto cgroups = linux::open_tree(AT_FDCWD, "/sys/fs/cgroup", OPEN_TREE_CLONE | AT_RECURSIVE);
  auto sys = TRY_PLAIN(linux::mount_detached("sysfs", {}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  TRY_PLAIN(linux::move_mount(sys.get(), "", AT_FDCWD, "/sys", MOVE_MOUNT_F_EMPTY_PATH));
  if (cgroups.ok()) TRY_PLAIN(linux::move_mount(cgroups->get(), "", AT_FDCWD, "/sys/fs/cgroup", MOVE_MOUNT_F_EMPTY_PATH));
  return {};
}

Status cover_resolver(const std::string& resolv_conf) {
  auto file = TRY_PLAIN(linux::open_tree(AT_FDCWD, resolv_conf, OPEN_TREE_CLONE));
  return linux::move_mount(file.get(), "", AT_FDCWD, "/etc/resolv.conf", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);
}

Status furnish(const std::string& resolv_conf) {
  TRY(linux::make_all_mounts(MS_SLAVE), "isolate mounts");
  // In a container that hides parts of /sys the kernel allows no other one; then --network host shows the host's interfaces there.
  ignore(mount_own_sys());
  if (!resolv_conf.empty()) TRY(cover_resolver(resolv_conf), "name servers");
  return {};
}

void report(int channel, const Status& status) {
  HostAnswer answer;
  answer.is_yes = status.ok();
  if (!status.ok()) {
    answer.kind = status.error().kind();
    answer.error_number = status.error().error_number();
    answer.text = status.error().text();
    answer.hint = status.error().hint();
  }
  ignore(linux::send_message(channel, encode(answer)));  // a supervisor that has ended needs none
}

Status hear(int channel) {
  auto message = TRY_PLAIN(linux::receive_message(channel, longest_report_bytes));
  if (message.bytes.empty()) return Error(ErrorKind::io, "the process that holds the namespaces died");
  auto answer = TRY_PLAIN(decode<HostAnswer>(message.bytes, "report of the process that holds the namespaces"));
  if (answer.is_yes) return {};
  return Error(answer.kind, answer.text, answer.error_number).with_hint(answer.hint);
}

/// Nothing of whoever started us is kept open by a process that may live for months.
Status let_go_of_files() {
  auto null = TRY_PLAIN(linux::open("/dev/null", O_RDWR));
  for (int fd = 0; fd <= 2; ++fd) TRY_PLAIN(linux::dup3(null.get(), fd, 0));
  null.reset();
  return linux::close_range(3, ~0U);
}

/// The holder: a copy of a program with one thread, so all of it may be used. Ends by a signal.
[[noreturn]] void hold(int channel, const std::string& resolv_conf) {
  ignore(linux::setsid());  // of a new process it cannot fail
  ignore(linux::set_thread_name("caisson-space"));
  ignore(linux::signal_mask(SIG_SETMASK, linux::SignalSet()));
  report(channel, linux::unshare(space_flags));
  auto go = linux::receive_message(channel, 1);
  if (!go.ok() || go->bytes.empty()) linux::exit_now(1);
  auto furnished = become_root_inside();
  if (furnished.ok()) furnished = furnish(resolv_conf);
  report(channel, furnished);
  if (!furnished.ok() || !let_go_of_files().ok()) linux::exit_now(1);
  for (;;) ignore(linux::poll({}, -1));
}

Error explained(Error error) {
  const int number = error.error_number();
  error = std::move(error).in("namespaces without root");
  if (number == ENOSPC)
    return std::move(error).with_hint("the host's limit of user namespaces is reached or 0: sudo sysctl -w user.max_user_namespaces=65536");
  if (number == EPERM || number == EACCES)
    return std::move(error).with_kind(ErrorKind::denied).with_hint("ordinary users may not make user namespaces here; `caisson doctor` says which setting forbids it");
  return error;
}

/// A child of ours that is killed and reaped unless it is kept.
class Child {
 public:
  explicit Child(linux::ChildProcess process) : process_(std::move(process)) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (process_.pidfd) linux::kill_and_reap(process_.pidfd.get());
  }
  [[nodiscard]] int pid() const { return process_.pid; }
  UniqueFd keep() { return std::move(process_.pidfd); }

 private:
  linux::ChildProcess process_;
};
}  // namespace

std::optional<UniqueFd> open_known(const KnownProcess& process) {
  if (process.pid <= 0) return std::nullopt;
  auto pidfd = linux::pidfd_open(process.pid);
  if (!pidfd.ok()) return std::nullopt;
  auto stat = linux::process_stat(process.pid);
  if (!stat.ok() || stat->state == 'Z' || stat->start_time != process.start_time) return std::nullopt;
  return std::move(*pidfd);
}

Result<Space> make_space(const linux::IdMap& map, const std::string& resolv_conf) {
  auto channel = TRY_PLAIN(linux::socketpair(linux::UnixType::seqpacket));
  auto forked = TRY(linux::fork_with_pidfd(0), "namespaces without root");
  if (forked.pid == 0) {
    channel.first.reset();
    hold(channel.second.get(), resolv_conf);
  }
  channel.second.reset();
  Child child(std::move(forked));
  if (auto entered = hear(channel.first.get()); !entered.ok()) return explained(std::move(entered).error());
  TRY(linux::write_id_maps(child.pid(), map), "namespaces without root");
  TRY(linux::send_message(channel.first.get(), "g"), "namespaces without root");
  TRY(hear(channel.first.get()), "namespaces without root");
  Space space;
  space.record.holder = {child.pid(), TRY_PLAIN(linux::process_start_time(child.pid()))};
  space.record.user_namespace = TRY_PLAIN(linux::readlinkat(AT_FDCWD, concat("/proc/", child.pid(), "/ns/user")));
  space.holder = child.keep();
  return space;
}

std::optional<Space> find_space(const SpaceRecord& record) {
  auto holder = open_known(record.holder);
  if (!holder) return std::nullopt;
  auto name = linux::readlinkat(AT_FDCWD, concat("/proc/", record.holder.pid, "/ns/user"));
  if (!name.ok() || *name != record.user_namespace) return std::nullopt;
  Space space;
  space.record = record;
  space.holder = std::move(*holder);
  return space;
}

Status join_space(const Space& space) {
  TRY(linux::setns(space.holder.get(), space_flags), "join the namespaces");
  return become_root_inside();
}

}  // namespace caisson::app

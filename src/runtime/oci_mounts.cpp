// mounts add and mounts remove: mounts of a container that is running already.
#include <cerrno>
#include <cstring>

#include "linux/child.hpp"
#include "linux/child_clone.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "runtime/launch.hpp"
#include "runtime/oci_commands.hpp"

namespace caisson::runtime {

namespace raw = linux::raw;

namespace {

/// The mounts of a file, a JSON array as in a configuration. They are parsed and checked as part of the container's own.
Result<std::vector<Mount>> read_mounts(const std::string& path, const std::string& config) {
  auto text = TRY(linux::read_file(path), "mounts");
  auto list = TRY_PLAIN(parse_json(text, path));
  if (!list.is_array()) return Error(ErrorKind::invalid, concat(path, ": must be an array of mounts"));
  auto document = TRY_PLAIN(parse_json(config, "config.json"));
  document.as_object()["mounts"] = std::move(list);
  auto spec = TRY(parse_spec(to_text(document)), path);
  return std::move(spec.mounts);
}

struct Entry {
  int pidfd = -1;
  int namespaces = 0;
  bool become_root = false;
  ChildSetup* setup = nullptr;  ///< add
  const std::vector<Mount>* remove = nullptr;
  std::size_t failed_index = 0;
  int error_number = 0;
};

int enter(Entry& entry) {
  const int joined = raw::setns(entry.pidfd, entry.namespaces);
  if (joined < 0) return joined;
  if (!entry.become_root) return 0;
  // What is made must belong to the container's root; the host's ids mean nobody in there.
  const int groups = raw::setgroups(nullptr, 0);
  if (groups < 0 && groups != -EPERM) return groups;
  if (const int set = raw::setresgid(0, 0, 0); set < 0) return set;
  return raw::setresuid(0, 0, 0);
}

/// In a process of its own that shares our memory. child_mount_all reports through the setup's socket and ends it on failure.
int run_add(void* argument) {
  auto& entry = *static_cast<Entry*>(argument);
  entry.error_number = enter(entry);
  if (entry.error_number < 0) return 1;
  entry.setup->root_fd = raw::openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
  if (entry.setup->root_fd < 0) {
    entry.error_number = entry.setup->root_fd;
    return 1;
  }
  (void)raw::umask(0);
  detail::child_mount_all(*entry.setup);
  (void)raw::close(entry.setup->root_fd);  // our descriptors are shared
  return 0;
}

int run_remove(void* argument) {
  auto& entry = *static_cast<Entry*>(argument);
  entry.error_number = enter(entry);
  for (std::size_t i = 0; entry.error_number >= 0 && i < entry.remove->size(); ++i) {
    entry.failed_index = i;
    // The path is the container's own and resolved inside its root; a link at its end is not what was mounted.
    entry.error_number = raw::umount2((*entry.remove)[i].destination.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
  }
  return entry.error_number < 0 ? 1 : 0;
}

Entry make_entry(const OciState& state, const UniqueFd& pidfd) {
  Entry entry;
  entry.pidfd = pidfd.get();
  entry.namespaces = static_cast<int>(state.exec_namespaces & ~std::uint64_t{CLONE_NEWCGROUP | CLONE_NEWTIME});
  entry.become_root = state.in_user_namespace;
  return entry;
}

Status add_mounts(const OciContext& context, const OciState& state, const Spec& spec, const std::vector<Mount>& mounts) {
  auto pidfd = TRY_PLAIN(open_init(state));
  auto facts = TRY_PLAIN(read_host_facts(*context.layout));
  PlanOptions options;
  options.bundle = state.bundle;
  LaunchPlan plan;
  plan.in_user_namespace = state.in_user_namespace;
  plan.id_map = spec.id_map;
  UniqueFd userns;
  if (state.in_user_namespace) userns = TRY_PLAIN(linux::open_namespace(state.pid, "user"));
  ChildSetup setup;
  std::vector<UniqueFd> trees;
  for (std::size_t i = 0; i < mounts.size(); ++i) {
    auto mount = TRY_PLAIN(plan_mount(mounts[i], i, plan, facts, options));
    if (mount.kind != MountKind::bind && mount.kind != MountKind::filesystem && mount.kind != MountKind::remount)
      return Error(ErrorKind::unsupported,
                   concat("mounts[", i, "]: type ", mounts[i].type, " cannot be added to a running container"));
    trees.emplace_back();
    if (mount.kind == MountKind::bind) trees.back() = TRY_PLAIN(detail::clone_bind(mount, i, userns.get()));
    setup.mount_fds.push_back(trees.back() ? trees.back().get() : -1);
    setup.mount_userns_fds.push_back(-1);
    if (mount.id_mapped && mount.kind == MountKind::filesystem) {
      if (mount.id_map.empty()) {
        setup.mount_userns_fds.back() = userns.get();
      } else {
        trees.push_back(TRY(linux::create_user_namespace(mount.id_map), concat("mounts[", i, "]")));
        setup.mount_userns_fds.back() = trees.back().get();
      }
    }
    plan.mounts.push_back(std::move(mount));
  }
  setup.cgroup_binds.resize(plan.mounts.size());
  setup.mount_links.resize(plan.mounts.size());
  setup.launch = &plan;
  setup.process = &plan.process;
  auto pair = TRY(linux::socketpair(linux::UnixType::seqpacket), "mounts");
  setup.sync_fd = pair.second.get();
  Entry entry = make_entry(state, pidfd);
  entry.setup = &setup;
  const int stage = raw::run_stage(run_add, &entry, 0);
  if (stage < 0) return Error::from_errno(-stage, "mounts");
  const int wait_status = raw::reap(stage);
  if (entry.error_number < 0) return Error::from_errno(-entry.error_number, "entering the container");
  if (wait_status == 0) return {};
  pair.second.reset();
  auto received = TRY(linux::receive_message(pair.first.get(), sizeof(ChildMessage), 1), "mounts");
  ChildMessage message;
  if (received.bytes.size() != sizeof message) return Error(ErrorKind::internal, "mounts: the helper died");
  std::memcpy(&message, received.bytes.data(), sizeof message);
  return describe_failure(message, plan.process, &plan);
}

Status remove_mounts(const OciState& state, const std::vector<Mount>& mounts) {
  auto pidfd = TRY_PLAIN(open_init(state));
  Entry entry = make_entry(state, pidfd);
  entry.remove = &mounts;
  const int stage = raw::run_stage(run_remove, &entry, 0);
  if (stage < 0) return Error::from_errno(-stage, "mounts");
  (void)raw::reap(stage);
  if (entry.error_number >= 0) return {};
  const std::string at =
      concat("mounts[", entry.failed_index, "]: removing ", mounts.empty() ? "" : mounts[entry.failed_index].destination);
  // Callers of an OCI runtime read "no such file" as a missing program.
  if (entry.error_number == -ENOENT || entry.error_number == -EINVAL)
    return Error(ErrorKind::not_found, concat(at, ": nothing is mounted there"));
  return Error::from_errno(-entry.error_number, at);
}

}  // namespace

Result<int> oci_mounts(OciContext& context) {
  const auto& words = context.arguments.words;
  if (words.size() != 3 || (words[0] != "add" && words[0] != "remove"))
    return Error(ErrorKind::invalid, "mounts needs add or remove, the container's ID and a file with an array of mounts");
  auto state = TRY_PLAIN(context.store.load(words[1]));
  const auto status = TRY_PLAIN(status_of(state, context.store, context.layout));
  if (status == OciStatus::stopped || status == OciStatus::creating) return Error(ErrorKind::conflict, "container not running");
  auto config = TRY(linux::read_file(concat(context.store.folder(state.id), "/config.json")), concat("container ", state.id));
  auto spec = TRY_PLAIN(parse_spec(config));
  auto mounts = TRY_PLAIN(read_mounts(words[2], config));
  TRY_PLAIN(words[0] == "add" ? add_mounts(context, state, spec, mounts) : remove_mounts(state, mounts));
  return 0;
}

}  // namespace caisson::runtime

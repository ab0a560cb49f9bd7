// What a launch asks about namespaces that are joined by their paths.
#include <algorithm>

#include "linux/child.hpp"
#include "linux/child_clone.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/process.hpp"
#include "runtime/launch_stage.hpp"

namespace caisson::runtime::detail {

namespace {

namespace raw = linux::raw;

/// uid_map and gid_map of a namespace that is known by its descriptor only: read by a stage that has entered it.
struct MapReader {
  int userns = -1;
  std::optional<Result<std::string>> uids;
  std::optional<Result<std::string>> gids;
};
int run_map_reader(void* argument) {
  auto& reader = *static_cast<MapReader*>(argument);
  if (raw::setns(reader.userns, CLONE_NEWUSER) < 0) return 1;
  reader.uids = linux::read_file("/proc/self/uid_map");
  reader.gids = linux::read_file("/proc/self/gid_map");
  return 0;
}

std::string_view namespace_file(std::uint64_t flag) {
  switch (flag) {
    case CLONE_NEWNS: return "mnt";
    case CLONE_NEWNET: return "net";
    case CLONE_NEWUTS: return "uts";
    case CLONE_NEWIPC: return "ipc";
    default: return "";
  }
}

/// Whether the plan changes what belongs to such a namespace. A joined one that is the host's own must not be changed: joining the
/// host's mount namespace, even pivot_root would happen to the host.
bool changes_namespace(const LaunchPlan& plan, std::uint64_t flag) {
  auto sets = [&](std::string_view prefix) {
    return std::any_of(plan.sysctls.begin(), plan.sysctls.end(), [&](const auto& sysctl) { return sysctl.path.starts_with(prefix); });
  };
  switch (flag) {
    case CLONE_NEWNS: return true;
    case CLONE_NEWNET: return !plan.net_devices.empty() || sets("net/");
    case CLONE_NEWUTS: return !plan.hostname.empty() || !plan.domainname.empty() || sets("kernel/domainname");
    case CLONE_NEWIPC: return sets("fs/mqueue/") || sets("kernel/");
    default: return false;
  }
}

}  // namespace

Result<linux::IdMap> read_id_map(int userns) {
  MapReader reader;
  reader.userns = userns;
  const int pid = raw::run_stage(run_map_reader, &reader, 0);
  if (pid < 0) return Error::from_errno(-pid, "clone of the stage");
  (void)raw::reap(pid);
  if (!reader.uids || !reader.uids->ok() || !reader.gids || !reader.gids->ok())
    return Error(ErrorKind::denied, "the user namespace cannot be entered");
  linux::IdMap map;
  map.uids = TRY(linux::parse_id_map(reader.uids->value()), "uid_map");
  map.gids = TRY(linux::parse_id_map(reader.gids->value()), "gid_map");
  return map;
}

Status check_join(const LaunchPlan& plan, const PlanJoin& join, int fd) {
  const std::string at = concat("linux.namespaces[", join.index, "].path: ", join.path);
  const auto type = TRY(linux::namespace_type(fd), at);
  if (static_cast<std::uint64_t>(type) != join.flag) return Error(ErrorKind::invalid, concat(at, ": is a namespace of another type"));
  if (!changes_namespace(plan, join.flag)) return {};
  const auto own = TRY(linux::stat(concat("/proc/thread-self/ns/", namespace_file(join.flag))), at);
  const auto given = TRY(linux::fstat(fd), at);
  if (own.st_dev == given.st_dev && own.st_ino == given.st_ino)
    return Error(ErrorKind::invalid, concat(at, ": is the host's own namespace, which this configuration would change"));
  return {};
}

bool is_owned_by(int fd, int userns) {
  auto owner = linux::namespace_owner(fd);
  if (!owner) return false;
  auto first = linux::fstat(owner->get());
  auto second = linux::fstat(userns);
  return first && second && first->st_dev == second->st_dev && first->st_ino == second->st_ino;
}

std::string offsets_text(const std::vector<PlanTimeOffset>& offsets) {
  std::string out;
  for (const auto& offset : offsets) out += concat(offset.clock, " ", offset.seconds, " ", offset.nanoseconds, "\n");
  return out;
}

}  // namespace caisson::runtime::detail

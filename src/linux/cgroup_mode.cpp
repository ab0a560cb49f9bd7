// Which cgroup hierarchies this host mounts, and where a process stands in them.
#include <algorithm>
#include <set>

#include "base/strings.hpp"
#include "linux/cgroup.hpp"
#include "linux/file.hpp"

namespace caisson::linux {

std::string_view to_string(CgroupMode mode) {
  switch (mode) {
    case CgroupMode::none: return "none";
    case CgroupMode::v1: return "v1";
    case CgroupMode::hybrid: return "hybrid";
    case CgroupMode::unified: return "v2";
  }
  return "none";
}

const CgroupHierarchy* CgroupLayout::v2() const {
  return !hierarchies.empty() && hierarchies.back().is_v2 ? &hierarchies.back() : nullptr;
}
const CgroupHierarchy* CgroupLayout::find(std::string_view controller) const {
  for (const CgroupHierarchy& hierarchy : hierarchies)
    if (std::find(hierarchy.controllers.begin(), hierarchy.controllers.end(), controller) != hierarchy.controllers.end())
      return &hierarchy;
  return nullptr;
}

Result<CgroupLayout> CgroupLayout::with_named(std::string_view name) const {
  CgroupLayout out = *this;
  if (has(name)) return out;
  const auto found = std::find_if(named.begin(), named.end(), [&](const CgroupHierarchy& hierarchy) {
    return std::find(hierarchy.controllers.begin(), hierarchy.controllers.end(), name) != hierarchy.controllers.end();
  });
  if (found == named.end())
    return Error(ErrorKind::unsupported, concat("no cgroup v1 hierarchy with ", name, " is mounted"), EOPNOTSUPP)
        .with_hint(concat("mount -t cgroup -o none,", name, ",xattr cgroup /sys/fs/cgroup/", split_once(name, '=').after));
  out.hierarchies.insert(out.hierarchies.begin(), *found);
  return out;
}

namespace {

/// The names among a v1 mount's super options that are controllers, not switches (cgroups(7), cgroup-v1.c).
std::vector<std::string> v1_controllers(std::string_view super_options) {
  static const std::set<std::string_view> switches{"rw",           "ro",           "none",           "all",
                                                   "xattr",        "noprefix",     "clone_children", "cpuset_v2_mode",
                                                   "favordynmods", "nofavordynmods", "seclabel"};
  std::vector<std::string> out;
  for (std::string_view option : split(super_options, ',')) {
    if (option.empty() || switches.contains(option) || option.starts_with("release_agent=")) continue;
    out.emplace_back(option);
  }
  return out;
}

bool is_named_only(const CgroupHierarchy& hierarchy) {
  return std::all_of(hierarchy.controllers.begin(), hierarchy.controllers.end(),
                     [](const std::string& name) { return name.starts_with("name="); });
}

struct Candidate {
  CgroupHierarchy hierarchy;
  std::uint64_t device = 0;
};

/// The first mount of each superblock, but one whose root is "/" (no bind of a part) before others.
void keep_best(std::vector<Candidate>& candidates, Candidate candidate) {
  for (Candidate& known : candidates) {
    if (known.device != candidate.device) continue;
    if (known.hierarchy.root != "/" && candidate.hierarchy.root == "/") known = std::move(candidate);
    return;
  }
  candidates.push_back(std::move(candidate));
}

}  // namespace

CgroupLayout cgroup_layout(const std::vector<MountInfo>& mounts, std::string_view v2_controllers) {
  std::vector<Candidate> v1;
  std::vector<Candidate> v2;
  for (std::size_t i = 0; i < mounts.size(); ++i) {
    const MountInfo& mount = mounts[i];
    if (mount.type != "cgroup" && mount.type != "cgroup2") continue;
    // A later mount on the same place hides this one.
    const bool hidden = std::any_of(mounts.begin() + static_cast<std::ptrdiff_t>(i) + 1, mounts.end(),
                                    [&](const MountInfo& later) { return later.mount_point == mount.mount_point; });
    if (hidden) continue;
    Candidate candidate;
    candidate.device = std::uint64_t{mount.major} << 32U | mount.minor;
    candidate.hierarchy.mount_point = mount.mount_point;
    candidate.hierarchy.root = mount.root;
    candidate.hierarchy.is_v2 = mount.type == "cgroup2";
    if (!candidate.hierarchy.is_v2) candidate.hierarchy.controllers = v1_controllers(mount.super_options);
    keep_best(candidate.hierarchy.is_v2 ? v2 : v1, std::move(candidate));
  }
  CgroupLayout out;
  const bool v1_rules = std::any_of(v1.begin(), v1.end(), [](const Candidate& c) { return !is_named_only(c.hierarchy); });
  // A v1 hierarchy without controllers beside v2 (an init system's bookkeeping) does not make a host hybrid.
  for (Candidate& candidate : v1) (v1_rules || v2.empty() ? out.hierarchies : out.named).push_back(std::move(candidate.hierarchy));
  if (!v2.empty()) {
    CgroupHierarchy hierarchy = std::move(v2.front().hierarchy);
    for (std::string_view controller : split(trim(v2_controllers), ' '))
      if (!controller.empty()) hierarchy.controllers.emplace_back(controller);
    out.hierarchies.push_back(std::move(hierarchy));
  }
  if (out.hierarchies.empty()) out.mode = CgroupMode::none;
  else if (v2.empty()) out.mode = CgroupMode::v1;
  else out.mode = v1_rules ? CgroupMode::hybrid : CgroupMode::unified;
  return out;
}

Result<CgroupLayout> detect_cgroup_layout() {
  auto mounts = TRY(read_mountinfo(), "detect cgroups");
  // What something else is mounted over cannot be reached by its path. Only a mount listed later, on a folder above, can do that
  // (one on the very place is seen by cgroup_layout); without one the question is saved.
  auto may_be_covered = [](const MountInfo& mount, const MountInfo* later, const MountInfo* end) {
    return std::any_of(later, end, [&](const MountInfo& other) {
      return other.mount_point == "/" || mount.mount_point.starts_with(concat(other.mount_point, '/'));
    });
  };
  std::vector<bool> in_doubt(mounts.size());
  for (std::size_t i = 0; i < mounts.size(); ++i)
    in_doubt[i] = may_be_covered(mounts[i], mounts.data() + i + 1, mounts.data() + mounts.size());
  std::size_t at = 0;
  std::erase_if(mounts, [&](const MountInfo& mount) {
    if (!in_doubt[at++] || (mount.type != "cgroup" && mount.type != "cgroup2")) return false;
    const auto seen = statfs(mount.mount_point);
    const auto wanted = mount.type == "cgroup2" ? abi::cgroup2_super_magic : abi::cgroup_super_magic;
    return !seen || static_cast<std::int64_t>(seen->f_type) != wanted;
  });
  const CgroupLayout bare = cgroup_layout(mounts, "");
  if (bare.v2() == nullptr) return bare;
  const std::string controllers = TRY(read_file(bare.v2()->mount_point + "/cgroup.controllers"), "detect cgroups");
  return cgroup_layout(mounts, controllers);
}

std::map<std::string, std::string> parse_proc_cgroup(std::string_view text) {
  std::map<std::string, std::string> out;
  for (std::string_view line : split(text, '\n')) {
    const Halves number = split_once(line, ':');
    const Halves rest = split_once(number.after, ':');
    if (number.found && rest.found) out[std::string(rest.before)] = std::string(rest.after);
  }
  return out;
}

Result<std::map<std::string, std::string>> cgroup_of_process(int pid) {
  const std::string path = pid == 0 ? "/proc/thread-self/cgroup" : concat("/proc/", pid, "/cgroup");
  auto text = read_file(path);
  if (!text) {
    const int reason = text.error().error_number();
    if (reason == ENOENT || reason == ESRCH) return Error(ErrorKind::not_found, concat("process ", pid, " does not exist"), ESRCH);
    return std::move(text).error();
  }
  return parse_proc_cgroup(*text);
}

}  // namespace caisson::linux

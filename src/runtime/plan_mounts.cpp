// A mount of the configuration as the operations that carry it out: fs_context options, attributes, propagation, kind.
#include <algorithm>
#include <array>

#include "linux/mount_api.hpp"
#include "runtime/plan.hpp"

namespace caisson::runtime {

namespace {

enum class WordKind : std::uint8_t { attribute, recursive_attribute, propagation, superblock, nothing };

struct Word {
  std::string_view name;
  WordKind kind;
  std::uint64_t set;
  std::uint64_t clear;
};

constexpr std::uint64_t atime_group = MOUNT_ATTR__ATIME;

/// mount(8)'s words as mount_setattr(2) knows them. The atime group is an enumeration in four bits: clear it first.
constexpr std::array words{
    Word{"ro", WordKind::attribute, MOUNT_ATTR_RDONLY, 0},
    Word{"rw", WordKind::attribute, 0, MOUNT_ATTR_RDONLY},
    Word{"nosuid", WordKind::attribute, MOUNT_ATTR_NOSUID, 0},
    Word{"suid", WordKind::attribute, 0, MOUNT_ATTR_NOSUID},
    Word{"nodev", WordKind::attribute, MOUNT_ATTR_NODEV, 0},
    Word{"dev", WordKind::attribute, 0, MOUNT_ATTR_NODEV},
    Word{"noexec", WordKind::attribute, MOUNT_ATTR_NOEXEC, 0},
    Word{"exec", WordKind::attribute, 0, MOUNT_ATTR_NOEXEC},
    Word{"nodiratime", WordKind::attribute, MOUNT_ATTR_NODIRATIME, 0},
    Word{"diratime", WordKind::attribute, 0, MOUNT_ATTR_NODIRATIME},
    Word{"nosymfollow", WordKind::attribute, MOUNT_ATTR_NOSYMFOLLOW, 0},
    Word{"symfollow", WordKind::attribute, 0, MOUNT_ATTR_NOSYMFOLLOW},
    Word{"relatime", WordKind::attribute, MOUNT_ATTR_RELATIME, atime_group},
    Word{"norelatime", WordKind::attribute, MOUNT_ATTR_STRICTATIME, atime_group},
    Word{"noatime", WordKind::attribute, MOUNT_ATTR_NOATIME, atime_group},
    Word{"atime", WordKind::attribute, MOUNT_ATTR_RELATIME, atime_group},
    Word{"strictatime", WordKind::attribute, MOUNT_ATTR_STRICTATIME, atime_group},
    Word{"nostrictatime", WordKind::attribute, MOUNT_ATTR_RELATIME, atime_group},
    Word{"rro", WordKind::recursive_attribute, MOUNT_ATTR_RDONLY, 0},
    Word{"rrw", WordKind::recursive_attribute, 0, MOUNT_ATTR_RDONLY},
    Word{"rnosuid", WordKind::recursive_attribute, MOUNT_ATTR_NOSUID, 0},
    Word{"rsuid", WordKind::recursive_attribute, 0, MOUNT_ATTR_NOSUID},
    Word{"rnodev", WordKind::recursive_attribute, MOUNT_ATTR_NODEV, 0},
    Word{"rdev", WordKind::recursive_attribute, 0, MOUNT_ATTR_NODEV},
    Word{"rnoexec", WordKind::recursive_attribute, MOUNT_ATTR_NOEXEC, 0},
    Word{"rexec", WordKind::recursive_attribute, 0, MOUNT_ATTR_NOEXEC},
    Word{"rnodiratime", WordKind::recursive_attribute, MOUNT_ATTR_NODIRATIME, 0},
    Word{"rdiratime", WordKind::recursive_attribute, 0, MOUNT_ATTR_NODIRATIME},
    Word{"rnosymfollow", WordKind::recursive_attribute, MOUNT_ATTR_NOSYMFOLLOW, 0},
    Word{"rsymfollow", WordKind::recursive_attribute, 0, MOUNT_ATTR_NOSYMFOLLOW},
    Word{"rrelatime", WordKind::recursive_attribute, MOUNT_ATTR_RELATIME, atime_group},
    Word{"rnorelatime", WordKind::recursive_attribute, MOUNT_ATTR_STRICTATIME, atime_group},
    Word{"rnoatime", WordKind::recursive_attribute, MOUNT_ATTR_NOATIME, atime_group},
    Word{"ratime", WordKind::recursive_attribute, MOUNT_ATTR_RELATIME, atime_group},
    Word{"rstrictatime", WordKind::recursive_attribute, MOUNT_ATTR_STRICTATIME, atime_group},
    Word{"rnostrictatime", WordKind::recursive_attribute, MOUNT_ATTR_RELATIME, atime_group},
    Word{"shared", WordKind::propagation, MS_SHARED, 0},
    Word{"rshared", WordKind::propagation, MS_SHARED, 1},
    Word{"slave", WordKind::propagation, MS_SLAVE, 0},
    Word{"rslave", WordKind::propagation, MS_SLAVE, 1},
    Word{"private", WordKind::propagation, MS_PRIVATE, 0},
    Word{"rprivate", WordKind::propagation, MS_PRIVATE, 1},
    Word{"unbindable", WordKind::propagation, MS_UNBINDABLE, 0},
    Word{"runbindable", WordKind::propagation, MS_UNBINDABLE, 1},
    Word{"sync", WordKind::superblock, 0, 0},
    Word{"async", WordKind::superblock, 0, 0},
    Word{"dirsync", WordKind::superblock, 0, 0},
    Word{"lazytime", WordKind::superblock, 0, 0},
    Word{"nolazytime", WordKind::superblock, 0, 0},
    Word{"mand", WordKind::superblock, 0, 0},
    Word{"nomand", WordKind::superblock, 0, 0},
    // Accepted by every runtime; they have had no effect on the kernel side for years or only silence its log.
    Word{"defaults", WordKind::nothing, 0, 0},
    Word{"loud", WordKind::nothing, 0, 0},
    Word{"silent", WordKind::nothing, 0, 0},
    Word{"iversion", WordKind::nothing, 0, 0},
    Word{"noiversion", WordKind::nothing, 0, 0},
};

const Word* find_word(std::string_view name) {
  for (const auto& word : words)
    if (word.name == name) return &word;
  return nullptr;
}

Error bad(std::size_t index, std::string_view text) { return {ErrorKind::invalid, concat("mounts[", index, "]: ", text)}; }

void apply_attribute(std::uint64_t& set, std::uint64_t& clear, const Word& word) {
  set = (set & ~word.clear) | word.set;
  clear = (clear & ~word.set) | word.clear;
}

/// "idmap" alone uses the mount's own maps or the container's; crun's "idmap=uids=…;gids=…" spelling is refused, not ignored.
Status take_option(PlanMount& plan, std::string_view option, std::size_t index, bool is_bind) {
  if (const auto* word = find_word(option)) {
    switch (word->kind) {
      case WordKind::attribute: apply_attribute(plan.attr_set, plan.attr_clear, *word); break;
      case WordKind::recursive_attribute: apply_attribute(plan.recursive_attr_set, plan.recursive_attr_clear, *word); break;
      case WordKind::propagation:
        plan.propagation = word->set;
        plan.propagation_recursive = word->clear != 0;
        break;
      case WordKind::superblock: plan.options.push_back({std::string(option), "", true}); break;
      case WordKind::nothing: break;
    }
    return {};
  }
  if (option == "bind" || option == "rbind" || option == "remount") return {};
  if (option == "idmap" || option == "ridmap") {
    plan.id_mapped = true;
    plan.id_mapped_recursive = option[0] == 'r';
    return {};
  }
  if (option.starts_with("idmap=") || option.starts_with("ridmap=") || option == "tmpcopyup" || option == "copy-symlink" ||
      option == "src-nofollow" || option == "dest-nofollow")
    return Error(ErrorKind::unsupported, concat("mounts[", index, "].options: \"", option, "\" is not supported"));
  if (is_bind) {
    if (option.starts_with("x-") || option.starts_with("X-")) return {};  // mount(8)'s words for user space
    return bad(index, concat("\"", option, "\" is no option of a bind mount"));
  }
  auto halves = split_once(option, '=');
  if (halves.before.empty()) return bad(index, concat("\"", option, "\" is not an option"));
  plan.options.push_back({std::string(halves.before), std::string(halves.after), !halves.found});
  return {};
}

bool has_option(const Mount& mount, std::string_view name) {
  for (const auto& option : mount.options)
    if (option == name) return true;
  return false;
}

/// "/dev//pts/" → "/dev/pts". ".." stays: the kernel resolves it, below the root.
std::string tidy_path(std::string_view path) {
  std::string out;
  for (auto piece : split(path, '/')) {
    if (piece.empty() || piece == ".") continue;
    out += '/';
    out += piece;
  }
  return out.empty() ? "/" : out;
}

/// A file system whose superblock belongs to a namespace that the container does not own cannot be mounted by the
/// container's root (EPERM); then the host's own mount of it is shown instead, as Docker does it for host namespaces.
void bind_instead(PlanMount& plan, std::string source) {
  plan.kind = MountKind::bind;
  plan.source = std::move(source);
  plan.recursive = true;
  plan.options.clear();
  // "ro" must cover the mounts below too, else /sys/fs/cgroup of the host would be writable under a read-only /sys.
  plan.recursive_attr_set |= plan.attr_set;
  plan.recursive_attr_clear |= plan.attr_clear;
}

bool is_new(const LaunchPlan& plan, std::uint64_t flag) { return (plan.clone_flags & flag) != 0; }

/// Neither new nor another container's: only the host's cannot be mounted anew from a user namespace of one's own.
bool is_hosts(const LaunchPlan& plan, std::uint64_t flag) {
  return !is_new(plan, flag) && std::none_of(plan.joins.begin(), plan.joins.end(), [&](const PlanJoin& join) { return join.flag == flag; });
}

void choose_kind(PlanMount& plan, const LaunchPlan& launch, const HostFacts& facts, const PlanOptions& options) {
  plan.kind = MountKind::filesystem;
  const bool own_network = is_new(launch, CLONE_NEWNET) || options.has_network_namespace;
  if (plan.type == "cgroup" || plan.type == "cgroup2") {
    if (!facts.cgroup_unified && plan.type == "cgroup") {
      plan.kind = MountKind::cgroup_v1;
      plan.folders = facts.cgroup_v1_mounts;
      plan.options.clear();
      return;
    }
    plan.type = "cgroup2";
    if (launch.new_cgroup_namespace) return;
    bind_instead(plan, "");
    plan.type = "cgroup";
    return;
  }
  if (plan.type == "tmpfs" && plan.destination == "/dev" && facts.is_privileged) {
    plan.kind = MountKind::device_folder;
    return;
  }
  if (!launch.in_user_namespace) return;
  if (plan.type == "sysfs" && !own_network) bind_instead(plan, "/sys");
  if (plan.type == "proc" && is_hosts(launch, CLONE_NEWPID)) bind_instead(plan, "/proc");
  if (plan.type == "mqueue" && is_hosts(launch, CLONE_NEWIPC)) bind_instead(plan, "/dev/mqueue");
}

}  // namespace

Result<PlanMount> plan_mount(const Mount& mount, std::size_t index, const LaunchPlan& launch, const HostFacts& facts,
                             const PlanOptions& options) {
  PlanMount plan;
  plan.type = mount.type;
  plan.destination = tidy_path(mount.destination);
  if (plan.destination == "/") return bad(index, "the destination / is the root itself");
  plan.no_symlink_target = plan.destination == "/proc" || plan.destination == "/sys" || plan.destination == "/dev";
  const bool is_bind = mount.type == "bind" || has_option(mount, "bind") || has_option(mount, "rbind");
  for (const auto& option : mount.options) TRY_PLAIN(take_option(plan, option, index, is_bind));
  if (has_option(mount, "remount") && !is_bind) {
    plan.kind = MountKind::remount;
    return plan;
  }
  if (!mount.id_map.empty()) {
    plan.id_mapped = true;
    plan.id_map = mount.id_map;
  }
  if (is_bind) {
    if (mount.source.empty()) return bad(index, "source: missing for a bind mount");
    if (plan.id_mapped && plan.id_map.empty() && !launch.in_user_namespace)
      return bad(index, "idmap without mappings needs a user namespace");
    plan.kind = MountKind::bind;
    plan.source = mount.source[0] == '/' || options.bundle.empty() ? mount.source : concat(options.bundle, "/", mount.source);
    plan.recursive = has_option(mount, "rbind");
    plan.options.clear();
    return plan;
  }
  if (plan.id_mapped) return Error(ErrorKind::unsupported, concat("mounts[", index, "]: idmap is supported on bind mounts only"));
  if (mount.type.empty()) return bad(index, "type: missing");
  choose_kind(plan, launch, facts, options);
  if (plan.kind == MountKind::filesystem && !mount.source.empty()) plan.source = mount.source;
  return plan;
}

}  // namespace caisson::runtime

// A mount of the configuration as the operations that carry it out: fs_context options, attributes, propagation, kind.
#include <algorithm>
#include <array>

#include "linux/idmap.hpp"
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

Error bad_option(std::size_t index, std::string_view option, std::string_view text) {
  return {ErrorKind::invalid, concat("mounts[", index, "].options: \"", option, "\" ", text)};
}

/// "0-100000-65536#…" of crun's idmap option: first id in the file system, first id on the host, count. With "@" the second is an id
/// inside the container, and what the container's own map makes of it is meant.
Result<std::vector<linux::IdMapping>> read_id_ranges(std::string_view text, const std::vector<linux::IdMapping>& container) {
  const bool relative = text.starts_with("@");
  if (relative) text.remove_prefix(1);
  std::vector<linux::IdMapping> out;
  for (std::string_view range : split(text, '#')) {
    const auto numbers = split(range, '-');
    if (numbers.size() != 3) return Error(ErrorKind::invalid, concat("\"", range, "\" is not FIRST-HOST-COUNT"));
    linux::IdMapping mapping;
    mapping.inside = TRY_PLAIN(parse_integer<std::uint32_t>(numbers[0]));
    mapping.outside = TRY_PLAIN(parse_integer<std::uint32_t>(numbers[1]));
    mapping.count = TRY_PLAIN(parse_integer<std::uint32_t>(numbers[2]));
    if (mapping.count == 0) return Error(ErrorKind::invalid, concat("\"", range, "\" maps nothing"));
    if (relative) {
      const std::uint64_t last = std::uint64_t{mapping.outside} + mapping.count - 1;
      const auto first_outside = linux::map_to_outside(container, mapping.outside);
      const auto last_outside = last > UINT32_MAX ? std::nullopt : linux::map_to_outside(container, static_cast<std::uint32_t>(last));
      if (!first_outside || !last_outside || *last_outside - *first_outside != mapping.count - 1)
        return Error(ErrorKind::invalid, concat("\"", range, "\" is not within one range of the container's user namespace"));
      mapping.outside = *first_outside;
    }
    out.push_back(mapping);
  }
  return out;
}

Status take_id_map(PlanMount& plan, std::string_view option, std::size_t index, const linux::IdMap& container) {
  const auto halves = split_once(option, '=');
  plan.id_mapped = true;
  plan.id_mapped_recursive = halves.before == "ridmap";
  if (!halves.found) return {};
  for (std::string_view part : split(halves.after, ';')) {
    const auto names = split_once(part, '=');
    const bool uids = names.before == "uids";
    if (!uids && names.before != "gids") return bad_option(index, option, "may hold uids=… and gids=… only");
    auto ranges = read_id_ranges(names.after, uids ? container.uids : container.gids);
    if (!ranges) return bad_option(index, option, concat("is wrong: ", ranges.error().text()));
    (uids ? plan.id_map.uids : plan.id_map.gids) = std::move(ranges).value();
  }
  if (plan.id_map.uids.empty() || plan.id_map.gids.empty()) return bad_option(index, option, "needs both uids=… and gids=…");
  for (const auto* ids : {&plan.id_map.uids, &plan.id_map.gids})
    if (auto text = linux::id_map_text(*ids); !text) return bad_option(index, option, concat("is wrong: ", text.error().text()));
  return {};
}

/// crun's words for how a mount is prepared.
bool take_extension(PlanMount& plan, std::string_view option) {
  if (option == "tmpcopyup") plan.copy_up = true;
  else if (option == "copy-symlink") plan.copy_symlink = true;
  else if (option == "src-nofollow") plan.source_nofollow = true;
  else if (option == "dest-nofollow") plan.destination_nofollow = true;
  else return false;
  return true;
}

Status take_option(PlanMount& plan, std::string_view option, std::size_t index, bool is_bind, const linux::IdMap& container) {
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
  if (option == "bind" || option == "rbind" || option == "remount" || take_extension(plan, option)) return {};
  if (option == "idmap" || option == "ridmap" || option.starts_with("idmap=") || option.starts_with("ridmap="))
    return take_id_map(plan, option, index, container);
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
  if (plan.type == "cgroup" || plan.type == "cgroup2") {
    if (!facts.cgroup_unified && plan.type == "cgroup") {
      plan.kind = MountKind::cgroup_v1;
      plan.folders = facts.cgroup_v1_mounts;
      plan.options.clear();
      return;
    }
    plan.type = "cgroup2";
    if (launch.new_cgroup_namespace) return;
    // Without a cgroup of its own the container would be shown the user's, and could move processes in it (CVE-2023-25809).
    if (facts.is_rootless) plan.attr_set |= MOUNT_ATTR_RDONLY;
    bind_instead(plan, "");
    plan.type = "cgroup";
    return;
  }
  // With tmpcopyup it must come after what is mounted before it, so the child makes it.
  if (plan.type == "tmpfs" && plan.destination == "/dev" && facts.is_privileged && !plan.copy_up) {
    plan.kind = MountKind::device_folder;
    return;
  }
  if (!launch.in_user_namespace && !facts.is_rootless) return;
  if (plan.type == "sysfs" && is_hosts(launch, CLONE_NEWNET) && !options.has_network_namespace) bind_instead(plan, "/sys");
  if (plan.type == "proc" && is_hosts(launch, CLONE_NEWPID)) bind_instead(plan, "/proc");
  if (plan.type == "mqueue" && is_hosts(launch, CLONE_NEWIPC)) bind_instead(plan, "/dev/mqueue");
}

}  // namespace

namespace {

/// What only some kinds of mounts can have.
Status check_extensions(const PlanMount& plan, std::size_t index, bool is_bind, const LaunchPlan& launch) {
  const bool remount = plan.kind == MountKind::remount;
  if (plan.copy_up && (plan.type != "tmpfs" || is_bind || remount)) return bad_option(index, "tmpcopyup", "is for a new tmpfs only");
  if ((plan.copy_symlink || plan.source_nofollow) && (!is_bind || remount))
    return bad_option(index, plan.copy_symlink ? "copy-symlink" : "src-nofollow", "is for bind mounts only");
  if (!plan.id_mapped) return {};
  if (remount || plan.type == "cgroup" || plan.type == "cgroup2") return bad(index, "idmap: this mount cannot have it");
  if (plan.id_map.empty() && !launch.in_user_namespace) return bad(index, "idmap without mappings needs a user namespace");
  return {};
}

/// A new superblock has no mounts below it: recursive words mean the mount itself.
void fold_recursive_attributes(PlanMount& plan) {
  plan.attr_set = (plan.attr_set & ~plan.recursive_attr_clear) | plan.recursive_attr_set;
  plan.recursive_attr_set = 0;
  plan.recursive_attr_clear = 0;
}

}  // namespace

std::vector<std::string_view> mount_option_words() {
  std::vector<std::string_view> out{"bind",    "copy-symlink", "dest-nofollow", "idmap",    "rbind",
                                    "remount", "ridmap",       "src-nofollow",  "tmpcopyup"};
  for (const auto& word : words) out.push_back(word.name);
  std::sort(out.begin(), out.end());
  return out;
}

Result<PlanMount> plan_mount(const Mount& mount, std::size_t index, const LaunchPlan& launch, const HostFacts& facts,
                             const PlanOptions& options) {
  PlanMount plan;
  plan.type = mount.type;
  plan.destination = tidy_path(mount.destination);
  if (plan.destination == "/") return bad(index, "the destination / is the root itself");
  plan.no_symlink_target = plan.destination == "/proc" || plan.destination == "/sys" || plan.destination == "/dev";
  const bool is_bind = mount.type == "bind" || has_option(mount, "bind") || has_option(mount, "rbind");
  for (const auto& option : mount.options) TRY_PLAIN(take_option(plan, option, index, is_bind, launch.id_map));
  if (!mount.id_map.empty()) {
    plan.id_mapped = true;
    plan.id_map = mount.id_map;
  }
  if (has_option(mount, "remount") && !is_bind) {
    plan.kind = MountKind::remount;
    TRY_PLAIN(check_extensions(plan, index, is_bind, launch));
    return plan;
  }
  TRY_PLAIN(check_extensions(plan, index, is_bind, launch));
  if (is_bind) {
    if (mount.source.empty()) return bad(index, "source: missing for a bind mount");
    plan.kind = MountKind::bind;
    plan.source = mount.source[0] == '/' || options.bundle.empty() ? mount.source : concat(options.bundle, "/", mount.source);
    plan.recursive = has_option(mount, "rbind");
    plan.options.clear();
    return plan;
  }
  if (mount.type.empty()) return bad(index, "type: missing");
  choose_kind(plan, launch, facts, options);
  if (plan.kind == MountKind::filesystem && !mount.source.empty()) plan.source = mount.source;
  if (plan.kind == MountKind::filesystem || plan.kind == MountKind::device_folder) fold_recursive_attributes(plan);
  return plan;
}

}  // namespace caisson::runtime

// User namespaces as id maps: writing the maps of a process, holding a namespace by descriptor, idmapped mounts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/mount.hpp"

namespace caisson::linux {

/// "0 100000 65536\n" per line, as uid_map takes it. Errors: invalid (no line, more than 340, count 0, overlap, overflow).
Result<std::string> id_map_text(const std::vector<IdMapping>& mappings);
/// The reader of uid_map and gid_map files. Errors: corrupt.
Result<std::vector<IdMapping>> parse_id_map(std::string_view text);
/// The outside id of `inside`; nothing when it is not mapped.
std::optional<std::uint32_t> map_to_outside(const std::vector<IdMapping>& mappings, std::uint32_t inside);
std::optional<std::uint32_t> map_to_inside(const std::vector<IdMapping>& mappings, std::uint32_t outside);

/// How many ids from 0 on are mapped without a gap.
std::uint32_t ids_from_zero(std::vector<IdMapping> mappings);

/// Whether every id is mapped to itself: a mount seen through such a map shows what it shows without one.
bool is_identity(const IdMap& map);

/// The same map with lines that end where those of `own` do, the map of the user namespace above: the kernel takes no line that spans two of them
/// (map_write in kernel/user_namespace.c). What `own` does not have is left as it is, for the kernel to refuse.
std::vector<IdMapping> split_at_lines_of(const std::vector<IdMapping>& own, const std::vector<IdMapping>& mappings);

/// False in a user namespace that somebody made: who is root there has no rights over what belongs to the host.
bool in_initial_user_namespace();

/// Writes uid_map and gid_map of a process that has just entered a new user namespace. When this process lacks
/// CAP_SETUID over the parent namespace: a single line for the own ids is written after setgroups "deny" (user_namespaces(7):
/// else a group that denies access could be dropped), anything else goes through newuidmap and newgidmap.
/// Errors: denied with a hint to /etc/subuid and /etc/subgid; not_found when the helpers are not installed.
Status write_id_maps(int pid, const IdMap& map);

/// A user namespace that lives as long as its descriptor, made by a helper process that is gone on return. Safe from a
/// multi-threaded process. Privilege: none, or CAP_SETUID and CAP_SETGID for arbitrary maps.
Result<UniqueFd> create_user_namespace(const IdMap& map);

/// Makes the mount (a detached clone, open_tree) show its files through the namespace's maps: mount_setattr with
/// MOUNT_ATTR_IDMAP (5.12). Privilege: CAP_SYS_ADMIN over the file system's user namespace.
/// Errors: unsupported/invalid when the file system cannot be idmapped; the text says so.
Status idmap_mount(int tree_fd, int userns_fd, bool recursive = false);

}  // namespace caisson::linux

// Plain data about mounts and id maps: what image, engine and runtime hand to each other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace caisson::linux {

/// One line of a uid_map or gid_map: `count` ids from `inside` on appear outside as `outside` on.
struct IdMapping {
  std::uint32_t inside = 0;
  std::uint32_t outside = 0;
  std::uint32_t count = 0;
  bool operator==(const IdMapping&) const = default;
};
template <class C>
void visit(C& c, IdMapping& m) {
  c(m.inside);
  c(m.outside);
  c(m.count);
}

/// The maps of a user namespace or of an idmapped mount.
struct IdMap {
  std::vector<IdMapping> uids;
  std::vector<IdMapping> gids;
  [[nodiscard]] bool empty() const { return uids.empty() && gids.empty(); }
};
template <class C>
void visit(C& c, IdMap& m) {
  c(m.uids);
  c(m.gids);
}

/// A container's root file system as an overlay of plain directories on the host. Ids on disk are the container's own
/// (root's files belong to 0); the runtime mounts the layers through the container's id map. Every overlay is mounted
/// with `userxattr` (images-and-build.md section 2). The folders above these paths are 0700.
struct Overlay {
  std::vector<std::string> lowerdirs;  ///< topmost first; at least one
  std::string upperdir;                ///< empty: read-only overlay
  std::string workdir;                 ///< beside upperdir, in the same parent directory
  bool is_volatile = false;            ///< for throw-away containers: no sync at umount
};
template <class C>
void visit(C& c, Overlay& o) {
  c(o.lowerdirs);
  c(o.upperdir);
  c(o.workdir);
  c(o.is_volatile);
}

}  // namespace caisson::linux

// pack: a tree of files → a tar, the same bytes for the same tree. Runs inside the worker, on trees that containers wrote.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "image/tar_writer.hpp"

namespace caisson::image {

/// Names of a folder in a second tree that the archive shows in a folder of the first, with all below them.
struct Graft {
  std::string folder;  ///< of the archive, "" being its root: it is in the first tree, and has none of the names
  std::string source;  ///< in the second tree; symbolic links do not lead out of it
  std::vector<std::string> names;
};
template <class C>
void visit(C& c, Graft& g) {
  c(g.folder);
  c(g.source);
  c(g.names);
}

struct PackRequest {
  std::string path;       ///< in the root, as a user writes it; a last symbolic link is packed as one unless "/" or "/." follows
  std::string name;       ///< of the first entry, in place of the path's last part; "": entries are named below the path, which itself is left out
  bool as_layer = false;  ///< an overlay's upperdir: its whiteouts and opaque marks become the ".wh." entries of image layers
  std::optional<std::int64_t> latest_mtime_s;  ///< what is younger is given this time
  std::vector<Graft> grafts;
  std::uint32_t graft_uid = 0;  ///< owners of all that is grafted
  std::uint32_t graft_gid = 0;
};
template <class C>
void visit(C& c, PackRequest& r) {
  c(r.path);
  c(r.name);
  c(r.as_layer);
  c(r.latest_mtime_s);
  c(r.grafts);
  c(r.graft_uid);
  c(r.graft_gid);
}

/// What lies at a path of a container.
struct PathStatus {
  std::uint32_t mode = 0;  ///< st_mode
  std::uint64_t size_bytes = 0;
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::string link_target;  ///< of a symbolic link: the absolute path inside the root that it leads to, whether that exists or not
};
template <class C>
void visit(C& c, PathStatus& s) {
  c(s.mode);
  c(s.size_bytes);
  c(s.mtime_s);
  c(s.mtime_ns);
  c(s.link_target);
}

/// Writes the tree and the end marker. Folders come before what is in them, names in byte order; times are whole seconds, as docker
/// writes them; further links to a file become hard links to the first; sockets are left out, and so is what is in mounts of the
/// kernel's own (proc, sysfs); files with a megabyte of holes are written sparse. A file is taken with the size it has when it is opened: one that shrinks meanwhile is filled up with zeros.
/// What is grafted is taken for files and nothing else: marks of an overlay in it mean nothing, and access control lists stay behind.
/// `root_fd` and `graft_fd`, the second tree, are borrowed, opened for reading. Errors: not_found (path, source), invalid (a name too long for an archive, or ".wh." in a
/// layer; a grafted name that the folder has, or a folder that is not there), io.
Status pack_tree(int root_fd, const PackRequest& request, TarWriter& tar, int graft_fd = -1);

/// Errors: not_found ("no such file or directory").
Result<PathStatus> look_at(int root_fd, const std::string& path);

}  // namespace caisson::image

// pack: a tree of files → a tar, the same bytes for the same tree. Runs inside the worker, on trees that containers wrote.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.hpp"
#include "image/tar_writer.hpp"

namespace caisson::image {

struct PackRequest {
  std::string path;       ///< in the root, as a user writes it; a last symbolic link is packed as one unless "/" or "/." follows
  std::string name;       ///< of the first entry, in place of the path's last part; "": entries are named below the path, which itself is left out
  bool as_layer = false;  ///< an overlay's upperdir: its whiteouts and opaque marks become the ".wh." entries of image layers
};
template <class C>
void visit(C& c, PackRequest& r) {
  c(r.path);
  c(r.name);
  c(r.as_layer);
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
/// `root_fd` is borrowed, opened for reading. Errors: not_found (path), invalid (a name too long for an archive, or ".wh." in a layer), io.
Status pack_tree(int root_fd, const PackRequest& request, TarWriter& tar);

/// Errors: not_found ("no such file or directory").
Result<PathStatus> look_at(int root_fd, const std::string& path);

}  // namespace caisson::image

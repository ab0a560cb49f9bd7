// LayerTarget: where a layer's tree comes to be, as the rules of unpacking (unpack.cpp) ask for it: a directory on disk, or an index over
// the layer's tar.
#pragma once

#include <string>

#include "base/result.hpp"
#include "image/layer_tree.hpp"
#include "image/tar_reader.hpp"

namespace caisson::image {

/// Every name is one component in a directory that the tree knows. What makes something fails with EEXIST when the name is taken, what
/// needs something with ENOENT when it is not there; both as the system calls of these names do.
class LayerTarget {
 public:
  using Directory = LayerTree::Directory;
  virtual ~LayerTarget() = default;

  /// `made` has its parent and its name; its attributes come with finish_directory.
  virtual Status make_directory(Directory& made) = 0;
  /// With the contents, which are read from `tar`.
  virtual Status make_file(Directory& parent, const std::string& name, const TarEntry& entry, TarReader& tar) = 0;
  virtual Status make_symlink(Directory& parent, const std::string& name, const TarEntry& entry) = 0;
  virtual Status make_fifo(Directory& parent, const std::string& name, const TarEntry& entry) = 0;
  /// overlayfs's mark for "not here": a character device 0/0.
  virtual Status make_whiteout(Directory& parent, const std::string& name) = 0;
  virtual Status make_hard_link(Directory& from, const std::string& target, Directory& parent, const std::string& name) = 0;
  /// Only when all else is there. `node` has its path.
  virtual Status make_device(Directory& parent, const std::string& name, const DeviceNode& node) = 0;

  /// What is no directory.
  virtual Status remove(Directory& parent, const std::string& name) = 0;
  /// With all below it; the tree forgets it next.
  virtual Status remove_directory(Directory& directory) = 0;
  virtual Result<bool> exists(Directory& parent, const std::string& name) = 0;
  /// Gives it its attributes and overlayfs's marks (`is_opaque`, whiteouts). Children come before their parents.
  virtual Status finish_directory(Directory& directory) = 0;
};

/// overlayfs's marks on directories, for overlays that are mounted with `userxattr`.
inline constexpr const char* opaque_xattr = "user.overlay.opaque";
/// Without it, readdir of a directory that only one layer has lists the whiteouts (measured on 6.18).
inline constexpr const char* origin_xattr = "user.overlay.origin";

}  // namespace caisson::image

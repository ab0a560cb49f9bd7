// unpack_layer: a layer's tar stream → a directory that is an overlay lowerdir. Runs inside the unpack worker.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "image/layer_target.hpp"
#include "image/tar_reader.hpp"

namespace caisson::image {

struct UnpackedLayer {
  std::vector<DeviceNode> devices;        ///< not made here: by the parent
  std::vector<std::string> implied_dirs;  ///< directories that the tar names only as part of other names; "" is the root
  std::uint64_t size_bytes = 0;           ///< of all files' contents
  std::uint64_t disk_bytes = 0;           ///< of a directory: what it takes on the disk
  std::uint64_t entries = 0;
};
template <class C>
void visit(C& c, UnpackedLayer& l) {
  c(l.devices);
  c(l.implied_dirs);
  c(l.size_bytes);
  c(l.disk_bytes);
  c(l.entries);
}

/// Unpacks all of `tar` into the empty directory `root_fd` (borrowed). Whiteouts become char devices 0/0 and
/// `user.overlay.*` attributes, for overlays mounted with `userxattr`; such attributes and devices of the input are dropped.
/// Ids are written as they are; the caller's mount maps them. Preconditions: umask 0; nobody else changes the directory.
/// Errors: invalid, naming the entry (a name that leads out, a link to nothing, ids beyond 65535); unavailable (disk full);
/// unsupported (the file system has no user attributes); io.
Status unpack_layer(TarReader& tar, int root_fd, UnpackedLayer& out);
/// The same with a form that others ask meanwhile how large it has become. `form` adds its devices to `out`.
Status unpack_layer(TarReader& tar, class DirectoryForm& form, UnpackedLayer& out);
/// The rules of the above, for whatever the tree is to become.
Status unpack_into(LayerTarget& target, TarReader& tar, UnpackedLayer& out);

}  // namespace caisson::image

// transplant: what one overlay's writable layer holds, put into another's; and the device nodes that a layer asks for.
#pragma once

#include "base/result.hpp"
#include "image/layer_tree.hpp"

namespace caisson::image {

/// Makes a node below `root_fd`, whose folders keep their times. The list of nodes may come from a process that read hostile input.
/// Without the right to make nodes it is left out. Errors: invalid (no name, or one that leads out), not_found (its folder), io.
Status make_device(int root_fd, const DeviceNode& node);

/// Copies the upperdir `from_fd` into the empty folder `to_fd` (both borrowed, opened for reading): owners, modes, times in whole seconds, attributes,
/// hard links and device nodes; whiteouts and opaque marks, also those of an overlay mounted without `userxattr`, become marks of ours; sockets
/// are left out. For root, on folders that nobody else changes. The process's umask is 0 meanwhile. Errors: unsupported (a folder that was renamed
/// across layers, or a file whose contents lie in a lower one); those of pack_tree and unpack_layer.
Status copy_upperdir(int from_fd, int to_fd);

}  // namespace caisson::image

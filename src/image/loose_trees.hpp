// Trees that lie outside the store and have to do with it all the same: made of its layers, or counted in its quota.
#pragma once

#include <cstdint>
#include <string>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "image/image_store.hpp"

namespace caisson::image {

/// The tree of a layer that is held, once more: into an empty folder (borrowed, opened for reading), by a worker; ids on disk are the layer's. While it is unpacked
/// it takes room of the quota. A whiteout becomes a character device 0/0, which nobody can open. Errors: invalid (device nodes), corrupt, unavailable (full disk, cancelled), io;
/// unsupported, of a store that keeps no files.
Status extract_layer(ImageStore& store, const MadeLayer& layer, int target_fd, Cancel cancel);
/// A folder of somebody else's counts in the quota from now on, with so many bytes; 0: no more. It is never refused: who keeps it makes room (ImageStore::when_full).
void count_folder(ImageStore& store, const std::string& path, std::uint64_t bytes);

}  // namespace caisson::image

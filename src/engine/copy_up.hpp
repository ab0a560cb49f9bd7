// The image's content at a path, copied into a volume that is used there for the first time.
#pragma once

#include <span>
#include <string>

#include "base/result.hpp"

namespace caisson::engine {

/// Merges what `layers` (topmost first) hold at `path` into the empty folder `target_fd`, with owners, modes, times and attributes
/// as they are on disk; the folder itself takes those of the image's. Whiteouts and opaque marks are obeyed; nothing outside a layer is
/// followed; sockets and device nodes are left out. A path that no layer has, or that is no folder, copies nothing.
/// Returns whether the image has a folder there. Errors: unavailable (full disk), io, invalid (deeper than 128 folders).
Result<bool> copy_from_layers(std::span<const std::string> layers, const std::string& path, int target_fd);

}  // namespace caisson::engine

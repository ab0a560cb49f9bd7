// The folders and empty files that every container mounts over, as a lowest layer that all containers share.
#pragma once

#include <string>

#include "base/result.hpp"

namespace caisson::engine {

/// Makes them below `dir`; safe to repeat. As the lowest of an overlay's layers it shows only what the image lacks. Without it the runtime
/// would make these files in the writable layer of every container: measured on ext4, 3 files and a copied-up /etc were an
/// eighth of what monitor and container cost, and `export` or a commit would find them there.
Status make_mount_points(const std::string& dir);

}  // namespace caisson::engine

// Reading /etc/passwd and /etc/group out of a container's layers, without mounting or trusting them.
#pragma once

#include <span>
#include <string>

#include "engine/user_lookup.hpp"

namespace caisson::engine {

/// From the topmost of `layers` (topmost first) that has the file; a whiteout or anything but a regular file counts as an empty one.
/// A layer that cannot be read is passed over. At most 1 MiB of each file is taken.
AccountFiles read_account_files(std::span<const std::string> layers);

}  // namespace caisson::engine

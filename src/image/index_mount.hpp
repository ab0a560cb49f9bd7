// Mounting an index with the tar that it tells about, and finding out whether this kernel and the store's file system do so.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::image {

/// A detached read-only mount of an index (borrowed, as the tar is; both opened for reading). Both files may go away while it lives, and
/// must not be written to. No setuid and no device of it counts where it is attached; overlays upon it have flags of their own.
/// Privilege: CAP_SYS_ADMIN in the first user namespace. Errors: unsupported and denied where the kernel (before 6.12), the file system
/// (tmpfs) or the lack of rights do not allow it.
Result<UniqueFd> mount_index(int index_fd, int tar_fd);

/// Makes a small index below `folder`, mounts it, and reads it as a container would: through a map of ids that begins at `first_id` (0: without
/// a map, as in a user namespace) and an overlay. Leaves nothing. Errors: what is missing.
Status try_index(const std::string& folder, std::uint32_t first_id);

}  // namespace caisson::image

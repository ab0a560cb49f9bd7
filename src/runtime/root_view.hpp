// RootView: a container's file system as the container sees it, for somebody outside who copies files; visible to nobody else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/mount.hpp"

namespace caisson::runtime {

/// One more mount of a view.
struct ViewMount {
  std::string source;   ///< folder or file on the host
  std::string target;   ///< in the container; made when it is missing
  bool read_only = false;
  bool recursive = true;
};

struct ViewRequest {
  linux::Overlay rootfs;            ///< without upperdir: read-only
  bool read_only = false;           ///< the root; mounts say so themselves
  std::vector<ViewMount> mounts;    ///< parents before children
  std::uint32_t first_host_id = 0;  ///< what is 0 on disk belongs to this id in the view, and so on for 65536 ids; 0: nothing is mapped
};

struct RootView {
  UniqueFd mount_namespace;  ///< keeps the mounts alive; empty when nothing is mounted below the root
  UniqueFd root;             ///< a folder, opened for reading
};

/// Mounts it where only the descriptors lead: detached, or in a mount namespace that no process is in. Nothing appears among the host's
/// mounts, and everything is gone with the last descriptor, also after a crash. Safe from several threads.
/// Precondition: nobody has the upperdir mounted, and no start can begin before the view is closed.
/// Privilege: CAP_SYS_ADMIN. Errors: those of the mounts, naming each.
Result<RootView> open_root_view(const ViewRequest& request);

/// The root of a running container, with all that it has mounted. `start_time` guards against a pid that was used again.
/// Errors: conflict when that process is gone.
Result<RootView> open_running_root(int pid, std::uint64_t start_time);

}  // namespace caisson::runtime

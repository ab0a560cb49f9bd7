// What the local volume driver's options ask for: a bind of a folder, or a file system that is mounted while containers use it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "engine/types.hpp"

namespace caisson::engine {

/// type, o, device and size. Errors: invalid, in docker's words.
Status check_volume_options(const std::map<std::string, std::string>& options);

/// "ro,nosuid,addr=10.0.0.1,vers=4" as mount(2) takes it.
struct MountWords {
  unsigned long flags = 0;  ///< MS_*
  std::string data;         ///< the words that are the file system's own
};
MountWords parse_mount_words(std::string_view words);

/// True for a volume whose type is a file system (nfs, tmpfs, ext4); its folder is a mount point while it is used.
bool is_file_system(const VolumeInfo& volume);
/// The folder that holds the volume's files: the device of a bind, else the volume's own.
std::string contents_of(const VolumeInfo& volume);

using LoadVolume = std::function<Result<VolumeInfo>(const std::string& name)>;
/// Where a container's volumes come from when that is not simply their folder.
struct VolumeSources {
  struct Source {
    std::string path;
    bool read_only = false;
  };
  std::map<std::string, Source> by_destination;
  std::vector<UniqueFd> held;  ///< folders of subpaths: the paths lead to these descriptors, so that nothing is resolved twice
};
/// Mounts file systems that are not mounted yet, and resolves subpaths inside their volume, and binds beneath what was granted. Privilege:
/// CAP_SYS_ADMIN for file systems. Errors: those of mount(2), naming the volume; not_found (a subpath, a bind's device), denied (a bind that
/// leads out of its grant).
Result<VolumeSources> open_volume_sources(const ContainerInfo& info, const LoadVolume& load);
/// The source of a bind, resolved beneath the folder that was granted: a symbolic link that leads out is refused. O_PATH. Errors: not_found,
/// denied, naming both.
Result<UniqueFd> open_within(const std::string& within, const std::string& source);
/// Puts them in the place of the folders that `info.mounts` names.
void apply_volume_sources(ContainerInfo& info, const VolumeSources& sources);

/// Unmounts a volume's file system if it is mounted. Who still has it mounted elsewhere keeps it.
Status unmount_volume(const VolumeInfo& volume);

}  // namespace caisson::engine

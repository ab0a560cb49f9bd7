// Folders: listing, making and removing whole trees by descriptors, safe against whoever changes them meanwhile.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "linux/file.hpp"

namespace caisson::linux {

enum class FileType : std::uint8_t { unknown, regular, directory, symlink, character_device, block_device, fifo, socket };

struct DirectoryEntry {
  std::string name;
  FileType type = FileType::unknown;  ///< unknown on file systems that do not tell (ask fstatat)
  std::uint64_t inode = 0;
};
/// All entries but "." and "..", in the kernel's order. `dir_fd` must be opened for reading; it is rewound first.
Result<std::vector<DirectoryEntry>> list_dir(int dir_fd);
Result<std::vector<DirectoryEntry>> list_dir(PathArg path);

/// mkdir -p for trusted paths: existing folders are kept as they are, new ones get exactly `mode` (no umask).
Status make_dirs(PathArg path, mode_t mode);
/// mkdir -p below a root: every part is resolved with open_in_root, so that symbolic links and ".." of a hostile tree
/// stay inside. Returns the last folder (O_PATH). Errors: io (ENOTDIR) when a part exists and is no folder.
Result<UniqueFd> make_dirs_in_root(int root_fd, PathArg path, mode_t mode);

/// Removes `name` (a plain name, no "/") in dir_fd with all below it. Symbolic links are removed, never followed; a mount
/// point inside is an error (EBUSY) and nothing of the mounted tree is touched; a folder swapped for a link meanwhile
/// is removed as the link. A name that does not exist is success. Folders without permissions are made passable first.
Status remove_tree(int dir_fd, PathArg name);
Status remove_tree(PathArg path);
/// The same for everything inside an open folder, which itself stays.
Status remove_children(int dir_fd);

/// Sum of the blocks' sizes (512-byte blocks × 512) of a tree and the number of its inodes; does not cross mounts or
/// follow links. A file with several links is counted once.
struct TreeUsage {
  std::uint64_t size_bytes = 0;
  std::uint64_t inodes = 0;
};
Result<TreeUsage> tree_usage(PathArg path);

}  // namespace caisson::linux

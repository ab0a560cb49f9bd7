// erofs_writer: a tree in memory → the bytes of an EROFS image that holds names and attributes only; the contents of its files lie
// in a second file, the layer's tar (Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::image {

constexpr std::uint32_t erofs_block_bits = 9;  // a tar's own blocks: contents begin where EROFS can point to
constexpr std::uint32_t erofs_block_bytes = 1U << erofs_block_bits;
constexpr std::uint32_t erofs_hole = 0xFFFFFFFF;

/// A file as equal chunks of a power of two of blocks, each somewhere in the tar.
struct ErofsChunks {
  std::uint32_t bits = 0;               ///< a chunk has erofs_block_bytes << bits bytes; at most 31
  std::vector<std::uint32_t> blocks;    ///< of the tar; erofs_hole: zeros
};

struct ErofsNode {
  std::uint32_t mode = 0;  ///< with the type (S_IFMT)
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t links = 0;       ///< names it has; 0: it was replaced, and is not written. Not counted for directories
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::uint32_t xattrs = 0;      ///< place in ErofsTree::xattrs
  std::uint64_t size_bytes = 0;  ///< of a regular file
  /// A regular file's place in `files`; a directory's in `directories`, a symbolic link's in `targets`; a device's number as EROFS writes it.
  std::uint32_t value = 0;
};

struct ErofsTree {
  using Names = std::map<std::string, std::uint32_t, std::less<>>;  ///< name → place in `nodes`
  std::vector<ErofsNode> nodes;  ///< 0 is the root
  std::vector<Names> directories;
  std::vector<std::string> targets;
  std::vector<ErofsChunks> files;
  std::vector<std::map<std::string, std::string>> xattrs;  ///< whole names, "user.x"; 0 is empty
};

/// A device number as in an inode.
std::uint32_t erofs_device(std::uint32_t major, std::uint32_t minor);

/// True when a node with these attributes can be written.
bool erofs_can_hold(const std::map<std::string, std::string>& xattrs);

/// `tar_blocks`: length of the second file, in blocks. The same tree gives the same bytes. Preconditions: a tree without cycles;
/// erofs_can_hold every set of attributes; no empty names.
/// Errors: unsupported (more than 2^32 blocks); those of `sink`.
Status write_erofs(const ErofsTree& tree, std::uint64_t tar_blocks, const std::function<Status(std::string_view)>& sink);

}  // namespace caisson::image

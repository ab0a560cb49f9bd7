// Trees of files that go from a context or a stage into a layer: finding them, their digest, and copying them.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/cancel.hpp"
#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "dockerfile/ignore.hpp"
#include "image/pack.hpp"
#include "linux/file.hpp"

namespace caisson::build {

/// Paths below `root_fd` that a source of COPY means, in order of names: the path itself, or what its wildcards match.
/// `root_fd`: a folder opened for reading; no path leads out of it. A plain path that is missing is an error of kind not_found.
Result<std::vector<std::string>> find_sources(int root_fd, std::string_view source);

/// What a tree may cost. An archive of a few bytes may hold a file of terabytes that is all holes.
struct TreeLimits {
  Cancel cancel;                                                                  ///< asked every few megabytes
  std::uint64_t most_hole_bytes = std::numeric_limits<std::uint64_t>::max();      ///< of all files together: there would be no room for their layer
};

/// The digest of a file or of a folder with all below it: names, types, modes, owners where `with_owners`, contents, link targets,
/// extended attributes; no times. Contents are read once per inode.
class TreeHasher {
 public:
  TreeHasher(const dockerfile::IgnoreList* exclude, bool with_owners, TreeLimits limits = {}) : exclude_(exclude), with_owners_(with_owners), limits_(limits) {}
  /// Errors: also unavailable (cancelled; holes beyond the limit, naming the file).
  Result<std::string> digest(int root_fd, const std::string& path);

 private:
  Status add(int dir_fd, const std::string& name, const std::string& shown, Hasher& hasher);
  Status add_folder(int fd, const std::string& shown, Hasher& hasher);
  Status add_content(int fd, const linux::FileStatus& status, const std::string& shown, Hasher& hasher);
  const dockerfile::IgnoreList* exclude_;
  bool with_owners_;
  TreeLimits limits_;
  std::uint64_t hole_bytes_ = 0;
};

struct CopyOptions {
  std::optional<std::pair<std::uint32_t, std::uint32_t>> owner;  ///< none: the source's
  std::string mode;                                              ///< --chmod; "": the source's
  const dockerfile::IgnoreList* exclude = nullptr;               ///< borrowed; paths relative to the source
  Cancel cancel;
  /// Borrowed, set: what nothing in the destination stands in the way of is named here instead of being copied. Then also the paths of
  /// both folders: of the destination in the layer ("" its root), and of the source. For folders, with neither mode nor exclude.
  std::vector<image::Graft>* grafts = nullptr;
  std::string graft_folder;
  std::string graft_source;
};

/// Copies files, folders, links and devices by descriptors; never follows a symbolic link that lies in either tree.
class TreeCopier {
 public:
  explicit TreeCopier(CopyOptions options) : options_(std::move(options)) {}

  /// What lies in the open folder goes into the folder `to_fd`, which keeps its own attributes.
  Status copy_children(int from_fd, int to_fd);
  /// The open regular file (O_PATH will do) becomes `to_name` of to_fd; a file there is replaced.
  Status copy_file(int from_fd, int to_fd, const std::string& to_name);

 private:
  Status copy_entry(int from_fd, const std::string& from_name, int to_fd, const std::string& to_name, const std::string& shown);
  Status copy_folder(int from_fd, const std::string& from_name, int to_fd, const std::string& to_name, const linux::FileStatus& status, const std::string& shown);
  Status copy_all_in(int from_fd, int to_fd, const std::string& above);
  Status copy_content(int from_fd, int to_fd, const std::string& to_name, const linux::FileStatus& status);
  Status copy_special(int from_fd, const std::string& from_name, int to_fd, const std::string& to_name, const linux::FileStatus& status);
  Status set_attributes(int from_fd, int fd, const linux::FileStatus& status, bool is_folder) const;

  CopyOptions options_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, UniqueFd> linked_;  ///< copies of files that have several names
};

/// The folder at `path` in the root, made with its missing parents (0755, `owner`). Returns it opened for reading.
Result<UniqueFd> make_folders(int root_fd, std::string_view path, std::pair<std::uint32_t, std::uint32_t> owner);

/// "644", "0755", "u=rwX,go=rX", "+x" upon `current`. Errors: invalid.
Result<std::uint32_t> change_mode(std::string_view text, std::uint32_t current, bool is_folder);

}  // namespace caisson::build

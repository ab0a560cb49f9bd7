// Paths that a user names inside a container: split as docker does, and resolved inside the container's root.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::image {

/// "/a/../b//c" → {"/b", "c"}; "/a/" and "/a/." → {"/a", ""}: the path itself, a link at its end followed; "/" → {"/", ""}.
struct SplitPath {
  std::string folder;  ///< absolute, without "." and ".."
  std::string name;    ///< not followed when it is a symbolic link; "": the folder is what was meant
};
SplitPath split_root_path(std::string_view path);

/// A descriptor (O_PATH) of the folder that `path` lies in or is, and the name in it ("": the descriptor itself).
struct FoundPath {
  UniqueFd folder;
  std::string name;
};
Result<FoundPath> find_in_root(int root_fd, std::string_view path);

/// The absolute path without symbolic links that `path` leads to inside the root. Parts that do not exist are kept as they are.
/// Errors: invalid (more than 255 links).
Result<std::string> resolve_in_root(int root_fd, std::string_view path);

}  // namespace caisson::image

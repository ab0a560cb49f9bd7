// LayerTree: the directories and symbolic links of a layer being unpacked. Names are resolved here, in memory; where the tree comes
// to be is only ever asked for (directory, one component).
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "image/tar.hpp"

namespace caisson::image {

/// A device node that the privileged parent has to make, because a user namespace may not.
struct DeviceNode {
  std::string path;  ///< below the layer's root, normalised: "dev/null"
  bool is_block = false;
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
};
template <class C>
void visit(C& c, DeviceNode& n) {
  c(n.path);
  c(n.is_block);
  c(n.mode);
  c(n.uid);
  c(n.gid);
  c(n.major);
  c(n.minor);
  c(n.mtime_s);
  c(n.mtime_ns);
}

/// A name split into components: "." and "" dropped, ".." taken lexically, a leading slash dropped (as docker does).
/// Errors: invalid when it leads out of the root, a component is longer than 255 bytes, or there are more than 255.
Result<std::vector<std::string>> clean_components(std::string_view name);

class LayerTarget;

class LayerTree {
 public:
  struct Directory {
    Directory* parent = nullptr;
    std::string name;
    std::map<std::string, std::unique_ptr<Directory>, std::less<>> directories;
    std::map<std::string, std::string, std::less<>> links;  ///< symbolic links: name → target
    std::map<std::string, DeviceNode, std::less<>> devices;
    std::set<std::string, std::less<>> whiteouts;
    bool is_opaque = false;
    bool is_implied = true;  ///< no entry of its own so far
    TarEntry attributes;     ///< applied when all is unpacked; the name is not used
    // The target's own, whichever of the two it is.
    UniqueFd fd;                             // a directory on disk: open, perhaps
    std::list<Directory*>::iterator recent;  // valid while fd is open
    std::uint32_t node = 0;                  // an index: its number there; the root is 0
  };

  /// `target` is borrowed.
  explicit LayerTree(LayerTarget& target);

  Directory& root() { return root_; }
  enum class Missing : std::uint8_t { create, refuse };
  /// Follows symbolic links of this layer, inside the root. Missing directories are made as implied ones with `mtime` of
  /// `entry`. Errors: invalid (a file is in the way, too many links), not_found (Missing::refuse).
  Result<Directory*> resolve(const std::vector<std::string>& components, std::size_t count, Missing missing, const TarEntry& entry);
  /// Makes the directory `name`, which must not exist. Errors: the target's (EEXIST when a file has the name).
  Result<Directory*> make_directory(Directory& parent, const std::string& name);
  /// Forgets and deletes a directory with all below it.
  Status remove_directory(Directory& parent, const std::string& name);
  /// "usr/lib"; "" for the root.
  static std::string path_of(const Directory& directory);
  /// All directories, children before their parents.
  Status for_each(const std::function<Status(Directory&)>& visit);
  /// Grows when a name that resolved once may resolve to something else now.
  [[nodiscard]] std::uint64_t generation() const { return generation_; }

 private:
  LayerTarget& target_;
  Directory root_;
  std::uint64_t generation_ = 0;
};

}  // namespace caisson::image

// IndexForm: a layer as an EROFS index over its tar. Nothing is made on disk but the index; what a name is, is decided in memory.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "image/erofs_writer.hpp"
#include "image/layer_target.hpp"

namespace caisson::image {

/// Attributes that a directory takes from the layer below (images-and-build.md, implied parents).
struct DirectoryAttributes {
  std::string name;  ///< "var/lib"; "" is the root
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::map<std::string, std::string> xattrs;  ///< as the kernel gave them
};
template <class C>
void visit(C& c, DirectoryAttributes& a) {
  c(a.name);
  c(a.mode);
  c(a.uid);
  c(a.gid);
  c(a.mtime_s);
  c(a.mtime_ns);
  c(a.xattrs);
}

/// Whether an Error says that a layer is fine but cannot be told by an index (a sparse file whose pieces do not begin at blocks, an access
/// list, more names than memory is given for): it has to become a directory.
bool is_beyond_an_index(const Error& error);

class IndexForm final : public LayerTarget {
 public:
  /// `settled`: for directories that the tar names only in passing, sorted by name or not; borrowed.
  explicit IndexForm(const std::vector<DirectoryAttributes>& settled);

  Status make_directory(Directory& made) override;
  Status make_file(Directory& parent, const std::string& name, const TarEntry& entry, TarReader& tar) override;
  Status make_symlink(Directory& parent, const std::string& name, const TarEntry& entry) override;
  Status make_fifo(Directory& parent, const std::string& name, const TarEntry& entry) override;
  Status make_whiteout(Directory& parent, const std::string& name) override;
  Status make_hard_link(Directory& from, const std::string& target, Directory& parent, const std::string& name) override;
  Status make_device(Directory& parent, const std::string& name, const DeviceNode& node) override;
  Status remove(Directory& parent, const std::string& name) override;
  Status remove_directory(Directory& directory) override;
  Result<bool> exists(Directory& parent, const std::string& name) override;
  Status finish_directory(Directory& directory) override;

  /// When all of a tar of so many bytes was unpacked. Errors: is_beyond_an_index; those of `sink`.
  Status write(std::uint64_t tar_bytes, const std::function<Status(std::string_view)>& sink) const;

 private:
  ErofsTree::Names& names(const Directory& directory) { return tree_.directories[tree_.nodes[directory.node].value]; }
  /// A node under a name that is free. Errors: EEXIST; is_beyond_an_index.
  Result<std::uint32_t> add(Directory& parent, const std::string& name, const ErofsNode& node, std::size_t further_bytes);
  Result<std::uint32_t> intern(std::map<std::string, std::string> xattrs);
  void drop(std::uint32_t number);

  ErofsTree tree_;
  std::map<std::map<std::string, std::string>, std::uint32_t> known_xattrs_;
  std::map<std::string, const DirectoryAttributes*, std::less<>> settled_;
  std::size_t used_bytes_ = 0;
};

}  // namespace caisson::image

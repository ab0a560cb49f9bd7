// DirectoryForm: a layer as a directory of the host's file system. The disk is only ever touched as (directory descriptor, one component).
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <vector>

#include "image/layer_target.hpp"

namespace caisson::image {

class DirectoryForm final : public LayerTarget {
 public:
  /// `root_fd` is borrowed, opened for reading, and empty. Device nodes are not made here but added to `devices`: a user namespace
  /// may not make any.
  DirectoryForm(int root_fd, std::vector<DeviceNode>& devices) : root_fd_(root_fd), devices_(devices) {}

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

  /// What lies on the disk so far, in bytes. A folder that made room for something else is still counted: rather too much than too little.
  [[nodiscard]] Result<std::uint64_t> disk_bytes() const;

 private:
  /// A descriptor for reading; valid until the next call (at most a few hundred are kept open).
  Result<int> descriptor(Directory& directory);
  void close_all_below(Directory& directory);

  int root_fd_;
  std::vector<DeviceNode>& devices_;
  std::list<Directory*> open_;  // most recently used first
  std::uint64_t finished_bytes_ = 0;
  int writing_fd_ = -1;  // of the file that is being written
};

}  // namespace caisson::image

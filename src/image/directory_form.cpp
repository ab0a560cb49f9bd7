// System calls that make a layer's tree, and a bounded cache of directory descriptors.
#include "image/directory_form.hpp"

#include <algorithm>
#include <cerrno>

#include "base/strings.hpp"
#include "image/file_attributes.hpp"
#include "image/store_account.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::image {

namespace {
constexpr std::size_t most_open_directories = 256;
constexpr std::size_t shortest_stored_link = 60;  // shorter ones lie in the inode (ext4's limit; those of xfs and btrfs are above it)
constexpr int directory_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
}  // namespace

Result<int> DirectoryForm::descriptor(Directory& directory) {
  if (directory.parent == nullptr) return root_fd_;
  if (directory.fd) {
    open_.splice(open_.begin(), open_, directory.recent);
    return directory.fd.get();
  }
  std::vector<Directory*> chain;
  Directory* open_ancestor = &directory;
  while (open_ancestor->parent != nullptr && !open_ancestor->fd) {
    chain.push_back(open_ancestor);
    open_ancestor = open_ancestor->parent;
  }
  int at = open_ancestor->parent == nullptr ? root_fd_ : open_ancestor->fd.get();
  UniqueFd held;
  for (auto step = chain.rbegin(); step != chain.rend(); ++step) {
    auto next = TRY_PLAIN(linux::openat(at, (*step)->name, directory_flags));
    held = std::move(next);
    at = held.get();
  }
  if (open_.size() >= most_open_directories) {
    open_.back()->fd.reset();
    open_.pop_back();
  }
  open_.push_front(&directory);
  directory.recent = open_.begin();
  directory.fd = std::move(held);
  return directory.fd.get();
}

void DirectoryForm::close_all_below(Directory& directory) {
  std::vector<Directory*> todo{&directory};
  while (!todo.empty()) {
    auto* at = todo.back();
    todo.pop_back();
    if (at->fd) {
      open_.erase(at->recent);
      at->fd.reset();
    }
    for (auto& [name, child] : at->directories) todo.push_back(child.get());
  }
}

Status DirectoryForm::make_directory(Directory& made) {
  // Passable for us only until its own attributes are applied at the end: a setgid or unreadable directory would get in the way.
  return linux::mkdirat(TRY_PLAIN(descriptor(*made.parent)), made.name, 0700);
}

Status DirectoryForm::make_file(Directory& parent, const std::string& name, const TarEntry& entry, TarReader& tar) {
  int fd = TRY_PLAIN(descriptor(parent));
  auto mode = static_cast<mode_t>(entry.mode & 0777);
  auto file = TRY_PLAIN(linux::openat(fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode));
  writing_fd_ = file.get();
  auto written = write_contents(tar, file.get(), entry);
  writing_fd_ = -1;
  TRY_PLAIN(std::move(written));
  TRY_PLAIN(apply_attributes(file.get(), entry, true));
  finished_bytes_ += disk_bytes_of(TRY_PLAIN(linux::fstat(file.get())));
  return {};
}

Result<std::uint64_t> DirectoryForm::disk_bytes() const {
  if (writing_fd_ < 0) return finished_bytes_;
  return finished_bytes_ + disk_bytes_of(TRY_PLAIN(linux::fstat(writing_fd_)));
}

Status DirectoryForm::make_symlink(Directory& parent, const std::string& name, const TarEntry& entry) {
  int fd = TRY_PLAIN(descriptor(parent));
  TRY_PLAIN(linux::symlinkat(entry.link_target, fd, name));
  if (entry.link_target.size() >= shortest_stored_link) finished_bytes_ += disk_bytes_of(TRY_PLAIN(linux::fstatat(fd, name, AT_SYMLINK_NOFOLLOW)));
  return apply_link_attributes(fd, name, entry);
}

Status DirectoryForm::make_fifo(Directory& parent, const std::string& name, const TarEntry& entry) {
  int fd = TRY_PLAIN(descriptor(parent));
  TRY_PLAIN(linux::mknodat(fd, name, static_cast<mode_t>(S_IFIFO | (entry.mode & 0777)), 0));
  return apply_link_attributes(fd, name, entry);
}

Status DirectoryForm::make_whiteout(Directory& parent, const std::string& name) {
  // 0/0 needs no privilege since 5.8.
  return linux::mknodat(TRY_PLAIN(descriptor(parent)), name, S_IFCHR, linux::make_device(0, 0));
}

Status DirectoryForm::make_hard_link(Directory& from, const std::string& target, Directory& parent, const std::string& name) {
  // Two descriptors at once: the first stays open, because the cache closes the least recently used one only.
  int from_fd = TRY_PLAIN(descriptor(from));
  return linux::linkat(from_fd, target, TRY_PLAIN(descriptor(parent)), name);
}

Status DirectoryForm::make_device(Directory&, const std::string&, const DeviceNode& node) {
  devices_.push_back(node);
  return {};
}

Status DirectoryForm::remove(Directory& parent, const std::string& name) {
  int fd = TRY_PLAIN(descriptor(parent));
  const auto status = TRY_PLAIN(linux::fstatat(fd, name, AT_SYMLINK_NOFOLLOW));
  TRY_PLAIN(linux::unlinkat(fd, name));
  if (status.st_nlink == 1) finished_bytes_ -= std::min(finished_bytes_, disk_bytes_of(status));
  return {};
}

Status DirectoryForm::remove_directory(Directory& directory) {
  close_all_below(directory);
  return linux::remove_tree(TRY_PLAIN(descriptor(*directory.parent)), directory.name);
}

Result<bool> DirectoryForm::exists(Directory& parent, const std::string& name) {
  auto found = linux::fstatat(TRY_PLAIN(descriptor(parent)), name, AT_SYMLINK_NOFOLLOW);
  if (!found.ok() && found.error().error_number() == ENOENT) return false;
  if (!found.ok()) return std::move(found).error();
  return true;
}

Status DirectoryForm::finish_directory(Directory& directory) {
  int fd = TRY_PLAIN(descriptor(directory));
  auto mark = [&](const char* name, std::string_view value) -> Status {
    auto set = linux::fsetxattr(fd, name, value);
    if (!set.ok() && set.error().error_number() == EOPNOTSUPP)
      return std::move(set).error().with_hint("The image store needs a file system with user extended attributes, such as ext4, xfs or btrfs");
    return set;
  };
  if (directory.is_opaque) TRY_PLAIN(mark(opaque_xattr, "y"));
  if (!directory.whiteouts.empty()) TRY_PLAIN(mark(origin_xattr, ""));
  TRY_PLAIN(apply_attributes(fd, directory.attributes, false));
  finished_bytes_ += disk_bytes_of(TRY_PLAIN(linux::fstat(fd)));
  return {};
}

}  // namespace caisson::image

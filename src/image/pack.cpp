// A walk by descriptors, never through a symbolic link: whoever changes the tree meanwhile changes what is packed, not where we read.
#include "image/pack.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/strings.hpp"
#include "image/file_attributes.hpp"
#include "image/root_path.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::image {

namespace {

constexpr std::string_view whiteout_prefix = ".wh.";
constexpr std::string_view opaque_marker = ".wh..wh..opq";
constexpr std::size_t longest_name = 4095;  // PATH_MAX without its NUL: nobody could unpack a longer one
constexpr std::size_t buffer_bytes = 1 << 18;
constexpr std::uint64_t least_hole_bytes = 1 << 20;  // below that the description costs more than it saves

bool is_whiteout(const linux::FileStatus& status) { return S_ISCHR(status.st_mode) && status.st_rdev == 0; }

/// File systems that are the kernel's face and no files: what they hold is made up as it is read, or cannot be read at all. Numbers of magic.h (uapi).
bool is_kernels_own(int folder_fd) {
  constexpr std::array<std::uint64_t, 11> magics = {0x9fa0 /* proc */, 0x62656572 /* sysfs */, 0x27e0eb /* cgroup */, 0x63677270 /* cgroup2 */, 0x1cd1 /* devpts */, 0x19800202 /* mqueue */,
                                                    0x64626720 /* debugfs */, 0x74726163 /* tracefs */, 0x73636673 /* securityfs */, 0xcafe4a11 /* bpf */, 0x6165676c /* pstore */};
  auto status = linux::fstatfs(folder_fd);
  return status.ok() && std::find(magics.begin(), magics.end(), static_cast<std::uint64_t>(status->f_type)) != magics.end();
}

/// Ours, and those of an overlay that root has mounted without `userxattr`, as docker does. Only the host's root can read or write the latter.
bool is_opaque(int folder_fd) {
  for (const char* name : {"user.overlay.opaque", "trusted.overlay.opaque"}) {
    auto mark = linux::fgetxattr(folder_fd, name);
    if (mark.ok() && *mark == "y") return true;
  }
  return false;
}

/// What such an overlay keeps in another layer (redirect_dir, metacopy; kernel, Documentation/filesystems/overlayfs.rst) cannot be told in an image's layer.
Status refuse_kept_elsewhere(int fd, const char* attribute, const char* what) {
  if (!linux::fgetxattr(fd, attribute).ok()) return {};
  return Error(ErrorKind::unsupported, concat(what, " in a lower layer (", attribute, ")"));
}

bool is_gone(const Error& error) { return error.error_number() == ENOENT; }

class Packer {
 public:
  Packer(TarWriter& tar, const PackRequest& request, int graft_fd) : tar_(tar), request_(request), graft_fd_(graft_fd), buffer_(buffer_bytes) {}

  Status begin();

  /// `name` in the archive; "": its children only.
  Status add_folder(int fd, const std::string& name);
  Status add(int folder_fd, const std::string& file_name, const std::string& name);
  /// That every graft had its folder.
  [[nodiscard]] Status finish() const;

 private:
  [[nodiscard]] bool reads_overlay() const { return request_.as_layer && !is_grafting_; }
  [[nodiscard]] TarEntry entry_of(std::string name, const linux::FileStatus& status) const;
  [[nodiscard]] Result<std::map<std::string, std::string>> read_xattrs(int fd) const;
  Status add_with_graft(int fd, const std::vector<std::string>& names, const std::string& prefix, const Graft& graft);
  Status add_child(int folder_fd, const std::string& file_name, const std::string& prefix);
  Status add_file(int folder_fd, const std::string& file_name, const std::string& name);
  Status add_link(int folder_fd, const std::string& file_name, const std::string& name, const linux::FileStatus& status);
  Status add_special(const std::string& name, const linux::FileStatus& status);
  Status add_mark(const std::string& name);
  Status add_contents(int fd, const TarEntry& entry);
  Status add_bytes(int fd, std::uint64_t offset, std::uint64_t length);
  Result<bool> add_hard_link(const std::string& name, const linux::FileStatus& status);

  TarWriter& tar_;
  const PackRequest& request_;
  int graft_fd_;
  std::map<std::string, const Graft*> grafts_;  ///< by folder, those whose folder has not come yet
  bool is_grafting_ = false;
  std::vector<char> buffer_;
  std::optional<dev_t> device_;  ///< of the first folder
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;  ///< first names of files that have several
};

Status Packer::begin() {
  for (const auto& graft : request_.grafts)
    if (!grafts_.emplace(graft.folder, &graft).second) return Error(ErrorKind::invalid, concat("\"", graft.folder, "\": two grafts into one folder"));
  return {};
}

TarEntry Packer::entry_of(std::string name, const linux::FileStatus& status) const {
  TarEntry entry;
  entry.name = std::move(name);
  entry.mode = status.st_mode & 07777;
  entry.uid = is_grafting_ ? request_.graft_uid : status.st_uid;
  entry.gid = is_grafting_ ? request_.graft_gid : status.st_gid;
  entry.mtime_s = status.st_mtim.tv_sec;
  if (request_.latest_mtime_s) entry.mtime_s = std::min(entry.mtime_s, *request_.latest_mtime_s);
  return entry;
}

/// An access control list names users of wherever the second tree came from.
Result<std::map<std::string, std::string>> Packer::read_xattrs(int fd) const {
  auto attributes = TRY_PLAIN(read_kept_xattrs(fd));
  if (is_grafting_) std::erase_if(attributes, [](const auto& attribute) { return attribute.first.starts_with("system."); });
  return attributes;
}

/// An empty file whose name says that something below is hidden (image-spec, layer.md). Its attributes mean nothing, so they are fixed.
Status Packer::add_mark(const std::string& name) {
  TarEntry entry;
  entry.name = name;
  entry.mode = 0600;
  return tar_.begin(entry);
}

Status Packer::add_folder(int fd, const std::string& name) {
  const auto status = TRY_PLAIN(linux::fstat(fd));
  if (!name.empty()) {
    auto entry = entry_of(name.ends_with('/') ? name : name + "/", status);
    entry.type = TarType::directory;
    entry.xattrs = TRY_PLAIN(read_xattrs(fd));
    TRY_PLAIN(tar_.begin(entry));
  }
  // Docker's view of a container has none of these mounts; ours shows that they are there.
  const bool is_other_device = device_ && *device_ != status.st_dev;
  device_ = device_.value_or(status.st_dev);
  if (is_other_device && is_kernels_own(fd)) return {};
  const std::string prefix = name.empty() || name.ends_with('/') ? name : name + "/";
  if (reads_overlay()) {
    TRY(refuse_kept_elsewhere(fd, "trusted.overlay.redirect", "the folder was renamed, and its files are"), name);
    if (is_opaque(fd)) TRY_PLAIN(add_mark(concat(prefix, opaque_marker)));
  }
  std::vector<std::string> names;
  for (auto& entry : TRY_PLAIN(linux::list_dir(fd))) names.push_back(std::move(entry.name));
  std::sort(names.begin(), names.end());
  if (!is_grafting_) {
    if (auto graft = grafts_.extract(prefix.substr(0, prefix.size() - (prefix.empty() ? 0 : 1)))) return add_with_graft(fd, names, prefix, *graft.mapped());
  }
  for (const auto& file_name : names) TRY_PLAIN(add_child(fd, file_name, prefix));
  return {};
}

Status Packer::add_with_graft(int fd, const std::vector<std::string>& names, const std::string& prefix, const Graft& graft) {
  const auto source = TRY(linux::open_in_root(graft_fd_, graft.source, O_RDONLY | O_DIRECTORY), graft.source);
  std::map<std::string, int> children;
  for (const auto& name : names) children.emplace(name, fd);
  for (const auto& name : graft.names)
    if (!children.emplace(name, source.get()).second) return Error(ErrorKind::invalid, concat("\"", prefix, name, "\" is in both trees"));
  for (const auto& [name, folder_fd] : children) {
    is_grafting_ = folder_fd == source.get();
    Status added = add_child(folder_fd, name, prefix);
    is_grafting_ = false;
    TRY_PLAIN(std::move(added));
  }
  return {};
}

Status Packer::finish() const {
  if (grafts_.empty()) return {};
  return Error(ErrorKind::invalid, concat("\"", grafts_.begin()->first, "\": there is no such folder to graft to"));
}

Status Packer::add_child(int folder_fd, const std::string& file_name, const std::string& prefix) {
  auto name = concat(prefix, file_name);
  if (name.size() > longest_name) return Error(ErrorKind::invalid, concat("\"", name.substr(0, 64), "…\": the path is longer than ", longest_name, " bytes"), ENAMETOOLONG);
  if (request_.as_layer && file_name.starts_with(whiteout_prefix))
    return Error(ErrorKind::invalid, concat("\"", name, "\": in an image's layer a name that begins with .wh. means that a file is removed"))
        .with_hint("rename the file");
  return add(folder_fd, file_name, name);
}

Status Packer::add(int folder_fd, const std::string& file_name, const std::string& name) {
  auto status = linux::fstatat(folder_fd, file_name, AT_SYMLINK_NOFOLLOW);
  if (!status.ok() && is_gone(status.error())) return {};  // removed while we were on the way
  if (!status.ok()) return std::move(status).error().in(name);
  if (S_ISDIR(status->st_mode)) {
    auto folder = linux::openat(folder_fd, file_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!folder.ok() && (is_gone(folder.error()) || folder.error().error_number() == ENOTDIR)) return {};
    if (!folder.ok()) return std::move(folder).error().in(name);
    return add_folder(folder->get(), name);
  }
  if (request_.as_layer && is_grafting_ && is_whiteout(*status)) return Error(ErrorKind::invalid, concat("\"", name, "\": a layer cannot hold the character device 0:0"), EPERM);
  if (reads_overlay() && is_whiteout(*status)) {
    auto folder = split_last(name, '/');
    return add_mark(concat(folder.found ? folder.before : "", folder.found ? "/" : "", whiteout_prefix, file_name));
  }
  if (S_ISSOCK(status->st_mode)) return {};  // belongs to a process, not to a tree; no archive can hold one
  if (status->st_nlink > 1 && TRY_PLAIN(add_hard_link(name, *status))) return {};
  if (S_ISREG(status->st_mode)) {
    TRY(add_file(folder_fd, file_name, name), name);
    return {};
  }
  if (S_ISLNK(status->st_mode)) return add_link(folder_fd, file_name, name, *status);
  return add_special(name, *status);
}

Result<bool> Packer::add_hard_link(const std::string& name, const linux::FileStatus& status) {
  auto [first, is_new] = linked_.try_emplace({status.st_dev, status.st_ino}, name);
  if (is_new) return false;
  auto entry = entry_of(name, status);
  entry.type = TarType::hard_link;
  entry.link_target = first->second;
  TRY_PLAIN(tar_.begin(entry));
  return true;
}

Status Packer::add_file(int folder_fd, const std::string& file_name, const std::string& name) {
  // Not blocking: it may have become a fifo since we looked.
  auto file = linux::openat(folder_fd, file_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file.ok() && (is_gone(file.error()) || file.error().error_number() == ELOOP)) return {};
  if (!file.ok()) return std::move(file).error();
  auto status = TRY_PLAIN(linux::fstat(file->get()));
  if (!S_ISREG(status.st_mode)) return {};
  if (reads_overlay()) TRY_PLAIN(refuse_kept_elsewhere(file->get(), "trusted.overlay.metacopy", "the file's contents are"));
  auto entry = entry_of(name, status);
  entry.size_bytes = static_cast<std::uint64_t>(status.st_size);
  entry.xattrs = TRY_PLAIN(read_xattrs(file->get()));
  return add_contents(file->get(), entry);
}

/// Where a file has data. Errors: those of lseek; a file system that does not know of holes says that all of it is data.
Result<std::vector<TarSegment>> find_data(int fd, std::uint64_t size) {
  std::vector<TarSegment> out;
  for (std::uint64_t at = 0; at < size;) {
    auto data = linux::lseek(fd, static_cast<std::int64_t>(at), SEEK_DATA);
    if (!data.ok() && data.error().error_number() == ENXIO) break;  // only a hole is left
    if (!data.ok()) return std::move(data).error();
    auto end = std::min(TRY_PLAIN(linux::lseek(fd, static_cast<std::int64_t>(*data), SEEK_HOLE)), size);
    if (end <= *data) break;
    out.push_back({*data, end - *data});
    at = end;
  }
  return out;
}

Status Packer::add_contents(int fd, const TarEntry& wanted) {
  TarEntry entry = wanted;
  std::vector<TarSegment> segments{{0, entry.size_bytes}};
  if (entry.size_bytes >= least_hole_bytes) {
    auto found = TRY_PLAIN(find_data(fd, entry.size_bytes));
    std::uint64_t sum = 0;
    for (const auto& segment : found) sum += segment.length;
    constexpr std::size_t most_segments = 4096;  // readers limit what a map may hold; a file of so many pieces is written whole
    if (entry.size_bytes - sum >= least_hole_bytes && found.size() <= most_segments) {
      entry.is_sparse = true;
      entry.segments = segments = std::move(found);
    }
  }
  TRY_PLAIN(tar_.begin(entry));
  for (const auto& segment : segments) TRY_PLAIN(add_bytes(fd, segment.offset, segment.length));
  return {};
}

Status Packer::add_bytes(int fd, std::uint64_t offset, std::uint64_t length) {
  bool has_ended = false;
  for (std::uint64_t done = 0; done < length;) {
    auto want = static_cast<std::size_t>(std::min<std::uint64_t>(buffer_.size(), length - done));
    std::size_t got = has_ended ? 0 : TRY_PLAIN(linux::pread(fd, std::span(buffer_.data(), want), offset + done));
    if (got == 0) {  // it shrank: the header has promised these bytes
      has_ended = true;
      std::fill_n(buffer_.begin(), want, '\0');
      got = want;
    }
    TRY_PLAIN(tar_.write(std::string_view(buffer_.data(), got)));
    done += got;
  }
  return {};
}

Status Packer::add_link(int folder_fd, const std::string& file_name, const std::string& name, const linux::FileStatus& status) {
  auto target = linux::readlinkat(folder_fd, file_name);
  if (!target.ok() && (is_gone(target.error()) || target.error().error_number() == EINVAL)) return {};
  if (!target.ok()) return std::move(target).error().in(name);
  auto entry = entry_of(name, status);
  entry.type = TarType::symlink;
  entry.link_target = std::move(*target);
  return tar_.begin(entry);
}

Status Packer::add_special(const std::string& name, const linux::FileStatus& status) {
  auto entry = entry_of(name, status);
  if (S_ISFIFO(status.st_mode)) {
    entry.type = TarType::fifo;
    return tar_.begin(entry);
  }
  entry.type = S_ISBLK(status.st_mode) ? TarType::block_device : TarType::char_device;
  entry.device_major = linux::device_major(status.st_rdev);
  entry.device_minor = linux::device_minor(status.st_rdev);
  return tar_.begin(entry);
}

PathStatus status_of(const linux::FileStatus& status) {
  PathStatus out;
  out.mode = status.st_mode;
  out.size_bytes = static_cast<std::uint64_t>(status.st_size);
  out.mtime_s = status.st_mtim.tv_sec;
  out.mtime_ns = static_cast<std::uint32_t>(status.st_mtim.tv_nsec);
  return out;
}

}  // namespace

Status pack_tree(int root_fd, const PackRequest& request, TarWriter& tar, int graft_fd) {
  Packer packer(tar, request, graft_fd);
  TRY_PLAIN(packer.begin());
  auto found = TRY_PLAIN(find_in_root(root_fd, request.path));
  if (found.name.empty()) {
    auto folder = TRY_PLAIN(linux::openat(found.folder.get(), ".", O_RDONLY | O_DIRECTORY));
    TRY_PLAIN(packer.add_folder(folder.get(), request.name));
  } else {
    // Once for the answer "no such file"; inside the walk a file that is gone is only left out.
    TRY_PLAIN(linux::fstatat(found.folder.get(), found.name, AT_SYMLINK_NOFOLLOW));
    TRY_PLAIN(packer.add(found.folder.get(), found.name, request.name));
  }
  TRY_PLAIN(packer.finish());
  return tar.finish();
}

Result<PathStatus> look_at(int root_fd, const std::string& path) {
  auto found = TRY_PLAIN(find_in_root(root_fd, path));
  auto status = found.name.empty() ? TRY_PLAIN(linux::fstat(found.folder.get())) : TRY_PLAIN(linux::fstatat(found.folder.get(), found.name, AT_SYMLINK_NOFOLLOW));
  auto out = status_of(status);
  if (S_ISLNK(status.st_mode)) out.link_target = TRY_PLAIN(resolve_in_root(root_fd, path));
  return out;
}

}  // namespace caisson::image

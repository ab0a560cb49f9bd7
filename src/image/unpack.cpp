// One pass over a layer's tar: each entry is made, replaces or hides what it must, and gets its attributes.
#include "image/unpack.hpp"

#include <algorithm>

#include "base/strings.hpp"
#include "image/file_attributes.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

using Directory = LayerTree::Directory;

constexpr std::string_view whiteout_prefix = ".wh.";
constexpr std::string_view opaque_marker = ".wh..wh..opq";
constexpr std::string_view aufs_prefix = ".wh..wh.";  // aufs's own bookkeeping

class Unpacker {
 public:
  Unpacker(TarReader& tar, int root_fd, UnpackedLayer& out) : tar_(tar), tree_(root_fd), out_(out) {}
  Status run();

 private:
  Status place(const TarEntry& entry);
  Result<Directory*> parent_of(const std::vector<std::string>& components, const TarEntry& entry);
  Status place_whiteout(Directory& parent, std::string_view name);
  Status make(Directory& parent, const std::string& name, const TarEntry& entry);
  Status make_directory(Directory& parent, const std::string& name, const TarEntry& entry);
  Status make_file(Directory& parent, const std::string& name, const TarEntry& entry);
  Status make_symlink(Directory& parent, const std::string& name, const TarEntry& entry);
  Status make_hard_link(Directory& parent, const std::string& name, const TarEntry& entry);
  Status make_fifo(Directory& parent, const std::string& name, const TarEntry& entry);
  Status note_device(Directory& parent, const std::string& name, const TarEntry& entry);
  Status make_room(Directory& parent, const std::string& name);
  Status finish_directory(Directory& directory);

  TarReader& tar_;
  LayerTree tree_;
  UnpackedLayer& out_;
  std::string last_parent_name_;
  Directory* last_parent_ = nullptr;
  std::uint64_t last_generation_ = 0;
};

/// What the file really takes: a sparse one may claim 8 EiB.
std::uint64_t stored_bytes(const TarEntry& entry) {
  if (!entry.is_sparse) return entry.size_bytes;
  std::uint64_t sum = 0;
  for (const auto& segment : entry.segments) sum += segment.length;
  return sum;
}

/// Runs `create`, which fails with EEXIST when a file that the tree does not know is in the way; then replaces it.
template <typename Create>
auto replacing(int parent_fd, const std::string& name, Create create) -> decltype(create()) {
  auto made = create();
  if (made.ok() || made.error().error_number() != EEXIST) return made;
  if (auto removed = linux::unlinkat(parent_fd, name); !removed.ok()) return std::move(removed).error();
  return create();
}

Status Unpacker::run() {
  TarEntry entry;
  while (TRY_PLAIN(tar_.next(entry))) {
    ++out_.entries;
    TRY(place(entry), concat("entry \"", entry.name, "\""));
  }
  TRY(tree_.for_each([this](Directory& directory) { return finish_directory(directory); }), "set attributes of directories");
  std::sort(out_.implied_dirs.begin(), out_.implied_dirs.end());
  return {};
}

Result<Directory*> Unpacker::parent_of(const std::vector<std::string>& components, const TarEntry& entry) {
  // Archives list a directory's files one after another: resolve their common parent once.
  std::string name = join(std::span(components).first(components.size() - 1), "/");
  if (last_parent_ != nullptr && name == last_parent_name_ && last_generation_ == tree_.generation()) return last_parent_;
  auto* parent = TRY_PLAIN(tree_.resolve(components, components.size() - 1, LayerTree::Missing::create, entry));
  last_parent_name_ = std::move(name);
  last_parent_ = parent;
  last_generation_ = tree_.generation();
  return parent;
}

Status Unpacker::place(const TarEntry& entry) {
  auto components = TRY_PLAIN(clean_components(entry.name));
  if (entry.uid > most_file_id || entry.gid > most_file_id)
    return Error(ErrorKind::invalid, concat("owner ", entry.uid, ":", entry.gid, " is outside the ids 0 to ", most_file_id, " that a container has"));
  if (components.empty()) {
    if (entry.type != TarType::directory) return Error(ErrorKind::invalid, "the layer's root must be a directory");
    tree_.root().attributes = entry;
    tree_.root().is_implied = false;
    return {};
  }
  for (const auto& part : components)
    if (part.starts_with(aufs_prefix) && part != opaque_marker) return {};
  for (std::size_t i = 0; i + 1 < components.size(); ++i)
    if (components[i].starts_with(whiteout_prefix)) return Error(ErrorKind::invalid, "a whiteout cannot be a directory");
  auto* parent = TRY_PLAIN(parent_of(components, entry));
  const auto& name = components.back();
  if (name.starts_with(whiteout_prefix)) return place_whiteout(*parent, name);
  return make(*parent, name, entry);
}

/// A whiteout hides what lower layers have; what this layer itself has under the name stays (image-spec, layer.md).
Status Unpacker::place_whiteout(Directory& parent, std::string_view name) {
  if (name == opaque_marker) {
    parent.is_opaque = true;
    return {};
  }
  std::string hidden(name.substr(whiteout_prefix.size()));
  if (hidden.empty() || hidden == "." || hidden == "..") return Error(ErrorKind::invalid, "whiteout of an impossible name");
  if (auto own = parent.directories.find(hidden); own != parent.directories.end()) {
    own->second->is_opaque = true;
    return {};
  }
  if (parent.devices.count(hidden) != 0) return {};
  int fd = TRY_PLAIN(tree_.descriptor(parent));
  // 0/0 needs no privilege since 5.8: it is no device, but overlayfs's mark for "not here".
  auto made = linux::mknodat(fd, hidden, S_IFCHR, linux::make_device(0, 0));
  if (!made.ok() && made.error().error_number() == EEXIST) return {};
  TRY_PLAIN(std::move(made));
  parent.whiteouts.insert(std::move(hidden));
  return {};
}

Status Unpacker::make(Directory& parent, const std::string& name, const TarEntry& entry) {
  switch (entry.type) {
    case TarType::directory: return make_directory(parent, name, entry);
    case TarType::file: return make_file(parent, name, entry);
    case TarType::symlink: return make_symlink(parent, name, entry);
    case TarType::hard_link: return make_hard_link(parent, name, entry);
    case TarType::fifo: return make_fifo(parent, name, entry);
    case TarType::char_device:
    case TarType::block_device: return note_device(parent, name, entry);
  }
  return Error(ErrorKind::internal, "entry of an unknown type");
}

/// Removes what the tree knows under `name`; plain files are met as EEXIST later.
Status Unpacker::make_room(Directory& parent, const std::string& name) {
  parent.devices.erase(name);
  TRY_PLAIN(tree_.remove_directory(parent, name));
  bool is_known = parent.links.erase(name) > 0;
  is_known = parent.whiteouts.erase(name) > 0 || is_known;
  if (is_known) TRY_PLAIN(linux::unlinkat(TRY_PLAIN(tree_.descriptor(parent)), name));
  return {};
}

Status Unpacker::make_directory(Directory& parent, const std::string& name, const TarEntry& entry) {
  auto found = parent.directories.find(name);
  Directory* directory = found == parent.directories.end() ? nullptr : found->second.get();
  if (directory == nullptr) {
    bool was_whiteout = parent.whiteouts.count(name) != 0;
    TRY_PLAIN(make_room(parent, name));
    int fd = TRY_PLAIN(tree_.descriptor(parent));
    directory = TRY_PLAIN(replacing(fd, name, [&] { return tree_.make_directory(parent, name); }));
    directory->is_opaque = was_whiteout;  // deleted below and made anew here: nothing of the old one shines through
  }
  directory->attributes = entry;
  directory->is_implied = false;
  return {};
}

Status Unpacker::make_file(Directory& parent, const std::string& name, const TarEntry& entry) {
  TRY_PLAIN(make_room(parent, name));
  int parent_fd = TRY_PLAIN(tree_.descriptor(parent));
  auto mode = static_cast<mode_t>(entry.mode & 0777);
  auto file = TRY_PLAIN(replacing(parent_fd, name, [&] { return linux::openat(parent_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode); }));
  TRY_PLAIN(write_contents(tar_, file.get(), entry));
  out_.size_bytes += stored_bytes(entry);
  return apply_attributes(file.get(), entry, true);
}

Status Unpacker::make_symlink(Directory& parent, const std::string& name, const TarEntry& entry) {
  TRY_PLAIN(make_room(parent, name));
  int fd = TRY_PLAIN(tree_.descriptor(parent));
  TRY_PLAIN(replacing(fd, name, [&] { return linux::symlinkat(entry.link_target, fd, name); }));
  parent.links[name] = entry.link_target;
  return apply_link_attributes(fd, name, entry);
}

Status Unpacker::make_fifo(Directory& parent, const std::string& name, const TarEntry& entry) {
  TRY_PLAIN(make_room(parent, name));
  int fd = TRY_PLAIN(tree_.descriptor(parent));
  auto mode = static_cast<mode_t>(S_IFIFO | (entry.mode & 0777));
  TRY_PLAIN(replacing(fd, name, [&] { return linux::mknodat(fd, name, mode, 0); }));
  return apply_link_attributes(fd, name, entry);
}

Status Unpacker::note_device(Directory& parent, const std::string& name, const TarEntry& entry) {
  // A char device 0/0 is overlayfs's whiteout; only a ".wh." name may ask for one.
  if (entry.type == TarType::char_device && entry.device_major == 0 && entry.device_minor == 0) return {};
  TRY_PLAIN(make_room(parent, name));
  int fd = TRY_PLAIN(tree_.descriptor(parent));
  if (auto removed = linux::unlinkat(fd, name); !removed.ok() && removed.error().error_number() != ENOENT) return removed;
  DeviceNode node;
  node.is_block = entry.type == TarType::block_device;
  node.mode = entry.mode;
  node.uid = static_cast<std::uint32_t>(entry.uid);
  node.gid = static_cast<std::uint32_t>(entry.gid);
  node.major = entry.device_major;
  node.minor = entry.device_minor;
  node.mtime_s = entry.mtime_s;
  node.mtime_ns = entry.mtime_ns;
  parent.devices[name] = std::move(node);
  return {};
}

Status Unpacker::make_hard_link(Directory& parent, const std::string& name, const TarEntry& entry) {
  auto step = concat("hard link to \"", entry.link_target, "\"");
  auto components = TRY(clean_components(entry.link_target), step);
  if (components.empty()) return Error(ErrorKind::invalid, step + ": is a directory");
  const auto target = components.back();
  auto find_parent = [&] { return tree_.resolve(components, components.size() - 1, LayerTree::Missing::refuse, entry); };
  auto* target_parent = TRY(find_parent(), step);
  if (target_parent == &parent && target == name) {  // a link to itself changes nothing, if it is there
    auto found = linux::fstatat(TRY_PLAIN(tree_.descriptor(parent)), name, AT_SYMLINK_NOFOLLOW);
    if (!found.ok() && parent.devices.count(name) == 0) return Error(ErrorKind::invalid, step + ": is not in this layer", ENOENT);
    return {};
  }
  TRY_PLAIN(make_room(parent, name));
  target_parent = TRY(find_parent(), step);  // making room may have removed it
  if (target_parent->directories.count(target) != 0) return Error(ErrorKind::invalid, step + ": is a directory");
  if (target_parent->whiteouts.count(target) != 0) return Error(ErrorKind::not_found, step + ": is not in this layer").with_kind(ErrorKind::invalid);
  if (auto device = target_parent->devices.find(target); device != target_parent->devices.end()) {
    parent.devices[name] = device->second;
    return {};
  }
  // Two descriptors at once: the first stays open, because the cache closes the least recently used one only.
  int from_fd = TRY_PLAIN(tree_.descriptor(*target_parent));
  int to_fd = TRY_PLAIN(tree_.descriptor(parent));
  auto linked = replacing(to_fd, name, [&] { return linux::linkat(from_fd, target, to_fd, name); });
  if (!linked.ok() && linked.error().error_number() == ENOENT) return Error(ErrorKind::invalid, step + ": is not in this layer", ENOENT);
  TRY(std::move(linked), step);
  if (auto link = target_parent->links.find(target); link != target_parent->links.end()) parent.links[name] = link->second;
  return {};
}

Status Unpacker::finish_directory(Directory& directory) {
  auto path = LayerTree::path_of(directory);
  for (auto& [name, node] : directory.devices) {
    node.path = path.empty() ? name : concat(path, "/", name);
    out_.devices.push_back(node);
  }
  if (directory.is_implied) out_.implied_dirs.push_back(path);
  int fd = TRY_PLAIN(tree_.descriptor(directory));
  auto mark = [&](const char* name, std::string_view value) -> Status {
    auto set = linux::fsetxattr(fd, name, value);
    if (!set.ok() && set.error().error_number() == EOPNOTSUPP)
      return std::move(set).error().with_hint("The image store needs a file system with user extended attributes, such as ext4, xfs or btrfs");
    return set;
  };
  if (directory.is_opaque) TRY(mark("user.overlay.opaque", "y"), path);
  // Without it, readdir of a directory that only one layer has lists the whiteouts (measured on 6.18).
  if (!directory.whiteouts.empty()) TRY(mark("user.overlay.origin", ""), path);
  TRY(apply_attributes(fd, directory.attributes, false), path.empty() ? "the root" : path);
  return {};
}

}  // namespace

Status unpack_layer(TarReader& tar, int root_fd, UnpackedLayer& out) { return Unpacker(tar, root_fd, out).run(); }

}  // namespace caisson::image

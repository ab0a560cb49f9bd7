// One pass over a layer's tar: each entry is made, replaces or hides what it must, and gets its attributes.
#include "image/unpack.hpp"

#include <algorithm>
#include <cerrno>

#include "base/strings.hpp"
#include "image/directory_form.hpp"
#include "image/file_attributes.hpp"

namespace caisson::image {

namespace {

using Directory = LayerTree::Directory;

constexpr std::string_view whiteout_prefix = ".wh.";
constexpr std::string_view opaque_marker = ".wh..wh..opq";
constexpr std::string_view aufs_prefix = ".wh..wh.";  // aufs's own bookkeeping

class Unpacker {
 public:
  Unpacker(TarReader& tar, LayerTarget& target, UnpackedLayer& out) : tar_(tar), target_(target), tree_(target), out_(out) {}
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
  template <typename Create>
  auto replacing(Directory& parent, const std::string& name, Create create) -> decltype(create());
  Status finish_directory(Directory& directory);

  TarReader& tar_;
  LayerTarget& target_;
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
auto Unpacker::replacing(Directory& parent, const std::string& name, Create create) -> decltype(create()) {
  auto made = create();
  if (made.ok() || made.error().error_number() != EEXIST) return made;
  if (auto removed = target_.remove(parent, name); !removed.ok()) return std::move(removed).error();
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
  auto made = target_.make_whiteout(parent, hidden);
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
  if (is_known) TRY_PLAIN(target_.remove(parent, name));
  return {};
}

Status Unpacker::make_directory(Directory& parent, const std::string& name, const TarEntry& entry) {
  auto found = parent.directories.find(name);
  Directory* directory = found == parent.directories.end() ? nullptr : found->second.get();
  if (directory == nullptr) {
    bool was_whiteout = parent.whiteouts.count(name) != 0;
    TRY_PLAIN(make_room(parent, name));
    directory = TRY_PLAIN(replacing(parent, name, [&] { return tree_.make_directory(parent, name); }));
    directory->is_opaque = was_whiteout;  // deleted below and made anew here: nothing of the old one shines through
  }
  directory->attributes = entry;
  directory->is_implied = false;
  return {};
}

Status Unpacker::make_file(Directory& parent, const std::string& name, const TarEntry& entry) {
  TRY_PLAIN(make_room(parent, name));
  TRY_PLAIN(replacing(parent, name, [&] { return target_.make_file(parent, name, entry, tar_); }));
  out_.size_bytes += stored_bytes(entry);
  return {};
}

Status Unpacker::make_symlink(Directory& parent, const std::string& name, const TarEntry& entry) {
  TRY_PLAIN(make_room(parent, name));
  TRY_PLAIN(replacing(parent, name, [&] { return target_.make_symlink(parent, name, entry); }));
  parent.links[name] = entry.link_target;
  return {};
}

Status Unpacker::make_fifo(Directory& parent, const std::string& name, const TarEntry& entry) {
  TRY_PLAIN(make_room(parent, name));
  return replacing(parent, name, [&] { return target_.make_fifo(parent, name, entry); });
}

Status Unpacker::note_device(Directory& parent, const std::string& name, const TarEntry& entry) {
  // A char device 0/0 is overlayfs's whiteout; only a ".wh." name may ask for one.
  if (entry.type == TarType::char_device && entry.device_major == 0 && entry.device_minor == 0) return {};
  TRY_PLAIN(make_room(parent, name));
  if (auto removed = target_.remove(parent, name); !removed.ok() && removed.error().error_number() != ENOENT) return removed;
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
    const bool is_here = TRY_PLAIN(target_.exists(parent, name)) || parent.devices.count(name) != 0;
    if (!is_here) return Error(ErrorKind::invalid, step + ": is not in this layer", ENOENT);
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
  auto linked = replacing(parent, name, [&] { return target_.make_hard_link(*target_parent, target, parent, name); });
  if (!linked.ok() && linked.error().error_number() == ENOENT) return Error(ErrorKind::invalid, step + ": is not in this layer", ENOENT);
  TRY(std::move(linked), step);
  if (auto link = target_parent->links.find(target); link != target_parent->links.end()) parent.links[name] = link->second;
  return {};
}

Status Unpacker::finish_directory(Directory& directory) {
  auto path = LayerTree::path_of(directory);
  for (auto& [name, node] : directory.devices) {
    node.path = path.empty() ? name : concat(path, "/", name);
    TRY(target_.make_device(directory, name, node), node.path);
  }
  if (directory.is_implied) out_.implied_dirs.push_back(path);
  TRY(target_.finish_directory(directory), path.empty() ? "the root" : path);
  return {};
}

}  // namespace

Status unpack_layer(TarReader& tar, DirectoryForm& form, UnpackedLayer& out) {
  TRY_PLAIN(unpack_into(form, tar, out));
  out.disk_bytes = TRY_PLAIN(form.disk_bytes());
  return {};
}

Status unpack_layer(TarReader& tar, int root_fd, UnpackedLayer& out) {
  DirectoryForm form(root_fd, out.devices);
  return unpack_layer(tar, form, out);
}

Status unpack_into(LayerTarget& target, TarReader& tar, UnpackedLayer& out) { return Unpacker(tar, target, out).run(); }

}  // namespace caisson::image

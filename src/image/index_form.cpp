// The nodes of a layer's tree, and where in the tar their contents lie.
#include "image/index_form.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>

#include "base/strings.hpp"
#include "image/file_attributes.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

/// A layer of 36,758 entries takes 7 MiB. An archive of nothing but names, well packed, could ask for all memory there is.
constexpr std::size_t most_memory_bytes = 512 << 20;
constexpr std::size_t bytes_per_name = sizeof(ErofsNode) + 96;  // a node, and a node of the map of names
/// Of one sparse file: 8 MiB of index, which tells 4 GiB in pieces of 4 KiB.
constexpr std::uint64_t most_chunks = 1 << 20;
constexpr std::uint32_t most_chunk_bits = 31;  // the format's five bits
constexpr std::uint64_t most_file_bytes = 1ULL << 44;  // ext4's own limit

Error beyond(std::string text) { return {ErrorKind::unsupported, std::move(text), EOVERFLOW}; }

/// What the kernel would take from the layer's root (cap_convert_nscap in security/commoncap.c): revision 2, or 3 with the owner's id.
bool is_capability(std::string_view value) {
  constexpr std::size_t revision_2_bytes = 20;
  constexpr std::size_t revision_3_bytes = 24;
  auto word = [&](std::size_t at) {
    std::uint32_t out = 0;
    for (std::size_t i = 0; i < 4; ++i) out |= static_cast<std::uint32_t>(static_cast<unsigned char>(value[at + i])) << (8 * i);
    return out;
  };
  if (value.size() != revision_2_bytes && value.size() != revision_3_bytes) return false;
  const auto revision = word(0) >> 24;
  if (value.size() == revision_2_bytes) return revision == 2;
  return revision == 3 && word(revision_2_bytes) <= most_file_id;
}

/// The attributes of an entry that are kept. Those that the kernel changes or refuses when they are set are left to it.
Result<std::map<std::string, std::string>> kept_xattrs(const TarEntry& entry) {
  std::map<std::string, std::string> out;
  for (const auto& [name, value] : entry.xattrs) {
    if (!is_kept_xattr(name)) continue;
    const bool is_plain = name.starts_with("user.") || (name == "security.capability" && is_capability(value));
    if (!is_plain) return beyond(concat("attribute ", name, " cannot be in an index"));
    out.emplace(name, value);
  }
  return out;
}

/// The largest chunks into which a file's pieces fall without a rest.
std::uint32_t chunk_bits_of(const TarEntry& entry) {
  std::uint64_t edges = 0;
  for (const auto& segment : entry.segments) {
    if (segment.length == 0) continue;
    edges |= segment.offset;
    if (segment.offset + segment.length != entry.size_bytes) edges |= segment.offset + segment.length;
  }
  const auto blocks = (entry.size_bytes + erofs_block_bytes - 1) / erofs_block_bytes;
  const auto whole_file = static_cast<std::uint32_t>(std::bit_width(blocks - 1));
  if (edges == 0) return std::min(most_chunk_bits, whole_file);
  const auto aligned = static_cast<std::uint32_t>(std::countr_zero(edges));
  return std::min({most_chunk_bits, whole_file, aligned < erofs_block_bits ? 0 : aligned - erofs_block_bits});
}

/// `data_at`: where the tar has the file's stored bytes.
Result<ErofsChunks> chunks_of(const TarEntry& entry, std::uint64_t data_at) {
  if (data_at % erofs_block_bytes != 0) return beyond("contents that do not begin at a block of the archive");
  if (entry.size_bytes > most_file_bytes) return beyond("file is too large for an index");
  ErofsChunks out;
  out.bits = chunk_bits_of(entry);
  const auto chunk_bytes = std::uint64_t{erofs_block_bytes} << out.bits;
  const auto count = (entry.size_bytes + chunk_bytes - 1) / chunk_bytes;
  if (count > most_chunks) return beyond("sparse file with too many pieces for an index");
  out.blocks.assign(count, erofs_hole);
  auto point = [&](const TarSegment& segment, std::uint64_t at) -> Status {
    if (segment.length == 0) return {};
    const bool is_at_blocks = segment.offset % chunk_bytes == 0 && at % erofs_block_bytes == 0 &&
                              (segment.length % chunk_bytes == 0 || segment.offset + segment.length == entry.size_bytes);
    if (!is_at_blocks) return beyond("sparse file whose pieces do not begin at blocks");
    for (std::uint64_t done = 0; done < segment.length; done += chunk_bytes) {
      const auto block = (at + done) / erofs_block_bytes;
      if (block >= erofs_hole) return beyond("archive is too large for an index");
      out.blocks[(segment.offset + done) / chunk_bytes] = static_cast<std::uint32_t>(block);
    }
    return {};
  };
  if (!entry.is_sparse) {
    TRY_PLAIN(point({0, entry.size_bytes}, data_at));
    return out;
  }
  for (const auto& segment : entry.segments) {
    TRY_PLAIN(point(segment, data_at));
    data_at += segment.length;
  }
  return out;
}

ErofsNode node_of(const TarEntry& entry, std::uint32_t type, std::uint32_t permissions) {
  ErofsNode node;
  node.mode = type | permissions;
  node.uid = static_cast<std::uint32_t>(entry.uid);
  node.gid = static_cast<std::uint32_t>(entry.gid);
  node.mtime_s = entry.mtime_s;
  node.mtime_ns = entry.mtime_ns;
  node.links = 1;
  return node;
}

Error missing(const std::string& name) { return {ErrorKind::not_found, concat("\"", name, "\" is not in this layer"), ENOENT}; }

}  // namespace

bool is_beyond_an_index(const Error& error) { return error.kind() == ErrorKind::unsupported && error.error_number() == EOVERFLOW; }

IndexForm::IndexForm(const std::vector<DirectoryAttributes>& settled) {
  for (const auto& directory : settled) settled_.emplace(directory.name, &directory);
  ErofsNode root;
  root.mode = S_IFDIR;
  root.links = 1;
  tree_.nodes.push_back(root);
  tree_.directories.emplace_back();
  tree_.xattrs.emplace_back();
}

Result<std::uint32_t> IndexForm::add(Directory& parent, const std::string& name, const ErofsNode& node, std::size_t further_bytes) {
  auto& taken = names(parent);
  if (taken.count(name) != 0) return Error(ErrorKind::conflict, concat("\"", name, "\" exists"), EEXIST);
  used_bytes_ += bytes_per_name + name.size() + further_bytes;
  if (used_bytes_ > most_memory_bytes) return beyond("layer with too many names for an index");
  const auto number = static_cast<std::uint32_t>(tree_.nodes.size());
  taken.emplace(name, number);
  tree_.nodes.push_back(node);
  return number;
}

Result<std::uint32_t> IndexForm::intern(std::map<std::string, std::string> xattrs) {
  if (xattrs.empty()) return 0U;
  if (auto known = known_xattrs_.find(xattrs); known != known_xattrs_.end()) return known->second;
  if (!erofs_can_hold(xattrs)) return beyond("attributes that an index has no room for");
  for (const auto& [name, value] : xattrs) used_bytes_ += 2 * (name.size() + value.size() + bytes_per_name);
  const auto number = static_cast<std::uint32_t>(tree_.xattrs.size());
  tree_.xattrs.push_back(xattrs);
  known_xattrs_.emplace(std::move(xattrs), number);
  return number;
}

Status IndexForm::make_directory(Directory& made) {
  ErofsNode node;
  node.mode = S_IFDIR;
  node.links = 1;
  node.value = static_cast<std::uint32_t>(tree_.directories.size());
  made.node = TRY_PLAIN(add(*made.parent, made.name, node, sizeof(Directory)));
  tree_.directories.emplace_back();
  return {};
}

Status IndexForm::make_file(Directory& parent, const std::string& name, const TarEntry& entry, TarReader& tar) {
  auto node = node_of(entry, S_IFREG, entry.mode & 07777);
  node.xattrs = TRY_PLAIN(intern(TRY_PLAIN(kept_xattrs(entry))));
  node.size_bytes = entry.size_bytes;
  if (entry.size_bytes == 0) {
    TRY_PLAIN(add(parent, name, node, 0));
    return {};
  }
  auto chunks = TRY_PLAIN(chunks_of(entry, tar.position()));
  node.value = static_cast<std::uint32_t>(tree_.files.size());
  TRY_PLAIN(add(parent, name, node, sizeof(ErofsChunks) + chunks.blocks.size() * sizeof(std::uint32_t)));
  tree_.files.push_back(std::move(chunks));
  while (!TRY_PLAIN(tar.read()).bytes.empty()) continue;  // an archive that ends too early is refused with this entry's name
  return {};
}

Status IndexForm::make_symlink(Directory& parent, const std::string& name, const TarEntry& entry) {
  auto node = node_of(entry, S_IFLNK, 0777);
  node.value = static_cast<std::uint32_t>(tree_.targets.size());
  TRY_PLAIN(add(parent, name, node, sizeof(std::string) + entry.link_target.size()));
  tree_.targets.push_back(entry.link_target);
  return {};
}

Status IndexForm::make_fifo(Directory& parent, const std::string& name, const TarEntry& entry) {
  TRY_PLAIN(add(parent, name, node_of(entry, S_IFIFO, entry.mode & 0777), 0));
  return {};
}

Status IndexForm::make_whiteout(Directory& parent, const std::string& name) {
  ErofsNode node;
  node.mode = S_IFCHR;
  node.links = 1;
  TRY_PLAIN(add(parent, name, node, 0));
  return {};
}

Status IndexForm::make_hard_link(Directory& from, const std::string& target, Directory& parent, const std::string& name) {
  auto found = names(from).find(target);
  if (found == names(from).end()) return missing(target);
  const auto number = found->second;
  auto& taken = names(parent);
  if (taken.count(name) != 0) return Error(ErrorKind::conflict, concat("\"", name, "\" exists"), EEXIST);
  used_bytes_ += bytes_per_name + name.size();
  if (used_bytes_ > most_memory_bytes) return beyond("layer with too many names for an index");
  taken.emplace(name, number);
  ++tree_.nodes[number].links;
  return {};
}

Status IndexForm::make_device(Directory& parent, const std::string& name, const DeviceNode& device) {
  ErofsNode node;
  node.mode = (device.is_block ? S_IFBLK : S_IFCHR) | (device.mode & 07777);
  node.uid = device.uid;
  node.gid = device.gid;
  node.mtime_s = device.mtime_s;
  node.mtime_ns = device.mtime_ns;
  node.links = 1;
  node.value = erofs_device(device.major, device.minor);
  TRY_PLAIN(add(parent, name, node, 0));
  return {};
}

Status IndexForm::remove(Directory& parent, const std::string& name) {
  auto& taken = names(parent);
  auto found = taken.find(name);
  if (found == taken.end()) return missing(name);
  drop(found->second);
  taken.erase(found);
  return {};
}

/// One name less; a directory's names go with it.
void IndexForm::drop(std::uint32_t number) {
  std::vector<std::uint32_t> todo{number};
  while (!todo.empty()) {
    auto& node = tree_.nodes[todo.back()];
    todo.pop_back();
    --node.links;
    if (!S_ISDIR(node.mode)) continue;
    for (const auto& [name, child] : tree_.directories[node.value]) todo.push_back(child);
    tree_.directories[node.value].clear();
  }
}

Status IndexForm::remove_directory(Directory& directory) { return remove(*directory.parent, directory.name); }

Result<bool> IndexForm::exists(Directory& parent, const std::string& name) { return names(parent).count(name) != 0; }

Status IndexForm::finish_directory(Directory& directory) {
  auto& node = tree_.nodes[directory.node];
  const auto value = node.value;
  std::map<std::string, std::string> xattrs;
  auto settled = directory.is_implied ? settled_.find(LayerTree::path_of(directory)) : settled_.end();
  if (settled != settled_.end()) {
    const auto& given = *settled->second;
    node.mode = S_IFDIR | (given.mode & 07777);
    node.uid = given.uid;
    node.gid = given.gid;
    node.mtime_s = given.mtime_s;
    node.mtime_ns = given.mtime_ns;
    xattrs = given.xattrs;
  } else {
    node = node_of(directory.attributes, S_IFDIR, directory.attributes.mode & 07777);
    node.value = value;
    xattrs = TRY_PLAIN(kept_xattrs(directory.attributes));
  }
  if (directory.is_opaque) xattrs[opaque_xattr] = "y";
  if (!directory.whiteouts.empty()) xattrs[origin_xattr] = "";
  tree_.nodes[directory.node].xattrs = TRY_PLAIN(intern(std::move(xattrs)));
  return {};
}

Status IndexForm::write(std::uint64_t tar_bytes, const std::function<Status(std::string_view)>& sink) const {
  return write_erofs(tree_, (tar_bytes + erofs_block_bytes - 1) / erofs_block_bytes, sink);
}

}  // namespace caisson::image

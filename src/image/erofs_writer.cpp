// The layout of an EROFS index, and its bytes in order: superblock, device, inodes with what fits behind them, whole blocks of directories.
#include "image/erofs_writer.hpp"

#include <cerrno>
#include <limits>

#include "base/strings.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

constexpr std::uint64_t superblock_at = 1024;
constexpr std::uint64_t superblock_bytes = 128;
constexpr std::uint64_t device_slot_bytes = 128;
constexpr std::uint64_t inodes_at = superblock_at + superblock_bytes + device_slot_bytes;
constexpr std::uint32_t magic = 0xE0F5E1E2;
constexpr std::uint32_t compat_mtime = 2;
constexpr std::uint32_t incompat_chunked_file = 4;
constexpr std::uint32_t incompat_device_table = 8;

constexpr std::uint64_t slot_bytes = 32;  // an inode's number is its place in these
constexpr std::uint64_t inode_bytes = 64;
constexpr std::uint64_t xattr_header_bytes = 12;
constexpr std::uint64_t xattr_entry_bytes = 4;
constexpr std::uint64_t chunk_entry_bytes = 8;
constexpr std::uint64_t name_entry_bytes = 12;

constexpr std::uint16_t is_extended = 1;
enum class Layout : std::uint16_t { plain = 0, with_tail = 2, chunked = 4 };
constexpr std::uint32_t chunk_indexes = 0x20;

std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) { return (value + unit - 1) / unit * unit; }

/// Little-endian, whatever this machine is.
template <typename T>
void put(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out += static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i) & 0xFF);
}
void put_zeros(std::string& out, std::uint64_t count) { out.append(count, '\0'); }

struct XattrName {
  std::uint8_t prefix = 0;
  std::string_view rest;
};
XattrName xattr_name(std::string_view name) {
  struct Known {
    std::uint8_t prefix;
    std::string_view text;
  };
  static constexpr Known known[] = {{1, "user."}, {2, "system.posix_acl_access"}, {3, "system.posix_acl_default"}, {6, "security."}};
  for (const auto& [prefix, text] : known)
    if (name.starts_with(text)) return {prefix, name.substr(text.size())};
  return {};
}

std::uint64_t xattr_bytes(const std::map<std::string, std::string>& xattrs) {
  if (xattrs.empty()) return 0;
  std::uint64_t sum = xattr_header_bytes;
  for (const auto& [name, value] : xattrs) sum += round_up(xattr_entry_bytes + xattr_name(name).rest.size() + value.size(), 4);
  return sum;
}

void put_xattrs(std::string& out, const std::map<std::string, std::string>& xattrs) {
  if (xattrs.empty()) return;
  put_zeros(out, xattr_header_bytes);  // no name filter, none shared
  for (const auto& [name, value] : xattrs) {
    auto parts = xattr_name(name);
    put(out, static_cast<std::uint8_t>(parts.rest.size()));
    put(out, parts.prefix);
    put(out, static_cast<std::uint16_t>(value.size()));
    out += parts.rest;
    out += value;
    const auto bytes = xattr_entry_bytes + parts.rest.size() + value.size();
    put_zeros(out, round_up(bytes, 4) - bytes);
  }
}

std::uint8_t entry_type(std::uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return 1;
    case S_IFDIR: return 2;
    case S_IFCHR: return 3;
    case S_IFBLK: return 4;
    case S_IFIFO: return 5;
    case S_IFLNK: return 7;
    default: return 0;
  }
}

class Writer {
 public:
  Writer(const ErofsTree& tree, std::uint64_t tar_blocks, const std::function<Status(std::string_view)>& sink) : tree_(tree), tar_blocks_(tar_blocks), sink_(sink) {}
  Status run();

 private:
  struct Place {
    std::uint64_t at = 0;           ///< of the inode, in bytes
    std::uint64_t size_bytes = 0;   ///< of the inode's contents
    std::uint32_t first_block = 0;  ///< of the contents that are not inline
    Layout layout = Layout::plain;
  };
  void find_parents();
  std::uint64_t content_bytes(const ErofsNode& node) const;
  void lay_out_inodes();
  Status lay_out_blocks();
  std::string contents(std::uint32_t number) const;
  std::string directory(std::uint32_t number, bool with_bytes, std::uint64_t* size) const;
  void put_superblock(std::string& out) const;
  void put_inode(std::string& out, std::uint32_t number) const;
  Status flush(std::string& out, std::size_t at_least) const;

  const ErofsTree& tree_;
  std::uint64_t tar_blocks_;
  const std::function<Status(std::string_view)>& sink_;
  std::vector<Place> places_;
  std::vector<std::uint32_t> parents_;      // of directories, by their place in tree_.directories
  std::vector<std::uint32_t> subdirectories_;
  std::uint64_t written_inodes_ = 0;
  std::uint64_t blocks_ = 0;
};

/// Which directory holds which, and how many: ".." and link counts.
void Writer::find_parents() {
  parents_.resize(tree_.directories.size());
  subdirectories_.resize(tree_.directories.size());
  for (std::uint32_t number = 0; number < tree_.nodes.size(); ++number) {
    const auto& node = tree_.nodes[number];
    if (node.links == 0) continue;
    ++written_inodes_;
    if (!S_ISDIR(node.mode)) continue;
    for (const auto& [name, child] : tree_.directories[node.value]) {
      if (!S_ISDIR(tree_.nodes[child].mode)) continue;
      parents_[tree_.nodes[child].value] = number;
      ++subdirectories_[node.value];
    }
  }
}

/// The entries of a directory in blocks: 12 bytes for each name, then the names; sorted by bytes, "." and ".." among them. Without bytes
/// only their length is found, for which no inode needs a place yet.
std::string Writer::directory(std::uint32_t number, bool with_bytes, std::uint64_t* size) const {
  struct Entry {
    std::string_view name;
    std::uint32_t node;
  };
  const auto& node = tree_.nodes[number];
  const auto& names = tree_.directories[node.value];
  std::vector<Entry> entries;
  entries.reserve(names.size() + 2);
  const Entry dots[] = {{".", number}, {"..", number == 0 ? 0 : parents_[node.value]}};
  auto next_dot = std::begin(dots);
  for (const auto& [name, child] : names) {
    while (next_dot != std::end(dots) && next_dot->name < name) entries.push_back(*next_dot++);
    entries.push_back({name, child});
  }
  entries.insert(entries.end(), next_dot, std::end(dots));

  std::string out;
  std::uint64_t total = 0;
  for (std::size_t first = 0; first < entries.size();) {
    std::uint64_t bytes = 0;
    std::size_t end = first;
    while (end < entries.size() && bytes + name_entry_bytes + entries[end].name.size() <= erofs_block_bytes) bytes += name_entry_bytes + entries[end++].name.size();
    total = round_up(total, erofs_block_bytes) + bytes;
    if (with_bytes) {
      put_zeros(out, round_up(out.size(), erofs_block_bytes) - out.size());
      auto name_at = name_entry_bytes * (end - first);
      for (std::size_t i = first; i < end; ++i) {
        put(out, places_[entries[i].node].at / slot_bytes);
        put(out, static_cast<std::uint16_t>(name_at));
        put(out, entry_type(tree_.nodes[entries[i].node].mode));
        put(out, std::uint8_t{0});
        name_at += entries[i].name.size();
      }
      for (std::size_t i = first; i < end; ++i) out += entries[i].name;
    }
    first = end;
  }
  if (size != nullptr) *size = total;
  return out;
}

std::string Writer::contents(std::uint32_t number) const {
  const auto& node = tree_.nodes[number];
  return S_ISLNK(node.mode) ? tree_.targets[node.value] : directory(number, true, nullptr);
}

void Writer::lay_out_inodes() {
  std::uint64_t at = inodes_at;
  places_.resize(tree_.nodes.size());
  for (std::uint32_t number = 0; number < tree_.nodes.size(); ++number) {
    const auto& node = tree_.nodes[number];
    if (node.links == 0) continue;
    auto& place = places_[number];
    std::uint64_t bytes = inode_bytes + xattr_bytes(tree_.xattrs[node.xattrs]);
    if (S_ISREG(node.mode)) {
      place.size_bytes = node.size_bytes;
      if (node.size_bytes > 0) {
        place.layout = Layout::chunked;
        bytes = round_up(bytes, chunk_entry_bytes) + chunk_entry_bytes * tree_.files[node.value].blocks.size();
      }
    } else if (S_ISLNK(node.mode) || S_ISDIR(node.mode)) {
      if (S_ISLNK(node.mode)) place.size_bytes = tree_.targets[node.value].size();
      else directory(number, false, &place.size_bytes);
      const auto tail = place.size_bytes % erofs_block_bytes;
      // What is inline may not cross a block. A link's inode neither: kernels before 6.8 refuse such a link altogether.
      if (bytes + tail <= erofs_block_bytes && tail != 0) {
        place.layout = Layout::with_tail;
        bytes += tail;
        if (at % erofs_block_bytes + bytes > erofs_block_bytes) at = round_up(at, erofs_block_bytes);
      }
    }
    place.at = at;
    at = round_up(at + bytes, slot_bytes);
  }
  blocks_ = round_up(at, erofs_block_bytes) / erofs_block_bytes;
}

Status Writer::lay_out_blocks() {
  for (auto& place : places_) {
    if (place.at == 0 || place.layout == Layout::chunked) continue;
    const auto inline_bytes = place.layout == Layout::with_tail ? place.size_bytes % erofs_block_bytes : 0;
    const auto count = round_up(place.size_bytes - inline_bytes, erofs_block_bytes) / erofs_block_bytes;
    place.first_block = count == 0 ? erofs_hole : static_cast<std::uint32_t>(blocks_);
    blocks_ += count;
  }
  constexpr std::uint64_t most_blocks = std::numeric_limits<std::uint32_t>::max();
  if (blocks_ + tar_blocks_ >= most_blocks) return Error(ErrorKind::unsupported, concat("an index over ", tar_blocks_, " blocks is too large"), EOVERFLOW);
  return {};
}

void Writer::put_superblock(std::string& out) const {
  put_zeros(out, superblock_at);
  put(out, magic);
  put_zeros(out, 4);  // no checksum: the whole index has a digest
  put(out, compat_mtime);
  put(out, static_cast<std::uint8_t>(erofs_block_bits));
  put_zeros(out, 1);
  put(out, static_cast<std::uint16_t>(places_[0].at / slot_bytes));
  put(out, written_inodes_);
  put_zeros(out, 12);  // time of the build: the same tar gives the same index
  put(out, static_cast<std::uint32_t>(blocks_));
  put_zeros(out, 40);  // inodes are counted from byte 0; no shared attributes, uuid and name
  put(out, incompat_chunked_file | incompat_device_table);
  put_zeros(out, 2);
  put(out, std::uint16_t{1});  // further devices: the tar
  put(out, static_cast<std::uint16_t>((superblock_at + superblock_bytes) / device_slot_bytes));
  put_zeros(out, superblock_at + superblock_bytes - out.size());
  put_zeros(out, 64);
  put(out, static_cast<std::uint32_t>(tar_blocks_));
  put(out, static_cast<std::uint32_t>(blocks_));  // where it would begin if both were one
  put_zeros(out, inodes_at - out.size());
}

void Writer::put_inode(std::string& out, std::uint32_t number) const {
  const auto& node = tree_.nodes[number];
  const auto& place = places_[number];
  const auto& xattrs = tree_.xattrs[node.xattrs];
  std::uint32_t u = place.first_block;
  if (place.layout == Layout::chunked) u = chunk_indexes | tree_.files[node.value].bits;
  else if (S_ISCHR(node.mode) || S_ISBLK(node.mode)) u = node.value;
  put(out, static_cast<std::uint16_t>(is_extended | static_cast<std::uint16_t>(place.layout) << 1));
  put(out, static_cast<std::uint16_t>(xattrs.empty() ? 0 : 1 + (xattr_bytes(xattrs) - xattr_header_bytes) / 4));
  put(out, static_cast<std::uint16_t>(node.mode));
  put_zeros(out, 2);
  put(out, place.size_bytes);
  put(out, u);
  put(out, number + 1);
  put(out, node.uid);
  put(out, node.gid);
  put(out, node.mtime_s);
  put(out, node.mtime_ns);
  put(out, S_ISDIR(node.mode) ? 2 + subdirectories_[node.value] : node.links);
  put_zeros(out, 16);
  put_xattrs(out, xattrs);
  if (place.layout == Layout::with_tail) {
    const auto tail = place.size_bytes % erofs_block_bytes;
    out += std::string_view(contents(number)).substr(place.size_bytes - tail);
  } else if (place.layout == Layout::chunked) {
    put_zeros(out, round_up(out.size(), chunk_entry_bytes) - out.size());
    for (auto block : tree_.files[node.value].blocks) {
      put_zeros(out, 2);
      put(out, static_cast<std::uint16_t>(block == erofs_hole ? 0 : 1));
      put(out, block);
    }
  }
}

Status Writer::flush(std::string& out, std::size_t at_least) const {
  if (out.size() < at_least) return {};
  TRY_PLAIN(sink_(out));
  out.clear();
  return {};
}

Status Writer::run() {
  find_parents();
  lay_out_inodes();
  TRY_PLAIN(lay_out_blocks());
  constexpr std::size_t buffer_bytes = 1 << 16;
  std::string out;
  put_superblock(out);
  std::uint64_t done = out.size();
  TRY_PLAIN(flush(out, 1));
  std::string inode;
  for (std::uint32_t number = 0; number < tree_.nodes.size(); ++number) {
    if (places_[number].at == 0) continue;
    inode.clear();
    put_inode(inode, number);
    put_zeros(out, places_[number].at - done);
    out += inode;
    done = places_[number].at + inode.size();
    TRY_PLAIN(flush(out, buffer_bytes));
  }
  put_zeros(out, round_up(done, erofs_block_bytes) - done);
  for (std::uint32_t number = 0; number < tree_.nodes.size(); ++number) {
    const auto& place = places_[number];
    const auto mode = tree_.nodes[number].mode;
    if (place.at == 0 || place.first_block == erofs_hole || !(S_ISDIR(mode) || S_ISLNK(mode))) continue;
    auto bytes = contents(number);
    if (place.layout == Layout::with_tail) bytes.resize(bytes.size() / erofs_block_bytes * erofs_block_bytes);
    out += bytes;
    put_zeros(out, round_up(bytes.size(), erofs_block_bytes) - bytes.size());
    TRY_PLAIN(flush(out, buffer_bytes));
  }
  return flush(out, 1);
}

}  // namespace

std::uint32_t erofs_device(std::uint32_t major, std::uint32_t minor) { return (minor & 0xFF) | major << 8 | (minor & ~0xFFU) << 12; }

bool erofs_can_hold(const std::map<std::string, std::string>& xattrs) {
  constexpr std::size_t most_name_bytes = 255;
  constexpr std::size_t most_value_bytes = 0xFFFF;
  constexpr std::uint64_t most_bytes = xattr_header_bytes + 4 * 0xFFFEULL;
  for (const auto& [name, value] : xattrs) {
    auto parts = xattr_name(name);
    if (parts.prefix == 0 || name.size() > most_name_bytes || value.size() > most_value_bytes) return false;
    const bool is_acl = parts.prefix == 2 || parts.prefix == 3;
    if (is_acl != parts.rest.empty()) return false;
  }
  return xattr_bytes(xattrs) <= most_bytes;
}

Status write_erofs(const ErofsTree& tree, std::uint64_t tar_blocks, const std::function<Status(std::string_view)>& sink) { return Writer(tree, tar_blocks, sink).run(); }

}  // namespace caisson::image

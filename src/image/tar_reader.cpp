// The streaming tar parser. Headers are copied block by block; contents are handed out in place.
#include "image/tar_reader.hpp"

#include <algorithm>
#include <limits>
#include <optional>

#include "base/strings.hpp"
#include "image/tar_header.hpp"

namespace caisson::image {

namespace {

/// Extension records in front of one entry: a real writer needs three at most (PAX, long name, long link).
constexpr int most_extensions_per_entry = 16;
constexpr std::uint64_t most_size = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) - tar_block_bytes;

std::uint64_t padding_of(std::uint64_t size) { return (tar_block_bytes - size % tar_block_bytes) % tar_block_bytes; }

Result<std::uint64_t> unsigned_field(TarBlock block, TarField field, std::string_view name) {
  auto value = TRY_PLAIN(number_field(block, field, name));
  if (value < 0) return Error(ErrorKind::invalid, concat("tar header: field \"", name, "\" is negative"));
  return static_cast<std::uint64_t>(value);
}

std::string quoted(std::string_view name) {
  // Names go into error texts that end up on terminals: no control characters, no novels.
  std::string out = "\"";
  for (char c : name.substr(0, 200)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
  return out + (name.size() > 200 ? "…\"" : "\"");
}

Result<TarType> type_of(char flag, std::string_view name) {
  switch (flag) {
    case '\0':
    case '0':
    case '7': return name.ends_with('/') ? TarType::directory : TarType::file;  // V7 marks directories by a slash only
    case 'S': return TarType::file;
    case '1': return TarType::hard_link;
    case '2': return TarType::symlink;
    case '3': return TarType::char_device;
    case '4': return TarType::block_device;
    case '5':
    case 'D': return TarType::directory;
    case '6': return TarType::fifo;
    default: break;
  }
  std::string shown = static_cast<unsigned char>(flag) > 0x20 && static_cast<unsigned char>(flag) < 0x7F ? std::string(1, flag) : concat(static_cast<int>(flag));
  return Error(ErrorKind::unsupported, concat("tar entry ", quoted(name), ": entries of type '", shown, "' are not supported"));
}

bool is_data_type(char flag) { return flag == '\0' || flag == '0' || flag == '7' || flag == 'S' || flag == 'D'; }

}  // namespace

struct TarReader::Extensions {
  std::map<std::string, std::string> pax;
  std::vector<TarSegment> sparse_0_0;  // GNU.sparse.offset and .numbytes come as repeated records
  std::optional<std::string> long_name;
  std::optional<std::string> long_link;
  int count = 0;

  [[nodiscard]] const std::string* find(const std::string& key) const {
    auto at = pax.find(key);
    return at == pax.end() ? nullptr : &at->second;
  }
};

Result<std::string_view> TarReader::peek() {
  if (piece_.empty() && !source_ended_) {
    piece_ = TRY_PLAIN(source_.next());
    source_ended_ = piece_.empty();
  }
  return piece_;
}

void TarReader::consume(std::size_t bytes) {
  piece_.remove_prefix(bytes);
  position_ += bytes;
}

Result<bool> TarReader::read_block(Block& block) {
  std::size_t have = 0;
  while (have < block.size()) {
    auto piece = TRY_PLAIN(peek());
    if (piece.empty()) {
      if (have == 0) return false;
      return Error(ErrorKind::invalid, "tar: unexpected end of data in a header");
    }
    auto take = std::min(piece.size(), block.size() - have);
    std::copy_n(piece.data(), take, block.data() + have);
    consume(take);
    have += take;
  }
  return true;
}

Status TarReader::skip(std::uint64_t bytes) {
  while (bytes > 0) {
    auto piece = TRY_PLAIN(peek());
    if (piece.empty()) return Error(ErrorKind::invalid, "tar: unexpected end of data");
    auto take = std::min<std::uint64_t>(piece.size(), bytes);
    consume(static_cast<std::size_t>(take));
    bytes -= take;
  }
  return {};
}

Result<std::string> TarReader::read_extension(std::uint64_t size, std::string_view what) {
  if (size > limits_.extension_bytes)
    return Error(ErrorKind::invalid, concat("tar: ", what, " of ", size, " bytes is longer than the limit of ", limits_.extension_bytes));
  std::string text;
  while (text.size() < size) {
    auto piece = TRY_PLAIN(peek());
    if (piece.empty()) return Error(ErrorKind::invalid, concat("tar: unexpected end of data in ", what));
    auto take = std::min<std::size_t>(piece.size(), static_cast<std::size_t>(size) - text.size());
    text += piece.substr(0, take);
    consume(take);
  }
  TRY_PLAIN(skip(padding_of(size)));
  return text;
}

/// True: the block was an extension and has been taken in.
Result<bool> TarReader::handle_extension(char type, std::uint64_t size, Extensions& extensions) {
  if (type != 'L' && type != 'K' && type != 'x' && type != 'X' && type != 'g' && type != 'V') return false;
  if (++extensions.count > most_extensions_per_entry) return Error(ErrorKind::invalid, "tar: too many extension records in front of one entry");
  if (type == 'V') {  // a volume label; has no data but may claim some
    TRY_PLAIN(read_extension(size, "volume label"));
    return true;
  }
  if (type == 'L' || type == 'K') {
    auto text = TRY_PLAIN(read_extension(size, type == 'L' ? "long name" : "long link name"));
    text.resize(std::min(text.find('\0'), text.size()));
    (type == 'L' ? extensions.long_name : extensions.long_link) = std::move(text);
    return true;
  }
  auto text = TRY_PLAIN(read_extension(size, "PAX header"));
  std::vector<std::pair<std::string, std::string>> records;
  TRY_PLAIN(parse_pax_records(text, records));
  for (auto& [key, value] : records) {
    if (type == 'g') {
      // A global record that renames or resizes everything behind it has no honest use and differs between readers.
      if (key == "path" || key == "linkpath" || key == "size" || key.starts_with("GNU.sparse.") || key.starts_with("SCHILY."))
        return Error(ErrorKind::invalid, concat("tar: a global PAX header may not set \"", key, "\""));
      if (key == "uid" || key == "gid" || key == "mtime") global_[key] = std::move(value);
      continue;
    }
    if (key == "GNU.sparse.offset" || key == "GNU.sparse.numbytes") {
      auto number = TRY(parse_integer<std::uint64_t>(value), "tar: " + key);
      if (key == "GNU.sparse.offset") {
        if (extensions.sparse_0_0.size() >= limits_.segments) return Error(ErrorKind::invalid, "tar: sparse file with too many segments");
        extensions.sparse_0_0.push_back({number, 0});
      } else if (extensions.sparse_0_0.empty()) {
        return Error(ErrorKind::invalid, "tar: GNU.sparse.numbytes before GNU.sparse.offset");
      } else {
        extensions.sparse_0_0.back().length = number;
      }
      continue;
    }
    extensions.pax[key] = std::move(value);
  }
  return true;
}

Status TarReader::parse_header(const Block& raw, Extensions& extensions, TarEntry& entry) {
  TarBlock block(raw.data(), raw.size());
  auto flavour = flavour_of(block);
  char flag = block[tar_field::type.offset];
  entry = TarEntry{};

  entry.name = text_field(block, tar_field::name);
  if (flavour == TarFlavour::ustar || flavour == TarFlavour::star) {
    auto prefix = text_field(block, flavour == TarFlavour::star ? tar_field::star_prefix : tar_field::prefix);
    if (!prefix.empty()) entry.name = concat(prefix, "/", entry.name);
  }
  entry.link_target = text_field(block, tar_field::link);
  if (extensions.long_name) entry.name = std::move(*extensions.long_name);
  if (extensions.long_link) entry.link_target = std::move(*extensions.long_link);
  if (const auto* path = extensions.find("path")) entry.name = *path;
  if (const auto* path = extensions.find("linkpath")) entry.link_target = *path;
  if (const auto* path = extensions.find("GNU.sparse.name")) entry.name = *path;

  auto name = quoted(entry.name);
  entry.type = TRY_PLAIN(type_of(flag, entry.name));
  entry.mode = static_cast<std::uint32_t>(TRY(number_field(block, tar_field::mode, "mode"), name) & 07777);
  entry.uid = TRY(unsigned_field(block, tar_field::uid, "uid"), name);
  entry.gid = TRY(unsigned_field(block, tar_field::gid, "gid"), name);
  entry.mtime_s = TRY(number_field(block, tar_field::mtime, "mtime"), name);
  stored_left_ = is_data_type(flag) ? TRY(unsigned_field(block, tar_field::size, "size"), name) : 0;
  if (entry.type == TarType::char_device || entry.type == TarType::block_device) {
    auto major = TRY(unsigned_field(block, tar_field::device_major, "devmajor"), name);
    auto minor = TRY(unsigned_field(block, tar_field::device_minor, "devminor"), name);
    if (major > 0xFFF || minor > 0xFFFFF)  // the kernel's dev_t: 12 and 20 bits
      return Error(ErrorKind::invalid, concat("tar entry ", name, ": device number ", major, ":", minor, " is out of range"));
    entry.device_major = static_cast<std::uint32_t>(major);
    entry.device_minor = static_cast<std::uint32_t>(minor);
  }

  auto pax = [&](const char* key) -> const std::string* {
    if (const auto* own = extensions.find(key)) return own;
    auto at = global_.find(key);
    return at == global_.end() ? nullptr : &at->second;
  };
  if (const auto* text = pax("uid")) entry.uid = TRY(parse_integer<std::uint64_t>(*text), concat("tar entry ", name, ": PAX uid"));
  if (const auto* text = pax("gid")) entry.gid = TRY(parse_integer<std::uint64_t>(*text), concat("tar entry ", name, ": PAX gid"));
  if (const auto* text = pax("mtime")) TRY(parse_pax_time(*text, entry.mtime_s, entry.mtime_ns), name);
  if (const auto* text = extensions.find("size"); text != nullptr && is_data_type(flag))
    stored_left_ = TRY(parse_integer<std::uint64_t>(*text), concat("tar entry ", name, ": PAX size"));
  if (stored_left_ > most_size) return Error(ErrorKind::invalid, concat("tar entry ", name, ": size ", stored_left_, " is out of range"));
  constexpr std::string_view xattr_prefix = "SCHILY.xattr.";
  for (auto& [key, value] : extensions.pax)
    if (key.starts_with(xattr_prefix) && key.size() > xattr_prefix.size()) entry.xattrs[key.substr(xattr_prefix.size())] = std::move(value);

  entry.size_bytes = stored_left_;
  padding_ = padding_of(stored_left_);
  if (flag == 'S') {
    TRY(read_gnu_sparse(raw, entry), name);
    return check_entry(entry);
  }
  PaxSparse sparse;
  sparse.major = extensions.find("GNU.sparse.major");
  sparse.map = extensions.find("GNU.sparse.map");
  sparse.real_size = extensions.find("GNU.sparse.realsize");
  sparse.size = extensions.find("GNU.sparse.size");
  sparse.segments = std::move(extensions.sparse_0_0);
  TRY(apply_pax_sparse(sparse, entry), name);
  return check_entry(entry);
}

Status TarReader::check_entry(const TarEntry& entry) const {
  auto check = [&](std::string_view text, std::string_view what) -> Status {
    if (text.size() > limits_.name_bytes)
      return Error(ErrorKind::invalid, concat("tar entry ", quoted(entry.name), ": ", what, " of ", text.size(), " bytes is longer than ", limits_.name_bytes));
    if (text.find('\0') != std::string_view::npos) return Error(ErrorKind::invalid, concat("tar entry ", quoted(entry.name), ": ", what, " holds a NUL byte"));
    return {};
  };
  TRY_PLAIN(check(entry.name, "name"));
  TRY_PLAIN(check(entry.link_target, "link target"));
  if (entry.name.empty()) return Error(ErrorKind::invalid, "tar: entry without a name");
  bool is_link = entry.type == TarType::hard_link || entry.type == TarType::symlink;
  if (is_link && entry.link_target.empty()) return Error(ErrorKind::invalid, concat("tar entry ", quoted(entry.name), ": link without a target"));
  return {};
}

Result<bool> TarReader::next(TarEntry& entry) {
  if (ended_) return false;
  TRY_PLAIN(skip(stored_left_ + padding_));
  stored_left_ = padding_ = file_offset_ = 0;
  is_sparse_ = false;
  Extensions extensions;
  Block raw;
  for (;;) {
    bool have_block = TRY_PLAIN(read_block(raw));
    TarBlock block(raw.data(), raw.size());
    if (!have_block || is_zero_block(block)) {
      if (extensions.count > 0) return Error(ErrorKind::invalid, "tar: archive ends between an extension record and its entry");
      if (have_block) TRY_PLAIN(finish());
      ended_ = true;
      return false;
    }
    if (!has_right_checksum(block)) return Error(ErrorKind::invalid, entries_ == 0 ? "not a tar archive (wrong header checksum)" : "tar: header with a wrong checksum");
    char flag = block[tar_field::type.offset];
    auto size = TRY_PLAIN(number_field(block, tar_field::size, "size"));
    if (size < 0) return Error(ErrorKind::invalid, "tar header: field \"size\" is negative");
    if (TRY_PLAIN(handle_extension(flag, static_cast<std::uint64_t>(size), extensions))) continue;
    if (++entries_ > limits_.entries) return Error(ErrorKind::invalid, concat("tar: more than ", limits_.entries, " entries"));
    TRY_PLAIN(parse_header(raw, extensions, entry));
    is_sparse_ = entry.is_sparse;
    segments_ = entry.segments;
    segment_ = 0;
    return true;
  }
}

/// One zero block was read. A second one must follow, or nothing; what comes after both is blocking-factor padding.
Status TarReader::finish() {
  Block raw;
  if (!TRY_PLAIN(read_block(raw))) return {};
  if (!is_zero_block(TarBlock(raw.data(), raw.size()))) return Error(ErrorKind::invalid, "tar: data behind a lone zero block");
  for (;;) {
    auto piece = TRY_PLAIN(peek());
    if (piece.empty()) return {};
    consume(piece.size());
  }
}

Result<TarReader::Piece> TarReader::read() {
  Piece out;
  if (is_sparse_) {
    while (segment_ < segments_.size() && file_offset_ == segments_[segment_].length) {
      ++segment_;
      file_offset_ = 0;
    }
    if (segment_ == segments_.size()) return out;
  }
  if (stored_left_ == 0) return out;
  auto piece = TRY_PLAIN(peek());
  if (piece.empty()) return Error(ErrorKind::invalid, "tar: unexpected end of data");
  std::uint64_t take = std::min<std::uint64_t>(piece.size(), stored_left_);
  out.offset = file_offset_;
  if (is_sparse_) {
    take = std::min(take, segments_[segment_].length - file_offset_);
    out.offset += segments_[segment_].offset;
  }
  out.bytes = piece.substr(0, static_cast<std::size_t>(take));
  consume(static_cast<std::size_t>(take));
  file_offset_ += take;
  stored_left_ -= take;
  return out;
}

}  // namespace caisson::image

// Writing of ustar headers and PAX records.
#include "image/tar_writer.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <string>

#include "base/strings.hpp"
#include "image/tar_header.hpp"

namespace caisson::image {

namespace {

using Block = std::array<char, tar_block_bytes>;
constexpr std::array<char, tar_block_bytes> zeros{};

void put_text(Block& block, TarField field, std::string_view text) {
  std::memcpy(block.data() + field.offset, text.data(), std::min(text.size(), field.length));
}

/// Octal with leading zeros and a NUL behind; false when it does not fit.
bool put_number(Block& block, TarField field, std::uint64_t number) {
  std::size_t digits = field.length - 1;
  if (digits * 3 < 64 && (number >> (digits * 3)) != 0) return false;
  for (std::size_t i = digits; i > 0; --i) {
    block[field.offset + i - 1] = static_cast<char>('0' + (number & 7));
    number >>= 3;
  }
  return true;
}

char flag_of(TarType type) {
  switch (type) {
    case TarType::file: return '0';
    case TarType::hard_link: return '1';
    case TarType::symlink: return '2';
    case TarType::char_device: return '3';
    case TarType::block_device: return '4';
    case TarType::directory: return '5';
    case TarType::fifo: return '6';
  }
  return '0';
}

void seal(Block& block) {
  std::memset(block.data() + tar_field::checksum.offset, ' ', tar_field::checksum.length);
  std::uint64_t sum = 0;
  for (char c : block) sum += static_cast<unsigned char>(c);
  put_number(block, {tar_field::checksum.offset, 7}, sum);  // six digits, NUL, blank
}

/// The record's length counts its own digits.
std::string pax_record(std::string_view key, std::string_view value) {
  std::size_t rest = key.size() + value.size() + 3;
  std::size_t length = rest + 1;
  while (concat(length).size() + rest != length) length = concat(length).size() + rest;
  return concat(length, " ", key, "=", value, "\n");
}

std::string time_text(std::int64_t seconds, std::uint32_t nanoseconds) {
  if (nanoseconds == 0) return concat(seconds);
  bool is_negative = seconds < 0;
  std::int64_t whole = is_negative ? -(seconds + 1) : seconds;
  std::uint32_t fraction = is_negative ? 1'000'000'000U - nanoseconds : nanoseconds;
  std::string digits = concat(fraction);
  digits.insert(0, 9 - digits.size(), '0');
  digits.erase(digits.find_last_not_of('0') + 1);
  return concat(is_negative ? "-" : "", whole, ".", digits);
}

std::uint64_t padding_of(std::uint64_t size) { return (tar_block_bytes - size % tar_block_bytes) % tar_block_bytes; }

/// The map that stands before the data of a sparse file: numbers in lines, filled up to a block.
std::string sparse_map_of(const TarEntry& entry) {
  std::string map = concat(entry.segments.size(), "\n");
  for (const auto& segment : entry.segments) map += concat(segment.offset, "\n", segment.length, "\n");
  map.append(static_cast<std::size_t>(padding_of(map.size())), '\0');
  return map;
}

/// Bytes that stand in the archive for this entry's contents.
std::uint64_t stored_size(const TarEntry& entry, const std::string& sparse_map) {
  if (entry.type != TarType::file) return 0;
  if (!entry.is_sparse) return entry.size_bytes;
  std::uint64_t sum = sparse_map.size();
  for (const auto& segment : entry.segments) sum += segment.length;
  return sum;
}

/// Fills a ustar header; what does not fit goes to `pax`.
Block header_of(const TarEntry& entry, std::uint64_t size, std::map<std::string, std::string>& pax) {
  Block block{};
  if (entry.name.size() > tar_field::name.length) pax["path"] = entry.name;
  if (entry.is_sparse) {
    // Readers take the name from here; the header's own may be cut.
    pax["GNU.sparse.major"] = "1";
    pax["GNU.sparse.minor"] = "0";
    pax["GNU.sparse.name"] = entry.name;
    pax["GNU.sparse.realsize"] = concat(entry.size_bytes);
  }
  if (entry.link_target.size() > tar_field::link.length) pax["linkpath"] = entry.link_target;
  put_text(block, tar_field::name, entry.name);
  put_text(block, tar_field::link, entry.link_target);
  put_number(block, tar_field::mode, entry.mode & 07777);
  if (!put_number(block, tar_field::uid, entry.uid)) pax["uid"] = concat(entry.uid);
  if (!put_number(block, tar_field::gid, entry.gid)) pax["gid"] = concat(entry.gid);
  if (!put_number(block, tar_field::size, size)) pax["size"] = concat(size);
  bool fits = entry.mtime_s >= 0 && put_number(block, tar_field::mtime, static_cast<std::uint64_t>(entry.mtime_s));
  if (!fits || entry.mtime_ns != 0) pax["mtime"] = time_text(entry.mtime_s, entry.mtime_ns);
  if (!fits) put_number(block, tar_field::mtime, 0);
  block[tar_field::type.offset] = flag_of(entry.type);
  put_text(block, tar_field::magic, std::string_view("ustar\0"
                                                     "00",
                                                     8));
  put_number(block, tar_field::device_major, entry.device_major);
  put_number(block, tar_field::device_minor, entry.device_minor);
  for (const auto& [key, value] : entry.xattrs) pax["SCHILY.xattr." + key] = value;
  return block;
}

}  // namespace

Status TarWriter::end_entry() {
  if (left_ != 0) return Error(ErrorKind::internal, concat("tar: ", left_, " bytes of an entry were not written"));
  TRY_PLAIN(sink_(std::string_view(zeros.data(), static_cast<std::size_t>(padding_))));
  padding_ = 0;
  return {};
}

/// The PAX header in front of an entry.
Status TarWriter::write_extension(std::string records) {
  Block extension{};
  put_text(extension, tar_field::name, "PaxHeaders/entry");  // readers ignore it; a fixed name keeps the bytes stable
  put_number(extension, tar_field::mode, 0644);
  put_number(extension, tar_field::uid, 0);
  put_number(extension, tar_field::gid, 0);
  put_number(extension, tar_field::size, records.size());
  put_number(extension, tar_field::mtime, 0);
  extension[tar_field::type.offset] = 'x';
  put_text(extension, tar_field::magic, std::string_view("ustar\0"
                                                         "00",
                                                         8));
  seal(extension);
  TRY_PLAIN(sink_(std::string_view(extension.data(), extension.size())));
  records.append(static_cast<std::size_t>(padding_of(records.size())), '\0');
  return sink_(records);
}

Status TarWriter::begin(const TarEntry& entry) {
  TRY_PLAIN(end_entry());
  std::map<std::string, std::string> pax;
  const std::string sparse_map = entry.is_sparse ? sparse_map_of(entry) : std::string();
  const std::uint64_t size = stored_size(entry, sparse_map);
  Block header = header_of(entry, size, pax);
  seal(header);
  if (!pax.empty()) {
    std::string records;
    for (const auto& [key, value] : pax) records += pax_record(key, value);
    TRY_PLAIN(write_extension(std::move(records)));
  }
  TRY_PLAIN(sink_(std::string_view(header.data(), header.size())));
  TRY_PLAIN(sink_(sparse_map));
  left_ = size - sparse_map.size();
  padding_ = padding_of(size);
  return {};
}

Status TarWriter::write(std::string_view bytes) {
  if (bytes.size() > left_) return Error(ErrorKind::internal, "tar: more bytes than the entry's size");
  left_ -= bytes.size();
  return sink_(bytes);
}

Status TarWriter::add(const TarEntry& entry, std::string_view contents) {
  TarEntry sized = entry;
  sized.size_bytes = contents.size();
  TRY_PLAIN(begin(sized));
  return write(contents);
}

Status TarWriter::finish() {
  TRY_PLAIN(end_entry());
  TRY_PLAIN(sink_(std::string_view(zeros.data(), zeros.size())));
  return sink_(std::string_view(zeros.data(), zeros.size()));
}

}  // namespace caisson::image

// Zip archives by their central directory (APPNOTE.TXT 6.3, sections 4.3.7, 4.3.12 and 4.3.16).
#include <algorithm>
#include <limits>

#include "base/strings.hpp"
#include "image/inflate.hpp"
#include "inventory/advisories.hpp"

namespace caisson::inventory {

namespace {

constexpr std::uint64_t most_bytes = 1ULL << 30;
constexpr std::size_t end_record_bytes = 22;
constexpr std::size_t most_comment_bytes = 65'535;
constexpr std::size_t entry_bytes = 46;
constexpr std::size_t local_bytes = 30;
constexpr std::uint16_t stored = 0;
constexpr std::uint16_t deflated = 8;

Error corrupt(std::string_view why) { return {ErrorKind::corrupt, concat("zip: ", why)}; }

std::uint64_t number(std::string_view bytes, std::size_t at, std::size_t size) {
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < size; ++i) out |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(bytes[at + i])) << (8 * i);
  return out;
}

struct Entry {
  std::string_view name;
  std::uint16_t method = 0;
  std::string_view crc;      ///< as it is written
  std::string_view size;     ///< of the decompressed bytes, as it is written
  std::string_view packed;
  std::uint64_t size_bytes = 0;
};

/// Raw deflate between the head and the tail that make it a gzip member: its decoder then also checks CRC and length.
Result<std::string> inflate_entry(const Entry& entry) {
  constexpr std::string_view gzip_head("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", 10);
  std::string gzip(gzip_head);
  gzip += entry.packed;
  gzip += entry.crc;
  gzip += entry.size;
  image::MemorySource source(gzip);
  auto inflater = TRY_PLAIN(image::open_inflater(source));
  std::string out;
  for (;;) {
    const auto piece = TRY_PLAIN(inflater->next());
    if (piece.empty()) return out;
    if (out.size() + piece.size() > entry.size_bytes) return corrupt("a member is longer than announced");
    out += piece;
  }
}

Result<Entry> read_entry(std::string_view zip, std::string_view& directory) {
  if (directory.size() < entry_bytes || !directory.starts_with(std::string_view("PK\x01\x02", 4))) return corrupt("its directory is damaged");
  Entry out;
  const auto flags = number(directory, 8, 2);
  out.method = static_cast<std::uint16_t>(number(directory, 10, 2));
  out.crc = directory.substr(16, 4);
  out.size = directory.substr(24, 4);
  out.size_bytes = number(directory, 24, 4);
  const auto packed_bytes = number(directory, 20, 4);
  const auto name_bytes = number(directory, 28, 2);
  const auto whole = entry_bytes + name_bytes + number(directory, 30, 2) + number(directory, 32, 2);
  const auto local = number(directory, 42, 4);
  if (directory.size() < whole) return corrupt("its directory is damaged");
  out.name = directory.substr(entry_bytes, name_bytes);
  if ((flags & 1U) != 0) return Error(ErrorKind::unsupported, concat("zip: ", out.name, " is encrypted"));
  constexpr std::uint64_t in_zip64 = std::numeric_limits<std::uint32_t>::max();
  if (packed_bytes == in_zip64 || local == in_zip64) return Error(ErrorKind::unsupported, "zip: its members are too large (zip64)");
  if (local > zip.size() || zip.size() - local < local_bytes || !zip.substr(local).starts_with(std::string_view("PK\x03\x04", 4))) return corrupt(concat(out.name, " is not where the directory says"));
  const auto data = local + local_bytes + number(zip, local + 26, 2) + number(zip, local + 28, 2);
  if (data > zip.size() || zip.size() - data < packed_bytes) return corrupt(concat(out.name, " is cut off"));
  out.packed = zip.substr(data, packed_bytes);
  directory.remove_prefix(whole);
  return out;
}

}  // namespace

Status for_each_zip_member(std::string_view zip, const std::function<Status(std::string_view, std::string_view)>& visit) {
  if (zip.size() < end_record_bytes) return corrupt("cut off");
  const auto tail = zip.substr(zip.size() - std::min(zip.size(), end_record_bytes + most_comment_bytes));
  const auto found = tail.rfind(std::string_view("PK\x05\x06", 4));
  if (found == std::string_view::npos || tail.size() - found < end_record_bytes) return corrupt("it has no directory; is the download whole?");
  const auto end = tail.substr(found);
  const auto offset = number(end, 16, 4);
  const auto directory_end = zip.size() - (tail.size() - found);
  if (offset > directory_end) return corrupt("its directory lies behind its end");
  // The number of members is not looked at: for more than 65,535 it stands in a record of zip64, while the members are listed as ever.
  auto directory = zip.substr(offset, directory_end - offset);
  if (!directory.empty() && !directory.starts_with(std::string_view("PK", 2))) return corrupt("its directory is damaged");
  std::uint64_t total = 0;
  while (directory.starts_with(std::string_view("PK\x01\x02", 4))) {
    const auto entry = TRY_PLAIN(read_entry(zip, directory));
    total += entry.size_bytes;
    if (total > most_bytes) return Error(ErrorKind::unsupported, concat("zip: its members have more than ", most_bytes, " bytes"));
    if (entry.name.ends_with('/')) continue;
    if (entry.method == stored) TRY_PLAIN(visit(entry.name, entry.packed));
    else if (entry.method == deflated) TRY_PLAIN(visit(entry.name, TRY(inflate_entry(entry), concat("zip: ", entry.name))));
    else return Error(ErrorKind::unsupported, concat("zip: ", entry.name, " is compressed by method ", entry.method));
  }
  return {};
}

}  // namespace caisson::inventory

// Pure parsing of tar header blocks and PAX records.
#include "image/tar_header.hpp"

#include <algorithm>
#include <limits>

#include "base/strings.hpp"

namespace caisson::image {

std::string_view text_field(TarBlock block, TarField field) {
  auto text = raw_field(block, field);
  return text.substr(0, text.find('\0'));
}

namespace {

Error bad_number(std::string_view name) { return {ErrorKind::invalid, concat("tar header: field \"", name, "\" is not a number")}; }

/// Big-endian two's complement in all bits but the first, which marks the encoding.
Result<std::int64_t> base256(std::string_view text, std::string_view name) {
  bool is_negative = (static_cast<unsigned char>(text[0]) & 0x40) != 0;
  std::uint64_t value = is_negative ? std::numeric_limits<std::uint64_t>::max() : 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto byte = static_cast<unsigned char>(text[i]);
    if (i == 0) byte = static_cast<unsigned char>(is_negative ? byte | 0x80 : byte & 0x7F);
    // The byte that is shifted out must repeat the sign, or the number does not fit in 64 bits.
    if ((value >> 55) != (is_negative ? 0x1FFU : 0U)) return Error(ErrorKind::invalid, concat("tar header: field \"", name, "\" is too large"));
    value = value << 8 | byte;
  }
  return static_cast<std::int64_t>(value);
}

}  // namespace

Result<std::int64_t> number_field(TarBlock block, TarField field, std::string_view name) {
  auto text = raw_field(block, field);
  if ((static_cast<unsigned char>(text[0]) & 0x80) != 0) return base256(text, name);
  auto first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) return std::int64_t{0};
  text = text.substr(first);
  auto last = text.find_first_of(std::string_view(" \0", 2));
  auto digits = text.substr(0, last);
  if (last != std::string_view::npos && text.find_first_not_of(std::string_view(" \0", 2), last) != std::string_view::npos) return bad_number(name);
  if (digits.empty()) return std::int64_t{0};
  auto value = parse_integer<std::uint64_t>(digits, 8);
  if (!value.ok() || *value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return bad_number(name);
  return static_cast<std::int64_t>(*value);
}

bool is_zero_block(TarBlock block) { return block.find_first_not_of('\0') == std::string_view::npos; }

bool has_right_checksum(TarBlock block) {
  auto stored = number_field(block, tar_field::checksum, "checksum");
  if (!stored.ok()) return false;
  std::int64_t as_unsigned = 0;
  std::int64_t as_signed = 0;
  for (std::size_t i = 0; i < block.size(); ++i) {
    bool in_checksum = i >= tar_field::checksum.offset && i < tar_field::checksum.offset + tar_field::checksum.length;
    char c = in_checksum ? ' ' : block[i];
    as_unsigned += static_cast<unsigned char>(c);
    as_signed += static_cast<signed char>(c);
  }
  return *stored == as_unsigned || *stored == as_signed;
}

TarFlavour flavour_of(TarBlock block) {
  auto magic = raw_field(block, tar_field::magic);
  if (magic == std::string_view("ustar  \0", 8)) return TarFlavour::gnu;
  if (!magic.starts_with("ustar")) return TarFlavour::v7;
  return raw_field(block, tar_field::star_trailer) == std::string_view("tar\0", 4) ? TarFlavour::star : TarFlavour::ustar;
}

Status parse_pax_records(std::string_view text, std::vector<std::pair<std::string, std::string>>& out) {
  auto bad = [] { return Error(ErrorKind::invalid, "tar: malformed PAX record"); };
  while (!text.empty()) {
    auto blank = text.find(' ');
    if (blank == std::string_view::npos) {
      // Some writers pad the last block's record area with NULs.
      if (text.find_first_not_of('\0') == std::string_view::npos) return {};
      return bad();
    }
    auto length = parse_integer<std::size_t>(text.substr(0, blank));
    if (!length.ok() || *length > text.size() || *length < blank + 3 || text[*length - 1] != '\n') return bad();
    auto record = text.substr(blank + 1, *length - blank - 2);
    auto halves = split_once(record, '=');
    if (!halves.found || halves.before.empty() || halves.before.find('\0') != std::string_view::npos) return bad();
    out.emplace_back(halves.before, halves.after);
    text.remove_prefix(*length);
  }
  return {};
}

Status parse_pax_time(std::string_view text, std::int64_t& seconds, std::uint32_t& nanoseconds) {
  auto bad = [&] { return Error(ErrorKind::invalid, concat("tar: PAX time \"", text, "\" is not a number")); };
  auto halves = split_once(text, '.');
  auto whole = parse_integer<std::int64_t>(halves.before);
  if (!whole.ok() || halves.after.find_first_not_of("0123456789") != std::string_view::npos) return bad();
  std::uint32_t fraction = 0;
  for (std::size_t i = 0; i < 9; ++i) fraction = fraction * 10 + (i < halves.after.size() ? static_cast<std::uint32_t>(halves.after[i] - '0') : 0U);
  bool is_negative = halves.before.starts_with('-');
  if (is_negative && fraction > 0) {
    if (*whole == std::numeric_limits<std::int64_t>::min()) return bad();
    seconds = *whole - 1;
    nanoseconds = 1'000'000'000U - fraction;
    return {};
  }
  seconds = *whole;
  nanoseconds = fraction;
  return {};
}

}  // namespace caisson::image

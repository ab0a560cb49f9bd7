// The grammar of the two headers.
#include "registry/range.hpp"

#include <algorithm>
#include <limits>

#include "base/strings.hpp"

namespace caisson::registry {

RangeRequest parse_range(std::string_view header, std::uint64_t size_bytes) {
  constexpr std::string_view unit = "bytes=";
  RangeRequest out;
  header = trim(header);
  if (!header.starts_with(unit)) return out;
  const auto text = trim(header.substr(unit.size()));
  if (text.find(',') != std::string_view::npos) return out;
  const auto halves = split_once(text, '-');
  if (!halves.found) return out;
  const auto before = trim(halves.before);
  const auto after = trim(halves.after);
  if (before.empty()) {
    auto suffix = parse_integer<std::uint64_t>(after);
    if (!suffix.ok()) return out;
    if (*suffix == 0 || size_bytes == 0) return {RangeVerdict::unsatisfiable, {}};
    return {RangeVerdict::part, {size_bytes - std::min(*suffix, size_bytes), size_bytes - 1}};
  }
  auto first = parse_integer<std::uint64_t>(before);
  auto last = after.empty() ? Result<std::uint64_t>(std::numeric_limits<std::uint64_t>::max()) : parse_integer<std::uint64_t>(after);
  if (!first.ok() || !last.ok() || *last < *first) return out;
  if (*first >= size_bytes) return {RangeVerdict::unsatisfiable, {}};
  return {RangeVerdict::part, {*first, std::min(*last, size_bytes - 1)}};
}

std::optional<ByteRange> parse_chunk_range(std::string_view header) {
  header = trim(header);
  constexpr std::string_view unit = "bytes ";
  if (header.starts_with(unit)) header = split_once(header.substr(unit.size()), '/').before;
  const auto halves = split_once(header, '-');
  auto first = parse_integer<std::uint64_t>(halves.before);
  auto last = parse_integer<std::uint64_t>(halves.after);
  // One below the largest number, so that size_bytes() cannot overflow.
  if (!halves.found || !first.ok() || !last.ok() || *last < *first || *last == std::numeric_limits<std::uint64_t>::max()) return std::nullopt;
  return ByteRange{*first, *last};
}

}  // namespace caisson::registry

// The four ways in which tar archives describe sparse files: old GNU headers, and PAX formats 0.0, 0.1 and 1.0.
#include <limits>

#include "base/strings.hpp"
#include "image/tar_header.hpp"
#include "image/tar_reader.hpp"

namespace caisson::image {

namespace {

constexpr std::size_t segment_bytes = 24;  // two numbers of 12 bytes

Error too_many() { return {ErrorKind::invalid, "sparse file with too many segments"}; }

/// Segments of one header area; an all-zero pair ends the list.
Result<bool> read_pairs(TarBlock block, TarField area, std::size_t limit, std::vector<TarSegment>& out) {
  for (std::size_t at = 0; at + segment_bytes <= area.length; at += segment_bytes) {
    TarField offset_field{area.offset + at, 12};
    TarField length_field{area.offset + at + 12, 12};
    if (raw_field(block, {area.offset + at, segment_bytes}).find_first_not_of('\0') == std::string_view::npos) return false;
    auto offset = TRY_PLAIN(number_field(block, offset_field, "sparse offset"));
    auto length = TRY_PLAIN(number_field(block, length_field, "sparse length"));
    if (offset < 0 || length < 0) return Error(ErrorKind::invalid, "sparse segment with a negative number");
    if (out.size() >= limit) return too_many();
    out.push_back({static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(length)});
  }
  return true;
}

}  // namespace

Status TarReader::read_gnu_sparse(const Block& raw, TarEntry& entry) {
  TarBlock block(raw.data(), raw.size());
  entry.is_sparse = true;
  auto real_size = TRY_PLAIN(number_field(block, tar_field::gnu_real_size, "realsize"));
  if (real_size < 0) return Error(ErrorKind::invalid, "sparse file with a negative size");
  entry.size_bytes = static_cast<std::uint64_t>(real_size);
  TRY_PLAIN(read_pairs(block, tar_field::gnu_sparse, limits_.segments, entry.segments));
  bool is_extended = block[tar_field::gnu_is_extended.offset] != 0;
  while (is_extended) {
    Block more;
    if (!TRY_PLAIN(read_block(more))) return Error(ErrorKind::invalid, "unexpected end of data in a sparse map");
    TarBlock view(more.data(), more.size());
    TRY_PLAIN(read_pairs(view, tar_field::gnu_more_sparse, limits_.segments, entry.segments));
    is_extended = view[tar_field::gnu_more_is_extended.offset] != 0;
  }
  return check_segments(entry);
}

Status TarReader::apply_pax_sparse(const PaxSparse& sparse, TarEntry& entry) {
  if (sparse.map == nullptr && sparse.major == nullptr && sparse.segments.empty()) return {};
  if (entry.type != TarType::file) return Error(ErrorKind::invalid, "only a file can be sparse");
  entry.is_sparse = true;
  if (sparse.real_size != nullptr) entry.size_bytes = TRY(parse_integer<std::uint64_t>(*sparse.real_size), "sparse size");
  else if (sparse.size != nullptr) entry.size_bytes = TRY(parse_integer<std::uint64_t>(*sparse.size), "sparse size");
  if (sparse.major != nullptr && *sparse.major == "1") {
    TRY_PLAIN(read_sparse_map_from_data(entry));
  } else if (sparse.major != nullptr && *sparse.major != "0") {
    return Error(ErrorKind::unsupported, concat("sparse format ", *sparse.major, " is not supported"));
  } else if (sparse.map != nullptr) {
    auto numbers = split(*sparse.map, ',');
    if (sparse.map->empty()) numbers.clear();
    if (numbers.size() % 2 != 0) return Error(ErrorKind::invalid, "sparse map with an odd count of numbers");
    if (numbers.size() / 2 > limits_.segments) return too_many();
    for (std::size_t i = 0; i < numbers.size(); i += 2) {
      TarSegment segment;
      segment.offset = TRY(parse_integer<std::uint64_t>(numbers[i]), "sparse map");
      segment.length = TRY(parse_integer<std::uint64_t>(numbers[i + 1]), "sparse map");
      entry.segments.push_back(segment);
    }
  } else {
    entry.segments = sparse.segments;
  }
  return check_segments(entry);
}

/// Format 1.0: the data begin with decimal lines "count, offset, length, offset, …", padded to a whole block.
Status TarReader::read_sparse_map_from_data(TarEntry& entry) {
  std::string line;
  std::uint64_t used = 0;
  auto number = [&]() -> Result<std::uint64_t> {
    constexpr std::size_t most_digits = 20;
    line.clear();
    for (;;) {
      if (used >= stored_left_) return Error(ErrorKind::invalid, "sparse map is cut off");
      auto piece = TRY_PLAIN(peek());
      if (piece.empty()) return Error(ErrorKind::invalid, "unexpected end of data in a sparse map");
      char c = piece[0];
      consume(1);
      ++used;
      if (c == '\n') return parse_integer<std::uint64_t>(line);
      if (line.size() >= most_digits) return Error(ErrorKind::invalid, "sparse map is malformed");
      line += c;
    }
  };
  auto count = TRY(number(), "sparse map");
  if (count > limits_.segments) return too_many();
  for (std::uint64_t i = 0; i < count; ++i) {
    TarSegment segment;
    segment.offset = TRY(number(), "sparse map");
    segment.length = TRY(number(), "sparse map");
    entry.segments.push_back(segment);
  }
  auto rest = (tar_block_bytes - used % tar_block_bytes) % tar_block_bytes;
  if (used + rest > stored_left_) return Error(ErrorKind::invalid, "sparse map is cut off");
  TRY_PLAIN(skip(rest));
  stored_left_ -= used + rest;
  return {};
}

Status TarReader::check_segments(const TarEntry& entry) const {
  std::uint64_t end = 0;
  std::uint64_t stored = 0;
  if (entry.size_bytes > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return Error(ErrorKind::invalid, "sparse file is too large");
  for (const auto& segment : entry.segments) {
    if (segment.offset < end || segment.offset > entry.size_bytes || segment.length > entry.size_bytes - segment.offset)
      return Error(ErrorKind::invalid, "sparse segments overlap or lie outside the file");
    end = segment.offset + segment.length;
    stored += segment.length;
  }
  if (stored != stored_left_) return Error(ErrorKind::invalid, "sparse segments do not add up to the stored size");
  return {};
}

}  // namespace caisson::image

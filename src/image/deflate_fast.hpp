// The inner loop of the DEFLATE decoder: symbols of a block while input and room are far from their ends.
#pragma once

#include <cstdint>

#include "image/deflate_codes.hpp"

namespace caisson::image {

/// Where the loop stands: what it is given, and what it leaves.
struct DeflateCursor {
  const char* in;
  const char* in_end;
  char* out;
  char* out_limit;      // behind it lie `deflate_overrun_bytes` that may be written
  const char* history;  // the first byte that matches may reach back to
  std::uint64_t bits;   // read ahead, the next one lowest; zeros above `bit_count`
  unsigned bit_count;   // 0 to 63
};

enum class DeflateFastEnd : std::uint8_t { edge, end_of_block, invalid_literal, invalid_distance, too_far_back };

/// The loop does not begin with less input than this, and ends with less.
constexpr std::size_t deflate_fast_input_bytes = 32;
/// How far one turn of the loop may write: literals, the longest match, and what a wide copy writes too much.
constexpr std::size_t deflate_overrun_bytes = 6 + 258 + 32;

/// Preconditions: deflate_fast_input_bytes between in and in_end; out < out_limit; the bits that are held do not make a whole symbol.
/// Afterwards bit_count < 8: bytes that were read ahead are given back.
DeflateFastEnd decode_fast(DeflateCursor& cursor, const deflate_codes::Entry* literals, const deflate_codes::Entry* distances);

}  // namespace caisson::image

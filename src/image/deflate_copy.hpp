// Copies of matches and loads of words, wide and without alignment.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace caisson::image {

/// Eight bytes as the number whose lowest byte is the first.
inline std::uint64_t load_word(const char* at) {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
  return word;
}

template <std::size_t width>
inline void copy_chunk(char* to, const char* from) {
  std::array<char, width> chunk;  // between load and store: the two may overlap
  std::memcpy(chunk.data(), from, width);
  std::memcpy(to, chunk.data(), width);
}

/// The rest of a match whose bytes repeat after less than a word: the pattern is laid out in a word, which is stored again and again.
inline void copy_pattern(char* to, const char* end, std::size_t distance) {
  std::array<char, 8> pattern;
  for (std::size_t i = 0; i < pattern.size(); ++i) pattern[i] = *(to - distance + i % distance);
  const std::size_t step = pattern.size() - pattern.size() % distance;
  do {
    std::memcpy(to, pattern.data(), pattern.size());
    to += step;
  } while (to < end);
}

/// Copies a match of `length` (at least 1) bytes that begins `distance` bytes before `to`; writes up to 32 bytes more.
inline void copy_match(char* to, std::size_t distance, std::size_t length) {
  const char* from = to - distance;
  const char* const end = to + length;
  if (distance >= 16) [[likely]] {
    do {
      copy_chunk<16>(to, from);
      to += 16;
      from += 16;
    } while (to < end);
  } else if (distance >= 8) {
    do {
      copy_chunk<8>(to, from);
      to += 8;
      from += 8;
    } while (to < end);
  } else if (distance == 1) {
    std::memset(to, *from, (length + 15) & ~std::size_t{15});
  } else {
    copy_pattern(to, end, distance);
  }
}

}  // namespace caisson::image

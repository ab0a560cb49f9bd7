// The prefix codes of DEFLATE (RFC 1951, section 3.2) as tables in which the next bits of a stream look their meaning up.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <span>

namespace caisson::image::deflate_codes {

/// What the next bits mean. Bits of an entry:
///    0–7   how many bits of the stream it takes, extra bits included
///    8–11  literals: how many bytes; lengths and distances: bits of the code alone, behind which the extra bits begin; subtable: bits of its index
///   12–15  what it is; none of these: a length or a distance
///   16–31  the bytes of literals, first one lowest; the base of a length or distance; where a subtable begins
using Entry = std::uint32_t;
constexpr Entry end_of_block = 1U << 12U;  // only beside `special`
constexpr Entry subtable = 1U << 13U;      // only beside `special`
constexpr Entry special = 1U << 14U;       // neither literal nor length nor distance; alone: bits that are no code
constexpr Entry literal = 1U << 15U;

constexpr unsigned most_code_bits = 15;
constexpr unsigned literal_table_bits = 11;
constexpr unsigned distance_table_bits = 9;
constexpr unsigned length_table_bits = 7;  // the code of the code lengths has no longer ones
constexpr std::size_t literal_symbols = 288;
constexpr std::size_t distance_symbols = 32;
constexpr std::size_t length_symbols = 19;

/// A subtable with an index of k bits holds at least k + 1 codes, because k is the depth of its longest one and the code is complete: with `symbols`
/// codes in all, 2^k / (k + 1) entries per code are never exceeded, k being 15 - 11 and 15 - 9.
constexpr std::size_t literal_entries = (1U << literal_table_bits) + literal_symbols * 16 / 5 + 1;
constexpr std::size_t distance_entries = (1U << distance_table_bits) + distance_symbols * 64 / 7 + 1;
constexpr std::size_t length_entries = 1U << length_table_bits;

namespace detail {

struct Extra {
  std::uint16_t base;
  std::uint8_t bits;
};
// RFC 1951, section 3.2.5, symbols 257 to 285; 286 and 287 have codes and no meaning.
constexpr std::array<Extra, 29> lengths = {{{3, 0},   {4, 0},   {5, 0},   {6, 0},   {7, 0},  {8, 0},  {9, 0},  {10, 0},
                                            {11, 1},  {13, 1},  {15, 1},  {17, 1},  {19, 2}, {23, 2}, {27, 2}, {31, 2},
                                            {35, 3},  {43, 3},  {51, 3},  {59, 3},  {67, 4}, {83, 4}, {99, 4}, {115, 4},
                                            {131, 5}, {163, 5}, {195, 5}, {227, 5}, {258, 0}}};

constexpr Entry meaning_of(Extra extra) { return (static_cast<Entry>(extra.base) << 16U) | extra.bits; }

constexpr std::array<Entry, literal_symbols> make_literal_meanings() {
  std::array<Entry, literal_symbols> meanings{};
  for (Entry byte = 0; byte < 256; ++byte) meanings[byte] = literal | (1U << 8U) | (byte << 16U);
  meanings[256] = special | end_of_block;
  for (std::size_t i = 0; i < lengths.size(); ++i) meanings[257 + i] = meaning_of(lengths[i]);
  for (std::size_t i = 257 + lengths.size(); i < literal_symbols; ++i) meanings[i] = special;
  return meanings;
}

// Symbols 0 to 29: from the fourth on, two symbols share a number of extra bits. 30 and 31 have codes and no meaning.
constexpr std::array<Entry, distance_symbols> make_distance_meanings() {
  std::array<Entry, distance_symbols> meanings{};
  unsigned base = 1;
  for (unsigned i = 0; i < 30; ++i) {
    const unsigned bits = i < 4 ? 0 : i / 2 - 1;
    meanings[i] = meaning_of({static_cast<std::uint16_t>(base), static_cast<std::uint8_t>(bits)});
    base += 1U << bits;
  }
  meanings[30] = meanings[31] = special;
  return meanings;
}

constexpr std::array<Entry, length_symbols> make_length_meanings() {
  std::array<Entry, length_symbols> meanings{};
  for (Entry i = 0; i < length_symbols; ++i) meanings[i] = literal | (i << 16U);
  return meanings;
}

/// The meaning of a symbol whose code has `bits` bits.
constexpr Entry entry_of(Entry meaning, unsigned bits) {
  return meaning + bits * ((meaning & (literal | special)) != 0 ? 1U : 0x101U);
}

/// The code of `bits` bits that follows `code`, both with their first bit lowest, as they lie in a stream.
constexpr unsigned next_code(unsigned code, unsigned bits) {
  const unsigned bit = std::bit_floor(code ^ ((1U << bits) - 1U));
  return (code & (bit - 1U)) | bit;  // with no bit free the code was the last one, and what comes of this is not used
}

}  // namespace detail

constexpr auto literal_meanings = detail::make_literal_meanings();
constexpr auto distance_meanings = detail::make_distance_meanings();
constexpr auto length_meanings = detail::make_length_meanings();

namespace detail {

/// The symbols that have codes, in the order of those: by length, then by symbol (RFC 1951, section 3.2.2).
struct SortedSymbols {
  std::array<std::uint16_t, most_code_bits + 1> count{};  // of each length
  std::array<std::uint16_t, literal_symbols> symbols{};
  std::size_t size = 0;
  int room = 1;  // for further codes of the longest length; negative: there are too many already

  constexpr explicit SortedSymbols(std::span<const std::uint8_t> code_lengths) {
    for (auto bits : code_lengths) ++count[bits];
    count[0] = 0;
    std::array<std::uint16_t, most_code_bits + 2> place{};
    for (unsigned bits = 1; bits <= most_code_bits && room >= 0; ++bits) {
      room = room * 2 - count[bits];
      place[bits + 1] = static_cast<std::uint16_t>(place[bits] + count[bits]);
    }
    if (room < 0) return;
    size = place[most_code_bits + 1];
    for (std::size_t symbol = 0; symbol < code_lengths.size(); ++symbol)
      if (code_lengths[symbol] != 0) symbols[place[code_lengths[symbol]]++] = static_cast<std::uint16_t>(symbol);
  }
};

/// Goes through the codes in their order and writes what they mean.
struct Filler {
  const SortedSymbols& sorted;
  std::span<const Entry> meanings;
  std::span<Entry> table;
  unsigned table_bits;
  unsigned code = 0;
  std::size_t at = 0;      // in sorted.symbols
  std::size_t filled = 1;  // of the table

  constexpr Entry take(unsigned bits, unsigned bits_before) {
    code = next_code(code, bits);
    return entry_of(meanings[sorted.symbols[at++]], bits - bits_before);
  }

  /// Codes that are not longer than the table's index: each doubling repeats what is there behind itself, for both values of the next bit.
  constexpr void fill_short_codes() {
    table[0] = special | 1U;  // stays where there is no code
    for (unsigned bits = 1; bits <= table_bits; ++bits) {
      std::copy_n(table.begin(), filled, table.begin() + static_cast<std::ptrdiff_t>(filled));
      filled *= 2;
      for (unsigned left = sorted.count[bits]; left > 0; --left) {
        const unsigned index = code;
        table[index] = take(bits, 0);
      }
    }
  }

  /// Longer ones share subtables by their first `table_bits` bits.
  constexpr void fill_long_codes() {
    const unsigned prefixes = 1U << table_bits;
    unsigned prefix = prefixes, index_bits = 0;
    std::size_t begin = 0;
    for (unsigned bits = table_bits + 1; bits <= most_code_bits; ++bits) {
      for (unsigned left = sorted.count[bits]; left > 0; --left) {
        if (code % prefixes != prefix) {
          prefix = code % prefixes;
          index_bits = depth_of_subtable(bits, left);
          begin = filled;
          filled += std::size_t{1} << index_bits;
          table[prefix] = special | subtable | (index_bits << 8U) | (static_cast<Entry>(begin) << 16U) | table_bits;
        }
        const std::size_t first = code >> table_bits, step = std::size_t{1} << (bits - table_bits);
        const Entry entry = take(bits, table_bits);
        for (std::size_t i = first; i < (std::size_t{1} << index_bits); i += step) table[begin + i] = entry;
      }
    }
  }

  /// Of a subtable that begins with a code of `bits` bits, of which `left` are to come: how deep codes go until it is full.
  constexpr unsigned depth_of_subtable(unsigned bits, unsigned left) const {
    for (unsigned slots = 1U << (bits - table_bits); slots > left; left = sorted.count[bits]) {
      slots = (slots - left) * 2;
      ++bits;
    }
    return bits - table_bits;
  }
};

}  // namespace detail

/// Fills `table` (2^table_bits entries, then subtables) for a code with these lengths (0: the symbol has no code).
/// False where zlib refuses: more codes than there is room for, or fewer, but for a single code of one bit (`may_be_single`)
/// and for no code at all, which is an error only for whoever meets such bits.
constexpr bool build(std::span<const std::uint8_t> code_lengths, std::span<const Entry> meanings, unsigned table_bits,
                     std::span<Entry> table, bool may_be_single) {
  const detail::SortedSymbols sorted(code_lengths);
  const bool is_single = may_be_single && sorted.size == 1 && sorted.count[1] == 1;
  if (sorted.room < 0 || (sorted.room > 0 && sorted.size > 0 && !is_single)) return false;
  detail::Filler filler{sorted, meanings, table, table_bits};
  filler.fill_short_codes();
  filler.fill_long_codes();
  return true;
}

/// Makes one entry of two literals whose codes fit into one index. From above down, so that the second one is looked up before it becomes a pair itself.
constexpr void pair_literals(std::span<Entry> table) {
  for (std::size_t i = std::size_t{1} << literal_table_bits; i-- > 0;) {
    const Entry one = table[i];
    const Entry other = table[i >> (one & 15U)];
    const unsigned bits = (one & 255U) + (other & 255U);
    const bool pays = (one & other & literal) != 0 && bits <= literal_table_bits;
    const Entry both = literal | (2U << 8U) | bits | (one & 0x00ff0000U) | ((other & 0x00ff0000U) << 8U);
    table[i] = pays ? both : one;
  }
}

struct LiteralTable {
  std::array<Entry, literal_entries> entries{};
};
struct DistanceTable {
  std::array<Entry, distance_entries> entries{};
};

/// The code of blocks that bring none (RFC 1951, section 3.2.6).
constexpr LiteralTable make_fixed_literals() {
  std::array<std::uint8_t, literal_symbols> lengths{};
  for (std::size_t i = 0; i < literal_symbols; ++i) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
  LiteralTable table;
  build(lengths, literal_meanings, literal_table_bits, table.entries, false);
  return table;
}
constexpr DistanceTable make_fixed_distances() {
  std::array<std::uint8_t, distance_symbols> lengths{};
  lengths.fill(5);
  DistanceTable table;
  build(lengths, distance_meanings, distance_table_bits, table.entries, false);
  return table;
}
inline constexpr LiteralTable fixed_literals = make_fixed_literals();
inline constexpr DistanceTable fixed_distances = make_fixed_distances();

}  // namespace caisson::image::deflate_codes

// One loop, compiled twice on x86-64: with BMI2 a shift by a variable number is one instruction.
#include "image/deflate_fast.hpp"

#include "image/deflate_copy.hpp"

namespace caisson::image {

namespace {

using deflate_codes::Entry;

constexpr std::uint64_t low_bits(unsigned count) { return (std::uint64_t{1} << count) - 1; }

/// The bits that are held, 56 at least after each refill. Bits above `count` may hold what the next refill adds anyway.
struct Reader {
  const char* in;
  std::uint64_t bits;
  unsigned count;  // only its low six bits count: taking an entry subtracts the whole entry's low byte from it

  [[gnu::always_inline]] void refill() {
    bits |= load_word(in) << (count & 63U);
    in += (63U - (count & 63U)) >> 3U;  // whole bytes that fit; a partly added one is added again, with equal bits
    count |= 56U;
  }
  [[gnu::always_inline]] void take(Entry entry) {
    bits >>= entry & 63U;
    count -= entry & 63U;
  }
};

/// The number that a length or distance stands for; `held`: the bits before the entry was taken.
[[gnu::always_inline]] inline std::size_t value_of(Entry entry, std::uint64_t held) {
  return (entry >> 16U) + ((held & low_bits(entry & 63U)) >> ((entry >> 8U) & 63U));
}

[[gnu::always_inline]] inline char* put_literals(char* out, Entry entry) {
  out[0] = static_cast<char>(entry >> 16U);
  out[1] = static_cast<char>(entry >> 24U);  // of a single literal: nonsense, overwritten by what follows
  return out + ((entry >> 8U) & 3U);
}

[[gnu::always_inline]] inline DeflateFastEnd loop(DeflateCursor& cursor, const Entry* literals, const Entry* distances) {
  using namespace deflate_codes;
  Reader reader{cursor.in, cursor.bits, cursor.bit_count};
  char* out = cursor.out;
  char* const out_limit = cursor.out_limit;
  const char* const history = cursor.history;
  // A turn refills twice after the refill that ended the turn before: 7 bytes on, and 8 read from there.
  const char* const in_limit = cursor.in_end - (deflate_fast_input_bytes - 8);
  constexpr std::uint64_t literal_mask = low_bits(literal_table_bits), distance_mask = low_bits(distance_table_bits);
  auto end = DeflateFastEnd::edge;

  reader.refill();
  Entry entry = literals[reader.bits & literal_mask];
  do {
    // 56 bits are held, and `entry` tells of the first of them. Three look-ups take 33 of them at most.
    if ((entry & literal) != 0) {
      out = put_literals(out, entry);
      reader.take(entry);
      entry = literals[reader.bits & literal_mask];
      if ((entry & literal) != 0) {
        out = put_literals(out, entry);
        reader.take(entry);
        entry = literals[reader.bits & literal_mask];
        if ((entry & literal) != 0) {
          out = put_literals(out, entry);
          reader.take(entry);
          entry = literals[reader.bits & literal_mask];
          reader.refill();
          continue;
        }
      }
    }
    // 34 bits are held: enough for a code of 15 and 5 extra bits.
    std::uint64_t held = reader.bits;
    reader.take(entry);
    if ((entry & special) != 0) [[unlikely]] {
      if ((entry & subtable) != 0) {
        held = reader.bits;
        entry = literals[(entry >> 16U) + (held & low_bits((entry >> 8U) & 15U))];
        reader.take(entry);
        if ((entry & literal) != 0) {
          out = put_literals(out, entry);
          entry = literals[reader.bits & literal_mask];
          reader.refill();
          continue;
        }
      }
      if ((entry & special) != 0) {
        end = (entry & end_of_block) != 0 ? DeflateFastEnd::end_of_block : DeflateFastEnd::invalid_literal;
        break;
      }
    }
    const std::size_t length = value_of(entry, held);
    reader.refill();
    entry = distances[reader.bits & distance_mask];
    held = reader.bits;
    reader.take(entry);
    if ((entry & special) != 0) [[unlikely]] {
      if ((entry & subtable) != 0) {
        held = reader.bits;
        entry = distances[(entry >> 16U) + (held & low_bits((entry >> 8U) & 15U))];
        reader.take(entry);
      }
      if ((entry & special) != 0) {
        end = DeflateFastEnd::invalid_distance;
        break;
      }
    }
    const std::size_t distance = value_of(entry, held);
    // 28 bits are left: the next look-up begins before the copy.
    entry = literals[reader.bits & literal_mask];
    reader.refill();
    if (distance > static_cast<std::size_t>(out - history)) [[unlikely]] {
      end = DeflateFastEnd::too_far_back;
      break;
    }
    copy_match(out, distance, length);
    out += length;
  } while (reader.in < in_limit && out < out_limit);

  const unsigned count = reader.count & 63U;
  cursor.in = reader.in - (count >> 3U);
  cursor.bit_count = count & 7U;
  cursor.bits = reader.bits & low_bits(cursor.bit_count);
  cursor.out = out;
  return end;
}

#if defined(__x86_64__)
[[gnu::target("bmi2")]] DeflateFastEnd loop_bmi2(DeflateCursor& cursor, const Entry* literals, const Entry* distances) {
  return loop(cursor, literals, distances);
}
bool has_bmi2() {
  static const bool has = __builtin_cpu_supports("bmi2") != 0;
  return has;
}
#endif

}  // namespace

DeflateFastEnd decode_fast(DeflateCursor& cursor, const Entry* literals, const Entry* distances) {
#if defined(__x86_64__)
  if (has_bmi2()) return loop_bmi2(cursor, literals, distances);
#endif
  return loop(cursor, literals, distances);
}

}  // namespace caisson::image

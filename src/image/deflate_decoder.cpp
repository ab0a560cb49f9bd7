// The parts of a stream one after the other, each resumable; symbols by the fast loop, near an edge by a careful one.
#include "image/deflate_decoder.hpp"

#include <algorithm>
#include <cstring>

#include "base/strings.hpp"
#include "image/deflate_copy.hpp"
#include "image/deflate_fast.hpp"

namespace caisson::image {

namespace {

constexpr std::size_t history_bytes = 32 << 10;  // the farthest distance there is (RFC 1951, section 3.2.5)

unsigned low_bits(const DeflateCursor& cursor, unsigned count) {
  return static_cast<unsigned>(cursor.bits & ((std::uint64_t{1} << count) - 1));
}

bool read_byte(DeflateCursor& cursor) {
  if (cursor.in == cursor.in_end) return false;
  cursor.bits |= static_cast<std::uint64_t>(static_cast<unsigned char>(*cursor.in++)) << cursor.bit_count;
  cursor.bit_count += 8;
  return true;
}

/// Holds `count` bits or more (at most 48), and not a byte more than that takes: bytes behind the end of a stream are another's.
bool hold(DeflateCursor& cursor, unsigned count) {
  while (cursor.bit_count < count)
    if (!read_byte(cursor)) return false;
  return true;
}

unsigned take(DeflateCursor& cursor, unsigned count) {
  const unsigned value = low_bits(cursor, count);
  cursor.bits >>= count;
  cursor.bit_count -= count;
  return value;
}

/// An entry for the bits from `from` on, of which those that are not there yet count as zeros.
struct Found {
  deflate_codes::Entry entry;
  unsigned code_end;  // where the extra bits of a length or distance begin
  unsigned end;
};

Found find(const DeflateCursor& cursor, unsigned from, const deflate_codes::Entry* table, unsigned table_bits) {
  using namespace deflate_codes;
  const std::uint64_t bits = cursor.bits >> from;
  Entry entry = table[bits & ((1U << table_bits) - 1U)];
  unsigned begin = from;
  if ((entry & special) != 0 && (entry & subtable) != 0) {
    entry = table[(entry >> 16U) + ((bits >> table_bits) & ((1U << ((entry >> 8U) & 15U)) - 1U))];
    begin += table_bits;
  }
  return {entry, begin + ((entry >> 8U) & 15U), begin + (entry & 255U)};
}

std::size_t value_of(const DeflateCursor& cursor, const Found& found) {
  return (found.entry >> 16U) + ((cursor.bits & ((std::uint64_t{1} << found.end) - 1)) >> found.code_end);
}

}  // namespace

DeflateDecoder::DeflateDecoder() : buffer_(history_bytes + piece_bytes + deflate_overrun_bytes) {}

void DeflateDecoder::begin_stream() {
  history_ = out_;
  bits_ = 0;
  bit_count_ = 0;
  is_last_block_ = false;
  part_ = Part::block_header;
}

void DeflateDecoder::begin_piece() {
  const std::size_t kept = std::min(out_ - history_, history_bytes);
  std::memmove(buffer_.data(), buffer_.data() + out_ - kept, kept);
  history_ = 0;
  out_ = piece_ = kept;
}

Result<DeflateDecoder::Stop> DeflateDecoder::decode(std::string_view& input) {
  DeflateCursor cursor{input.data(),
                       input.data() + input.size(),
                       buffer_.data() + out_,
                       buffer_.data() + piece_ + piece_bytes,
                       buffer_.data() + history_,
                       bits_,
                       bit_count_};
  auto step = Step::done;
  while (step == Step::done && part_ != Part::ended) step = advance(cursor);
  input.remove_prefix(static_cast<std::size_t>(cursor.in - input.data()));
  out_ = static_cast<std::size_t>(cursor.out - buffer_.data());
  bits_ = cursor.bits;
  bit_count_ = cursor.bit_count;
  switch (step) {
    case Step::done: return Stop::stream_ended;
    case Step::wants_input: return Stop::input_used;
    case Step::wants_room: return Stop::room_used;
    case Step::refused: break;
  }
  return Error(ErrorKind::corrupt, refusal_);
}

DeflateDecoder::Step DeflateDecoder::advance(DeflateCursor& cursor) {
  switch (part_) {
    case Part::block_header: return read_block_header(cursor);
    case Part::stored_sizes: return read_stored_sizes(cursor);
    case Part::stored_bytes: return copy_stored(cursor);
    case Part::code_sizes: return read_code_sizes(cursor);
    case Part::length_codes: return read_length_codes(cursor);
    case Part::code_lengths: return read_code_lengths(cursor);
    case Part::symbols: return read_symbols(cursor);
    case Part::ended: break;
  }
  return Step::done;
}

DeflateDecoder::Step DeflateDecoder::refuse(const char* why) {
  refusal_ = why;
  return Step::refused;
}

void DeflateDecoder::end_block() { part_ = is_last_block_ ? Part::ended : Part::block_header; }

DeflateDecoder::Step DeflateDecoder::read_block_header(DeflateCursor& cursor) {
  if (!hold(cursor, 3)) return Step::wants_input;
  is_last_block_ = take(cursor, 1) != 0;
  switch (take(cursor, 2)) {
    case 0:
      take(cursor, cursor.bit_count & 7U);  // stored bytes begin at a byte
      part_ = Part::stored_sizes;
      return Step::done;
    case 1:
      literals_ = deflate_codes::fixed_literals.entries.data();
      distances_ = deflate_codes::fixed_distances.entries.data();
      part_ = Part::symbols;
      return Step::done;
    case 2: part_ = Part::code_sizes; return Step::done;
    default: return refuse("invalid block type");
  }
}

DeflateDecoder::Step DeflateDecoder::read_stored_sizes(DeflateCursor& cursor) {
  if (!hold(cursor, 32)) return Step::wants_input;
  stored_left_ = take(cursor, 16);
  if (take(cursor, 16) != (~stored_left_ & 0xffffU)) return refuse("invalid stored block lengths");
  part_ = Part::stored_bytes;
  return Step::done;
}

DeflateDecoder::Step DeflateDecoder::copy_stored(DeflateCursor& cursor) {
  const auto there = static_cast<std::size_t>(cursor.in_end - cursor.in);
  const auto room = static_cast<std::size_t>(std::max<std::ptrdiff_t>(cursor.out_limit - cursor.out, 0));
  const std::size_t count = std::min({stored_left_, there, room});
  if (count > 0) std::memcpy(cursor.out, cursor.in, count);
  cursor.in += count;
  cursor.out += count;
  stored_left_ -= count;
  if (stored_left_ > 0) return count == room ? Step::wants_room : Step::wants_input;
  end_block();
  return Step::done;
}

DeflateDecoder::Step DeflateDecoder::read_code_sizes(DeflateCursor& cursor) {
  if (!hold(cursor, 14)) return Step::wants_input;
  literal_count_ = take(cursor, 5) + 257;
  distance_count_ = take(cursor, 5) + 1;
  length_code_count_ = take(cursor, 4) + 4;
  // There are codes for more symbols, and none that means anything.
  if (literal_count_ > 286 || distance_count_ > 30) return refuse("too many length or distance symbols");
  length_code_lengths_.fill(0);
  lengths_read_ = 0;
  part_ = Part::length_codes;
  return Step::done;
}

DeflateDecoder::Step DeflateDecoder::read_length_codes(DeflateCursor& cursor) {
  using namespace deflate_codes;
  static constexpr std::array<std::uint8_t, length_symbols> order = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
  for (; lengths_read_ < length_code_count_; ++lengths_read_) {
    if (!hold(cursor, 3)) return Step::wants_input;
    length_code_lengths_[order[lengths_read_]] = static_cast<std::uint8_t>(take(cursor, 3));
  }
  if (!build(length_code_lengths_, length_meanings, length_table_bits, length_table_, false))
    return refuse("invalid code lengths set");
  lengths_read_ = 0;
  part_ = Part::code_lengths;
  return Step::done;
}

DeflateDecoder::Step DeflateDecoder::read_code_lengths(DeflateCursor& cursor) {
  while (lengths_read_ < literal_count_ + distance_count_) {
    // With no code at all every bit reads as a length of 0, as in zlib; the missing end of block refuses that.
    const auto entry = length_table_[low_bits(cursor, deflate_codes::length_table_bits)];
    const unsigned bits = entry & 255U, symbol = (entry >> 16U) & 31U;
    if (bits > cursor.bit_count) {
      if (!read_byte(cursor)) return Step::wants_input;
    } else if (symbol < 16) {
      take(cursor, bits);
      code_lengths_[lengths_read_++] = static_cast<std::uint8_t>(symbol);
    } else if (auto step = repeat_length(cursor, symbol, bits); step != Step::done) {
      return step;
    }
  }
  return build_codes();
}

/// Symbols 16 to 18: the length before, or zeros, several times.
DeflateDecoder::Step DeflateDecoder::repeat_length(DeflateCursor& cursor, unsigned symbol, unsigned code_bits) {
  const unsigned extra_bits = symbol == 16 ? 2 : symbol == 17 ? 3 : 7;
  if (!hold(cursor, code_bits + extra_bits)) return Step::wants_input;
  take(cursor, code_bits);
  const unsigned times = take(cursor, extra_bits) + (symbol == 18 ? 11 : 3);
  if ((symbol == 16 && lengths_read_ == 0) || lengths_read_ + times > literal_count_ + distance_count_)
    return refuse("invalid bit length repeat");
  const std::uint8_t length = symbol == 16 ? code_lengths_[lengths_read_ - 1] : 0;
  std::fill_n(code_lengths_.begin() + lengths_read_, times, length);
  lengths_read_ += times;
  return Step::done;
}

DeflateDecoder::Step DeflateDecoder::build_codes() {
  using namespace deflate_codes;
  const std::span<const std::uint8_t> lengths(code_lengths_);
  if (lengths[256] == 0) return refuse("invalid code -- missing end-of-block");
  if (!build(lengths.first(literal_count_), literal_meanings, literal_table_bits, literal_table_.entries, true))
    return refuse("invalid literal/lengths set");
  if (!build(lengths.subspan(literal_count_, distance_count_), distance_meanings, distance_table_bits, distance_table_.entries, true))
    return refuse("invalid distances set");
  pair_literals(literal_table_.entries);
  literals_ = literal_table_.entries.data();
  distances_ = distance_table_.entries.data();
  part_ = Part::symbols;
  return Step::done;
}

DeflateDecoder::Step DeflateDecoder::read_symbols(DeflateCursor& cursor) {
  while (part_ == Part::symbols) {
    if (cursor.out >= cursor.out_limit) return Step::wants_room;
    if (cursor.in_end - cursor.in < static_cast<std::ptrdiff_t>(deflate_fast_input_bytes)) {
      if (auto step = read_symbol(cursor); step != Step::done) return step;
      continue;
    }
    switch (decode_fast(cursor, literals_, distances_)) {
      case DeflateFastEnd::edge: break;
      case DeflateFastEnd::end_of_block: end_block(); break;
      case DeflateFastEnd::invalid_literal: return refuse("invalid literal/length code");
      case DeflateFastEnd::invalid_distance: return refuse("invalid distance code");
      case DeflateFastEnd::too_far_back: return refuse("invalid distance too far back");
    }
  }
  return Step::done;
}

/// One look-up's literals or one match, whole or not at all: bits are taken only when all of them are there (48 at most), so that
/// there is no state inside a symbol.
DeflateDecoder::Step DeflateDecoder::read_symbol(DeflateCursor& cursor) {
  using namespace deflate_codes;
  for (;;) {
    const Found first = find(cursor, 0, literals_, literal_table_bits);
    if (first.end <= cursor.bit_count) {
      if ((first.entry & literal) != 0) {
        *cursor.out++ = static_cast<char>(first.entry >> 16U);
        if (((first.entry >> 8U) & 3U) == 2) *cursor.out++ = static_cast<char>(first.entry >> 24U);
        take(cursor, first.end);
        return Step::done;
      }
      if ((first.entry & special) != 0) {
        if ((first.entry & end_of_block) == 0) return refuse("invalid literal/length code");
        take(cursor, first.end);
        end_block();
        return Step::done;
      }
      const Found second = find(cursor, first.end, distances_, distance_table_bits);
      if (second.end <= cursor.bit_count) {
        if ((second.entry & special) != 0) return refuse("invalid distance code");
        const std::size_t length = value_of(cursor, first), distance = value_of(cursor, second);
        if (distance > static_cast<std::size_t>(cursor.out - cursor.history)) return refuse("invalid distance too far back");
        copy_match(cursor.out, distance, length);
        cursor.out += length;
        cursor.bits >>= second.end;
        cursor.bit_count -= second.end;
        return Step::done;
      }
    }
    if (!read_byte(cursor)) return Step::wants_input;
  }
}

}  // namespace caisson::image

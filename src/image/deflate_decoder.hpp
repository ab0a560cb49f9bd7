// DeflateDecoder: a streaming decoder of DEFLATE (RFC 1951) with a buffer of its own, in which callers read what was decoded.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "image/deflate_codes.hpp"

namespace caisson::image {

struct DeflateCursor;

/// Input comes in pieces of any size; the state between two of them may lie anywhere in the stream. Nothing is allocated after the constructor.
/// What is refused, and what is not, is what zlib's inflate() refuses.
class DeflateDecoder {
 public:
  enum class Stop : std::uint8_t { input_used, room_used, stream_ended };

  DeflateDecoder();
  DeflateDecoder(const DeflateDecoder&) = delete;  // it points into itself
  DeflateDecoder& operator=(const DeflateDecoder&) = delete;
  ~DeflateDecoder() = default;
  /// Begins a stream: it cannot reach back to what was decoded before, which stays in piece().
  void begin_stream();
  /// Empties piece() and makes room; the history that matches may reach back to stays.
  void begin_piece();
  /// Decodes until there is nothing more to do (after room_used also from an empty `input`), and removes what it used from `input`: all of it for input_used, and not a byte
  /// behind the stream's end. Errors: corrupt, in zlib's words; the decoder is spent then.
  Result<Stop> decode(std::string_view& input);
  /// What was decoded since begin_piece(), valid until the next one. It grows up to `piece_bytes` and the end of a match.
  [[nodiscard]] std::string_view piece() const { return {buffer_.data() + piece_, out_ - piece_}; }

  static constexpr std::size_t piece_bytes = 256 << 10;

 private:
  enum class Part : std::uint8_t { block_header, stored_sizes, stored_bytes, code_sizes, length_codes, code_lengths, symbols, ended };
  /// What a step of the decoder came to.
  enum class Step : std::uint8_t { done, wants_input, wants_room, refused };

  Step advance(DeflateCursor& cursor);
  Step read_block_header(DeflateCursor& cursor);
  Step read_stored_sizes(DeflateCursor& cursor);
  Step copy_stored(DeflateCursor& cursor);
  Step read_code_sizes(DeflateCursor& cursor);
  Step read_length_codes(DeflateCursor& cursor);
  Step read_code_lengths(DeflateCursor& cursor);
  Step repeat_length(DeflateCursor& cursor, unsigned symbol, unsigned code_bits);
  Step build_codes();
  Step read_symbols(DeflateCursor& cursor);
  Step read_symbol(DeflateCursor& cursor);
  Step refuse(const char* why);
  void end_block();

  std::vector<char> buffer_;
  std::size_t out_ = 0;      // in buffer_: behind what was decoded
  std::size_t piece_ = 0;    // where the piece begins
  std::size_t history_ = 0;  // where the stream begins, or what is left of it
  std::uint64_t bits_ = 0;   // read and not used yet; fewer than eight between symbols
  unsigned bit_count_ = 0;
  Part part_ = Part::ended;
  bool is_last_block_ = false;
  std::size_t stored_left_ = 0;
  const char* refusal_ = "";

  // The codes of a block as they come in.
  unsigned literal_count_ = 0;
  unsigned distance_count_ = 0;
  unsigned length_code_count_ = 0;
  unsigned lengths_read_ = 0;
  std::array<std::uint8_t, deflate_codes::length_symbols> length_code_lengths_{};
  std::array<std::uint8_t, deflate_codes::literal_symbols + deflate_codes::distance_symbols> code_lengths_{};
  std::array<deflate_codes::Entry, deflate_codes::length_entries> length_table_{};
  deflate_codes::LiteralTable literal_table_;
  deflate_codes::DistanceTable distance_table_;
  // Those of the block that is decoded: the two above, or the fixed ones.
  const deflate_codes::Entry* literals_ = nullptr;
  const deflate_codes::Entry* distances_ = nullptr;
};

}  // namespace caisson::image

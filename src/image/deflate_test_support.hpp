// What tests and fuzzing of the DEFLATE decoder share: zlib as the oracle, and streams written bit by bit.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "image/deflate_decoder.hpp"
#include "image/gzip_inflater.hpp"

namespace caisson::image::testing_support {

enum class Verdict : std::uint8_t { ended, refused, unfinished };

struct Decoded {
  Verdict verdict = Verdict::unfinished;
  std::string output;          // only of what ended; what was decoded before a refusal nobody promises
  std::string why;             // of what was refused
  std::size_t used_bytes = 0;  // of what ended
  bool operator==(const Decoded&) const = default;
};

/// zlib's inflate() over one stream; `window_bits` as zlib.h has them: -15 for DEFLATE alone, 31 for gzip.
inline Decoded decode_by_zlib(std::string_view bytes, int window_bits) {
  z_stream stream{};
  Decoded decoded;
  if (inflateInit2(&stream, window_bits) != Z_OK) return decoded;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));  // zlib.h does not say const
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::vector<char> buffer(1 << 16);
  int code = Z_OK;
  while (code == Z_OK) {
    stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
    stream.avail_out = static_cast<uInt>(buffer.size());
    code = inflate(&stream, Z_NO_FLUSH);
    decoded.output.append(buffer.data(), buffer.size() - stream.avail_out);
  }
  if (code == Z_STREAM_END) decoded.verdict = Verdict::ended;
  else if (code != Z_BUF_ERROR) decoded.verdict = Verdict::refused;
  if (decoded.verdict == Verdict::refused) decoded.why = stream.msg != nullptr ? stream.msg : "";
  if (decoded.verdict == Verdict::ended) decoded.used_bytes = bytes.size() - stream.avail_in;
  else decoded.output.clear();
  inflateEnd(&stream);
  return decoded;
}

/// The same stream by our decoder, in input pieces of `piece_bytes`.
inline Decoded decode_by_us(std::string_view bytes, std::size_t piece_bytes) {
  DeflateDecoder decoder;
  decoder.begin_stream();
  decoder.begin_piece();
  for (Decoded decoded;;) {
    auto piece = bytes.substr(decoded.used_bytes, piece_bytes);
    const bool is_behind_the_end = piece.empty();
    const auto before = piece.size();
    auto stop = decoder.decode(piece);
    decoded.used_bytes += before - piece.size();
    if (!stop.ok()) return {Verdict::refused, "", stop.error().text(), 0};
    if (*stop == DeflateDecoder::Stop::input_used) {
      if (is_behind_the_end) return {};
      continue;
    }
    decoded.output += decoder.piece();
    decoder.begin_piece();
    if (*stop == DeflateDecoder::Stop::room_used) continue;
    decoded.verdict = Verdict::ended;
    return decoded;
  }
}

/// gzip with all that may stand around members, by zlib: the rules of GzipInflater once more. Cut off is refused, as there.
inline Decoded decode_gzip_by_zlib(std::string_view bytes) {
  Decoded all{Verdict::ended, "", "", bytes.size()};
  for (;;) {
    auto member = decode_by_zlib(bytes, 31);
    if (member.verdict != Verdict::ended) return {Verdict::refused, "", "", 0};
    all.output += member.output;
    bytes.remove_prefix(member.used_bytes);
    bytes.remove_prefix(std::min(bytes.find_first_not_of('\0'), bytes.size()));
    if (bytes.empty()) return all;
  }
}

inline Decoded decode_gzip_by_us(std::string_view bytes, std::size_t piece_bytes) {
  MemorySource source(bytes, piece_bytes);
  GzipInflater inflater{PeekedSource(source)};
  Decoded all{Verdict::ended, "", "", bytes.size()};
  for (;;) {
    auto piece = inflater.next();
    if (!piece.ok()) return {Verdict::refused, "", "", 0};
    if (piece->empty()) return all;
    all.output += *piece;
  }
}

/// A prefix code by the lengths of its codes (RFC 1951, section 3.2.2), to write with.
class WrittenCode {
 public:
  explicit WrittenCode(std::vector<std::uint8_t> lengths) : lengths_(std::move(lengths)), codes_(lengths_.size()) {
    unsigned code = 0;
    for (unsigned bits = 1; bits <= 15; ++bits, code <<= 1U)
      for (std::size_t symbol = 0; symbol < lengths_.size(); ++symbol)
        if (lengths_[symbol] == bits) codes_[symbol] = code++;
  }
  [[nodiscard]] const std::vector<std::uint8_t>& lengths() const { return lengths_; }
  [[nodiscard]] unsigned code(std::size_t symbol) const { return codes_[symbol]; }

 private:
  std::vector<std::uint8_t> lengths_;
  std::vector<unsigned> codes_;
};

inline WrittenCode fixed_literal_code() {
  std::vector<std::uint8_t> lengths(288, 8);
  std::fill(lengths.begin() + 144, lengths.begin() + 256, 9);
  std::fill(lengths.begin() + 256, lengths.begin() + 280, 7);
  return WrittenCode(std::move(lengths));
}
inline WrittenCode fixed_distance_code() { return WrittenCode(std::vector<std::uint8_t>(32, 5)); }

/// DEFLATE bit by bit: right as well as wrong.
class BitWriter {
 public:
  BitWriter& bits(unsigned value, unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      if (used_ % 8 == 0) bytes_ += '\0';
      bytes_.back() = static_cast<char>(static_cast<unsigned char>(bytes_.back()) | (((value >> i) & 1U) << (used_ % 8)));
      ++used_;
    }
    return *this;
  }
  BitWriter& symbol(const WrittenCode& code, std::size_t symbol) {
    for (unsigned i = code.lengths()[symbol]; i-- > 0;) bits((code.code(symbol) >> i) & 1U, 1);
    return *this;
  }
  BitWriter& header(bool is_last, unsigned type) { return bits(is_last ? 1 : 0, 1).bits(type, 2); }
  BitWriter& stored(bool is_last, std::string_view bytes) {
    header(is_last, 0).align().bits(static_cast<unsigned>(bytes.size()), 16).bits(~static_cast<unsigned>(bytes.size()) & 0xffffU, 16);
    bytes_ += bytes;
    used_ = bytes_.size() * 8;
    return *this;
  }
  BitWriter& align() {
    used_ = bytes_.size() * 8;
    return *this;
  }
  /// A length of 3 to 258 and a distance of 1 to 32768.
  BitWriter& match(const WrittenCode& literals, const WrittenCode& distances, unsigned length, unsigned distance) {
    using deflate_codes::distance_meanings;
    using deflate_codes::literal_meanings;
    const std::size_t symbol = covering(std::span(literal_meanings).first(286), 257, length);
    this->symbol(literals, symbol).bits(length - (literal_meanings[symbol] >> 16U), literal_meanings[symbol] & 255U);
    const std::size_t far = covering(std::span(distance_meanings).first(30), 0, distance);
    return this->symbol(distances, far).bits(distance - (distance_meanings[far] >> 16U), distance_meanings[far] & 255U);
  }
  /// The beginning of a dynamic block with these codes, whose lengths are written without repetition.
  BitWriter& dynamic(bool is_last, const std::vector<std::uint8_t>& literals, const std::vector<std::uint8_t>& distances) {
    static const WrittenCode lengths({4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5});  // complete: 13 / 16 + 6 / 32
    static constexpr std::array<std::size_t, 19> order = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    header(is_last, 2)
        .bits(static_cast<unsigned>(literals.size() - 257), 5)
        .bits(static_cast<unsigned>(distances.size() - 1), 5)
        .bits(15, 4);
    for (auto symbol : order) bits(lengths.lengths()[symbol], 3);
    for (auto length : literals) symbol(lengths, length);
    for (auto length : distances) symbol(lengths, length);
    return *this;
  }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  /// The last of the symbols from `first` on whose base is not above `value`.
  static std::size_t covering(std::span<const deflate_codes::Entry> meanings, std::size_t first, unsigned value) {
    std::size_t symbol = first;
    while (symbol + 1 < meanings.size() && (meanings[symbol + 1] >> 16U) <= value) ++symbol;
    return symbol;
  }

  std::string bytes_;
  std::size_t used_ = 0;  // bits
};

}  // namespace caisson::image::testing_support

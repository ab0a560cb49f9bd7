// Text: joining, splitting, strict numbers, hex and human sizes. No locale, no streams, so that static binaries stay small.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson {

namespace detail {
inline void append_piece(std::string& out, std::string_view piece) { out += piece; }
inline void append_piece(std::string& out, const char* piece) { out += piece; }
inline void append_piece(std::string& out, const std::string& piece) { out += piece; }
inline void append_piece(std::string& out, char piece) { out += piece; }
inline void append_piece(std::string& out, bool piece) { out += piece ? "true" : "false"; }
template <std::integral T>
void append_piece(std::string& out, T piece) {
  char buffer[24];
  auto end = std::to_chars(buffer, buffer + sizeof buffer, piece);
  out.append(buffer, end.ptr);
}
}  // namespace detail

/// Joins texts, characters and integers: concat("pid ", 7).
template <typename... Pieces>
std::string concat(const Pieces&... pieces) {
  std::string out;
  (detail::append_piece(out, pieces), ...);
  return out;
}

/// Pieces between separators; "a,,b" has three, "" has one empty piece. Views into `text`.
std::vector<std::string_view> split(std::string_view text, char separator);
/// At the first separator only: {before, after}; after is empty and found=false when there is none.
struct Halves {
  std::string_view before;
  std::string_view after;
  bool found = false;
};
Halves split_once(std::string_view text, char separator);
Halves split_last(std::string_view text, char separator);
std::string join(std::span<const std::string> pieces, std::string_view separator);
std::string_view trim(std::string_view text);
std::string lower(std::string_view text);
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

/// The whole text as a decimal (or `base`) integer: no blanks, no sign for unsigned types, no overflow.
/// Errors: invalid, naming the text.
template <std::integral T>
Result<T> parse_integer(std::string_view text, int base = 10) {
  T value{};
  auto end = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || end.ec != std::errc{} || end.ptr != text.data() + text.size())
    return Error(ErrorKind::invalid, concat("\"", text, "\" is not a valid number"));
  return value;
}

std::string to_hex(std::span<const std::uint8_t> bytes);
/// Errors: invalid (odd length, a character that is not a lower-case or upper-case hex digit).
Result<std::vector<std::uint8_t>> from_hex(std::string_view text);

/// "64m", "1.5g", "512", "2GiB", "10kb" → bytes, as docker's units.RAMInBytes (powers of 1024). Errors: invalid.
Result<std::int64_t> parse_size_bytes(std::string_view text);
/// 1980000 → "1.98MB" (powers of 1000, four significant digits), as docker prints image sizes.
std::string human_size(std::uint64_t bytes);
/// 67108864 → "64MiB" (powers of 1024).
std::string human_size_binary(std::uint64_t bytes);

std::string base64_encode(std::string_view bytes);
/// Standard or URL-safe alphabet, padding optional. Errors: invalid.
Result<std::string> base64_decode(std::string_view text);

}  // namespace caisson

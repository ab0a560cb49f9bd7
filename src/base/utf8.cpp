// Table 3-7 of the Unicode standard, as conditions.
#include "base/utf8.hpp"

#include <utility>

namespace caisson {

std::size_t utf8_sequence_size(std::string_view text) noexcept {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = at(0);
  std::size_t size = 0;
  if (first < 0x80) size = 1;
  else if (first >= 0xC2 && first <= 0xDF) size = 2;
  else if (first >= 0xE0 && first <= 0xEF) size = 3;
  else if (first >= 0xF0 && first <= 0xF4) size = 4;
  if (size == 0 || text.size() < size) return 0;
  for (std::size_t i = 1; i < size; ++i)
    if ((at(i) & 0xC0U) != 0x80) return 0;
  if (first == 0xE0 && at(1) < 0xA0) return 0;
  if (first == 0xED && at(1) > 0x9F) return 0;
  if (first == 0xF0 && at(1) < 0x90) return 0;
  if (first == 0xF4 && at(1) > 0x8F) return 0;
  return size;
}

std::string valid_utf8(std::string text) {
  std::string out;
  std::size_t good = 0;  // how much of the text stands in `out`, or may stay where it is
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t size = utf8_sequence_size(std::string_view(text).substr(i));
    if (size == 0) {
      out.append(text, good, i - good);
      out += "\xef\xbf\xbd";
      good = i + 1;
    }
    i += size == 0 ? 1 : size;
  }
  if (good == 0) return text;
  return std::move(out.append(text, good));
}

void append_utf8(std::string& out, std::uint32_t code) {
  auto put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xc0 | code >> 6);
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
  }
  put(0x80 | (code & 0x3f));
}

}  // namespace caisson

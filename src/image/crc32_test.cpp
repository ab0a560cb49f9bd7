#include "image/crc32.hpp"

#include <gtest/gtest.h>
#include <zlib.h>

#include <random>
#include <string>

namespace caisson::image {
namespace {

TEST(crc32, every_length_at_every_alignment_sums_up_as_by_zlib) {
  std::mt19937 random(32);
  std::string text(1500, '\0');
  for (auto& c : text) c = static_cast<char>(random());
  for (std::size_t from = 0; from < 17; ++from) {
    for (std::size_t length = 0; length < 700; ++length) {
      const auto part = std::string_view(text).substr(from, length);
      ASSERT_EQ(crc32_of(0, part), ::crc32(0, reinterpret_cast<const Bytef*>(part.data()), static_cast<uInt>(part.size())))
          << from << "+" << length;
    }
  }
}

TEST(crc32, a_text_in_two_parts_sums_up_as_the_whole) {
  std::string text;
  for (unsigned i = 0; i < 1000; ++i) text += static_cast<char>(i * i % 251);
  const auto whole = crc32_of(0, text);
  EXPECT_NE(whole, 0U);
  for (std::size_t cut = 0; cut <= text.size(); ++cut)
    ASSERT_EQ(crc32_of(crc32_of(0, std::string_view(text).substr(0, cut)), std::string_view(text).substr(cut)), whole) << cut;
}

}  // namespace
}  // namespace caisson::image

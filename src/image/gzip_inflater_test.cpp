// Headers, trailers, members and what may stand between them, against zlib.
#include "image/gzip_inflater.hpp"

#include <gmock/gmock.h>

#include <random>

#include "image/crc32.hpp"
#include "image/deflate_test_support.hpp"
#include "image/test_support.hpp"

namespace caisson::image {
namespace {

using namespace testing_support;
using ::testing::HasSubstr;

constexpr std::array<std::size_t, 5> piece_sizes = {1, 2, 9, 100, 1 << 20};

std::string number(std::uint32_t value, std::size_t bytes) {
  std::string text;
  for (; bytes > 0; --bytes, value >>= 8U) text += static_cast<char>(value);
  return text;
}

struct Fields {
  unsigned flags = 0;
  std::string extra = {};
  std::string name = {};
  std::string comment = {};
};

/// A header with whatever `fields` has, and the check of it where flag 2 asks for it.
std::string header(const Fields& fields) {
  std::string text("\x1f\x8b\x08", 3);
  text += static_cast<char>(fields.flags);
  text += std::string("\x01\x02\x03\x04\x02\x03", 6);
  if ((fields.flags & 4U) != 0) text += number(static_cast<std::uint32_t>(fields.extra.size()), 2) + fields.extra;
  if ((fields.flags & 8U) != 0) text += fields.name + '\0';
  if ((fields.flags & 16U) != 0) text += fields.comment + '\0';
  if ((fields.flags & 2U) != 0) text += number(crc32_of(0, text) & 0xffffU, 2);
  return text;
}

std::string member(const std::string& header, std::string_view text) {
  return header + BitWriter().stored(true, text).bytes() + number(crc32_of(0, text), 4) +
         number(static_cast<std::uint32_t>(text.size()), 4);
}

Error refusal(std::string_view bytes, std::size_t piece_bytes) {
  MemorySource source(bytes, piece_bytes);
  GzipInflater inflater{PeekedSource(source)};
  for (;;) {
    auto piece = inflater.next();
    if (!piece.ok()) return std::move(piece).error();
    if (piece->empty()) return {ErrorKind::internal, "it was not refused"};
  }
}

TEST(gzip_inflater, every_field_that_a_header_may_have_is_passed_over) {
  for (unsigned flags = 0; flags < 32; ++flags) {
    for (const std::string& extra : {std::string(), std::string("AB\3\0xyz", 7), std::string(65535, 'e')}) {
      const auto bytes = member(header({flags, extra, "layer.tar", std::string(700, 'c')}), "content");
      ASSERT_EQ(decode_gzip_by_zlib(bytes).output, "content") << flags;
      for (auto piece : piece_sizes) ASSERT_EQ(decode_gzip_by_us(bytes, piece).output, "content") << flags << ", pieces of " << piece;
    }
  }
}

TEST(gzip_inflater, wrong_headers_are_refused) {
  auto wrong_check = header({2 + 8, "", "name", ""});
  wrong_check.back() = static_cast<char>(wrong_check.back() ^ 1);
  auto wrong_method = header({});
  wrong_method[2] = 7;
  const auto good = member(header({}), "x");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"header crc mismatch", member(wrong_check, "x")},        {"unknown compression method", member(wrong_method, "x")},
      {"unknown header flags set", member(header({32}), "x")},  {"unknown header flags set", member(header({64}), "x")},
      {"unknown header flags set", member(header({128}), "x")}, {"incorrect header check", good + "\x1f\x8c\x08" + good},
  };
  for (const auto& [why, bytes] : cases) {
    EXPECT_EQ(decode_gzip_by_zlib(bytes).verdict, Verdict::refused);
    for (auto piece : piece_sizes) {
      EXPECT_THAT(refusal(bytes, piece).text(), HasSubstr("gzip: " + why));
      EXPECT_EQ(refusal(bytes, piece).kind(), ErrorKind::corrupt);
    }
  }
}

TEST(gzip_inflater, the_checksum_and_the_length_are_checked) {
  const auto good = member(header({}), std::string(300'000 % 65536, 'q'));
  for (std::size_t from_end = 1; from_end <= 8; ++from_end) {
    auto bad = good;
    bad[bad.size() - from_end] = static_cast<char>(bad[bad.size() - from_end] ^ 0x10);
    for (auto piece : piece_sizes)
      EXPECT_THAT(refusal(bad, piece).text(), HasSubstr(from_end > 4 ? "incorrect data check" : "incorrect length check"));
  }
}

TEST(gzip_inflater, every_cut_is_an_unexpected_end) {
  const auto good = member(header({2 + 4 + 8 + 16, "extra", "name", "comment"}), "some text");
  for (std::size_t bytes = 1; bytes < good.size(); ++bytes)
    for (auto piece : piece_sizes)
      ASSERT_THAT(refusal(good.substr(0, bytes), piece).text(), HasSubstr("unexpected end of data")) << bytes;
}

TEST(gzip_inflater, members_follow_each_other_with_or_without_zeros_between_them) {
  std::string bytes, expected;
  for (unsigned i = 0; i < 200; ++i) {
    const std::string text(i * 97 % 5000, static_cast<char>('a' + i % 26));
    bytes += i % 2 == 0 ? gzip(text) : member(header({i % 32, "e", "n", "c"}), text);
    bytes += std::string(i % 5, '\0');
    expected += text;
  }
  for (auto piece : piece_sizes) EXPECT_TRUE(decode_gzip_by_us(bytes, piece).output == expected) << piece;
  for (auto piece : piece_sizes)
    EXPECT_THAT(refusal(bytes + std::string(100, '\0') + "x", piece).text(), HasSubstr("behind the end")) << piece;
}

TEST(gzip_inflater, a_member_that_reaches_back_into_another_is_refused) {
  const auto literals = fixed_literal_code();
  const auto distances = fixed_distance_code();
  const auto bytes = member(header({}), "abcdef") + header({}) +
                     BitWriter().header(true, 1).match(literals, distances, 3, 3).symbol(literals, 256).bytes() +
                     number(crc32_of(0, "def"), 4) + number(3, 4);
  EXPECT_EQ(decode_gzip_by_zlib(bytes).verdict, Verdict::refused);
  for (auto piece : piece_sizes) EXPECT_THAT(refusal(bytes, piece).text(), HasSubstr("too far back"));
}

TEST(gzip_inflater, damage_comes_to_what_zlib_says_of_it) {
  std::mt19937 random(1952);
  for (int round = 0; round < 3000; ++round) {
    std::string text(random() % 500, 'x');
    for (auto& c : text) c = static_cast<char>('a' + random() % 4);
    auto bytes = member(header({static_cast<unsigned>(random() % 32), "extra", "name", "comment"}), text) + gzip(text);
    const auto at = random() % bytes.size();
    bytes[at] = static_cast<char>(random());
    const auto expected = decode_gzip_by_zlib(bytes);
    for (auto piece : piece_sizes) ASSERT_EQ(decode_gzip_by_us(bytes, piece), expected) << "round " << round << ", byte " << at;
  }
}

}  // namespace
}  // namespace caisson::image

// The decoder of DEFLATE against streams written bit by bit, and against zlib over streams that zlib made, whole and damaged.
#include "image/deflate_decoder.hpp"

#include <gmock/gmock.h>

#include <random>

#include "image/deflate_test_support.hpp"

namespace caisson::image {
namespace {

using namespace testing_support;

constexpr std::size_t whole = 1 << 30;
constexpr std::array<std::size_t, 6> piece_sizes = {1, 2, 7, 33, 1000, whole};

/// What zlib makes of it is what every cut of the input must come to.
void expect_as_zlib(std::string_view bytes, std::string_view what) {
  const auto expected = decode_by_zlib(bytes, -15);
  for (auto piece : piece_sizes) {
    const auto ours = decode_by_us(bytes, piece);
    ASSERT_EQ(ours.verdict, expected.verdict) << what << ", pieces of " << piece << ": " << ours.why << " / " << expected.why;
    ASSERT_EQ(ours.why, expected.why) << what;
    ASSERT_EQ(ours.used_bytes, expected.used_bytes) << what << ", pieces of " << piece;
    ASSERT_TRUE(ours.output == expected.output) << what << ", pieces of " << piece;
  }
}

std::string text_of(std::size_t bytes, unsigned kind, unsigned seed) {
  std::mt19937 random(seed);
  std::string text;
  while (text.size() < bytes) {
    switch (kind) {
      case 0: text += static_cast<char>(random()); break;             // nothing to find
      case 1: text += "the quick brown fox\n"[random() % 20]; break;  // few literals
      case 2: text += text.size() < 300 ? std::string(1, 'x') : text.substr(random() % (text.size() - 200), random() % 200); break;
      default: text.append(1 + random() % 600, static_cast<char>('a' + random() % 3)); break;  // runs
    }
  }
  text.resize(bytes);
  return text;
}

struct Way {
  int level = 6;
  int strategy = Z_DEFAULT_STRATEGY;
  int flush = Z_NO_FLUSH;
  int memory = 8;
};

std::string compress(std::string_view text, Way way) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, way.level, Z_DEFLATED, -15, way.memory, way.strategy), Z_OK);
  std::string out(deflateBound(&stream, text.size()) + text.size() / 100 + 1000, '\0');
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  constexpr std::size_t step = 5000;
  for (std::size_t at = 0; at < text.size(); at += step) {
    const auto piece = text.substr(at, step);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));
    stream.avail_in = static_cast<uInt>(piece.size());
    EXPECT_EQ(deflate(&stream, way.flush), Z_OK);
  }
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

TEST(deflate_decoder, a_stream_ends_where_it_ends_and_leaves_the_rest_alone) {
  const auto literals = fixed_literal_code();
  BitWriter stream;
  stream.stored(false, "stored").header(false, 1).symbol(literals, 'f').symbol(literals, 256).stored(false, "").header(true, 1);
  stream.symbol(literals, 'g').symbol(literals, 256);
  for (auto piece : piece_sizes) {
    const auto decoded = decode_by_us(stream.bytes() + "the rest, which is longer than what the fast loop reads ahead", piece);
    EXPECT_EQ(decoded.verdict, Verdict::ended);
    EXPECT_EQ(decoded.output, "storedfg");
    EXPECT_EQ(decoded.used_bytes, stream.bytes().size());
  }
}

TEST(deflate_decoder, matches_of_every_length_and_distance_repeat_what_lies_there) {
  const auto literals = fixed_literal_code();
  const auto distances = fixed_distance_code();
  BitWriter stream;
  stream.header(true, 1);
  std::string expected;
  for (unsigned i = 0; i < 300; ++i) {
    expected += static_cast<char>(i * 7);
    stream.symbol(literals, static_cast<unsigned char>(expected.back()));
  }
  auto match = [&](unsigned length, unsigned distance) {
    stream.match(literals, distances, length, distance);
    for (unsigned i = 0; i < length; ++i) expected += expected[expected.size() - distance];
    stream.symbol(literals, length % 256);
    expected += static_cast<char>(length % 256);
  };
  for (unsigned distance = 1; distance <= 40; ++distance)
    for (unsigned length = 3; length <= 258; ++length) match(length, distance);
  for (unsigned distance = 41; distance <= 32768; distance += distance / 9) match(3 + distance % 256, distance);
  match(258, 32768);
  stream.symbol(literals, 256);
  for (auto piece : piece_sizes) EXPECT_TRUE(decode_by_us(stream.bytes(), piece).output == expected) << piece;
  expect_as_zlib(stream.bytes(), "matches");
}

TEST(deflate_decoder, the_farthest_distance_reaches_across_any_number_of_pieces) {
  const auto literals = fixed_literal_code();
  const auto distances = fixed_distance_code();
  std::string expected = text_of(32768, 0, 1);
  BitWriter stream;
  stream.stored(false, expected).header(true, 1);
  while (expected.size() < 5 * DeflateDecoder::piece_bytes) {
    stream.match(literals, distances, 258, 32768);
    expected += expected.substr(expected.size() - 32768, 258);
  }
  stream.symbol(literals, 256);
  for (auto piece : piece_sizes) EXPECT_TRUE(decode_by_us(stream.bytes(), piece).output == expected) << piece;
}

TEST(deflate_decoder, a_piece_is_full_at_its_size_and_a_match) {
  const auto bytes = compress(std::string(10 * DeflateDecoder::piece_bytes, 'a'), {});
  DeflateDecoder decoder;
  decoder.begin_stream();
  std::string_view rest = bytes;
  for (int i = 0; i < 9; ++i) {
    decoder.begin_piece();
    EXPECT_EQ(decoder.piece(), "");
    EXPECT_EQ(*decoder.decode(rest), DeflateDecoder::Stop::room_used);
    EXPECT_GE(decoder.piece().size(), DeflateDecoder::piece_bytes);
    EXPECT_LT(decoder.piece().size(), DeflateDecoder::piece_bytes + 258 + 6);
  }
}

TEST(deflate_decoder, an_end_that_was_read_before_the_piece_was_full_is_found_without_further_input) {
  const auto literals = fixed_literal_code();
  BitWriter stream;
  stream.header(true, 1);
  // Six codes of nine bits and else ones of eight leave seven bits of the last byte: the end of block.
  for (std::size_t i = 0; i < DeflateDecoder::piece_bytes; ++i) stream.symbol(literals, i < 6 ? 200 : 'a');
  stream.symbol(literals, 256);
  for (auto piece : piece_sizes) {
    const auto decoded = decode_by_us(stream.bytes(), piece);
    EXPECT_EQ(decoded.verdict, Verdict::ended);
    EXPECT_EQ(decoded.output.size(), DeflateDecoder::piece_bytes);
  }
}

TEST(deflate_decoder, a_stream_does_not_reach_back_into_the_one_before) {
  const auto literals = fixed_literal_code();
  const auto distances = fixed_distance_code();
  const auto first = BitWriter().stored(true, "first").bytes();
  const auto second = BitWriter().header(true, 1).symbol(literals, 'x').match(literals, distances, 3, 2).symbol(literals, 256).bytes();
  DeflateDecoder decoder;
  decoder.begin_piece();
  decoder.begin_stream();
  std::string_view rest = first;
  EXPECT_EQ(*decoder.decode(rest), DeflateDecoder::Stop::stream_ended);
  decoder.begin_stream();
  rest = second;
  EXPECT_EQ(decoder.decode(rest).error().text(), "invalid distance too far back");
}

/// A complete code: one leaf is split until there are enough of them. Symbols get their lengths in any order.
std::vector<std::uint8_t> random_code(std::mt19937& random, std::size_t symbols, std::size_t codes, bool is_skewed) {
  std::vector<std::uint8_t> lengths = {1, 1};
  while (lengths.size() < codes) {
    const auto at = is_skewed ? lengths.size() - 1 - random() % 2 : random() % lengths.size();
    if (lengths[at] == 15) {
      is_skewed = false;
      continue;
    }
    lengths.push_back(++lengths[at]);
  }
  lengths.resize(symbols);
  std::shuffle(lengths.begin(), lengths.end(), random);
  return lengths;
}

TEST(deflate_decoder, codes_of_any_shape_mean_what_they_mean_to_zlib) {
  std::mt19937 random(15);
  for (int round = 0; round < 150; ++round) {
    const std::size_t symbols = 257 + random() % 30, far = 2 + random() % 29;
    auto lengths = random_code(random, symbols, 2 + random() % (symbols - 1), round % 2 == 0);
    if (lengths[256] == 0) std::swap(lengths[256], *std::find_if(lengths.begin(), lengths.end(), [](auto bits) { return bits != 0; }));
    const WrittenCode literals(lengths);
    const WrittenCode distances(random_code(random, far, 2 + random() % (far - 1), round % 3 == 0));
    BitWriter stream;
    stream.stored(false, text_of(40000, 0, 1)).dynamic(true, literals.lengths(), distances.lengths());
    for (int i = 0; i < 3000; ++i) {
      const std::size_t symbol = random() % symbols, distance = random() % far;
      if (symbol == 256 || lengths[symbol] == 0 || distances.lengths()[distance] == 0) continue;
      stream.symbol(literals, symbol);
      if (symbol < 256) continue;
      stream.bits(static_cast<unsigned>(random()), deflate_codes::literal_meanings[symbol] & 255U).symbol(distances, distance);
      stream.bits(static_cast<unsigned>(random()), deflate_codes::distance_meanings[distance] & 255U);
    }
    stream.symbol(literals, 256);
    ASSERT_EQ(decode_by_us(stream.bytes(), whole).verdict, Verdict::ended);
    expect_as_zlib(stream.bytes(), "a random code");
  }
}

TEST(deflate_decoder, what_zlib_refuses_is_refused_in_the_same_words) {
  const auto literals = fixed_literal_code();
  const auto distances = fixed_distance_code();
  std::vector<std::uint8_t> none(257, 0), only_end(257, 0), two(257, 0), over(257, 0), under(257, 0);
  only_end[256] = 1;
  two['a'] = two[256] = 1;
  over['a'] = over['b'] = over[256] = 1;
  under['a'] = under[256] = 2;
  std::vector<std::uint8_t> deep(257, 0);
  deep[256] = 2;                       // alone, but not with one bit
  const std::string behind(64, '\0');  // so that the fast loop meets it too
  struct Case {
    const char* why;
    std::string bytes;
  };
  auto with_sizes = [](unsigned literal, unsigned distance) {
    return BitWriter().header(true, 2).bits(literal, 5).bits(distance, 5).bits(0, 4).bytes();
  };
  // Code lengths by the symbols 0, 1, 16 (two bits each) and 18; the lengths of the codes are written by hand behind it.
  auto with_lengths = [](std::vector<unsigned> of_code) {
    BitWriter writer;
    writer.header(true, 2).bits(0, 5).bits(0, 5).bits(15, 4);
    static constexpr std::array<std::size_t, 19> order = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    of_code.resize(19);
    for (auto symbol : order) writer.bits(of_code[symbol], 3);
    return writer;
  };
  std::vector<unsigned> repeating(19, 0);
  repeating[0] = repeating[1] = repeating[16] = repeating[18] = 2;
  const WrittenCode lengths({2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2});
  const std::vector<Case> cases = {
      {"invalid block type", BitWriter().header(true, 3).bytes()},
      {"invalid stored block lengths", BitWriter().header(true, 0).align().bits(5, 16).bits(5, 16).bytes()},
      {"too many length or distance symbols", with_sizes(30, 0)},
      {"too many length or distance symbols", with_sizes(0, 30)},
      {"invalid code lengths set", with_lengths({1, 1, 1}).bytes()},
      {"invalid code lengths set", with_lengths({2, 2, 2}).bytes()},
      {"invalid code lengths set", with_lengths({1}).bytes()},
      {"invalid code -- missing end-of-block", with_lengths({}).bytes() + behind},
      {"invalid bit length repeat", with_lengths(repeating).symbol(lengths, 16).bits(0, 2).bytes()},
      {"invalid bit length repeat", with_lengths(repeating).symbol(lengths, 18).bits(127, 7).symbol(lengths, 18).bits(127, 7).bytes()},
      {"invalid code -- missing end-of-block", BitWriter().dynamic(true, none, {1, 1}).bytes()},
      {"invalid literal/lengths set", BitWriter().dynamic(true, over, {1, 1}).bytes()},
      {"invalid literal/lengths set", BitWriter().dynamic(true, under, {1, 1}).bytes()},
      {"invalid literal/lengths set", BitWriter().dynamic(true, deep, {1, 1}).bytes()},
      {"invalid distances set", BitWriter().dynamic(true, two, {1, 1, 1}).bytes()},
      {"invalid distances set", BitWriter().dynamic(true, two, {2, 2}).bytes()},
      {"invalid distances set", BitWriter().dynamic(true, two, {2}).bytes()},
      {"invalid literal/length code", BitWriter().dynamic(true, only_end, {1, 1}).bits(1, 1).bytes()},
      {"invalid literal/length code", BitWriter().header(true, 1).symbol(literals, 286).bytes()},
      {"invalid literal/length code", BitWriter().header(true, 1).symbol(literals, 287).bytes()},
      {"invalid distance code", BitWriter().header(true, 1).symbol(literals, 'x').symbol(literals, 257).symbol(distances, 30).bytes()},
      {"invalid distance code", BitWriter().header(true, 1).symbol(literals, 'x').symbol(literals, 257).symbol(distances, 31).bytes()},
      {"invalid distance too far back", BitWriter().header(true, 1).match(literals, distances, 3, 1).bytes()},
      {"invalid distance too far back", BitWriter().header(true, 1).symbol(literals, 'x').match(literals, distances, 258, 2).bytes()},
      {"invalid distance too far back",
       BitWriter().stored(false, std::string(32767, 'x')).header(true, 1).match(literals, distances, 3, 32768).bytes()},
  };
  for (const auto& [why, bytes] : cases) {
    for (const auto& text : {bytes, bytes + behind}) {
      EXPECT_EQ(decode_by_us(text, whole).why, why);
      expect_as_zlib(text, why);
    }
  }
}

TEST(deflate_decoder, a_code_of_one_symbol_or_none_is_legal_where_zlib_allows_it) {
  std::vector<std::uint8_t> only_end(257, 0), with_match(258, 0);
  only_end[256] = 1;
  with_match['a'] = 2;
  with_match[256] = 2;
  with_match[257] = 1;
  const WrittenCode code(with_match);
  const auto ended = BitWriter().dynamic(true, only_end, {0}).bits(0, 1).bytes();
  EXPECT_EQ(decode_by_us(ended, 1).verdict, Verdict::ended);
  expect_as_zlib(ended, "only an end");
  // One distance of one bit: its other value is no code.
  const auto one = BitWriter().dynamic(true, with_match, {1}).symbol(code, 'a').symbol(code, 257).bits(0, 1).symbol(code, 256).bytes();
  EXPECT_EQ(decode_by_us(one, 1).output, "aaaa");
  expect_as_zlib(one, "one distance");
  const auto other =
      BitWriter().dynamic(true, with_match, {1}).symbol(code, 'a').symbol(code, 257).bits(1, 1).symbol(code, 256).bytes();
  EXPECT_EQ(decode_by_us(other, 1).why, "invalid distance code");
  expect_as_zlib(other + std::string(50, '\0'), "no such distance");
  const auto none = BitWriter().dynamic(true, with_match, {0}).symbol(code, 'a').symbol(code, 257).bits(0, 1).bytes();
  EXPECT_EQ(decode_by_us(none, 1).why, "invalid distance code");
  expect_as_zlib(none, "no distances");
}

TEST(deflate_decoder, streams_of_every_level_and_strategy_are_decoded_as_by_zlib) {
  unsigned seed = 0;
  for (unsigned kind = 0; kind < 4; ++kind) {
    for (int strategy : {Z_DEFAULT_STRATEGY, Z_FILTERED, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED}) {
      for (int level : {0, 1, 6, 9}) {
        for (int flush : {Z_NO_FLUSH, Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_PARTIAL_FLUSH, Z_BLOCK}) {
          ++seed;
          const auto text = text_of(20000 + seed * 211 % 30000, kind, seed);
          const auto bytes = compress(text, {level, strategy, flush, 1 + level % 9});
          const std::size_t piece = seed % 3 == 0 ? 1 + seed % 50 : seed % 3 == 1 ? 1 + seed * 37 % 5000 : whole;
          const auto ours = decode_by_us(bytes, piece);
          ASSERT_TRUE(ours.output == text && ours.used_bytes == bytes.size())
              << kind << " " << strategy << " " << level << " " << flush << " " << piece << ours.why;
        }
      }
    }
  }
}

TEST(deflate_decoder, long_streams_are_decoded_whole) {
  for (unsigned kind = 0; kind < 4; ++kind) {
    const auto text = text_of(3'000'000, kind, kind);
    for (int level : {0, 1, 6}) {
      const auto bytes = compress(text, {.level = level});
      for (std::size_t piece : {std::size_t{4096}, std::size_t{65536 + 1}, whole})
        ASSERT_TRUE(decode_by_us(bytes, piece).output == text) << kind << " " << level;
    }
  }
}

TEST(deflate_decoder, damaged_and_cut_streams_come_to_what_zlib_says_of_them) {
  std::mt19937 random(1951);
  for (int round = 0; round < 1500; ++round) {
    const auto text = text_of(200 + random() % 3000, static_cast<unsigned>(round) % 4, static_cast<unsigned>(random()));
    auto bytes = compress(text, {static_cast<int>(random() % 10), static_cast<int>(random() % 5), Z_NO_FLUSH, 8});
    for (auto flips = random() % 4; flips > 0; --flips) {
      const auto at = random() % 3 == 0 ? random() % std::min<std::size_t>(bytes.size(), 40) : random() % bytes.size();
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random() % 8)));
    }
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    ASSERT_NO_FATAL_FAILURE(expect_as_zlib(bytes, "damage")) << "round " << round;
  }
}

}  // namespace
}  // namespace caisson::image

// Valid text stays as it is, and every other byte becomes one replacement character.
#include "base/utf8.hpp"

#include <gtest/gtest.h>

#include "base/json.hpp"

namespace caisson {
namespace {

TEST(utf8, valid_text_stays_as_it_is) {
  for (std::string text : {"", "plain", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x90\xb3 and more", "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf"}) EXPECT_EQ(valid_utf8(text), text);
}

TEST(utf8, every_other_byte_becomes_a_replacement_character) {
  const std::string mark = "\xef\xbf\xbd";
  EXPECT_EQ(valid_utf8("a\xa8z"), "a" + mark + "z") << "Latin-1";
  EXPECT_EQ(valid_utf8("\xc3"), mark) << "cut off";
  EXPECT_EQ(valid_utf8("\xc0\xaf"), mark + mark) << "longer than needed";
  EXPECT_EQ(valid_utf8("\xed\xa0\x80"), mark + mark + mark) << "a surrogate";
  EXPECT_EQ(valid_utf8("\xf4\x90\x80\x80!"), mark + mark + mark + mark + "!") << "beyond Unicode";
  EXPECT_EQ(valid_utf8("\xff\xc3\xa4\xff"), mark + "\xc3\xa4" + mark);
}

TEST(utf8, what_is_written_as_json_can_be_read) {
  const json::value written(json::object{{"key \xff", "value \xa8"}});
  auto read = parse_json(to_text(written), "text");
  ASSERT_TRUE(read.ok()) << read.error().text();
  EXPECT_EQ(read->as_object().at("key \xef\xbf\xbd"), "value \xef\xbf\xbd");
}

}  // namespace
}  // namespace caisson

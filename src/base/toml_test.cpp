// Files that are TOML, and files that are not.
#include "base/toml.hpp"

#include <gmock/gmock.h>

namespace caisson {
namespace {

TEST(toml, a_table_is_read) {
  auto table = parse_toml("a = 1\n[b]\nc = \"d\"\n");
  ASSERT_TRUE(table.ok()) << table.error().text();
  EXPECT_EQ((*table)["a"].value_or(0), 1);
  EXPECT_EQ((*table)["b"]["c"].value_or(""), std::string("d"));
}

TEST(toml, what_is_malformed_is_named_by_line_and_column) {
  auto refused = parse_toml("a = 1\nb = \n");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::invalid);
  EXPECT_THAT(refused.error().text(), testing::StartsWith("line 2, column "));
}

TEST(toml, what_the_library_takes_for_granted_is_refused_too) {
  for (std::string_view text : {"[=]", "[.]", "[#]", "[\x01]", "[\x7f", "[[}]]", "=1", "a = {,}"}) EXPECT_FALSE(parse_toml(text).ok()) << text;
}

TEST(toml, outside_of_texts_and_comments_there_is_ascii_alone) {
  const std::string euro = "\xe2\x82\xac";
  const std::string good[] = {R"(a = ")" + euro + R"(" # )" + euro + "\nb = '" + euro + "'",
                              "a = \"\"\"\n\"" + euro + "\"\"\"",
                              "a = '''" + euro + "'" + euro + "'''\n",
                              R"(a = "\")" + euro + "\"",
                              "\xef\xbb\xbf" "a = 1",
                              "\"" + euro + "\" = 1",
                              "a = \"\"\nb = ''"};
  for (const auto& text : good) EXPECT_TRUE(parse_toml(text).ok()) << text;
  const std::string bad[] = {euro + " = 1", "a = 1 " + euro, "a = \"x\" " + euro, "# c\n" + euro, "a = '\\' " + euro, "se\xef\xb3\xbf", "a=+'\xd1\xae", "a = [2\"1\xd2\x89\"]", "a = 1\xc3\xa9"};
  for (const auto& text : bad) EXPECT_FALSE(parse_toml(text).ok()) << text;
}

}  // namespace
}  // namespace caisson

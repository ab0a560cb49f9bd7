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

}  // namespace
}  // namespace caisson

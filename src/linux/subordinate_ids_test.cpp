// Ranges of subordinate ids and the map made of them.
#include "linux/subordinate_ids.hpp"

#include <gtest/gtest.h>

namespace caisson::linux {
namespace {

TEST(subordinate_ids, lines_of_the_user_by_name_and_by_number_are_found) {
  constexpr const char* text = "root:1:5\nanna:100000:65536\n# anna:1:2\n1000:300000:10\nannabel:7:7\nanna:500000:1\n";
  EXPECT_EQ(subordinate_ids(text, "anna", 1000), (std::vector<IdRange>{{100000, 65536}, {300000, 10}, {500000, 1}}));
  EXPECT_EQ(subordinate_ids(text, "", 1000), (std::vector<IdRange>{{300000, 10}}));
  EXPECT_TRUE(subordinate_ids(text, "bert", 1001).empty());
  EXPECT_EQ(count_ids(subordinate_ids(text, "anna", 1000)), 65547U);
}

TEST(subordinate_ids, broken_lines_are_passed_over) {
  for (const char* text : {"anna:100000", "anna:x:5", "anna:5:x", "anna:5:0", "anna:4294967290:10", "anna:-1:5", "anna:1:2:3", "anna::", ":::", "", "\n\n"})
    EXPECT_TRUE(subordinate_ids(text, "anna", 1000).empty()) << text;
  EXPECT_EQ(subordinate_ids("anna:4294967285:10", "anna", 0).size(), 1U);
}

TEST(subordinate_ids, the_user_is_root_inside_and_the_ranges_follow) {
  EXPECT_EQ(map_of_user(1000, {{100000, 65536}}, 65535), (std::vector<IdMapping>{{0, 1000, 1}, {1, 100000, 65535}}));
  EXPECT_EQ(map_of_user(1000, {{100000, 10}, {200000, 10}}, 65535), (std::vector<IdMapping>{{0, 1000, 1}, {1, 100000, 10}, {11, 200000, 10}}));
  EXPECT_EQ(map_of_user(1000, {{100000, 10}, {200000, 10}}, 12), (std::vector<IdMapping>{{0, 1000, 1}, {1, 100000, 10}, {11, 200000, 2}}));
  EXPECT_EQ(map_of_user(1000, {}, 65535), (std::vector<IdMapping>{{0, 1000, 1}}));
}

TEST(subordinate_ids, ranges_that_overlap_are_left_out) {
  EXPECT_EQ(map_of_user(1000, {{990, 20}, {100000, 10}, {100005, 10}, {100010, 5}}, 65535),
            (std::vector<IdMapping>{{0, 1000, 1}, {1, 100000, 10}, {11, 100010, 5}}));
}

}  // namespace
}  // namespace caisson::linux

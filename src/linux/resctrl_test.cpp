// Groups of resctrl, on a folder that looks like the file system: this machine's processor has none.
#include "linux/resctrl.hpp"

#include <gtest/gtest.h>

#include "linux/file.hpp"
#include "linux/testing.hpp"
#include "linux/tree.hpp"

namespace caisson::linux {
namespace {

constexpr std::string_view present = "    MB:0=100;1= 90\n    L3:0=000ff;1=0000F\n";

TEST(Resctrl, schemata_are_compared_as_numbers_domain_by_domain) {
  EXPECT_TRUE(schemata_match(present, "L3:0=ff").value_or(false));
  EXPECT_TRUE(schemata_match(present, "L3:1=f;0=0ff").value_or(false));
  EXPECT_TRUE(schemata_match(present, "MB:1=90").value_or(false));
  EXPECT_FALSE(schemata_match(present, "L3:0=fe").value_or(true));
  EXPECT_FALSE(schemata_match(present, "L3:2=ff").value_or(true));
  EXPECT_FALSE(schemata_match(present, "L2:0=ff").value_or(true));
  for (const char* broken : {"", "L3", "L3:0", "L3:0=", "L3:0=f;x"}) EXPECT_FALSE(schemata_match(present, broken)) << broken;
}

class ResctrlTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(make_dirs(concat(root_, "/there/mon_groups"), 0755));
    ASSERT_TRUE(write_file(concat(root_, "/there/schemata"), present));
    ASSERT_TRUE(write_file(concat(root_, "/there/tasks"), ""));
    ASSERT_TRUE(write_file(concat(root_, "/tasks"), ""));
  }
  TemporaryFolder folder_;
  std::string root_ = folder_.path();
};

TEST_F(ResctrlTest, a_group_that_is_there_is_taken_when_it_is_what_was_asked_for_and_stays) {
  auto group = ResctrlGroup::create({root_, "there", {"L3:0=ff"}, ""});
  ASSERT_TRUE(group) << group.error().text();
  EXPECT_TRUE(group->add(42));
  EXPECT_EQ(read_file(concat(root_, "/there/tasks")).value_or(""), "42\n");
  EXPECT_TRUE(group->made().empty()) << "what others made is not ours to remove";
  auto other = ResctrlGroup::create({root_, "there", {"L3:0=1"}, ""});
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().text().find("exists with other schemata than \"L3:0=1\""), std::string::npos) << other.error().text();
}

TEST_F(ResctrlTest, monitoring_groups_are_made_inside_and_removed) {
  auto group = ResctrlGroup::create({root_, "there", {}, "c1"});
  ASSERT_TRUE(group) << group.error().text();
  const std::string folder = concat(root_, "/there/mon_groups/c1");
  EXPECT_EQ(group->made(), std::vector<std::string>{folder});
  EXPECT_TRUE(ResctrlGroup::remove(group->made()));
  EXPECT_FALSE(exists(folder).value_or(true));
  EXPECT_TRUE(ResctrlGroup::remove(group->made())) << "a second time is fine";
}

TEST_F(ResctrlTest, a_new_group_that_fails_is_removed_again) {
  // The kernel would put a schemata file into the folder; here there is none.
  auto group = ResctrlGroup::create({root_, "new", {"L3:0=ff"}, ""});
  ASSERT_FALSE(group);
  EXPECT_NE(group.error().text().find("\"L3:0=ff\" was refused"), std::string::npos) << group.error().text();
  EXPECT_FALSE(exists(concat(root_, "/new")).value_or(true));
}

TEST_F(ResctrlTest, a_group_that_is_there_gets_new_schemata) {
  EXPECT_TRUE(ResctrlGroup::change({root_, "there", {"L3:0=f"}, ""}));
  // The kernel's file has no end to cut off; this one keeps what lay behind the line.
  EXPECT_TRUE(read_file(concat(root_, "/there/schemata")).value_or("").starts_with("L3:0=f\n"));
  const auto missing = ResctrlGroup::change({root_, "nowhere", {"L3:0=f"}, ""});
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().text().find("/nowhere does not exist"), std::string::npos) << missing.error().text();
}

TEST_F(ResctrlTest, the_default_group_is_never_removed) {
  auto group = ResctrlGroup::create({root_, "/", {}, ""});
  ASSERT_TRUE(group) << group.error().text();
  EXPECT_TRUE(group->made().empty());
  EXPECT_TRUE(group->add(7));
}

}  // namespace
}  // namespace caisson::linux

// Variables that are set, empty and missing.
#include "base/environment.hpp"

#include <gmock/gmock.h>

#include <cstdlib>

namespace caisson {
namespace {

TEST(environment, is_read_as_it_is) {
  ASSERT_EQ(::setenv("CAISSON_TEST_VALUE", "a b", 1), 0);
  EXPECT_STREQ(environment("CAISSON_TEST_VALUE"), "a b");
  EXPECT_EQ(environment_text("CAISSON_TEST_VALUE"), "a b");
  ASSERT_EQ(::setenv("CAISSON_TEST_VALUE", "", 1), 0);
  EXPECT_STREQ(environment("CAISSON_TEST_VALUE"), "") << "set, though empty";
  EXPECT_THAT(whole_environment(), testing::Contains("CAISSON_TEST_VALUE="));
  forget_environment("CAISSON_TEST_VALUE");
  EXPECT_EQ(environment("CAISSON_TEST_VALUE"), nullptr);
  EXPECT_EQ(environment_text("CAISSON_TEST_VALUE"), "");
}

}  // namespace
}  // namespace caisson

#include "cli/daemon.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

#include "linux/process.hpp"

namespace caisson::cli {
namespace {

Invocation global(std::vector<std::string> words) {
  Invocation out(global_flags());
  bool wants_help = false;
  EXPECT_FALSE(parse_flags(global_flags(), false, words, out, wants_help));
  return out;
}

TEST(endpoint, what_the_user_chose_is_used_and_never_started) {
  unsetenv("CAISSON_HOST");
  auto chosen = choose_endpoint(global({"-H", "unix:///x/s"}));
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ(chosen->address, "unix:///x/s");
  EXPECT_FALSE(chosen->may_start);
  EXPECT_EQ(choose_endpoint(global({"-H", "/x/s"}))->address, "unix:///x/s");
  setenv("CAISSON_HOST", "tcp://h:1", 1);
  EXPECT_EQ(choose_endpoint(global({}))->address, "tcp://h:1");
  EXPECT_FALSE(choose_endpoint(global({}))->may_start);
  EXPECT_EQ(choose_endpoint(global({"-H", "unix:///x/s"}))->address, "unix:///x/s") << "-H comes before the environment";
  unsetenv("CAISSON_HOST");
}

TEST(endpoint, an_engine_of_ones_own_is_started) {
  unsetenv("CAISSON_HOST");
  EXPECT_TRUE(choose_endpoint(global({"-H", "unix:///x/s", "--root", "/r"}))->may_start);
  EXPECT_FALSE(choose_endpoint(global({"-H", "tcp://h:1", "--root", "/r"}))->may_start) << "nothing is started behind a TCP address";
  auto own = choose_endpoint(global({"--exec-root", "/e"}));
  ASSERT_TRUE(own.ok());
  EXPECT_EQ(own->address, "unix:///e/caisson.sock");
  EXPECT_TRUE(own->may_start);
}

TEST(endpoint, root_uses_the_systems_socket) {
  if (linux::geteuid() != 0) GTEST_SKIP() << "needs root";
  unsetenv("CAISSON_HOST");
  auto chosen = choose_endpoint(global({}));
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ(chosen->address, "unix:///run/caisson.sock");
  EXPECT_TRUE(chosen->may_start);
  EXPECT_FALSE(chosen->is_rootless);
}

TEST(endpoint, the_daemon_gets_the_flags_that_place_it) {
  auto flags = global({"--root", "/r", "--exec-root=/e"});
  EXPECT_EQ(daemon_arguments("/bin/caissond", *choose_endpoint(flags), flags),
            (std::vector<std::string>{"/bin/caissond", "-H", "unix:///e/caisson.sock", "--root", "/r", "--exec-root", "/e"}));
}

}  // namespace
}  // namespace caisson::cli

// The profile's text; the kernel's side is tested in the guest (tools/guest/part-apparmor), whose kernel has AppArmor.
#include "engine/apparmor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linux/spawn.hpp"

namespace caisson::engine {
namespace {

using testing::HasSubstr;

TEST(AppArmor, the_parser_understands_the_profile) {
  if (!linux::find_program("apparmor_parser", "/usr/sbin:/sbin:/usr/bin:/bin").ok()) GTEST_SKIP() << "apparmor_parser is not installed";
  const auto text = default_apparmor_text();
  linux::RunOptions options;
  options.standard_input = text;
  // Without the kernel: it may have no AppArmor.
  auto run = linux::run_program({"apparmor_parser", "--skip-cache", "--skip-kernel-load", "--quiet"}, options);
  ASSERT_TRUE(run.ok()) << run.error().text();
  EXPECT_EQ(run->status.exit_code(), 0) << run->standard_error;
}

TEST(AppArmor, the_profile_refuses_what_the_default_box_refuses) {
  const auto text = default_apparmor_text();
  EXPECT_THAT(text, HasSubstr("profile caisson-default "));
  for (const char* rule : {"deny mount,", "deny /proc/sysrq-trigger", "deny /sys/firmware/", "signal (receive) peer=unconfined"}) EXPECT_THAT(text, HasSubstr(rule));
}

}  // namespace
}  // namespace caisson::engine

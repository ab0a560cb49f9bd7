// Size limits where a file system keeps none: the refusal is docker's and says why. That they hold is tests/e2e/test_volumes.py's and tools/guest/part-quota's.
#include "engine/size_limit.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "engine/fake_parts.hpp"

namespace caisson::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(SizeLimits, a_file_system_without_quotas_is_named_with_the_reason) {
  const std::string folder = concat("/dev/shm/caisson-test-", ::getpid());
  if (!linux::mkdir(folder, 0700).ok()) GTEST_SKIP() << "needs a tmpfs at /dev/shm";
  SizeLimits limits;
  Status refused = limits.limit({folder}, 1 << 20);
  EXPECT_TRUE(SizeLimits::join(folder, folder).ok()) << "what is of no project has none to join";
  EXPECT_TRUE(SizeLimits::remove_tree(folder, ".").ok());
  EXPECT_FALSE(linux::exists(folder).value_or(true));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::invalid);
  EXPECT_THAT(refused.error().text(), AllOf(HasSubstr("quota size requested but no quota support"), HasSubstr(folder), HasSubstr("(tmpfs)"), HasSubstr("quotactl_fd")));
  EXPECT_THAT(refused.error().hint(), HasSubstr("prjquota"));
}

TEST(SizeLimits, a_tree_that_is_not_there_or_half_made_is_removed) {
  fake::TempFolder folder;
  EXPECT_TRUE(SizeLimits::remove_tree(folder.path() + "/none", "_data").ok());
  ASSERT_TRUE(linux::make_dirs(folder.path() + "/half", 0700).ok());
  EXPECT_TRUE(SizeLimits::remove_tree(folder.path() + "/half", "_data").ok());
  EXPECT_FALSE(linux::exists(folder.path() + "/half").value_or(true));
}

TEST(SizeLimits, sizes_are_dockers_and_positive) {
  EXPECT_EQ(*parse_size_limit("10M"), 10 << 20);
  for (const auto* bad : {"", "x", "0", "-1"}) EXPECT_FALSE(parse_size_limit(bad).ok()) << bad;
}

TEST(SizeLimits, a_volume_or_container_that_cannot_be_limited_leaves_nothing) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: others may not ask for project quotas";
  fake::Harness h;
  auto volume = h.engine->create_volume(h.admin, {.name = "data", .driver = {}, .options = {{"size", "1M"}}, .labels = {}});
  if (volume.ok()) GTEST_SKIP() << "this file system has project quotas";
  EXPECT_THAT(volume.error().text(), HasSubstr("create data: quota size requested but no quota support"));
  EXPECT_THAT(h.names_in("root/volumes"), testing::IsEmpty());
  auto spec = fake::Harness::spec({"sleep"}, "box");
  spec.storage_size_bytes = 1 << 20;
  auto created = h.engine->create(h.admin, spec);
  ASSERT_FALSE(created.ok());
  EXPECT_THAT(created.error().text(), HasSubstr("storage option size: quota size requested but no quota support"));
  EXPECT_THAT(h.names_in("root/containers"), testing::IsEmpty());
  EXPECT_TRUE(h.engine->list(h.admin, {.all = true, .size = false})->empty());
}

}  // namespace
}  // namespace caisson::engine

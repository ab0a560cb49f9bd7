// Tests of import end to end: worker, idmapped target, attributes, config, failures that leave nothing behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "image/test_support.hpp"

namespace caisson::image {
namespace {

using testing::HasSubstr;
using namespace testing_support;

class Import : public testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = why_not(); !reason.empty()) GTEST_SKIP() << reason;
    fixture_ = std::make_unique<Fixture>();
  }
  Fixture& fixture() { return *fixture_; }

 private:
  std::unique_ptr<Fixture> fixture_;
};

struct stat status_of(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
  return status;
}

TEST_F(Import, files_get_the_owners_modes_times_and_contents_of_the_archive) {
  TarMaker tar;
  tar.dir("./", 0755).dir("etc").file("etc/passwd", "root:x:0:0\n", 0640);
  auto owned = TarMaker::make(TarType::file, "home/user/setuid", 04755);
  owned.uid = 1000;
  owned.gid = 100;
  owned.mtime_ns = 123456789;
  tar.dir("home").dir("home/user", 02770).add(owned, "x").symlink("link", "etc/passwd").hard_link("etc/passwd-", "etc/passwd");
  tar.device("dev/null", TarType::char_device, 1, 3);
  auto image = fixture().import(tar.done());
  ASSERT_TRUE(image.ok()) << image.error().text();
  auto tree = fixture().tree(*image);
  EXPECT_EQ(std::filesystem::file_size(tree + "/etc/passwd"), 11U);
  auto passwd = status_of(tree + "/etc/passwd");
  EXPECT_EQ(passwd.st_mode & 07777, 0640U);
  EXPECT_EQ(passwd.st_uid, 0U);
  EXPECT_EQ(passwd.st_nlink, 2U);
  EXPECT_EQ(passwd.st_mtim.tv_sec, 1'700'000'000);
  auto setuid = status_of(tree + "/home/user/setuid");
  EXPECT_EQ(setuid.st_mode & 07777, 04755U);
  EXPECT_EQ(setuid.st_uid, 1000U);
  EXPECT_EQ(setuid.st_gid, 100U);
  EXPECT_EQ(setuid.st_mtim.tv_nsec, 123456789);
  EXPECT_EQ(status_of(tree + "/home/user").st_mode & 07777, 02770U);
  EXPECT_EQ(status_of(tree + "/home/user").st_mtim.tv_sec, 1'700'000'000);
  EXPECT_EQ(std::filesystem::read_symlink(tree + "/link"), "etc/passwd");
  auto null = status_of(tree + "/dev/null");
  EXPECT_TRUE(S_ISCHR(null.st_mode));
  EXPECT_EQ(null.st_rdev, ::makedev(1, 3));
  EXPECT_EQ(image->repo_tags, std::vector<std::string>{"test:1"});
  EXPECT_EQ(image->size_bytes, 12U);
  EXPECT_EQ(fixture().leftovers(), 0U);
  EXPECT_EQ(status_of(fixture().root()).st_mode & 07777, 0700U);
}

}  // namespace
}  // namespace caisson::image

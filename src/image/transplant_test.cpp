// A writable layer as docker keeps it, on its way into one of ours.
#include "image/transplant.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <cstring>
#include <filesystem>

#include "image/test_support.hpp"

namespace caisson::image {
namespace {

using testing::HasSubstr;
using testing_support::Folder;

class Transplant : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: owners and device nodes";
    if (!mark("", "trusted.overlay.impure", "y")) GTEST_SKIP() << "needs CAP_SYS_ADMIN and a file system with trusted attributes";
  }
  [[nodiscard]] std::string from(const std::string& name) const { return from_.path() + "/" + name; }
  [[nodiscard]] std::string to(const std::string& name) const { return to_.path() + "/" + name; }
  void file(const std::string& name, std::string_view text, mode_t mode = 0644, uid_t owner = 0) {
    ASSERT_TRUE(linux::write_file(from(name), text).ok());
    ASSERT_EQ(::chown(from(name).c_str(), owner, owner), 0);
    ASSERT_EQ(::chmod(from(name).c_str(), mode), 0);
  }
  void folder(const std::string& name) { ASSERT_EQ(::mkdir(from(name).c_str(), 0755), 0); }
  bool mark(const std::string& name, const char* attribute, const char* value) { return ::lsetxattr(from(name).c_str(), attribute, value, std::strlen(value), 0) == 0; }
  static std::string attribute(const std::string& path, const char* name) {
    char value[64];
    const auto size = ::lgetxattr(path.c_str(), name, value, sizeof value);
    return size < 0 ? "none" : std::string(value, static_cast<std::size_t>(size));
  }
  static struct stat status(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
    return status;
  }
  [[nodiscard]] Status copy() const {
    auto source = linux::open(from_.path(), O_RDONLY | O_DIRECTORY);
    auto target = linux::open(to_.path(), O_RDONLY | O_DIRECTORY);
    return copy_upperdir(source->get(), target->get());
  }
  Folder from_;
  Folder to_;
};

TEST_F(Transplant, files_keep_owner_mode_time_attributes_and_links) {
  folder("root");
  file("root/new", "text", 04755, 1000);
  ASSERT_TRUE(mark("root/new", "user.note", "kept"));
  ASSERT_EQ(::link(from("root/new").c_str(), from("root/hard").c_str()), 0);
  ASSERT_EQ(::symlink("../x", from("root/soft").c_str()), 0);
  ASSERT_EQ(::mkfifo(from("root/fifo").c_str(), 0600), 0);
  ASSERT_EQ(::mknod(from("root/null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  ASSERT_EQ(::chmod(from("").c_str(), 0711), 0);
  auto copied = copy();
  ASSERT_TRUE(copied.ok()) << copied.error().text();
  auto made = status(to("root/new"));
  EXPECT_EQ(made.st_mode & 07777, 04755U);
  EXPECT_EQ(made.st_uid, 1000U);
  EXPECT_EQ(made.st_mtim.tv_sec, status(from("root/new")).st_mtim.tv_sec);
  EXPECT_EQ(made.st_ino, status(to("root/hard")).st_ino);
  EXPECT_EQ(attribute(to("root/new"), "user.note"), "kept");
  EXPECT_EQ(std::filesystem::read_symlink(to("root/soft")), "../x");
  EXPECT_TRUE(S_ISFIFO(status(to("root/fifo")).st_mode));
  EXPECT_EQ(status(to("root/null")).st_rdev, makedev(1, 3));
  EXPECT_EQ(status(to("")).st_mode & 07777, 0711U) << "the root's own mode";
}

TEST_F(Transplant, what_hides_lower_files_hides_them_here) {
  folder("etc");
  ASSERT_EQ(::mknod(from("etc/gone").c_str(), S_IFCHR, makedev(0, 0)), 0);
  folder("again");
  ASSERT_TRUE(mark("again", "trusted.overlay.opaque", "y"));
  file("again/new", "");
  auto copied = copy();
  ASSERT_TRUE(copied.ok()) << copied.error().text();
  EXPECT_TRUE(S_ISCHR(status(to("etc/gone")).st_mode));
  EXPECT_EQ(status(to("etc/gone")).st_rdev, makedev(0, 0));
  EXPECT_EQ(attribute(to("again"), "user.overlay.opaque"), "y");
  EXPECT_EQ(attribute(to("again"), "trusted.overlay.opaque"), "none");
  EXPECT_FALSE(std::filesystem::exists(to("again/.wh..wh..opq")));
}

TEST_F(Transplant, a_tight_umask_takes_nothing_away) {
  folder("open");
  file("open/file", "", 0666);
  const mode_t before = ::umask(077);
  auto copied = copy();
  EXPECT_EQ(::umask(before), 077U) << "it is as before";
  ASSERT_TRUE(copied.ok()) << copied.error().text();
  EXPECT_EQ(status(to("open/file")).st_mode & 07777, 0666U);
  EXPECT_EQ(status(to("open")).st_mode & 07777, 0755U);
}

TEST_F(Transplant, what_lies_in_lower_layers_is_refused_by_name) {
  folder("moved");
  ASSERT_TRUE(mark("moved", "trusted.overlay.redirect", "/old"));
  auto copied = copy();
  ASSERT_FALSE(copied.ok());
  EXPECT_EQ(copied.error().kind(), ErrorKind::unsupported);
  EXPECT_THAT(copied.error().text(), HasSubstr("moved"));
  std::filesystem::remove(from("moved"));
  file("empty", "");
  ASSERT_TRUE(mark("empty", "trusted.overlay.metacopy", ""));
  EXPECT_THAT(copy().error().text(), HasSubstr("empty"));
}

TEST_F(Transplant, an_owner_no_container_has_is_refused_by_name) {
  file("remapped", "", 0644, 100000);
  auto copied = copy();
  ASSERT_FALSE(copied.ok());
  EXPECT_THAT(copied.error().text(), HasSubstr("remapped"));
}

}  // namespace
}  // namespace caisson::image

// Tests of what copies files into trees that somebody else owns: kinds, links, names, and that nothing leaves the root.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "image/pack.hpp"
#include "image/place.hpp"
#include "image/root_path.hpp"
#include "image/test_support.hpp"

namespace caisson::image {
namespace {

using testing::HasSubstr;
using namespace testing_support;
namespace fs = std::filesystem;

class StringSource final : public ByteSource {
 public:
  explicit StringSource(std::string text) : text_(std::move(text)) {}
  Result<std::string_view> next() override {
    auto piece = std::string_view(text_).substr(at_, 700);
    at_ += piece.size();
    return piece;
  }

 private:
  std::string text_;
  std::size_t at_ = 0;
};

/// A root with a folder "victim" beside it that nothing may reach.
class Place : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: members get the owners that archives name";
    fs::create_directories(root() + "/srv");
    fs::create_directories(victim());
    std::ofstream(victim() + "/file") << "untouched";
  }
  std::string root() { return folder_.path() + "/root"; }
  std::string victim() { return folder_.path() + "/victim"; }
  Status place(const std::string& tar, PlaceRequest request = {}) {
    if (request.path.empty()) request.path = "/srv";
    auto fd = linux::open(root(), O_RDONLY | O_DIRECTORY);
    EXPECT_TRUE(fd.ok());
    StringSource source(tar);
    TarReader reader(source);
    return place_archive(reader, fd->get(), request);
  }
  std::string text_of(const std::string& name) {
    std::ifstream file(root() + name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void expect_untouched() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(victim())) ++count;
    EXPECT_EQ(count, 1U);
    std::ifstream file(victim() + "/file");
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "untouched");
  }

 private:
  Folder folder_;
};

TEST_F(Place, members_get_their_attributes_and_folders_their_times) {
  ASSERT_TRUE(place(TarMaker().dir("d", 0750).file("d/f", "text", 04711).symlink("d/l", "f").hard_link("d/h", "d/f").file("made/on/the/way", "x").done()).ok());
  struct stat status {};
  ASSERT_EQ(::stat((root() + "/srv/d").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0750U);
  EXPECT_EQ(status.st_mtim.tv_sec, 1'700'000'000);
  ASSERT_EQ(::stat((root() + "/srv/d/f").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 04711U);
  EXPECT_EQ(status.st_nlink, 2U);
  EXPECT_EQ(text_of("/srv/d/l"), "text");
  EXPECT_EQ(text_of("/srv/made/on/the/way"), "x");
}

TEST_F(Place, links_of_the_tree_are_followed_inside_the_root_only) {
  fs::create_directories(root() + "/real");
  fs::create_symlink("/real", root() + "/srv/absolute");
  fs::create_symlink("../../../../../../../.." + victim(), root() + "/srv/climbing");
  fs::create_symlink(victim(), root() + "/srv/outside");
  ASSERT_TRUE(place(TarMaker().file("absolute/f", "in").done()).ok());
  EXPECT_EQ(text_of("/real/f"), "in");
  for (const auto* name : {"climbing", "outside"}) {
    EXPECT_FALSE(place(TarMaker().file(concat(name, "/evil"), "e").done()).ok());
    EXPECT_FALSE(place(TarMaker().hard_link("stolen", concat(name, "/file")).done()).ok());
    PlaceRequest request;
    request.path = concat("/srv/", name);
    EXPECT_FALSE(place(TarMaker().file("evil", "e").done(), request).ok());
  }
  expect_untouched();
}

TEST_F(Place, links_of_the_archive_are_held_to_the_same) {
  for (const auto& target : {victim(), "../../../../../.." + victim(), std::string("/proc/self/root") + victim()}) {
    ASSERT_TRUE(place(TarMaker().symlink("way", target).done()).ok());
    EXPECT_FALSE(place(TarMaker().file("way/evil", "e").done()).ok());
    ASSERT_TRUE(place(TarMaker().symlink("way", target).dir("way", 0700).file("way/mine", "m").done()).ok()) << "a folder takes the link's place";
    EXPECT_EQ(text_of("/srv/way/mine"), "m");
    fs::remove_all(root() + "/srv/way");
    expect_untouched();
  }
  auto out = place(TarMaker().file("../evil", "e").done());
  ASSERT_FALSE(out.ok());
  EXPECT_THAT(out.error().text(), HasSubstr("../evil"));
  EXPECT_FALSE(fs::exists(root() + "/evil"));
}

TEST_F(Place, kinds_are_kept_when_asked_for) {
  PlaceRequest request;
  request.keep_kinds = true;
  fs::create_directories(root() + "/srv/folder");
  std::ofstream(root() + "/srv/plain") << "x";
  auto over_folder = place(TarMaker().file("folder", "x").done(), request);
  ASSERT_FALSE(over_folder.ok());
  EXPECT_THAT(over_folder.error().text(), HasSubstr("cannot overwrite directory \"/srv/folder\" with non-directory \"/srv\""));
  auto over_file = place(TarMaker().dir("plain").done(), request);
  ASSERT_FALSE(over_file.ok());
  EXPECT_THAT(over_file.error().text(), HasSubstr("cannot overwrite non-directory \"/srv/plain\" with directory \"/srv\""));
  EXPECT_TRUE(place(TarMaker().file("plain", "new").dir("folder").done(), request).ok());
  EXPECT_TRUE(place(TarMaker().file("folder", "x").dir("plain").done()).ok()) << "without it the newer one wins";
  EXPECT_TRUE(fs::is_directory(root() + "/srv/plain"));
}

TEST_F(Place, the_first_part_of_names_can_be_replaced) {
  PlaceRequest request;
  request.first_name = "other";
  ASSERT_TRUE(place(TarMaker().dir("d").file("d/f", "x").hard_link("d/h", "d/f").done(), request).ok());
  EXPECT_EQ(text_of("/srv/other/h"), "x");
  EXPECT_FALSE(fs::exists(root() + "/srv/d"));
}

TEST_F(Place, a_target_that_is_no_folder_is_refused) {
  std::ofstream(root() + "/srv/plain") << "x";
  PlaceRequest request;
  request.path = "/srv/plain";
  EXPECT_THAT(place(TarMaker().file("f", "x").done(), request).error().text(), HasSubstr("extraction point is not a directory"));
  request.path = "/nope";
  EXPECT_EQ(place(TarMaker().file("f", "x").done(), request).error().error_number(), ENOENT);
}

TEST(root_path, is_split_as_docker_does) {
  auto split = [](std::string_view path) {
    auto parts = split_root_path(path);
    return parts.folder + "|" + parts.name;
  };
  EXPECT_EQ(split("/etc/passwd"), "/etc|passwd");
  EXPECT_EQ(split("a/../b//c"), "/b|c");
  EXPECT_EQ(split("/etc/"), "/etc|");
  EXPECT_EQ(split("/etc/."), "/etc|");
  EXPECT_EQ(split("/"), "/|");
  EXPECT_EQ(split("../../x"), "/|x");
}

TEST(tar_writer, sparse_files_are_read_back_as_they_were) {
  TarEntry entry;
  entry.name = std::string(120, 'n');
  entry.is_sparse = true;
  entry.size_bytes = 1ULL << 40U;
  entry.segments = {{0, 3}, {1ULL << 39U, 600}};
  std::string bytes;
  TarWriter writer([&](std::string_view piece) -> Status {
    bytes += piece;
    return {};
  });
  ASSERT_TRUE(writer.begin(entry).ok());
  ASSERT_TRUE(writer.write("abc").ok());
  ASSERT_TRUE(writer.write(std::string(600, 'z')).ok());
  TarEntry next;
  next.name = "next";
  ASSERT_TRUE(writer.add(next, "x").ok());
  ASSERT_TRUE(writer.finish().ok());
  StringSource source(bytes);
  TarReader reader(source);
  TarEntry read;
  ASSERT_TRUE(reader.next(read).value_or(false));
  EXPECT_EQ(read.name, entry.name);
  EXPECT_EQ(read.size_bytes, entry.size_bytes);
  EXPECT_EQ(read.segments, entry.segments);
  ASSERT_TRUE(reader.next(read).value_or(false));
  EXPECT_EQ(read.name, "next");
}

}  // namespace
}  // namespace caisson::image

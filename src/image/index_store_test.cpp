// The store with layers as indexes: made, mounted, settled, damaged, removed, and beside layers that are directories.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>

#include "image/index_mount.hpp"
#include "image/test_support.hpp"
#include "linux/mount_api.hpp"
#include "linux/tree.hpp"

namespace caisson::image {
namespace {

using namespace testing_support;
using testing::HasSubstr;

class IndexStore : public testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = why_not(); !reason.empty()) GTEST_SKIP() << reason;
    if (auto works = try_index("/var/tmp", first_worker_id); !works.ok()) GTEST_SKIP() << works.error().text();
    fixture_ = std::make_unique<Fixture>("/var/tmp", SnapshotForm::erofs);
  }
  void TearDown() override {
    if (!fixture_) return;
    const auto path = fixture_->path();
    fixture_->close();
    EXPECT_TRUE(mounts_below(path).empty());
  }
  static std::vector<std::string> mounts_below(const std::string& path) {
    std::vector<std::string> out;
    const auto mounts = linux::read_mountinfo().value();
    for (const auto& mount : mounts)
      if (mount.mount_point.starts_with(path)) out.push_back(mount.mount_point);
    return out;
  }
  Image import(std::string_view tar, const std::string& name = "test:1") {
    auto image = fixture_->import(tar, name);
    EXPECT_TRUE(image.ok()) << image.error().text();
    return image.ok() ? std::move(*image) : Image();
  }
  std::string folder_of(const Image& image) { return concat(fixture_->root(), "/layers/", image.diff_ids.at(0).hex()); }
  static std::string read(const std::string& path) { return linux::read_file(path).value_or("?"); }
  static bool exists(const std::string& path) { return std::filesystem::exists(std::filesystem::symlink_status(path)); }
  static void spoil(const std::string& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(1100);
    file.put('!');
  }

  std::unique_ptr<Fixture> fixture_;
};

TEST_F(IndexStore, a_layer_is_its_tar_and_a_mounted_index) {
  EXPECT_EQ((*fixture_)->snapshot_form(), SnapshotForm::erofs);
  auto image = import(TarMaker().dir("etc").file("etc/name", "caisson").done());
  auto tree = fixture_->tree(image);
  EXPECT_EQ(read(tree + "/etc/name"), "caisson");
  EXPECT_EQ(tree, folder_of(image) + "/mount");
  EXPECT_THAT(mounts_below(fixture_->path()), testing::ElementsAre(tree));
  fixture_->tree(image);
  EXPECT_EQ(mounts_below(fixture_->path()).size(), 1U);
}

TEST_F(IndexStore, a_tar_without_compression_lies_on_the_disk_once) {
  auto image = import(TarMaker().file("f", std::string(100'000, 'x')).done());
  struct stat status {};
  ASSERT_EQ(::stat((folder_of(image) + "/layer.tar").c_str(), &status), 0);
  EXPECT_EQ(status.st_nlink, 2U);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
  (*fixture_)->remove("test:1", false, nullptr).value();
  EXPECT_FALSE(exists(folder_of(image)));
}

TEST_F(IndexStore, what_an_index_cannot_tell_becomes_a_directory) {
  auto entry = TarMaker::make(TarType::file, "sparse", 0644);
  entry.is_sparse = true;
  entry.size_bytes = 2000;
  entry.segments = {{1000, 100}};
  std::string bytes;
  TarWriter writer([&](std::string_view piece) -> Status {
    bytes += piece;
    return {};
  });
  ASSERT_TRUE(writer.begin(entry).ok());
  ASSERT_TRUE(writer.write(std::string(100, 'x')).ok());
  ASSERT_TRUE(writer.finish().ok());
  auto image = import(bytes);
  EXPECT_EQ(fixture_->tree(image), folder_of(image) + "/fs");
  EXPECT_EQ(read(folder_of(image) + "/fs/sparse"), std::string(1000, '\0') + std::string(100, 'x') + std::string(900, '\0'));
  EXPECT_FALSE(exists(folder_of(image) + "/layer.tar"));
  EXPECT_FALSE(exists(folder_of(image) + "/index.erofs"));
}

TEST_F(IndexStore, a_damaged_index_is_made_again_from_the_blob) {
  auto image = import(TarMaker().file("f", "x").done());
  spoil(folder_of(image) + "/index.erofs");
  EXPECT_EQ(read(fixture_->tree(image) + "/f"), "x");
}

TEST_F(IndexStore, a_damaged_index_without_its_blob_is_refused_and_named) {
  auto image = import(TarMaker().file("f", "x").done());
  spoil(folder_of(image) + "/index.erofs");
  std::filesystem::remove(fixture_->root() + "/content/blobs/sha256/" + std::string(image.diff_ids.at(0).hex()));
  auto dirs = (*fixture_)->lowerdirs(image.id);
  ASSERT_FALSE(dirs.ok());
  EXPECT_EQ(dirs.error().kind(), ErrorKind::corrupt);
  EXPECT_THAT(dirs.error().text(), HasSubstr("the index has changed since it was made"));
}

TEST_F(IndexStore, a_mount_that_was_taken_away_is_made_again) {
  auto image = import(TarMaker().file("f", "x").done());
  ASSERT_EQ(::umount2(fixture_->tree(image).c_str(), MNT_DETACH), 0);
  EXPECT_EQ(read(fixture_->tree(image) + "/f"), "x");
}

TEST_F(IndexStore, mounts_of_a_process_that_died_are_taken_down) {
  auto image = import(TarMaker().file("f", "x").done());
  fixture_->close();
  const auto point = folder_of(image) + "/mount";
  for (int i = 0; i < 2; ++i) ASSERT_EQ(::mount("none", point.c_str(), "tmpfs", 0, ""), 0);
  const auto trash = fixture_->root() + "/ingest/trash-1/mount";
  std::filesystem::create_directories(trash);
  ASSERT_EQ(::mount("none", trash.c_str(), "tmpfs", 0, ""), 0);
  fixture_->open();
  (*fixture_)->recover().value();
  EXPECT_TRUE(mounts_below(fixture_->path()).empty());
  EXPECT_EQ(fixture_->leftovers(), 0U);
  EXPECT_EQ(read(fixture_->tree(image) + "/f"), "x");
}

TEST_F(IndexStore, a_layer_without_its_tar_is_unpacked_again_at_the_start) {
  auto image = import(TarMaker().file("f", "x").done());
  std::filesystem::remove(folder_of(image) + "/layer.tar");
  fixture_->reopen();
  EXPECT_THAT((*fixture_)->recover().value(), testing::ElementsAre(HasSubstr("was missing and was unpacked again")));
  EXPECT_EQ(read(fixture_->tree(image) + "/f"), "x");
}

TEST_F(IndexStore, removing_an_image_takes_its_mounts_down) {
  auto image = import(TarMaker().file("f", "x").done());
  fixture_->tree(image);
  (*fixture_)->remove("test:1", false, nullptr).value();
  EXPECT_TRUE(mounts_below(fixture_->path()).empty());
  EXPECT_EQ(fixture_->leftovers(), 0U);
  EXPECT_FALSE(exists(folder_of(image)));
}

TEST_F(IndexStore, layers_of_both_forms_live_side_by_side) {
  auto first = import(TarMaker().file("f", "index").done(), "first:1");
  const auto path = fixture_->path();
  fixture_->close();
  fixture_->form = SnapshotForm::directory;
  fixture_->open();
  auto second = import(TarMaker().file("f", "directory").done(), "second:1");
  EXPECT_EQ(read(fixture_->tree(first) + "/f"), "index");
  EXPECT_EQ(read(fixture_->tree(second) + "/f"), "directory");
  EXPECT_EQ(fixture_->tree(second), folder_of(second) + "/fs");
  (*fixture_)->remove("first:1", false, nullptr).value();
  EXPECT_TRUE(mounts_below(path).empty());
}

/// Layers as an image of two has them, and an overlay upon them as the launcher mounts one.
TEST_F(IndexStore, an_overlay_of_indexes_behaves_as_one_of_directories) {
  auto program = TarMaker::make(TarType::file, "bin/cat", 04755);
  program.uid = 1000;
  auto lower = import(TarMaker().dir("bin").add(program, read("/bin/cat")).dir("etc").file("etc/gone", "x").file("etc/stays", "x").dir("opt").file("opt/old", "x").done(), "lower:1");
  auto upper = import(TarMaker().dir("etc").file("etc/.wh.gone").dir("opt").file("opt/.wh..wh..opq").file("opt/new", "x").done(), "upper:1");
  Folder folder("/var/tmp");
  for (auto name : {"/upper", "/work", "/merged"}) ASSERT_EQ(::mkdir((folder.path() + name).c_str(), 0755), 0);
  auto context = linux::FileSystemContext::create("overlay");
  ASSERT_TRUE(context.ok());
  ASSERT_TRUE(context->set_flag("userxattr").ok());
  ASSERT_TRUE(context->set_string("xino", "on").ok());
  ASSERT_TRUE(context->set_string("lowerdir+", fixture_->tree(upper)).ok());
  ASSERT_TRUE(context->set_string("lowerdir+", fixture_->tree(lower)).ok());
  ASSERT_TRUE(context->set_string("upperdir", folder.path() + "/upper").ok());
  ASSERT_TRUE(context->set_string("workdir", folder.path() + "/work").ok());
  ASSERT_TRUE(context->create_superblock().ok());
  auto mounted = context->mount(0);
  ASSERT_TRUE(mounted.ok());
  // Attached, because no setuid counts on a mount of no namespace; taken off again before the folder goes.
  const auto root = folder.path() + "/merged";
  ASSERT_TRUE(linux::attach_mount(mounted->get(), linux::open(root, O_PATH | O_DIRECTORY).value().get()).ok());
  struct Attached {
    ~Attached() { ::umount2(path.c_str(), MNT_DETACH); }
    std::string path;
  } attached{root};
  EXPECT_FALSE(exists(root + "/etc/gone"));
  EXPECT_EQ(linux::list_dir(linux::openat(mounted->get(), "etc", O_RDONLY | O_DIRECTORY).value().get())->size(), 1U) << "a whiteout is listed";
  EXPECT_FALSE(exists(root + "/opt/old"));
  EXPECT_TRUE(exists(root + "/opt/new"));

  auto status = [&](const char* name) { return linux::fstatat(mounted->get(), name, AT_SYMLINK_NOFOLLOW).value(); };
  const auto before = status("etc/stays");
  EXPECT_EQ(before.st_dev, status(".").st_dev) << "tar --one-file-system would leave it out";
  { std::ofstream(root + "/etc/stays") << "changed"; }
  EXPECT_EQ(status("etc/stays").st_ino, before.st_ino);
  EXPECT_EQ(read(root + "/etc/stays"), "changed");
  EXPECT_EQ(read(fixture_->tree(lower) + "/etc/stays"), "x");

  // The layers are mounted nosuid; what counts is the overlay. Every process may read its own status, whoever it is.
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const int child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], 1);
    ::execl((root + "/bin/cat").c_str(), "cat", "/proc/self/status", nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
  UniqueFd output(ends[0]);
  EXPECT_THAT(linux::read_all(output.get()).value(), HasSubstr("Uid:\t0\t1000\t1000\t1000"));
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
}

TEST_F(IndexStore, a_store_where_it_cannot_be_is_refused_with_the_reason) {
  Folder folder("/dev/shm");
  auto opened = state::open_sqlite_store({folder.path() + "/state.db"});
  ASSERT_TRUE(opened.ok());
  ImageOptions options;
  options.root = folder.path() + "/images";
  options.worker_path = worker_path();
  options.snapshot_form = SnapshotForm::erofs;
  auto images = open_image_store(*opened->store, options);
  ASSERT_FALSE(images.ok());
  EXPECT_EQ(images.error().kind(), ErrorKind::unavailable);
  EXPECT_THAT(images.error().text(), HasSubstr("layers cannot be kept as EROFS indexes here"));
}

}  // namespace
}  // namespace caisson::image

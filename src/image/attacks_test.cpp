// Archive attacks: each fixture is unpacked by the real worker; nothing outside the layer may change, and what is refused
// leaves nothing behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <zlib.h>

#include <fstream>

#include "image/index_mount.hpp"
#include "image/test_support.hpp"

namespace caisson::image {
namespace {

using testing::HasSubstr;
using namespace testing_support;

class Attack : public testing::TestWithParam<SnapshotForm> {
 protected:
  void SetUp() override {
    if (auto reason = why_not(); !reason.empty()) GTEST_SKIP() << reason;
    const bool is_index = GetParam() == SnapshotForm::erofs;
    if (is_index)
      if (auto works = try_index("/var/tmp", first_worker_id); !works.ok()) GTEST_SKIP() << works.error().text();
    fixture_ = std::make_unique<Fixture>(is_index ? "/var/tmp" : "/tmp", GetParam());
    std::ofstream(canary()) << "untouched";
    ::chmod(canary().c_str(), 0666);  // even a file that everybody may write must be out of reach
    ::chmod(fixture_->path().c_str(), 0777);
  }
  void TearDown() override {
    if (!fixture_) return;
    std::ifstream file(canary());
    std::string text;
    std::getline(file, text);
    EXPECT_EQ(text, "untouched");
    EXPECT_EQ(status(canary()).st_nlink, 1U);
    EXPECT_EQ(status(canary()).st_mode & 07777, 0666U);
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(fixture_->path())) names.push_back(entry.path().filename());
    EXPECT_THAT(names, testing::IsSubsetOf({"state.db", "state.db-reserve", "state.db-wal", "state.db.lock", "images", "canary"}));
    EXPECT_EQ(fixture_->leftovers(), 0U);
  }
  std::string canary() { return fixture_->path() + "/canary"; }
  static struct stat status(const std::string& path) {
    struct stat out {};
    ::lstat(path.c_str(), &out);
    return out;
  }
  static bool exists(const std::string& path) { return std::filesystem::exists(std::filesystem::symlink_status(path)); }

  /// Refused, with these words, and no trace of it.
  void refuse(const std::string& tar, const std::string& words) {
    auto image = fixture_->import(tar);
    ASSERT_FALSE(image.ok()) << "accepted; wanted: " << words;
    EXPECT_THAT(image.error().text(), HasSubstr(words));
    EXPECT_EQ((*fixture_)->list()->size(), 0U);
    for (const char* folder : {"/content/blobs/sha256", "/ingest"})
      EXPECT_TRUE(std::filesystem::is_empty(fixture_->root() + folder)) << folder << " after " << image.error().text();
    std::size_t layers = 0;
    for (const auto& entry : std::filesystem::directory_iterator(fixture_->root() + "/layers")) layers += entry.path().filename() == "empty" ? 0U : 1U;
    EXPECT_EQ(layers, 0U);
  }
  /// Accepted; the tree's path.
  std::string accept(const std::string& tar) {
    auto image = fixture_->import(tar);
    if (!image.ok()) {
      ADD_FAILURE() << image.error().text();
      return "/nonexistent";
    }
    return fixture_->tree(*image);
  }
  static std::string read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::unique_ptr<Fixture> fixture_;
};

TEST_P(Attack, names_that_lead_out_are_refused) {
  for (auto name : {"../canary", "a/../../canary", "/../canary", "./../canary", "..", "a/b/../../../canary"}) refuse(TarMaker().file(name, "evil").done(), "leads out of the layer");
}

TEST_P(Attack, absolute_names_are_below_the_layer) {
  auto tree = accept(TarMaker().file(canary(), "evil").done());
  EXPECT_EQ(read(tree + canary()), "evil");
}

TEST_P(Attack, a_root_entry_that_is_no_directory_is_refused) {
  refuse(TarMaker().symlink("./", fixture_->path()).file("canary", "evil").done(), "root must be a directory");
  refuse(TarMaker().symlink(".", "/").done(), "root must be a directory");
  refuse(TarMaker().file("././.", "x").done(), "root must be a directory");
  refuse(TarMaker().hard_link(".", "a").done(), "root must be a directory");
}

TEST_P(Attack, writing_through_a_symlink_stays_in_the_layer) {
  for (const std::string& target : std::vector<std::string>{fixture_->path(), "../../../../../../.." + fixture_->path(), "/proc/1/root" + fixture_->path()}) {
    auto tree = accept(TarMaker().symlink("link", target).file("link/canary", "evil").done());
    EXPECT_TRUE(std::filesystem::is_symlink(tree + "/link"));
    (*fixture_)->remove("test:1", false, nullptr).value();
  }
}

TEST_P(Attack, chains_of_symlinks_stay_in_the_layer) {
  refuse(TarMaker().symlink("l", "l").file("l/x").done(), "too many symbolic links");
  refuse(TarMaker().symlink("p", "q").symlink("q", "p").file("p/x").done(), "too many symbolic links");
  auto tree = accept(TarMaker().symlink("a", "b/..").dir("x").symlink("b", "x").symlink("c", "a/../..").file("c" + canary(), "evil").done());
  EXPECT_EQ(read(tree + canary()), "evil");
}

TEST_P(Attack, a_file_replaces_a_symlink_and_does_not_follow_it) {
  auto tree = accept(TarMaker().symlink("link", canary()).file("link", "evil", 0600).done());
  EXPECT_FALSE(std::filesystem::is_symlink(tree + "/link"));
  EXPECT_EQ(read(tree + "/link"), "evil");
}

TEST_P(Attack, a_directory_replaces_a_symlink_and_its_attributes_do_not_follow_it) {
  auto tree = accept(TarMaker().symlink("link", fixture_->path()).dir("link", 0700).file("link/canary", "evil").done());
  EXPECT_TRUE(std::filesystem::is_directory(std::filesystem::symlink_status(tree + "/link")));
}

TEST_P(Attack, a_parent_swapped_between_entries_is_not_followed_out) {
  auto tree = accept(TarMaker().dir("d").file("d/x", "1").symlink("d", fixture_->path()).file("d/canary", "evil").done());
  EXPECT_TRUE(std::filesystem::is_symlink(tree + "/d"));
  EXPECT_EQ(read(tree + fixture_->path() + "/canary"), "evil");
}

TEST_P(Attack, a_directory_swapped_for_a_file_has_nothing_inside) {
  refuse(TarMaker().dir("d").file("d/x", "1").file("d", "now a file").file("d/y", "2").done(), "not a directory");
  refuse(TarMaker().file("f", "1").file("f/y", "2").done(), "not a directory");
  refuse(TarMaker().device("dev", TarType::char_device, 1, 3).file("dev/y", "2").done(), "not a directory");
}

TEST_P(Attack, duplicates_end_as_the_last_one) {
  auto tree = accept(TarMaker().file("x", "file").dir("x").file("x/in", "1").file("x", "again").dir("y").symlink("y", "x").file("z", "1", 04755).file("z", "2", 0644).done());
  EXPECT_EQ(read(tree + "/x"), "again");
  EXPECT_TRUE(std::filesystem::is_symlink(tree + "/y"));
  EXPECT_EQ(status(tree + "/z").st_mode & 07777, 0644U);
}

TEST_P(Attack, hard_links_reach_only_this_layer) {
  refuse(TarMaker().hard_link("h", "../canary").done(), "leads out");
  refuse(TarMaker().hard_link("h", canary()).done(), "not in this layer");
  refuse(TarMaker().hard_link("h", "/etc/passwd").done(), "not in this layer");
  refuse(TarMaker().symlink("up", fixture_->path()).hard_link("h", "up/canary").done(), "not in this layer");
  refuse(TarMaker().hard_link("h", "h").done(), "not in this layer");
  refuse(TarMaker().dir("d").hard_link("h", "d").done(), "is a directory");
  refuse(TarMaker().dir("d").hard_link("h", "./").done(), "is a directory");
  refuse(TarMaker().file("f", "1").file(".wh.gone").hard_link("h", "gone").done(), "not in this layer");
}

TEST_P(Attack, a_hard_link_to_a_symlink_is_the_symlink) {
  auto tree = accept(TarMaker().symlink("s", canary()).hard_link("h", "s").file("h", "evil").done());
  EXPECT_EQ(read(tree + "/h"), "evil");
  EXPECT_TRUE(std::filesystem::is_symlink(tree + "/s"));
}

TEST_P(Attack, writing_to_a_hard_linked_name_does_not_change_the_other) {
  auto tree = accept(TarMaker().file("a", "one").hard_link("b", "a").file("b", "two").hard_link("c", "a").hard_link("c", "c").done());
  EXPECT_EQ(read(tree + "/a"), "one");
  EXPECT_EQ(read(tree + "/b"), "two");
  EXPECT_EQ(status(tree + "/a").st_nlink, 2U);
}

TEST_P(Attack, whiteouts_of_impossible_names_are_refused) {
  for (auto name : {".wh.", ".wh..", ".wh...", "d/.wh...", ".wh./"}) refuse(TarMaker().file(name).done(), "");
  refuse(TarMaker().file(".wh.x/y").done(), "whiteout cannot be a directory");
}

TEST_P(Attack, whiteouts_are_devices_0_0_and_opaque_marks) {
  auto tree = accept(TarMaker().dir("d").file("d/.wh.gone").dir("o").file("o/.wh..wh..opq").file("o/new", "x").file(".wh..wh.aufs").dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2").done());
  EXPECT_TRUE(S_ISCHR(status(tree + "/d/gone").st_mode));
  EXPECT_EQ(status(tree + "/d/gone").st_rdev, 0U);
  char value[4] = {};
  EXPECT_EQ(::lgetxattr((tree + "/o").c_str(), "user.overlay.opaque", value, sizeof value), 1);
  EXPECT_EQ(value[0], 'y');
  EXPECT_EQ(::lgetxattr((tree + "/d").c_str(), "user.overlay.origin", value, sizeof value), 0);
  EXPECT_FALSE(exists(tree + "/.wh..wh.aufs"));
  EXPECT_FALSE(exists(tree + "/.wh..wh.plnk"));
}

TEST_P(Attack, a_whiteout_does_not_remove_what_its_own_layer_brings) {
  auto tree = accept(TarMaker().file("a", "1").file(".wh.a").file(".wh.b").file("b", "2").dir("d").file("d/x", "3").file(".wh.d").file(".wh.e").dir("e").file("e/y", "4").done());
  EXPECT_EQ(read(tree + "/a"), "1");
  EXPECT_EQ(read(tree + "/b"), "2");
  EXPECT_EQ(read(tree + "/d/x"), "3");
  char value[4] = {};
  EXPECT_EQ(::lgetxattr((tree + "/d").c_str(), "user.overlay.opaque", value, sizeof value), 1);
  EXPECT_EQ(::lgetxattr((tree + "/e").c_str(), "user.overlay.opaque", value, sizeof value), 1);
}

TEST_P(Attack, a_whiteout_below_a_symlink_stays_inside) {
  auto tree = accept(TarMaker().symlink("up", fixture_->path()).file("up/.wh.canary").file("up/.wh..wh..opq").done());
  EXPECT_TRUE(S_ISCHR(status(tree + canary()).st_mode));
}

TEST_P(Attack, a_device_0_0_of_the_archive_is_no_whiteout) {
  auto tree = accept(TarMaker().device("etc", TarType::char_device, 0, 0).file("other", "x").done());
  EXPECT_FALSE(exists(tree + "/etc"));
}

TEST_P(Attack, devices_are_what_they_say_and_can_be_replaced) {
  auto tree = accept(TarMaker()
                         .device("dev/sda", TarType::block_device, 8, 0)
                         .device("dev/big", TarType::char_device, 0xFFF, 0xFFFFF)
                         .device("gone", TarType::char_device, 1, 3)
                         .file("gone", "file")
                         .hard_link("dev/sda2", "dev/sda")
                         .file("first", "x")
                         .device("first", TarType::char_device, 1, 5)
                         .done());
  EXPECT_TRUE(S_ISBLK(status(tree + "/dev/sda").st_mode));
  EXPECT_TRUE(S_ISBLK(status(tree + "/dev/sda2").st_mode));
  EXPECT_EQ(status(tree + "/dev/big").st_rdev, ::makedev(0xFFF, 0xFFFFF));
  EXPECT_EQ(read(tree + "/gone"), "file");
  EXPECT_EQ(status(tree + "/first").st_rdev, ::makedev(1, 5));
}

TEST_P(Attack, overlay_and_trusted_attributes_are_dropped_and_ordinary_ones_kept) {
  auto entry = TarMaker::make(TarType::directory, "d", 0755);
  entry.xattrs["user.overlay.opaque"] = "y";
  entry.xattrs["user.overlay.redirect"] = "/etc";
  entry.xattrs["trusted.overlay.opaque"] = "y";
  entry.xattrs["trusted.x"] = "y";
  entry.xattrs["security.selinux"] = "evil";
  entry.xattrs["security.ima"] = "evil";
  entry.xattrs["user.kept"] = "yes";
  auto tree = accept(TarMaker().add(entry).done());
  char names[256] = {};
  auto size = ::llistxattr((tree + "/d").c_str(), names, sizeof names);
  EXPECT_EQ(std::string(names, static_cast<std::size_t>(size)), std::string("user.kept\0", 10));
}

TEST_P(Attack, file_capabilities_belong_to_the_containers_root) {
  vfs_cap_data data{};
  data.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE;
  data.data[0].permitted = 1U << CAP_NET_RAW;
  auto entry = TarMaker::make(TarType::file, "ping", 0755);
  entry.xattrs["security.capability"] = std::string(reinterpret_cast<const char*>(&data), sizeof data);
  auto tree = accept(TarMaker().add(entry, "x").done());
  // The worker's root is id 0 on disk: root of whichever namespace the layer is mapped into, so the kernel shows plain v2 here.
  vfs_ns_cap_data found{};
  auto size = ::lgetxattr((tree + "/ping").c_str(), "security.capability", &found, sizeof found);
  ASSERT_EQ(size, static_cast<ssize_t>(XATTR_CAPS_SZ_2));
  EXPECT_EQ(found.data[0].permitted, 1U << CAP_NET_RAW);
}

TEST_P(Attack, broken_attributes_are_refused_by_the_kernel_and_named) {
  auto entry = TarMaker::make(TarType::file, "f", 0755);
  entry.xattrs["security.capability"] = "rubbish";
  refuse(TarMaker().add(entry, "x").done(), "security.capability");
}

TEST_P(Attack, setuid_survives_its_chown_and_nothing_else_gets_it) {
  auto entry = TarMaker::make(TarType::file, "su", 06755);
  entry.uid = 7;
  entry.gid = 8;
  auto tree = accept(TarMaker().add(entry, "x").file("plain", "x", 0777).done());
  EXPECT_EQ(status(tree + "/su").st_mode & 07777, 06755U);
  EXPECT_EQ(status(tree + "/su").st_uid, 7U);
  EXPECT_EQ(status(tree + "/plain").st_mode & 07777, 0777U);
}

TEST_P(Attack, a_setgid_directory_does_not_hand_its_group_on) {
  auto entry = TarMaker::make(TarType::directory, "d", 02775);
  entry.gid = 50;
  auto tree = accept(TarMaker().add(entry).file("d/f", "x").dir("d/sub").done());
  EXPECT_EQ(status(tree + "/d/f").st_gid, 0U);
  EXPECT_EQ(status(tree + "/d/sub").st_mode & 07777, 0755U);
}

TEST_P(Attack, directories_without_permissions_can_still_be_filled) {
  auto tree = accept(TarMaker().dir("d", 0000).file("d/f", "x").dir("ro", 0555).file("ro/sub/f", "y").done());
  EXPECT_EQ(status(tree + "/d").st_mode & 07777, 0U);
  EXPECT_EQ(read(tree + "/ro/sub/f"), "y");
}

TEST_P(Attack, owners_outside_a_containers_ids_are_refused) {
  for (std::uint64_t id : {65536ULL, 4294967295ULL, 1ULL << 33}) {
    auto entry = TarMaker::make(TarType::file, "f", 0644);
    entry.uid = id;
    refuse(TarMaker().add(entry, "x").done(), "outside the ids");
  }
}

TEST_P(Attack, deep_and_long_names_are_refused) {
  std::string deep;
  for (int i = 0; i < 2000; ++i) deep += "d/";
  refuse(TarMaker().file(deep + "f", "x").done(), "nested deeper");
  refuse(TarMaker().file(std::string(300, 'n'), "x").done(), "longer than 255");
  refuse(TarMaker().file(std::string(5000, 'n'), "x").done(), "longer than 4095");
}

TEST_P(Attack, a_compressed_bomb_takes_its_real_size_and_no_memory) {
  // 64 MiB of zeros in one file, 65 kB as gzip: the disk is the limit, not the ratio; memory stays at the buffers.
  auto tar = TarMaker().file("zeros", std::string(64U << 20U, '\0')).done();
  z_stream stream{};
  ASSERT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, 31, 9, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, tar.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(tar.data());
  stream.avail_in = static_cast<uInt>(tar.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  ASSERT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  auto tree = accept(packed);
  EXPECT_EQ(std::filesystem::file_size(tree + "/zeros"), 64U << 20U);
  packed.resize(packed.size() / 2);
  (*fixture_)->remove("test:1", false, nullptr).value();
  refuse(packed, "unexpected end of data");
}

TEST_P(Attack, a_sparse_giant_takes_no_space) {
  auto header = bent_header({{0, "giant"}, {124, "00000000000"}, {257, std::string("ustar  \0", 8)}, {483, std::string("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12)}}, 'S');
  refuse(header + std::string(1024, '\0'), "File too large");
  auto modest = bent_header({{0, "giant"}, {124, "00000000000"}, {257, std::string("ustar  \0", 8)}, {483, "77777777777"}}, 'S');
  auto tree = accept(modest + std::string(1024, '\0'));
  EXPECT_EQ(std::filesystem::file_size(tree + "/giant"), 077777777777U);
  if (GetParam() == SnapshotForm::directory) EXPECT_LT(status(tree + "/giant").st_blocks, 100);
  else EXPECT_LT(std::filesystem::file_size(tree + "/../index.erofs"), 4096U);  // EROFS counts holes as blocks
}

TEST_P(Attack, what_is_no_archive_is_refused) {
  refuse("", "empty");
  refuse("hello", "unexpected end of data");
  refuse(std::string(4096, 'x'), "not a tar archive");
  refuse("\x1f\x8b" + std::string(100, 'x'), "gzip");
  refuse("\x28\xb5\x2f\xfd" + std::string(100, 'x'), "zstd");
  refuse("BZh91AY&SY", "bzip2: unexpected end");
  refuse(std::string("\xfd" "7zXZ\0\0\4", 8) + std::string(100, 'x'), "xz: damaged data");
  refuse(TarMaker().file("f", std::string(5000, 'x')).done().substr(0, 3000), "unexpected end of data");
}

TEST_P(Attack, fifos_and_times_of_all_ages_are_made) {
  auto old = TarMaker::make(TarType::file, "old", 0644);
  old.mtime_s = -62135596800;
  auto far = TarMaker::make(TarType::file, "far", 0644);
  far.mtime_s = 1LL << 40;
  auto tree = accept(TarMaker().add(TarMaker::make(TarType::fifo, "p", 0622)).add(old, "").add(far, "").done());
  EXPECT_TRUE(S_ISFIFO(status(tree + "/p").st_mode));
  EXPECT_EQ(status(tree + "/p").st_mode & 0777, 0622U);
}

INSTANTIATE_TEST_SUITE_P(Forms, Attack, testing::Values(SnapshotForm::directory, SnapshotForm::erofs),
                         [](const auto& form) { return form.param == SnapshotForm::erofs ? "index" : "directory"; });

}  // namespace
}  // namespace caisson::image

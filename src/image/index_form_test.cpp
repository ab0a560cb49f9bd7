// Both forms of a layer beside each other: the same archive as a directory and as an index that the kernel mounts, compared entry by entry.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "image/index_form.hpp"
#include "image/index_mount.hpp"
#include "image/test_support.hpp"
#include "image/unpack.hpp"
#include "linux/tree.hpp"

namespace caisson::image {
namespace {

using namespace testing_support;
using testing::HasSubstr;

constexpr const char* folder_on_disk = "/var/tmp";  // tmpfs cannot hold an index

/// All that a tree shows of itself, one line per name; links to one file share a number.
class Listing {
 public:
  static std::string of(int root_fd) {
    Listing listing;
    listing.walk(root_fd, "");
    return listing.text_;
  }

 private:
  void walk(int fd, const std::string& path) {
    add(fd, path.empty() ? "." : path);
    auto entries = linux::list_dir(fd).value();
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    for (const auto& entry : entries) {
      const auto name = concat(path, "/", entry.name);
      auto child = linux::openat(fd, entry.name, O_PATH | O_NOFOLLOW).value();
      if (entry.type == linux::FileType::directory) walk(linux::openat(fd, entry.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW).value().get(), name);
      else add(child.get(), name);
    }
  }
  void add(int fd, const std::string& path) {
    struct stat status {};
    ASSERT_EQ(::fstatat(fd, "", &status, AT_EMPTY_PATH), 0);
    const bool is_whiteout = S_ISCHR(status.st_mode) && status.st_rdev == 0;
    text_ += concat(path, " mode ", status.st_mode, " owner ", status.st_uid, ":", status.st_gid, " links ", status.st_nlink);
    if (!is_whiteout) text_ += concat(" time ", status.st_mtim.tv_sec, ".", status.st_mtim.tv_nsec);
    if (!S_ISDIR(status.st_mode)) text_ += concat(" size ", status.st_size, " device ", status.st_rdev, " file ", numbers_.emplace(status.st_ino, numbers_.size()).first->second);
    const auto name = concat("/proc/self/fd/", fd);
    if (S_ISLNK(status.st_mode)) text_ += concat(" -> ", linux::readlinkat(fd, "").value());
    if (S_ISREG(status.st_mode)) text_ += concat(" contents ", linux::read_file(name, 1U << 30U).value());
    if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) {
      char names[4096];
      auto size = ::listxattr(name.c_str(), names, sizeof names);
      std::map<std::string, std::string> xattrs;
      char value[XATTR_SIZE_MAX];
      for (ssize_t at = 0; at < size; at += static_cast<ssize_t>(std::strlen(names + at)) + 1) {
        const auto length = ::getxattr(name.c_str(), names + at, value, sizeof value);
        ASSERT_GE(length, 0) << name << " " << names + at;
        xattrs[names + at].assign(value, static_cast<std::size_t>(length));
      }
      for (const auto& [key, value] : xattrs) text_ += concat(" ", key, "=", value);
    }
    text_ += "\n";
  }
  std::map<std::uint64_t, std::size_t> numbers_;
  std::string text_;
};

class Forms : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it mounts, and gives files away";
    if (auto works = try_index(folder_on_disk, 0); !works.ok()) GTEST_SKIP() << "no EROFS from files here: " << works.error().text();
    old_mask_ = ::umask(0);
    folder_ = std::make_unique<Folder>(folder_on_disk);
  }
  void TearDown() override { ::umask(old_mask_); }

  struct Outcome {
    std::string listing;
    std::string error;
    UnpackedLayer layer;
    std::string index;
    UniqueFd root;
  };

  Outcome as_directory(std::string_view tar) {
    const auto path = concat(folder_->path(), "/", ++count_);
    EXPECT_EQ(::mkdir(path.c_str(), 0755), 0);
    Outcome out;
    out.root = linux::open(path, O_RDONLY | O_DIRECTORY).value();
    MemorySource source(tar);
    TarReader reader(source);
    if (auto done = unpack_layer(reader, out.root.get(), out.layer); !done.ok()) {
      out.error = done.error().text();
      return out;
    }
    for (const auto& device : out.layer.devices) make_device(path, device);
    out.listing = Listing::of(out.root.get());
    return out;
  }
  Outcome as_index(std::string_view tar, const std::vector<DirectoryAttributes>& settled = {}) {
    Outcome out;
    MemorySource source(tar);
    TarReader reader(source);
    IndexForm form(settled);
    auto done = unpack_into(form, reader, out.layer);
    if (done.ok()) {
      done = form.write(tar.size(), [&](std::string_view bytes) -> Status {
        out.index += bytes;
        return {};
      });
    }
    if (!done.ok()) {
      out.error = done.error().text();
      if (is_beyond_an_index(done.error())) out.error = concat("beyond an index: ", out.error);
      return out;
    }
    EXPECT_TRUE(out.layer.devices.empty());
    auto index = write("index", out.index);
    auto archive = write("tar", tar);
    auto mounted = mount_index(index.get(), archive.get());
    if (!mounted.ok()) {
      out.error = mounted.error().text();
      return out;
    }
    out.root = linux::openat(mounted->get(), ".", O_RDONLY | O_DIRECTORY).value();
    out.listing = Listing::of(out.root.get());
    return out;
  }
  void expect_same(std::string_view tar) {
    auto directory = as_directory(tar);
    auto index = as_index(tar);
    EXPECT_EQ(directory.error, index.error);
    EXPECT_EQ(directory.listing, index.listing);
    EXPECT_EQ(directory.layer.implied_dirs, index.layer.implied_dirs);
    EXPECT_EQ(directory.layer.size_bytes, index.layer.size_bytes);
    EXPECT_EQ(directory.layer.entries, index.layer.entries);
  }

 private:
  UniqueFd write(const std::string& name, std::string_view bytes) {
    const auto path = concat(folder_->path(), "/", ++count_, name);
    EXPECT_TRUE(linux::write_file(path, bytes, 0600).ok());
    return linux::open(path, O_RDONLY).value();
  }
  static void make_device(const std::string& root, const DeviceNode& node) {
    const std::string path = root + "/" + node.path;
    const std::string parent = std::filesystem::path(path).parent_path();
    struct stat before {};
    ASSERT_EQ(::stat(parent.c_str(), &before), 0);
    ASSERT_EQ(::mknod(path.c_str(), (node.is_block ? S_IFBLK : S_IFCHR) | (node.mode & 07777), ::makedev(node.major, node.minor)), 0);
    ASSERT_EQ(::chown(path.c_str(), node.uid, node.gid), 0);
    ASSERT_EQ(::chmod(path.c_str(), node.mode & 07777), 0);
    const timespec time[2] = {{node.mtime_s, node.mtime_ns}, {node.mtime_s, node.mtime_ns}};
    ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), time, 0), 0);
    const timespec parents[2] = {before.st_atim, before.st_mtim};
    ASSERT_EQ(::utimensat(AT_FDCWD, parent.c_str(), parents, 0), 0);
  }
  std::unique_ptr<Folder> folder_;
  mode_t old_mask_ = 0;
  int count_ = 0;
};

std::string capability(std::uint32_t revision, std::size_t bytes) {
  vfs_ns_cap_data data{};
  data.magic_etc = revision | VFS_CAP_FLAGS_EFFECTIVE;
  data.data[0].permitted = 1U << CAP_NET_RAW;
  return std::string(reinterpret_cast<const char*>(&data), bytes);
}

TEST_F(Forms, every_kind_of_file_is_the_same_in_both) {
  auto owned = TarMaker::make(TarType::file, "usr/bin/su", 06755);
  owned.uid = 12;
  owned.gid = 65535;
  owned.mtime_ns = 123'456'789;
  owned.xattrs["security.capability"] = capability(VFS_CAP_REVISION_2, XATTR_CAPS_SZ_2);
  owned.xattrs["user.kept"] = std::string("with\0zero", 9);
  owned.xattrs["user.empty"] = "";
  owned.xattrs["user.overlay.redirect"] = "/etc";
  owned.xattrs["trusted.overlay.opaque"] = "y";
  auto folder = TarMaker::make(TarType::directory, "srv", 02770);
  folder.gid = 7;
  folder.xattrs["user.x"] = "y";
  expect_same(TarMaker()
                  .dir("./", 0711)
                  .add(owned, "contents")
                  .add(folder)
                  .file("empty")
                  .file("block", std::string(512, 'b'))
                  .file("page", std::string(4096, 'p'))
                  .file("more", std::string(100'001, 'm'))
                  .symlink("short", "to")
                  .symlink("long", std::string(4000, 'l'))
                  .symlink("middle", std::string(460, 'l'))
                  .hard_link("usr/bin/sudo", "usr/bin/su")
                  .hard_link("also-short", "short")
                  .device("dev/sda", TarType::block_device, 8, 0)
                  .device("dev/big", TarType::char_device, 0xFFF, 0xFFFFF)
                  .hard_link("dev/sda2", "dev/sda")
                  .add(TarMaker::make(TarType::fifo, "pipe", 0622))
                  .file("d/.wh.gone")
                  .file("o/.wh..wh..opq")
                  .file("o/new", "x")
                  .file("deep/er/and/deeper/f", "x")
                  .done());
}

TEST_F(Forms, directories_of_all_sizes_list_the_same) {
  for (int count : {1, 20, 21, 22, 40, 41, 42, 43, 500, 3000}) {
    TarMaker tar;
    for (int i = 0; i < count; ++i) tar.file(concat("d/", i, std::string(static_cast<std::size_t>(i % 40), 'n')), concat(i));
    for (auto name : {"!", "-", ".a", "..", "...", "/", "~", "\xff\xfe"}) tar.file(concat("d/", name == std::string("..") ? "..b" : name, "x"), name);
    expect_same(tar.done());
  }
  TarMaker tar;
  for (char c = 'a'; c <= 'z'; ++c) tar.file("long/" + std::string(255, c), "x");
  expect_same(tar.done());
}

TEST_F(Forms, a_sparse_file_of_whole_blocks_reads_the_same) {
  for (std::uint64_t size : {std::uint64_t{1} << 20, std::uint64_t{5} << 20, (std::uint64_t{5} << 20) + 100, std::uint64_t{40} << 20}) {
    for (std::uint64_t unit : {512U, 4096U, 65536U}) {
      auto entry = TarMaker::make(TarType::file, "sparse", 0644);
      entry.is_sparse = true;
      entry.size_bytes = size;
      entry.segments = {{unit, unit}, {3 * unit, 2 * unit}, {size - size % unit - unit, size % unit + unit}};
      std::string stored;
      for (std::uint64_t i = 0; i < 4 * unit + size % unit; ++i) stored += static_cast<char>('a' + i / 512 % 26);
      std::string bytes;
      TarWriter writer([&](std::string_view piece) -> Status {
        bytes += piece;
        return {};
      });
      ASSERT_TRUE(writer.begin(entry).ok());
      ASSERT_TRUE(writer.write(stored).ok());
      ASSERT_TRUE(writer.finish().ok());
      expect_same(bytes);
    }
  }
}

TEST_F(Forms, what_an_index_cannot_tell_is_said_and_not_told_wrong) {
  auto bytes_of = [](const TarEntry& entry, std::string_view stored) {
    std::string bytes;
    TarWriter writer([&](std::string_view piece) -> Status {
      bytes += piece;
      return {};
    });
    EXPECT_TRUE(writer.begin(entry).ok());
    EXPECT_TRUE(writer.write(stored).ok());
    EXPECT_TRUE(writer.finish().ok());
    return bytes;
  };
  auto odd = TarMaker::make(TarType::file, "sparse", 0644);
  odd.is_sparse = true;
  odd.size_bytes = 2 << 20;
  odd.segments = {{1 << 20, 100}, {(1 << 20) + 512, 512}};
  EXPECT_THAT(as_index(bytes_of(odd, std::string(612, 'x'))).error, HasSubstr("beyond an index: entry \"sparse\": sparse file whose pieces do not begin at blocks"));
  auto giant = TarMaker::make(TarType::file, "giant", 0644);
  giant.is_sparse = true;
  giant.size_bytes = 1ULL << 40;
  giant.segments = {{4096, 4096}};
  EXPECT_THAT(as_index(bytes_of(giant, std::string(4096, 'x'))).error, HasSubstr("beyond an index: entry \"giant\": sparse file with too many pieces"));
  for (const auto& [name, value] : std::map<std::string, std::string>{{"system.posix_acl_access", "any"},
                                                                       {"security.capability", "rubbish"},
                                                                       {"user.", "nameless"},
                                                                       {"user." + std::string(300, 'n'), "long name"},
                                                                       {"user.large", std::string(70'000, 'v')}}) {
    auto entry = TarMaker::make(TarType::file, "f", 0644);
    entry.xattrs[name] = value;
    EXPECT_THAT(as_index(TarMaker().add(entry, "x").done()).error, HasSubstr("beyond an index: entry \"f\"")) << name;
  }
}

TEST_F(Forms, a_file_of_nothing_but_holes_takes_no_room) {
  auto entry = TarMaker::make(TarType::file, "holes", 0644);
  entry.is_sparse = true;
  entry.size_bytes = 8ULL << 30;
  std::string bytes;
  TarWriter writer([&](std::string_view piece) -> Status {
    bytes += piece;
    return {};
  });
  ASSERT_TRUE(writer.begin(entry).ok());
  ASSERT_TRUE(writer.finish().ok());
  MemorySource source(bytes);
  TarReader reader(source);
  IndexForm form({});
  UnpackedLayer layer;
  ASSERT_TRUE(unpack_into(form, reader, layer).ok());
  std::size_t size = 0;
  ASSERT_TRUE(form.write(bytes.size(), [&](std::string_view piece) -> Status {
    size += piece.size();
    return {};
  }).ok());
  EXPECT_LT(size, 4096U);
}

TEST_F(Forms, what_an_archive_replaces_or_removes_is_gone_from_both) {
  expect_same(TarMaker().file("x", "file").dir("x").file("x/in", "1").file("x", "again").dir("y").symlink("y", "x").file("z", "1", 04755).file("z", "2", 0644).done());
  expect_same(TarMaker().file("a", "one").hard_link("b", "a").file("b", "two").hard_link("c", "a").hard_link("c", "c").done());
  expect_same(TarMaker().file("a", "1").file(".wh.a").file(".wh.b").file("b", "2").dir("d").file("d/x", "3").file(".wh.d").file(".wh.e").dir("e").file("e/y", "4").done());
  expect_same(TarMaker().dir("d").file("d/x", "1").symlink("d", "/elsewhere").file("d/canary", "inside").done());
  expect_same(TarMaker().device("gone", TarType::char_device, 1, 3).file("gone", "file").file("first", "x").device("first", TarType::char_device, 1, 5).done());
  expect_same(TarMaker().device("etc", TarType::char_device, 0, 0).file("other", "x").done());
}

TEST_F(Forms, refusals_are_the_same) {
  expect_same(TarMaker().file("../out", "x").done());
  expect_same(TarMaker().hard_link("h", "nothing").done());
  expect_same(TarMaker().file("f").file("f/y", "2").done());
  expect_same(TarMaker().file("f", "1").file(".wh.gone").hard_link("h", "gone").done());
  expect_same(TarMaker().symlink("l", "l").file("l/x").done());
  expect_same(TarMaker().file("f", std::string(5000, 'x')).done().substr(0, 3000));
}

/// Archives without sense, of few names so that entries meet each other again and again.
std::string random_tar(std::mt19937& random) {
  auto pick = [&](std::size_t below) { return std::uniform_int_distribution<std::size_t>(0, below - 1)(random); };
  auto name = [&] {
    static constexpr const char* parts[] = {"a", "b", "c", "dd", "..", ".", "long-name-that-fills-blocks"};
    std::string out = parts[pick(std::size(parts))];
    while (pick(2) == 0) out += concat("/", parts[pick(std::size(parts))]);
    return out;
  };
  TarMaker tar;
  for (std::size_t left = 1 + pick(40); left > 0; --left) {
    static constexpr TarType types[] = {TarType::file, TarType::file, TarType::directory, TarType::symlink, TarType::hard_link, TarType::fifo, TarType::char_device, TarType::block_device};
    auto entry = TarMaker::make(types[pick(std::size(types))], name(), static_cast<std::uint32_t>(pick(010000)));
    entry.uid = pick(4) == 0 ? pick(65536) : 0;
    entry.gid = pick(4) == 0 ? pick(65536) : 0;
    entry.mtime_s += static_cast<std::int64_t>(pick(1'000'000));
    entry.mtime_ns = static_cast<std::uint32_t>(pick(1'000'000'000));
    if (entry.type == TarType::symlink || entry.type == TarType::hard_link) entry.link_target = pick(3) == 0 ? "/" + name() : name();
    entry.device_major = static_cast<std::uint32_t>(pick(3));
    entry.device_minor = static_cast<std::uint32_t>(pick(3));
    if (entry.type == TarType::file && pick(4) == 0) entry.name += "/../.wh." + std::string(pick(3) == 0 ? ".wh..opq" : "b");
    if (pick(4) == 0) entry.xattrs[concat("user.", pick(3))] = std::string(pick(300), 'v');
    tar.add(entry, entry.type == TarType::file ? std::string(pick(2) == 0 ? pick(20) : pick(20'000), static_cast<char>('a' + pick(26))) : std::string());
  }
  return tar.done();
}

TEST_F(Forms, archives_without_sense_are_the_same_in_both) {
  std::random_device device;
  const char* given = std::getenv("CAISSON_SEED");
  const auto seed = given != nullptr ? static_cast<unsigned>(std::stoul(given)) : device();
  std::mt19937 random(seed);
  for (int round = 0; round < 60; ++round) {
    expect_same(random_tar(random));
    ASSERT_FALSE(HasFailure()) << "round " << round << " of CAISSON_SEED=" << seed;
  }
}

TEST_F(Forms, a_directory_named_in_passing_takes_what_it_is_given) {
  DirectoryAttributes given;
  given.name = "tmp/deep";
  given.mode = 01777;
  given.uid = 5;
  given.gid = 6;
  given.mtime_s = 1'600'000'000;
  given.mtime_ns = 7;
  given.xattrs["user.below"] = "yes";
  auto outcome = as_index(TarMaker().file("tmp/deep/f", "x").dir("tmp").done(), {given});
  EXPECT_THAT(outcome.listing, HasSubstr("/tmp/deep mode 17407 owner 5:6 links 2 time 1600000000.7 user.below=yes\n"));
  EXPECT_THAT(outcome.layer.implied_dirs, testing::ElementsAre("", "tmp/deep"));
}

TEST_F(Forms, the_same_archive_gives_the_same_index) {
  auto tar = TarMaker().dir("d").file("d/f", "x").symlink("l", "d").done();
  EXPECT_EQ(as_index(tar).index, as_index(tar).index);
}

}  // namespace
}  // namespace caisson::image

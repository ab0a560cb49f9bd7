// Tests of the local driver's options: which are taken, and what mount(2) is asked for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include "engine/fake_parts.hpp"
#include "engine/volume_mounts.hpp"

namespace caisson::engine {
namespace {

using Options = std::map<std::string, std::string>;

TEST(volume_options, are_refused_in_dockers_words) {
  for (const auto& [options, text] : std::vector<std::pair<Options, std::string>>{{{{"foo", "bar"}}, "invalid option: \"foo\""},
                                                                                  {{{"o", "bind"}}, "missing required option: \"device\""},
                                                                                  {{{"type", "nfs"}}, "missing required option: \"device\""},
                                                                                  {{{"device", "/x"}}, "missing required option: \"type\""},
                                                                                  {{{"size", "1x"}}, "size: "}, {{{"size", "0"}}, "must be positive"},
                                                                                  {{{"size", "1g"}, {"type", "tmpfs"}, {"device", "tmpfs"}}, "this one has a type"}}) {
    auto status = check_volume_options(options);
    ASSERT_FALSE(status.ok()) << text;
    EXPECT_THAT(status.error().text(), testing::HasSubstr(text));
    EXPECT_EQ(status.error().kind(), ErrorKind::invalid);
  }
  EXPECT_TRUE(check_volume_options({}).ok());
  EXPECT_TRUE(check_volume_options({{"type", "none"}, {"o", "bind"}, {"device", "/x"}}).ok());
  EXPECT_TRUE(check_volume_options({{"type", "tmpfs"}, {"device", "tmpfs"}}).ok());
}

TEST(volume_options, words_of_mount_8_become_flags_and_the_rest_is_the_file_systems) {
  auto words = parse_mount_words("addr=10.0.0.1,ro,nosuid,vers=4,,soft");
  EXPECT_EQ(words.flags, static_cast<unsigned long>(MS_RDONLY | MS_NOSUID));
  EXPECT_EQ(words.data, "addr=10.0.0.1,vers=4,soft");
  EXPECT_EQ(parse_mount_words("ro,rw").flags, 0U);
  EXPECT_EQ(parse_mount_words("rbind").flags, static_cast<unsigned long>(MS_BIND | MS_REC));
  EXPECT_EQ(parse_mount_words("defaults").data, "");
}

TEST(volume_options, tell_a_bind_from_a_file_system_and_from_an_ordinary_volume) {
  VolumeInfo volume;
  volume.mountpoint = "/volumes/v/_data";
  EXPECT_FALSE(is_file_system(volume));
  EXPECT_EQ(contents_of(volume), "/volumes/v/_data");
  volume.options = {{"type", "none"}, {"o", "bind,ro"}, {"device", "/srv"}};
  EXPECT_FALSE(is_file_system(volume));
  EXPECT_EQ(contents_of(volume), "/srv");
  volume.options = {{"type", "nfs"}, {"device", ":/x"}};
  EXPECT_TRUE(is_file_system(volume));
  EXPECT_EQ(contents_of(volume), "/volumes/v/_data");
}

TEST(volume_sources, replace_what_a_mount_shows_and_stay_inside_the_volume) {
  fake::TempFolder folder;
  ASSERT_TRUE(linux::make_dirs(folder.path() + "/sub/deep", 0755).ok());
  ASSERT_TRUE(linux::symlinkat("/etc", AT_FDCWD, folder.path() + "/out").ok());
  VolumeInfo volume;
  volume.name = "v";
  volume.mountpoint = folder.path();
  ContainerInfo info;
  MountPoint point;
  point.type = MountType::volume;
  point.name = "v";
  point.source = folder.path();
  point.destination = "/s";
  info.mounts = {point};
  info.spec.mounts = {{.type = MountType::volume, .source = "v", .target = "/s"}};
  auto load = [&](const std::string&) -> Result<VolumeInfo> { return volume; };
  auto plain = open_volume_sources(info, load);
  ASSERT_TRUE(plain.ok());
  EXPECT_TRUE(plain->by_destination.empty());

  info.spec.mounts[0].subpath = "sub/deep";
  auto sub = open_volume_sources(info, load);
  ASSERT_TRUE(sub.ok()) << sub.error().text();
  auto shown = info;
  apply_volume_sources(shown, *sub);
  EXPECT_EQ(linux::readlinkat(AT_FDCWD, shown.mounts[0].source).value_or(""), folder.path() + "/sub/deep");
  EXPECT_EQ(info.mounts[0].source, folder.path());

  info.spec.mounts[0].subpath = "out";  // a link to /etc leads to the volume's own, which is not there
  auto out = open_volume_sources(info, load);
  ASSERT_FALSE(out.ok());
  EXPECT_THAT(out.error().text(), testing::HasSubstr("cannot access path out"));

  info.spec.mounts[0].subpath.clear();
  volume.options = {{"type", "none"}, {"o", "bind,ro"}, {"device", folder.path() + "/sub"}};
  auto bind = open_volume_sources(info, load);
  ASSERT_TRUE(bind.ok());
  apply_volume_sources(info, *bind);
  EXPECT_EQ(info.mounts[0].source, folder.path() + "/sub");
  EXPECT_FALSE(info.mounts[0].read_write);
}

}  // namespace
}  // namespace caisson::engine

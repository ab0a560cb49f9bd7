// Capabilities, id maps, terminals and Landlock.
#include <linux/capability.h>

#include <cerrno>
#include <thread>

#include "linux/fault.hpp"
#include "linux/idmap.hpp"
#include "linux/landlock.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "linux/terminal.hpp"
#include "linux/testing.hpp"

namespace caisson::linux {
namespace {

TEST(Capabilities, names_and_numbers_belong_together) {
  EXPECT_EQ(must(capability_by_name("CAP_CHOWN")), CAP_CHOWN);
  EXPECT_EQ(must(capability_by_name("net_admin")), CAP_NET_ADMIN);
  EXPECT_EQ(must(capability_by_name("cap_checkpoint_restore")), CAP_CHECKPOINT_RESTORE);
  EXPECT_EQ(must(capability_by_name("CAP_AUDIT_READ")), CAP_AUDIT_READ);
  EXPECT_EQ(must(capability_by_name("CAP_SETFCAP")), CAP_SETFCAP);
  EXPECT_EQ(must(capability_by_name("CAP_SYS_RESOURCE")), CAP_SYS_RESOURCE);
  for (int number = 0; number <= max_known_capability; ++number)
    EXPECT_EQ(must(capability_by_name(capability_name(number))), number);
  for (const char* bad : {"", "CAP_", "CAP_NONE", "CAP_CHOWN ", "21"}) EXPECT_FALSE(capability_by_name(bad)) << bad;
}

TEST(Capabilities, a_list_is_a_set_and_the_first_unknown_name_is_told) {
  const std::vector<std::string> good{"CAP_KILL", "CAP_CHOWN", "CAP_KILL"};
  EXPECT_EQ(must(parse_capabilities(good)), (CapabilitySet{CAP_CHOWN, CAP_KILL}));
  EXPECT_EQ(capability_names(must(parse_capabilities(good))), (std::vector<std::string>{"CAP_CHOWN", "CAP_KILL"}));
  const std::vector<std::string> bad{"CAP_KILL", "CAP_FLY"};
  EXPECT_EQ(parse_capabilities(bad).error().text(), "unknown capability \"CAP_FLY\"");
}

TEST(Capabilities, a_thread_can_give_up_its_own) {
  std::thread([] {
    CapabilityState state = must(capget());
    state.effective = {};
    state.permitted = {};
    state.inheritable = {};
    must(capset(state));
    EXPECT_EQ(must(capget()).permitted.bits, 0U);
    state.permitted = {CAP_CHOWN};
    EXPECT_EQ(capset(state).error().kind(), ErrorKind::denied);
  }).join();
}

TEST(IdMap, texts_are_as_the_kernel_wants_them) {
  EXPECT_EQ(must(id_map_text({{0, 100000, 65536}, {65536, 5, 1}})), "0 100000 65536\n65536 5 1\n");
  EXPECT_EQ(must(parse_id_map("         0     100000      65536\n")), (std::vector<IdMapping>{{0, 100000, 65536}}));
  const std::vector<IdMapping> own{{0, 1000, 1}, {1, 100000, 99}, {100, 500000, 50}};
  EXPECT_EQ(split_at_lines_of(own, {{0, 0, 120}}), (std::vector<IdMapping>{{0, 0, 1}, {1, 1, 99}, {100, 100, 20}}));
  EXPECT_EQ(split_at_lines_of(own, {{7, 0, 1}, {50, 90, 5}}), (std::vector<IdMapping>{{7, 0, 1}, {50, 90, 5}}));
  EXPECT_EQ(split_at_lines_of(own, {{0, 140, 20}}), (std::vector<IdMapping>{{0, 140, 10}, {10, 150, 10}})) << "the kernel refuses what is not there";
  EXPECT_TRUE(is_identity({{{0, 0, 10}, {20, 20, 5}}, {{0, 0, 10}}}));
  EXPECT_FALSE(is_identity({{{0, 0, 10}, {20, 21, 5}}, {{0, 0, 10}}}));
  EXPECT_FALSE(is_identity({{{0, 0, 10}}, {{0, 1, 10}}}));
  EXPECT_FALSE(is_identity({})) << "no map maps nothing";
  EXPECT_EQ(parse_id_map("0 1\n").error().kind(), ErrorKind::corrupt);
  EXPECT_EQ(parse_id_map("0 -1 5\n").error().kind(), ErrorKind::corrupt);
}

TEST(IdMap, bad_maps_are_refused) {
  const std::vector<std::vector<IdMapping>> bad{
      {},
      {{0, 0, 0}},
      {{0, 100, 10}, {9, 200, 10}},
      {{0, 100, 10}, {10, 109, 10}},
      {{4294967295U, 0, 1}},
      {{0, 4294967290U, 6}},
      std::vector<IdMapping>(341, IdMapping{0, 0, 1}),
  };
  for (const auto& mappings : bad) EXPECT_EQ(id_map_text(mappings).error().kind(), ErrorKind::invalid);
}

TEST(IdMap, ids_translate_both_ways) {
  const std::vector<IdMapping> map{{0, 100000, 1000}, {1000, 5, 1}};
  EXPECT_EQ(map_to_outside(map, 999), 100999U);
  EXPECT_EQ(map_to_outside(map, 1000), 5U);
  EXPECT_EQ(map_to_outside(map, 1001), std::nullopt);
  EXPECT_EQ(map_to_inside(map, 100000), 0U);
  EXPECT_EQ(map_to_inside(map, 4), std::nullopt);
}

IdMap shifted() {
  IdMap map;
  map.uids = {{0, 100000, 65536}};
  map.gids = {{0, 200000, 65536}};
  return map;
}

TEST(IdMap, ids_from_zero_end_at_the_first_gap) {
  EXPECT_EQ(ids_from_zero({{1, 100000, 65535}, {0, 1000, 1}}), 65536U);
  EXPECT_EQ(ids_from_zero({{0, 0, 4294967295U}}), 4294967295U);
  EXPECT_EQ(ids_from_zero({{0, 1000, 1}, {2, 100000, 10}}), 1U);
  EXPECT_EQ(ids_from_zero({{1, 0, 10}}), 0U);
  EXPECT_EQ(ids_from_zero({}), 0U);
}

TEST(IdMap, a_user_namespace_is_held_by_its_descriptor_alone) {
  if (!has_capability(CAP_SYS_ADMIN)) GTEST_SKIP() << "needs CAP_SYS_ADMIN to map a range of ids";
  const UniqueFd userns = must(create_user_namespace(shifted()));
  EXPECT_EQ(must(namespace_type(userns.get())), CLONE_NEWUSER);
  EXPECT_EQ(try_wait_any().error().error_number(), ECHILD);  // the helper is gone and reaped
}

TEST(IdMap, an_idmapped_mount_shows_and_stores_shifted_owners) {
  if (!has_capability(CAP_SYS_ADMIN)) GTEST_SKIP() << "needs CAP_SYS_ADMIN to mount";
  const TemporaryFolder folder;
  must(write_file(folder / "f", "x"));
  must(fchownat(AT_FDCWD, folder / "f", 33, 44, 0));
  const UniqueFd userns = must(create_user_namespace(shifted()));
  const UniqueFd plain = must(open(folder.path(), O_PATH | O_DIRECTORY));
  const UniqueFd tree = must(clone_tree(plain.get(), false));
  const auto mapped = idmap_mount(tree.get(), userns.get());
  if (!mapped && mapped.error().kind() == ErrorKind::unsupported) GTEST_SKIP() << mapped.error().text();
  must(mapped);
  const FileStatus info = must(fstatat(tree.get(), "f", 0));
  EXPECT_EQ(info.st_uid, 100033U);
  EXPECT_EQ(info.st_gid, 200044U);
  must(fchmodat(AT_FDCWD, folder.path(), 0777));
  {
    const auto ids = must(ScopedFsIds::create(100007, 200007));
    must(mkdirat(tree.get(), "made", 0755));
  }
  EXPECT_EQ(must(stat(folder / "made")).st_uid, 7U);
  EXPECT_EQ(must(stat(folder / "made")).st_gid, 7U);
  const auto again = idmap_mount(tree.get(), userns.get());
  ASSERT_FALSE(again);  // a mount is idmapped once
}

TEST(IdMap, no_failing_call_leaves_a_helper_behind) {
  if (!has_capability(CAP_SYS_ADMIN)) GTEST_SKIP() << "needs CAP_SYS_ADMIN to map a range of ids";
  std::uint32_t calls = 0;
  {
    const ScopedCallCount count;
    EXPECT_TRUE(create_user_namespace(shifted()));
    calls = count.value();
  }
  for (std::uint32_t nth = 1; nth <= calls; ++nth) {
    std::string fired;
    {
      const ScopedFault fault("*", EIO, nth);
      ignore(create_user_namespace(shifted()));  // whether it fails depends on the call; that nothing is left is the point
      fired = fault.fired_name();
    }
    // Without the fault: a run that needed one call less would have left it for this one.
    EXPECT_EQ(try_wait_any().error().error_number(), ECHILD) << nth << ' ' << fired;
  }
}

TEST(Terminal, a_pair_talks_and_knows_its_size) {
  const auto pair = open_pty();
  if (!pair) GTEST_SKIP() << "no usable devpts: " << pair.error().text();
  EXPECT_TRUE(is_terminal(pair->slave.get()));
  must(set_window_size(pair->master.get(), {25, 81}));
  EXPECT_EQ(must(window_size(pair->slave.get())).columns, 81);
  {
    const auto raw_mode = must(RawMode::create(pair->slave.get()));
    must(write_all(pair->master.get(), "\x03z"));  // ^C stays a byte in raw mode
    std::array<char, 8> bytes{};
    EXPECT_EQ(must(read(pair->slave.get(), bytes)), 2U);
  }
  EXPECT_FALSE(is_terminal(must(open("/dev/null", O_RDONLY)).get()));
}

TEST(Terminal, a_folder_that_is_no_devpts_is_refused) {
  const TemporaryFolder folder;
  must(symlinkat("/dev/ptmx", AT_FDCWD, folder / "ptmx"));
  const UniqueFd fd = must(open(folder.path(), O_RDONLY | O_DIRECTORY));
  EXPECT_EQ(open_pty(fd.get()).error().kind(), ErrorKind::invalid);
}

TEST(Landlock, only_the_given_folders_stay_reachable) {
  if (landlock_abi() == 0) GTEST_SKIP() << "no Landlock on this kernel";
  const TemporaryFolder folder;
  must(mkdir(folder / "read", 0755));
  must(mkdir(folder / "write", 0755));
  must(mkdir(folder / "other", 0755));
  must(write_file(folder / "read/f", "x"));
  must(write_file(folder / "other/f", "x"));
  LandlockPolicy policy;
  policy.rules = {{folder / "read", LandlockAccess::read}, {folder / "write", LandlockAccess::read_write}};
  const UniqueFd ruleset = must(create_landlock_ruleset(policy));
  std::thread([&] {
    must(set_no_new_privileges());
    must(landlock_restrict_self(ruleset.get()));
    EXPECT_TRUE(read_file(folder / "read/f"));
    EXPECT_EQ(write_file(folder / "read/f", "y").error().kind(), ErrorKind::denied);
    EXPECT_TRUE(write_file(folder / "write/f", "y"));
    EXPECT_EQ(read_file(folder / "other/f").error().kind(), ErrorKind::denied);
  }).join();
}

TEST(Landlock, a_rule_about_nothing_is_an_error) {
  if (landlock_abi() == 0) GTEST_SKIP() << "no Landlock on this kernel";
  LandlockPolicy policy;
  policy.rules = {{"/no/such/path", LandlockAccess::read}};
  EXPECT_EQ(create_landlock_ruleset(policy).error().kind(), ErrorKind::not_found);
}

TEST(MountApi, a_refused_option_carries_the_kernels_own_words) {
  if (!has_capability(CAP_SYS_ADMIN)) GTEST_SKIP() << "needs CAP_SYS_ADMIN to mount";
  const auto refused = mount_detached("tmpfs", {{"size", "banana"}}, 0);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("mount tmpfs: option size=banana: "), std::string::npos) << refused.error().text();
  EXPECT_NE(refused.error().text().find("Bad value"), std::string::npos) << refused.error().text();
  EXPECT_FALSE(mount_detached("no-such-fs", {}, 0));
}

TEST(MountApi, a_read_only_detached_mount_refuses_writing) {
  if (!has_capability(CAP_SYS_ADMIN)) GTEST_SKIP() << "needs CAP_SYS_ADMIN to mount";
  const UniqueFd tmpfs = must(mount_detached("tmpfs", {{"mode", "0755"}}, MOUNT_ATTR_NODEV));
  must(mkdirat(tmpfs.get(), "a", 0755));
  MountAttributes read_only;
  read_only.set = MOUNT_ATTR_RDONLY;
  must(mount_setattr(tmpfs.get(), "", AT_EMPTY_PATH, read_only));
  EXPECT_EQ(mkdirat(tmpfs.get(), "b", 0755).error().error_number(), EROFS);
}

TEST(MountInfo, lines_with_escapes_and_optional_fields_are_read) {
  const auto mounts = must(parse_mountinfo(
      "36 35 98:0 /mnt1 /mnt\\040two rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n"
      "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"));
  ASSERT_EQ(mounts.size(), 2U);
  EXPECT_EQ(mounts[0].mount_point, "/mnt two");
  EXPECT_EQ(mounts[0].optional_fields, (std::vector<std::string>{"master:1", "shared:7"}));
  EXPECT_EQ(mounts[0].type, "ext3");
  EXPECT_EQ(mounts[0].super_options, "rw,errors=continue");
  EXPECT_EQ(mounts[1].optional_fields.size(), 0U);
  for (const char* bad : {"x", "1 2 3:4 / /", "1 2 3 / / rw - a b c", "1 2 3:4 / / rw shared:1 a b c d"})
    EXPECT_EQ(parse_mountinfo(bad).error().kind(), ErrorKind::corrupt) << bad;
  EXPECT_FALSE(must(read_mountinfo()).empty());
}

}  // namespace
}  // namespace caisson::linux

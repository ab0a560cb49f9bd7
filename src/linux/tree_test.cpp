// Trees: making and removing them against links, swaps, mounts and depth.
#include "linux/tree.hpp"

#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "linux/testing.hpp"

namespace caisson::linux {
namespace {

TEST(Tree, folders_are_made_with_exactly_the_asked_mode_and_existing_ones_are_left) {
  const TemporaryFolder folder;
  must(mkdir(folder / "a", 0711));
  const mode_t old = umask(077);
  must(make_dirs(folder / "a/b/c", 0755));
  must(make_dirs(folder / "a/b/c", 0700));
  umask(old);
  EXPECT_EQ(must(stat(folder / "a")).st_mode & 0777U, 0711U);
  EXPECT_EQ(must(stat(folder / "a/b")).st_mode & 0777U, 0755U);
  EXPECT_EQ(must(stat(folder / "a/b/c")).st_mode & 0777U, 0755U);
}

TEST(Tree, making_folders_in_a_root_stays_in_the_root) {
  const TemporaryFolder folder;
  must(mkdir(folder / "outside", 0755));
  must(mkdir(folder / "root", 0755));
  must(mkdir(folder / "root/real", 0755));
  must(symlinkat("../outside", AT_FDCWD, folder / "root/up"));
  must(symlinkat("/real", AT_FDCWD, folder / "root/absolute"));
  must(symlinkat("/nowhere", AT_FDCWD, folder / "root/dangling"));
  const UniqueFd root = must(open(folder / "root", O_PATH | O_DIRECTORY));
  EXPECT_TRUE(make_dirs_in_root(root.get(), "/absolute/x/y", 0755));
  EXPECT_TRUE(must(exists(folder / "root/real/x/y")));
  EXPECT_TRUE(make_dirs_in_root(root.get(), "../../../z/w", 0755));
  EXPECT_TRUE(must(exists(folder / "root/z/w")));
  EXPECT_FALSE(make_dirs_in_root(root.get(), "up/escaped", 0755));
  EXPECT_FALSE(make_dirs_in_root(root.get(), "dangling/escaped", 0755));
  EXPECT_TRUE(must(list_dir(folder / "outside")).empty());
}

TEST(Tree, a_file_in_the_way_is_an_error) {
  const TemporaryFolder folder;
  must(write_file(folder / "f", "x"));
  const UniqueFd root = must(open(folder.path(), O_PATH | O_DIRECTORY));
  EXPECT_EQ(make_dirs_in_root(root.get(), "f/g", 0755).error().error_number(), ENOTDIR);
  EXPECT_EQ(make_dirs(folder / "f/g", 0755).error().error_number(), ENOTDIR);
}

TEST(Tree, removing_does_not_follow_links) {
  const TemporaryFolder folder;
  must(make_dirs(folder / "victim/deep", 0755));
  must(write_file(folder / "victim/file", "safe"));
  must(make_dirs(folder / "tree/a/b", 0755));
  must(symlinkat("../../victim", AT_FDCWD, folder / "tree/a/link"));
  must(symlinkat(folder / "victim", AT_FDCWD, folder / "tree/link"));
  must(remove_tree(folder / "tree"));
  EXPECT_FALSE(must(exists(folder / "tree")));
  EXPECT_EQ(must(read_file(folder / "victim/file")), "safe");
  must(symlinkat("victim", AT_FDCWD, folder / "top"));
  must(remove_tree(folder / "top"));
  EXPECT_EQ(must(read_file(folder / "victim/file")), "safe");
}

TEST(Tree, removing_what_is_not_there_is_success) {
  const TemporaryFolder folder;
  EXPECT_TRUE(remove_tree(folder / "nothing"));
  EXPECT_TRUE(remove_tree(folder / "no/such/parent"));
}

TEST(Tree, only_plain_names_are_removed) {
  const TemporaryFolder folder;
  const UniqueFd fd = must(open(folder.path(), O_PATH | O_DIRECTORY));
  for (const char* name : {"", ".", "..", "a/b", "/"}) EXPECT_EQ(remove_tree(fd.get(), name).error().kind(), ErrorKind::invalid) << name;
}

TEST(Tree, folders_without_permissions_are_removed) {
  const TemporaryFolder folder;
  must(make_dirs(folder / "tree/closed/inner", 0755));
  must(write_file(folder / "tree/closed/inner/f", "x"));
  must(fchmodat(AT_FDCWD, folder / "tree/closed", 0));
  EXPECT_TRUE(remove_tree(folder / "tree"));
}

TEST(Tree, a_very_deep_tree_is_removed) {
  const TemporaryFolder folder;
  must(mkdir(folder / "tree", 0755));
  UniqueFd at = must(open(folder / "tree", O_PATH | O_DIRECTORY));
  for (int i = 0; i < 1200; ++i) {  // more than twice the descriptors that are held at once
    must(mkdirat(at.get(), "d", 0755));
    at = must(openat(at.get(), "d", O_PATH | O_DIRECTORY));
  }
  EXPECT_TRUE(remove_tree(folder / "tree"));
  EXPECT_FALSE(must(exists(folder / "tree")));
}

TEST(Tree, a_folder_swapped_for_a_link_in_a_loop_leads_nowhere) {
  const TemporaryFolder folder;
  must(make_dirs(folder / "victim", 0755));
  must(write_file(folder / "victim/file", "safe"));
  for (int round = 0; round < 30; ++round) {
    must(make_dirs(folder / "tree/dir", 0755));
    for (int i = 0; i < 50; ++i) must(write_file(folder / concat("tree/dir/", i), ""));
    must(symlinkat("../victim", AT_FDCWD, folder / "tree/trap"));
    std::atomic<bool> stop{false};
    std::thread attacker([&] {
      while (!stop) ignore(renameat2(AT_FDCWD, folder / "tree/dir", AT_FDCWD, folder / "tree/trap", RENAME_EXCHANGE));
    });
    const auto removed = remove_tree(folder / "tree");
    stop = true;
    attacker.join();
    ASSERT_EQ(must(read_file(folder / "victim/file")), "safe");
    // An attacker who swaps for ever may hold the removal up, but only while he does.
    if (!removed) must(remove_tree(folder / "tree"));
  }
}

TEST(Tree, files_that_appear_meanwhile_are_removed_too) {
  const TemporaryFolder folder;
  must(make_dirs(folder / "tree/dir", 0755));
  const UniqueFd inner = must(open(folder / "tree/dir", O_PATH | O_DIRECTORY));
  std::thread writer([&] {
    for (int i = 0; i < 500; ++i)
      if (!openat(inner.get(), concat("f", i), O_CREAT | O_WRONLY, 0600)) break;  // the folder itself is gone
  });
  const auto removed = remove_tree(folder / "tree");
  writer.join();
  EXPECT_TRUE(removed) << removed.error().text();
}

TEST(Tree, a_mount_inside_stops_removal_before_its_content) {
  if (!has_capability(CAP_SYS_ADMIN)) GTEST_SKIP() << "needs CAP_SYS_ADMIN to mount";
  const TemporaryFolder folder;
  must(make_dirs(folder / "tree/mounted", 0755));
  std::thread([&] {
    must(unshare(CLONE_NEWNS));
    must(make_all_mounts(MS_PRIVATE));
    const UniqueFd tmpfs = must(mount_detached("tmpfs", {}, 0));
    const UniqueFd target = must(open(folder / "tree/mounted", O_PATH));
    must(attach_mount(tmpfs.get(), target.get()));
    must(write_file(folder / "tree/mounted/file", "safe"));
    const auto refused = remove_tree(folder / "tree");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().error_number(), EBUSY);
    EXPECT_EQ(must(read_file(folder / "tree/mounted/file")), "safe");
    EXPECT_EQ(must(tree_usage(folder / "tree")).inodes, 1U);
  }).join();
}

TEST(Tree, a_file_with_two_names_is_counted_once) {
  const TemporaryFolder folder;
  must(write_file(folder / "a", std::string(10000, 'x')));
  must(linkat(AT_FDCWD, folder / "a", AT_FDCWD, folder / "b"));
  must(symlinkat("/", AT_FDCWD, folder / "c"));
  const TreeUsage usage = must(tree_usage(folder.path()));
  EXPECT_EQ(usage.inodes, 2U);
  EXPECT_GE(usage.size_bytes, 10000U);
  EXPECT_LE(usage.size_bytes, 20480U);
}

/// As the threads that serve requests have it (wire/server.cpp); the sanitizers multiply the size of frames.
template <typename Body>
void on_small_stack(Body body) {
  pthread_attr_t attributes;
  ASSERT_EQ(::pthread_attr_init(&attributes), 0);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__clang__)
  ASSERT_EQ(::pthread_attr_setstacksize(&attributes, 4 << 20), 0);
#else
  ASSERT_EQ(::pthread_attr_setstacksize(&attributes, 128 << 10), 0);
#endif
  pthread_t thread{};
  ASSERT_EQ(::pthread_create(&thread, &attributes, [](void* work) -> void* { (*static_cast<Body*>(work))(); return nullptr; }, &body), 0);
  ::pthread_join(thread, nullptr);
  ::pthread_attr_destroy(&attributes);
}

TEST(Tree, a_deep_tree_is_measured_and_removed_on_a_small_stack_and_a_deeper_one_refused) {
  const TemporaryFolder folder;
  const UniqueFd top = must(open(folder.path(), O_RDONLY | O_DIRECTORY));
  auto dig = [&](const char* name, int depth) {
    must(mkdirat(top.get(), name, 0755));
    UniqueFd at = must(openat(top.get(), name, O_RDONLY | O_DIRECTORY));
    for (int i = 1; i < depth; ++i) {
      must(mkdirat(at.get(), "d", 0755));
      at = must(openat(at.get(), "d", O_RDONLY | O_DIRECTORY));
    }
  };
  dig("deep", 500);
  dig("deeper", 3000);
  on_small_stack([&] {
    EXPECT_EQ(must(tree_usage(folder / "deep")).inodes, 499U);
    auto refused = tree_usage(folder / "deeper");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().error_number(), ELOOP);
    must(remove_tree(folder / "deeper"));
    must(remove_tree(folder / "deep"));
  });
  EXPECT_TRUE(must(list_dir(folder.path())).empty());
}

TEST(Tree, children_are_removed_and_the_folder_stays) {
  const TemporaryFolder folder;
  must(make_dirs(folder / "tree/a/b", 0755));
  const UniqueFd fd = must(open(folder / "tree", O_PATH | O_DIRECTORY));
  must(remove_children(fd.get()));
  EXPECT_TRUE(must(list_dir(folder / "tree")).empty());
}

}  // namespace
}  // namespace caisson::linux

// Files: strict reading, atomic writing, and paths that try to leave their root.
#include "linux/file.hpp"

#include <linux/capability.h>
#include <sys/file.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "linux/fault.hpp"
#include "linux/testing.hpp"

namespace caisson::linux {
namespace {

TEST(File, reading_stops_at_the_limit_with_an_error) {
  const TemporaryFolder folder;
  must(write_file(folder / "f", std::string(100, 'x')));
  EXPECT_EQ(must(read_file(folder / "f", 100)).size(), 100U);
  const auto refused = read_file(folder / "f", 99);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().error_number(), EFBIG);
  EXPECT_EQ(refused.error().text(), folder / "f" + ": read: more than the allowed 99 bytes");
}

TEST(File, reading_an_endless_file_ends) {
  const auto refused = read_file("/dev/zero", 5000);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind(), ErrorKind::invalid);
}

TEST(File, a_missing_file_is_named_with_the_kernels_reason) {
  const auto missing = read_file("/tmp/caisson-test-no-such-file");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind(), ErrorKind::not_found);
  EXPECT_EQ(missing.error().text(), "openat /tmp/caisson-test-no-such-file: No such file or directory");
}

TEST(File, a_path_with_a_nul_is_refused_and_not_cut) {
  const TemporaryFolder folder;
  must(write_file(folder / "f", "x"));
  std::string path = folder / "f";
  path += '\0';
  path += "suffix";
  for (const int error : {open(path, O_RDONLY).error().error_number(), stat(path).error().error_number(),
                          unlink(path).error().error_number(), write_file(path, "y").error().error_number(),
                          write_file_atomic(path, "y", 0600, Durability::none).error().error_number()})
    EXPECT_EQ(error, EINVAL);
  EXPECT_EQ(must(read_file(folder / "f")), "x");
}

TEST(File, an_atomic_write_has_exactly_the_asked_mode_and_replaces_the_old_file) {
  const TemporaryFolder folder;
  const mode_t old = umask(077);
  must(write_file_atomic(folder / "f", "one", 0644, Durability::none));
  must(write_file_atomic(folder / "f", "two", 0664, Durability::synced));
  umask(old);
  EXPECT_EQ(must(read_file(folder / "f")), "two");
  EXPECT_EQ(must(stat(folder / "f")).st_mode & 07777U, 0664U);
}

TEST(File, an_atomic_write_does_not_follow_a_link_of_that_name) {
  const TemporaryFolder folder;
  must(write_file(folder / "victim", "safe"));
  must(symlinkat("victim", AT_FDCWD, folder / "f"));
  must(write_file_atomic(folder / "f", "new", 0600, Durability::none));
  EXPECT_EQ(must(read_file(folder / "victim")), "safe");
  EXPECT_EQ(must(read_file(folder / "f")), "new");
}

TEST(File, readers_never_see_half_an_atomic_write) {
  const TemporaryFolder folder;
  const std::string a(20000, 'a');
  const std::string b(20000, 'b');
  must(write_file_atomic(folder / "f", a, 0600, Durability::none));
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) must(write_file_atomic(folder / "f", i % 2 == 0 ? b : a, 0600, Durability::none));
  });
  for (int i = 0; i < 200; ++i) {
    const std::string text = must(read_file(folder / "f"));
    EXPECT_TRUE(text == a || text == b) << text.size();
  }
  stop = true;
  writer.join();
}

/// A root as a hostile image would lay it out, beside a secret that must stay out of reach.
struct HostileRoot {
  TemporaryFolder folder;
  UniqueFd root;
  HostileRoot() {
    must(write_file(folder / "secret", "host"));
    must(mkdir(folder / "root", 0755));
    must(mkdir(folder / "root/etc", 0755));
    must(write_file(folder / "root/etc/passwd", "inside"));
    must(symlinkat("/etc/passwd", AT_FDCWD, folder / "root/absolute"));
    must(symlinkat("../../../../../../../../etc/passwd", AT_FDCWD, folder / "root/dotdot"));
    must(symlinkat("../secret", AT_FDCWD, folder / "root/sibling"));
    must(symlinkat("/proc/self/root", AT_FDCWD, folder / "root/magic"));
    must(symlinkat("/proc/self/fd", AT_FDCWD, folder / "root/fds"));
    root = must(open(folder / "root", O_PATH | O_DIRECTORY));
  }
};

TEST(OpenInRoot, links_are_taken_against_the_root) {
  const HostileRoot hostile;
  for (const char* path : {"/etc/passwd", "etc/passwd", "absolute", "dotdot", "../../etc/passwd", "/../etc/passwd"}) {
    const UniqueFd fd = must(open_in_root(hostile.root.get(), path, O_RDONLY));
    EXPECT_EQ(must(read_all(fd.get())), "inside") << path;
  }
}

TEST(OpenInRoot, nothing_outside_can_be_reached) {
  const HostileRoot hostile;
  for (const char* path : {"sibling", "../secret", "magic/etc/passwd", "fds/0", "/proc/self/root"})
    EXPECT_FALSE(open_in_root(hostile.root.get(), path, O_RDONLY)) << path;
}

TEST(OpenInRoot, magic_links_of_proc_are_refused_even_inside_the_root) {
  const UniqueFd root = must(open("/", O_PATH | O_DIRECTORY));
  const auto refused = open_in_root(root.get(), "proc/self/root", O_PATH);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().error_number(), ELOOP);
}

TEST(OpenInRoot, a_folder_swapped_for_a_link_in_a_loop_never_opens_the_outside) {
  const HostileRoot hostile;
  must(mkdir(hostile.folder / "root/dir", 0755));
  must(write_file(hostile.folder / "root/dir/secret", "inside"));
  must(symlinkat("..", AT_FDCWD, hostile.folder / "root/trap"));
  std::atomic<bool> stop{false};
  std::thread attacker([&] {
    while (!stop)
      must(renameat2(AT_FDCWD, hostile.folder / "root/dir", AT_FDCWD, hostile.folder / "root/trap", RENAME_EXCHANGE));
  });
  for (int i = 0; i < 3000; ++i) {
    const auto fd = open_in_root(hostile.root.get(), "dir/secret", O_RDONLY);
    if (fd) {
      EXPECT_EQ(must(read_all(fd->get())), "inside");
    }
  }
  stop = true;
  attacker.join();
}

TEST(OpenBeneath, links_and_dotdot_are_refused) {
  const HostileRoot hostile;
  EXPECT_TRUE(open_beneath(hostile.root.get(), "etc/passwd", O_RDONLY));
  for (const char* path : {"/etc/passwd", "../secret", "absolute", "sibling"})
    EXPECT_FALSE(open_beneath(hostile.root.get(), path, O_RDONLY)) << path;
}

TEST(File, attributes_go_in_and_come_out) {
  const TemporaryFolder folder;
  must(write_file(folder / "f", "x"));
  const UniqueFd fd = must(open(folder / "f", O_RDWR));
  const auto missing = fgetxattr(fd.get(), "user.none");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind(), missing.error().error_number() == ENODATA ? ErrorKind::not_found : ErrorKind::unsupported);
  if (const auto set = fsetxattr(fd.get(), "user.caisson", std::string("a\0b", 3)); !set)
    GTEST_SKIP() << "no user attributes on /tmp: " << set.error().text();
  EXPECT_EQ(must(fgetxattr(fd.get(), "user.caisson")), std::string("a\0b", 3));
  EXPECT_EQ(must(flistxattr(fd.get())), std::vector<std::string>{"user.caisson"});
  EXPECT_EQ(must(lgetxattr(folder / "f", "user.caisson")).size(), 3U);
  must(fremovexattr(fd.get(), "user.caisson"));
  EXPECT_TRUE(must(flistxattr(fd.get())).empty());
}

TEST(File, every_new_descriptor_is_close_on_exec) {
  const Pipe pipe = must(pipe2());
  const UniqueFd memfd = must(memfd_create("x"));
  const UniqueFd copy = must(dup(memfd.get()));
  const UniqueFd file = must(open("/dev/null", O_RDONLY));
  for (const int fd : {pipe.read_end.get(), pipe.write_end.get(), memfd.get(), copy.get(), file.get()})
    EXPECT_EQ(::fcntl(fd, F_GETFD), FD_CLOEXEC);
}

TEST(File, a_sealed_memfd_can_be_read_and_not_changed) {
  const UniqueFd fd = must(sealed_memfd("config", "content"));
  EXPECT_EQ(must(read_all(fd.get())), "content");
  EXPECT_EQ(write(fd.get(), "x").error().error_number(), EPERM);
  EXPECT_EQ(ftruncate(fd.get(), 1).error().error_number(), EPERM);
  EXPECT_EQ(add_seals(fd.get(), F_SEAL_FUTURE_WRITE).error().error_number(), EPERM);
}

TEST(File, a_file_is_copied_whole_by_every_way) {
  const TemporaryFolder folder;
  std::string bytes;
  for (int i = 0; i < 100000; ++i) bytes += static_cast<char>('a' + i % 23);
  must(write_file(folder / "from", bytes));
  {
    const UniqueFd in = must(open(folder / "from", O_RDONLY));
    const UniqueFd out = must(open(folder / "to", O_WRONLY | O_CREAT, 0600));
    EXPECT_EQ(must(copy_all(in.get(), out.get())), bytes.size());
  }
  EXPECT_EQ(must(read_file(folder / "to")), bytes);
  for (const char* refused : {"copy_file_range", "sendfile"}) {
    const ScopedFault first("copy_file_range", EXDEV, 1, FaultRepeat::always);
    const ScopedFault second(refused, EINVAL, 1, FaultRepeat::always);
    const UniqueFd in = must(open(folder / "from", O_RDONLY));
    const UniqueFd out = must(open(folder / "to", O_WRONLY | O_TRUNC));
    EXPECT_EQ(must(copy_all(in.get(), out.get())), bytes.size());
    EXPECT_EQ(must(read_file(folder / "to")), bytes);
  }
  const UniqueFd in = must(open("/proc/self/status", O_RDONLY));  // a size of 0 and yet content
  const UniqueFd out = must(open(folder / "status", O_RDWR | O_CREAT, 0600));
  EXPECT_GT(must(copy_all(in.get(), out.get())), 100U);
}

TEST(File, a_held_lock_is_unavailable) {
  const TemporaryFolder folder;
  const UniqueFd one = must(open(folder / "lock", O_RDWR | O_CREAT, 0600));
  const UniqueFd two = must(open(folder / "lock", O_RDWR));
  must(flock(one.get(), LOCK_EX | LOCK_NB));
  EXPECT_EQ(flock(two.get(), LOCK_EX | LOCK_NB).error().kind(), ErrorKind::unavailable);
}

TEST(File, device_numbers_survive_packing) {
  const dev_t device = make_device(4094, 1048575);
  EXPECT_EQ(device_major(device), 4094U);
  EXPECT_EQ(device_minor(device), 1048575U);
}

}  // namespace
}  // namespace caisson::linux

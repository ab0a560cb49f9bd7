// The fault hook: the right call fails, once or always, and a walk over all calls of an operation finds no leak.
#include "linux/fault.hpp"

#include <cerrno>

#include "linux/testing.hpp"

namespace caisson::linux {
namespace {

TEST(Fault, the_nth_call_of_the_named_wrapper_fails_and_no_other) {
  const TemporaryFolder folder;
  const ScopedFault fault("openat2", ENOSPC, 2);
  const UniqueFd root = must(open(folder.path(), O_PATH | O_DIRECTORY));
  EXPECT_TRUE(open_in_root(root.get(), ".", O_PATH));
  const auto failed = open_in_root(root.get(), ".", O_PATH);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().error_number(), ENOSPC);
  EXPECT_EQ(failed.error().kind(), ErrorKind::unavailable);
  EXPECT_EQ(failed.error().text(), "openat2 .: No space left on device");
  EXPECT_TRUE(open_in_root(root.get(), ".", O_PATH));
  EXPECT_TRUE(fault.fired());
  EXPECT_EQ(fault.fired_name(), "openat2");
}

TEST(Fault, a_repeated_fault_fails_every_later_call) {
  const ScopedFault fault("getcwd", EIO, 2, FaultRepeat::always);
  EXPECT_TRUE(getcwd());
  EXPECT_FALSE(getcwd());
  EXPECT_FALSE(getcwd());
}

TEST(Fault, nothing_fails_once_the_fault_is_out_of_scope) {
  { const ScopedFault fault("getcwd", EIO); }
  EXPECT_TRUE(getcwd());
  EXPECT_FALSE(fault::armed.load());
}

TEST(Fault, calls_are_counted_by_name_and_altogether) {
  const ScopedCallCount all;
  const ScopedCallCount named("getcwd");
  must(getcwd());
  must(getcwd());
  must(pipe2());
  EXPECT_EQ(named.value(), 2U);
  EXPECT_EQ(all.value(), 3U);
}

TEST(Fault, malformed_texts_arm_nothing) {
  for (const char* text : {"", "openat2", "openat2:ENOSPC", "openat2:ENOSUCH:1", "openat2:ENOSPC:0", "openat2:ENOSPC:x",
                           "getcwd:EIO:1,openat2"}) {
    EXPECT_FALSE(fault::arm_from_text(text)) << text;
    EXPECT_FALSE(fault::armed.load()) << text;
  }
}

TEST(Fault, a_walk_over_every_call_of_an_atomic_write_leaves_old_content_and_no_temporary_file) {
  const TemporaryFolder folder;
  const std::string path = folder / "config";
  must(write_file_atomic(path, "old", 0600, Durability::synced));
  std::uint32_t calls = 0;
  {
    const ScopedCallCount count;
    must(write_file_atomic(path, "old", 0600, Durability::synced));
    calls = count.value();
  }
  ASSERT_GE(calls, 7U);
  for (std::uint32_t nth = 1; nth <= calls; ++nth) {
    const ScopedFault fault("*", EIO, nth);
    const auto written = write_file_atomic(path, "new", 0600, Durability::synced);
    EXPECT_FALSE(written) << nth << ' ' << fault.fired_name();
    const std::string content = must(read_file(path));
    // After the rename only the folder's fsync can fail: the content is new, its durability is what was refused.
    EXPECT_TRUE(content == "old" || content == "new") << content;
    EXPECT_EQ(must(list_dir(folder.path())).size(), 1U) << "call " << nth << ' ' << fault.fired_name();
    if (content == "new") must(write_file_atomic(path, "old", 0600, Durability::synced));
  }
}

}  // namespace
}  // namespace caisson::linux

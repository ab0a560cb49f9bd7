// Who owns a lock, and what a dead owner leaves behind.
#include "linux/file_lock.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include "base/strings.hpp"
#include "linux/child.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/testing.hpp"

namespace caisson::linux {
namespace {

using testing::HasSubstr;

TEST(FileLock, the_second_is_refused_at_once_while_the_first_lives) {
  const TemporaryFolder folder;
  auto first = FileLock::acquire(folder / "lock");
  ASSERT_TRUE(first.ok());
  auto second = FileLock::acquire(folder / "lock");
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind(), ErrorKind::unavailable);
  EXPECT_THAT(second.error().text(), HasSubstr(concat("in use by process ", getpid())));
}

TEST(FileLock, an_owner_that_soon_ends_is_waited_for_when_asked) {
  const TemporaryFolder folder;
  std::optional<FileLock> first = must(FileLock::acquire(folder / "lock"));
  Result<FileLock> second = Error(ErrorKind::internal, "not tried");
  std::thread waiting([&] { second = FileLock::acquire(folder / "lock", 60'000); });
  first.reset();
  waiting.join();
  EXPECT_TRUE(second.ok()) << second.error().text();
  EXPECT_EQ(FileLock::acquire(folder / "lock", 5).error().kind(), ErrorKind::unavailable);
}

// The daemon is killed while a child of it has not become the worker yet.
TEST(FileLock, what_a_dead_owner_was_about_to_start_is_waited_for) {
  const TemporaryFolder folder;
  const std::string path = folder / "lock";
  Pipe heir_waits = must(pipe2());
  ChildProcess owner = must(fork_with_pidfd(0));
  if (owner.pid == 0) {
    auto lock = FileLock::acquire(path);
    heir_waits.write_end.reset();
    auto heir = fork_with_pidfd(0);
    if (heir.ok() && heir->pid == 0) {
      char byte = 0;
      raw::read(heir_waits.read_end.get(), &byte, 1);  // until the test closes its end
    }
    raw::exit(lock.ok() && heir.ok() ? 0 : 1);
  }
  ASSERT_EQ(must(wait_pidfd(owner.pidfd.get())).exit_code(), 0);
  const UniqueFd other = must(open(path, O_RDWR));
  ASSERT_FALSE(flock(other.get(), LOCK_EX | LOCK_NB).ok()) << "the heir has it";
  Result<FileLock> lock = Error(ErrorKind::internal, "not tried");
  std::thread waiting([&] { lock = FileLock::acquire(path); });
  heir_waits.write_end.reset();
  waiting.join();
  EXPECT_TRUE(lock.ok()) << lock.error().text();
}

}  // namespace
}  // namespace caisson::linux

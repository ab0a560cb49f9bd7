// Tests of the exchange of the running program's file.
#include "linux/own_image.hpp"

#include <sys/wait.h>

#include <stdexcept>

#include "linux/fault.hpp"
#include "linux/file.hpp"
#include "linux/mount_api.hpp"
#include "linux/syscall.hpp"
#include "linux/testing.hpp"

namespace caisson::linux {
namespace {

constexpr std::int64_t read_only_flag = 1;  // ST_RDONLY, statfs(2)

bool is_read_only(const std::string& path) { return (static_cast<std::int64_t>(must(statfs(path)).f_flags) & read_only_flag) != 0; }

/// In a child, so that the tests' own process stays what it is: 0 when `body` went well.
template <typename Body>
int in_child(Body body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int wait_status = 0;
  EXPECT_EQ(::waitpid(pid, &wait_status, 0), pid);
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

UniqueFd read_only_self() {
  const UniqueFd tree = must(open_tree(AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE));
  MountAttributes attributes;
  attributes.set = MOUNT_ATTR_RDONLY;
  must(mount_setattr(tree.get(), "", AT_EMPTY_PATH, attributes));
  return must(reopen(tree.get(), O_RDONLY));
}

int initialised = 23;                 // in the data that is copied
const char* volatile pointer = "23";  // relocated data of a position-independent program

int throw_and_catch() {
  try {
    throw std::runtime_error(pointer);
  } catch (const std::runtime_error& error) {
    return error.what() == std::string("23") ? 0 : 1;
  }
}

class OwnImage : public testing::Test {
  void SetUp() override {
    constexpr int sys_admin = 21;
#ifdef CAISSON_THREAD_SANITIZER
    GTEST_SKIP() << "ThreadSanitizer keeps a shadow of each mapping, and cannot follow the program's exchange";
#endif
    if (!has_capability(sys_admin)) GTEST_SKIP() << "needs CAP_SYS_ADMIN";
    if (is_read_only("/proc/self/exe")) GTEST_SKIP() << "the tests lie on a read-only mount";
  }
};

TEST_F(OwnImage, the_program_goes_on_as_a_file_of_the_other_mount) {
  EXPECT_EQ(in_child([] {
    initialised = 42;
    const UniqueFd file = read_only_self();
    if (auto replaced = replace_own_file(file.get()); !replaced) {
      ADD_FAILURE() << replaced.error().text();
      return 1;
    }
    if (!is_read_only("/proc/self/exe")) return 2;
    if (initialised != 42) return 3;
    initialised = 43;
    return throw_and_catch() != 0 ? 4 : 0;
  }), 0);
}

TEST_F(OwnImage, nothing_of_the_old_mount_stays_mapped) {
  EXPECT_EQ(in_child([] {
    const std::string program = must(readlinkat(AT_FDCWD, "/proc/self/exe"));
    must(replace_own_file(read_only_self().get()));
    int mapped = 0;
    const std::string maps = must(read_file("/proc/self/maps", 1U << 24U));
    for (std::string_view line : split(maps, '\n')) {
      // Of a detached mount the kernel shows the file's path below that mount, which is "/".
      if (line.ends_with(program)) return 1;
      const std::string range(split_once(line, ' ').before);
      if (!line.ends_with(" /")) continue;
      ++mapped;
      if (!is_read_only(concat("/proc/self/map_files/", range))) return 2;
    }
    return mapped >= 1 ? 0 : 3;
  }), 0);
}

TEST_F(OwnImage, a_refusal_leaves_the_program_running) {
  EXPECT_EQ(in_child([] {
    const UniqueFd file = read_only_self();
    for (const char* call : {"mmap", "mremap", "mprotect", "prctl"}) {
      const ScopedFault fault(call, EPERM);
      if (replace_own_file(file.get()) || !fault.fired()) return 1;
      if (throw_and_catch() != 0) return 2;
    }
    return is_read_only("/proc/self/exe") ? 3 : 0;
  }), 0);
}

}  // namespace
}  // namespace caisson::linux

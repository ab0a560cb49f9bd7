// Cgroups on this host's kernel: as it is mounted, and as pure v1 and pure v2 in a private mount namespace.
#include "linux/cgroup.hpp"

#include <linux/capability.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <functional>
#include <thread>

#include "linux/child.hpp"
#include "linux/event.hpp"
#include "linux/fault.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/testing.hpp"

namespace caisson::linux {
namespace {

enum class Host : std::uint8_t { as_mounted, pure_v1, pure_v2 };

/// Rearranges the mounts of this thread's own namespace.
Status rearrange(Host host) {
  TRY_PLAIN(unshare(CLONE_NEWNS));
  TRY_PLAIN(make_all_mounts(MS_PRIVATE));
  const CgroupLayout layout = TRY_PLAIN(detect_cgroup_layout());
  if (host == Host::pure_v1) {
    if (layout.v2() != nullptr) TRY_PLAIN(linux::umount2(layout.v2()->mount_point, MNT_DETACH));
  } else if (host == Host::pure_v2 && layout.mode != CgroupMode::unified) {
    TRY_PLAIN(linux::umount2("/sys/fs/cgroup", MNT_DETACH));
    TRY_PLAIN(mount("none", "/sys/fs/cgroup", "cgroup2", 0, ""));
  }
  return {};
}

std::string name_of(const testing::TestParamInfo<Host>& info) {
  switch (info.param) {
    case Host::as_mounted: return "as_mounted";
    case Host::pure_v1: return "pure_v1";
    case Host::pure_v2: return "pure_v2";
  }
  return "";
}

class CgroupTest : public testing::TestWithParam<Host> {
 protected:
  void SetUp() override {
    if (!has_capability(CAP_SYS_ADMIN)) GTEST_SKIP() << "needs CAP_SYS_ADMIN to make cgroups and mounts";
    const auto layout = detect_cgroup_layout();
    if (!layout || layout->mode == CgroupMode::none) GTEST_SKIP() << "no cgroups are mounted";
    if (GetParam() == Host::pure_v1 && layout->mode == CgroupMode::unified) GTEST_SKIP() << "no v1 hierarchy on this host";
  }
  /// Runs the body in a thread whose mounts are as the parameter says.
  void on_host(const std::function<void(std::shared_ptr<const CgroupLayout>)>& body) {
    std::thread([&] {
      try {
        if (GetParam() != Host::as_mounted) must(rearrange(GetParam()));
        body(std::make_shared<const CgroupLayout>(must(detect_cgroup_layout())));
      } catch (const std::runtime_error& error) {
        ADD_FAILURE() << error.what();
      }
    }).join();
  }
};
INSTANTIATE_TEST_SUITE_P(Hosts, CgroupTest, testing::Values(Host::as_mounted, Host::pure_v1, Host::pure_v2), name_of);

/// A cgroup that is emptied and removed with its parent when the test ends.
struct TestCgroup {
  std::string parent;
  Cgroup cgroup;
  explicit TestCgroup(const std::shared_ptr<const CgroupLayout>& layout)
      : parent("/caisson-test-" + random_id().substr(0, 12)), cgroup(must(Cgroup::create(layout, parent + "/c"))) {}
  TestCgroup(const TestCgroup&) = delete;
  TestCgroup& operator=(const TestCgroup&) = delete;
  ~TestCgroup() {
    ignore(cgroup.kill_all());
    for (const std::string& path : {parent + "/c", parent}) {
      auto opened = Cgroup::open(std::make_shared<const CgroupLayout>(cgroup.layout()), path);
      const auto removed = opened->remove();
      if (!removed) ADD_FAILURE() << removed.error().text();
    }
  }
};

/// A child that has joined the cgroup by itself, as a container's init does, and then sleeps.
ChildProcess sleeper_in(const Cgroup& cgroup) {
  const CgroupHandle handle = must(cgroup.handle());
  const Pipe ready = must(pipe2());
  ChildProcess child = must(fork_with_pidfd(0, handle.v2_dir.get()));
  if (child.pid == 0) {
    int failed = 0;
    for (const UniqueFd& procs : handle.v1_tasks_fds)
      if (raw::write(procs.get(), "0", 1) != 1) failed = 1;
    raw::write(ready.write_end.get(), failed == 0 ? "y" : "n", 1);
    while (true) ::pause();
  }
  std::array<char, 1> byte{};
  must(read(ready.read_end.get(), byte));
  EXPECT_EQ(byte[0], 'y');
  return child;
}

TEST_P(CgroupTest, a_cgroup_is_made_joined_listed_killed_and_removed) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    TestCgroup test(layout);
    EXPECT_TRUE(test.cgroup.exists());
    EXPECT_TRUE(must(test.cgroup.pids()).empty());
    const ChildProcess one = sleeper_in(test.cgroup);
    const ChildProcess two = sleeper_in(test.cgroup);
    EXPECT_EQ(must(test.cgroup.pids()).size(), 2U);
    for (const auto& [controllers, path] : must(cgroup_of_process(one.pid)))
      if (layout->find(controllers) != nullptr || controllers.empty()) {
        if (controllers.empty() && layout->v2() == nullptr) continue;
        EXPECT_EQ(path, test.cgroup.path()) << controllers;
      }
    EXPECT_EQ(test.cgroup.remove(0).error().kind(), ErrorKind::conflict);
    must(test.cgroup.kill_all());
    EXPECT_EQ(must(wait_pidfd(one.pidfd.get())).exit_code(), 128 + SIGKILL);
    EXPECT_EQ(must(wait_pidfd(two.pidfd.get())).exit_code(), 128 + SIGKILL);
    must(test.cgroup.remove());
    EXPECT_FALSE(test.cgroup.exists());
    must(test.cgroup.remove());  // gone already is fine
  });
}

TEST_P(CgroupTest, processes_freeze_and_thaw) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    TestCgroup test(layout);
    const ChildProcess child = sleeper_in(test.cgroup);
    EXPECT_EQ(must(test.cgroup.freeze_state()), FreezeState::thawed);
    must(test.cgroup.freeze());
    EXPECT_EQ(must(test.cgroup.freeze_state()), FreezeState::frozen);
    EXPECT_EQ(Cgroup::create(layout, test.cgroup.path()).error().kind(), ErrorKind::conflict);
    must(test.cgroup.freeze());
    must(test.cgroup.thaw());
    EXPECT_EQ(must(test.cgroup.freeze_state()), FreezeState::thawed);
    must(test.cgroup.freeze());
    must(test.cgroup.kill_all());  // frozen processes die too
    must(wait_pidfd(child.pidfd.get()));
  });
}

TEST_P(CgroupTest, a_killed_cgroup_takes_its_sub_cgroups_along) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    TestCgroup test(layout);
    Cgroup below = must(Cgroup::create(layout, test.cgroup.path() + "/inner/deep"));
    const ChildProcess child = sleeper_in(below);
    EXPECT_TRUE(must(test.cgroup.pids(false)).empty());
    EXPECT_EQ(must(test.cgroup.pids(true)), std::vector<int>{child.pid});
    must(test.cgroup.kill_all());
    must(wait_pidfd(child.pidfd.get()));
    must(test.cgroup.remove());
    EXPECT_FALSE(below.exists());
  });
}

TEST_P(CgroupTest, an_inhabited_or_frozen_cgroup_is_not_taken_over_and_an_empty_one_is) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    TestCgroup test(layout);
    EXPECT_TRUE(test.cgroup.is_new());
    EXPECT_FALSE(must(Cgroup::create(layout, test.cgroup.path())).is_new());
    {
      const ChildProcess child = sleeper_in(test.cgroup);
      EXPECT_EQ(Cgroup::create(layout, test.cgroup.path()).error().text(), "container's cgroup is not empty: 1 process(es) found");
      kill_and_reap(child.pidfd.get());
    }
    must(test.cgroup.freeze());
    EXPECT_EQ(Cgroup::create(layout, test.cgroup.path()).error().text(), "container's cgroup unexpectedly frozen");
    must(test.cgroup.thaw());
  });
}

TEST_P(CgroupTest, bad_paths_are_refused) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    for (const char* path : {"", "/", "//", "/a/../b", "/a//b", "..", "a/./b", "/a/", "/a\nb"})
      EXPECT_EQ(Cgroup::create(layout, path).error().kind(), ErrorKind::invalid) << path;
  });
}

TEST_P(CgroupTest, no_failing_call_of_create_leaves_a_directory) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    const std::string path = "/caisson-test-" + random_id().substr(0, 12) + "/a/b";
    const std::string top = path.substr(0, path.find('/', 1));
    std::uint32_t calls = 0;
    {
      const ScopedCallCount count("mkdirat");
      must(must(Cgroup::create(layout, path)).remove());
      calls = count.value();
      must(must(Cgroup::open(layout, top)).remove());
    }
    EXPECT_GT(calls, 3U);
    for (std::uint32_t nth = 1; nth <= calls; ++nth) {
      const ScopedFault fault("mkdirat", ENOSPC, nth);
      const auto failed = Cgroup::create(layout, path);
      ASSERT_FALSE(failed) << nth;
      EXPECT_EQ(failed.error().kind(), ErrorKind::unavailable);
      EXPECT_FALSE(must(Cgroup::open(layout, top)).exists()) << nth;
    }
  });
}

TEST_P(CgroupTest, limits_go_to_the_hierarchy_that_has_the_controller_or_say_that_none_has) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    TestCgroup test(layout);
    CgroupLimits limits;
    limits.memory_limit_bytes = 64 << 20;
    limits.memory_swap_bytes = 64 << 20;
    const auto done = test.cgroup.apply(limits);
    if (!layout->has("memory")) {
      ASSERT_FALSE(done);
      EXPECT_EQ(done.error().text(), "memory controller is not available");
      EXPECT_EQ(done.error().kind(), ErrorKind::unsupported);
      return;
    }
    must(done);
    EXPECT_EQ(must(test.cgroup.stats()).memory_limit_bytes, 64U << 20U);
    limits = {};
    limits.pids_limit = 7;
    limits.cpu_shares = 512;
    limits.cpu_quota_us = 20000;
    limits.cpu_period_us = 50000;
    must(test.cgroup.apply(limits));
    EXPECT_EQ(must(test.cgroup.stats()).pids_limit, 7U);
  });
}

TEST_P(CgroupTest, memory_limits_rise_and_fall_with_swap_in_either_order) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    if (!layout->has("memory")) return;
    TestCgroup test(layout);
    for (const std::int64_t mebibytes : {64, 256, 32, 512, 512, 16}) {
      CgroupLimits limits;
      limits.memory_limit_bytes = mebibytes << 20;
      limits.memory_swap_bytes = mebibytes << 20;
      must(test.cgroup.apply(limits));
      EXPECT_EQ(must(test.cgroup.stats()).memory_limit_bytes, static_cast<std::uint64_t>(mebibytes) << 20U);
      EXPECT_EQ(must(test.cgroup.stats()).swap_limit_bytes, 0U);
    }
    CgroupLimits lifted;
    lifted.memory_limit_bytes = -1;
    must(test.cgroup.apply(lifted));
    EXPECT_EQ(must(test.cgroup.stats()).memory_limit_bytes, UINT64_MAX);
  });
}

TEST_P(CgroupTest, a_parent_that_another_maker_has_not_filled_yet_is_filled_first) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    const auto found = std::find_if(layout->hierarchies.begin(), layout->hierarchies.end(), [](const CgroupHierarchy& hierarchy) {
      return !hierarchy.is_v2 && std::find(hierarchy.controllers.begin(), hierarchy.controllers.end(), "cpuset") != hierarchy.controllers.end();
    });
    if (found == layout->hierarchies.end()) return;
    // As two starts at a time make a parent: one has made the folder, and the other finds it there.
    const std::string parent = "/caisson-test-" + random_id().substr(0, 12);
    const std::string folder = found->mount_point + parent;
    must(mkdir(folder, 0755));
    must(write_kernel_file(folder + "/cgroup.clone_children", "0"));
    ASSERT_EQ(trim(must(read_file(folder + "/cpuset.cpus"))), "");
    {
      Cgroup cgroup = must(Cgroup::create(layout, parent + "/c"));
      EXPECT_NE(trim(must(read_file(folder + "/c/cpuset.cpus"))), "");
      EXPECT_NE(trim(must(read_file(folder + "/c/cpuset.mems"))), "");
      must(cgroup.remove());
    }
    for (const auto& hierarchy : layout->hierarchies) ignore(rmdir(hierarchy.mount_point + parent));
  });
}

TEST_P(CgroupTest, a_refused_value_names_controller_file_and_value) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    if (!layout->has("cpuset")) return;
    TestCgroup test(layout);
    CgroupLimits limits;
    limits.cpuset_cpus = "5000-6000";
    const auto refused = test.cgroup.apply(limits);
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().text().starts_with("cgroup cpuset: write \"5000-6000\" to cpuset.cpus: ")) << refused.error().text();
  });
}

TEST_P(CgroupTest, a_vanished_cgroup_is_told_without_words_that_mean_exit_code_127) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    const Cgroup gone = must(Cgroup::open(layout, "/caisson-test-never-made"));
    Cgroup copy = must(Cgroup::open(layout, "/caisson-test-never-made"));
    CgroupLimits limits;
    limits.hugepages = {{"2MB", 1 << 21}};
    limits.pids_limit = 5;
    for (const auto& text : {copy.apply(limits).error().text(), copy.freeze().error().text(), gone.stats().error().text(),
                             copy.add(getpid()).error().text()}) {
      EXPECT_EQ(text.find("No such file"), std::string::npos) << text;
      EXPECT_FALSE(text.empty());
    }
    EXPECT_TRUE(must(gone.pids()).empty());
    EXPECT_TRUE(copy.kill_all());
  });
}

TEST_P(CgroupTest, device_rules_are_enforced) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    TestCgroup test(layout);
    CgroupLimits limits;
    CgroupDeviceRule none;
    CgroupDeviceRule null;
    null.allow = true;
    null.type = 'c';
    null.major = 1;
    null.minor = 3;
    limits.devices = {none, null};
    auto applied = test.cgroup.apply(limits);
    must(applied);
    limits.devices.back().minor = 5;  // and again: the new filter replaces the old one
    must(test.cgroup.apply(limits));
    const CgroupHandle handle = must(test.cgroup.handle());
    ChildProcess child = must(fork_with_pidfd(0, handle.v2_dir.get()));
    if (child.pid == 0) {
      for (const UniqueFd& procs : handle.v1_tasks_fds)
        if (raw::write(procs.get(), "0", 1) != 1) raw::exit(100);
      int code = 0;
      if (raw::openat(AT_FDCWD, "/dev/zero", O_RDWR, 0) >= 0) code |= 1;
      if (raw::openat(AT_FDCWD, "/dev/null", O_RDWR, 0) == -EPERM) code |= 2;
      if (raw::openat(AT_FDCWD, "/dev/random", O_RDONLY, 0) == -EPERM) code |= 4;
      raw::exit(code);
    }
    EXPECT_EQ(must(wait_pidfd(child.pidfd.get())).exit_code(), 7);
  });
}

TEST_P(CgroupTest, a_process_killed_for_memory_is_counted_and_signalled) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    TestCgroup test(layout);
    if (!layout->has("memory")) {
      EXPECT_EQ(test.cgroup.oom_events().error().text(), "memory controller is not available");
      return;
    }
    CgroupLimits limits;
    limits.memory_limit_bytes = 8 << 20;
    limits.memory_swap_bytes = 8 << 20;
    must(test.cgroup.apply(limits));
    const auto events = must(test.cgroup.oom_events());
    EXPECT_EQ(must(events->count()), 0U);
    const CgroupHandle handle = must(test.cgroup.handle());
    constexpr std::size_t bytes = 64U << 20U;
    std::vector<char> memory(bytes);
    ChildProcess child = must(fork_with_pidfd(0, handle.v2_dir.get()));
    if (child.pid == 0) {
      for (const UniqueFd& procs : handle.v1_tasks_fds) raw::write(procs.get(), "0", 1);
      for (std::size_t i = 0; i < bytes; i += 4096) const_cast<volatile char*>(memory.data())[i] = 1;
      raw::exit(0);
    }
    EXPECT_TRUE(must(wait_readable(events->fd(), 20'000)));
    EXPECT_EQ(must(wait_pidfd(child.pidfd.get())).exit_code(), 128 + SIGKILL);
    EXPECT_EQ(must(events->count()), 1U);
    EXPECT_EQ(must(test.cgroup.stats()).oom_kills, 1U);
  });
}

TEST_P(CgroupTest, usage_is_measured) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    TestCgroup test(layout);
    const CgroupHandle handle = must(test.cgroup.handle());
    ChildProcess child = must(fork_with_pidfd(0, handle.v2_dir.get()));
    if (child.pid == 0) {
      for (const UniqueFd& procs : handle.v1_tasks_fds) raw::write(procs.get(), "0", 1);
      std::atomic<int> spin{0};
      while (spin.fetch_add(1, std::memory_order_relaxed) < 20'000'000) {}
      raw::exit(0);
    }
    must(wait_pidfd(child.pidfd.get()));
    const CgroupStats stats = must(test.cgroup.stats());
    EXPECT_GT(stats.cpu_usage_ns, 1'000'000U);
    if (layout->v2() != nullptr) {
      EXPECT_TRUE(stats.cpu_pressure.has_value() || !exists("/proc/pressure").value_or(false));
    }
  });
}

TEST_P(CgroupTest, a_fork_bomb_stops_at_the_pids_limit) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    if (!layout->has("pids")) return;
    TestCgroup test(layout);
    CgroupLimits limits;
    limits.pids_limit = 3;
    must(test.cgroup.apply(limits));
    const CgroupHandle handle = must(test.cgroup.handle());
    ChildProcess child = must(fork_with_pidfd(0, handle.v2_dir.get()));
    if (child.pid == 0) {
      for (const UniqueFd& procs : handle.v1_tasks_fds) raw::write(procs.get(), "0", 1);
      for (int made = 0; made < 10; ++made) {
        struct ::clone_args args {};
        args.exit_signal = SIGCHLD;
        const int pid = raw::clone3(&args, sizeof args);
        if (pid == 0)
          while (true) ::pause();
        if (pid == -EAGAIN) raw::exit(made);
      }
      raw::exit(100);
    }
    EXPECT_EQ(must(wait_pidfd(child.pidfd.get())).exit_code(), 2);
    must(test.cgroup.kill_all());
  });
}

TEST_P(CgroupTest, a_relative_path_lies_below_our_own_cgroup) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    const std::string name = "caisson-test-" + random_id().substr(0, 12);
    auto made = Cgroup::create(layout, name);
    if (!made) return;  // our own cgroup may belong to somebody who does not let us
    const auto own = must(cgroup_of_process(0));
    for (std::size_t i = 0; i < layout->hierarchies.size(); ++i)
      EXPECT_TRUE(made->directory(i).ends_with("/" + name)) << made->directory(i);
    must(made->remove());
  });
}

TEST_P(CgroupTest, create_join_and_remove_stay_near_their_floor) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    TestCgroup test(layout);
    const ScopedCallCount count;
    Cgroup cgroup = must(Cgroup::create(layout, test.parent + "/fast"));
    must(cgroup.handle());
    must(cgroup.remove());
    // Per hierarchy: mkdir, open, rmdir; and one look at cpuset and at the v2 files.
    EXPECT_LE(count.value(), layout->hierarchies.size() * 3 + 12);
  });
}

TEST_P(CgroupTest, realtime_reaches_a_group_through_its_parents) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    TestCgroup test(layout);
    CgroupLimits limits;
    limits.cpu_rt_period_us = 1000000;
    limits.cpu_rt_runtime_us = 1000;
    const CgroupHierarchy* cpu = layout->find("cpu");
    if (cpu == nullptr || cpu->is_v2) {
      EXPECT_EQ(test.cgroup.apply(limits).error().kind(), ErrorKind::unsupported);
      return;
    }
    const std::string directory = test.cgroup.directory(static_cast<std::size_t>(cpu - layout->hierarchies.data()));
    if (!must(exists(directory + "/cpu.rt_runtime_us"))) GTEST_SKIP() << "this kernel has no RT_GROUP_SCHED";
    must(test.cgroup.apply(limits));
    EXPECT_EQ(must(read_file(directory + "/cpu.rt_runtime_us")), "1000\n");
    limits.cpu_rt_runtime_us = 500;  // downwards leaves the parent as it is
    must(test.cgroup.apply(limits));
    EXPECT_EQ(must(read_file(directory + "/cpu.rt_runtime_us")), "500\n");
    EXPECT_EQ(must(read_file(concat(cpu->mount_point, test.parent, "/cpu.rt_runtime_us"))), "1000\n");
  });
}

TEST_P(CgroupTest, memory_and_swap_rise_and_fall_together) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    if (!layout->has("memory")) GTEST_SKIP() << "no memory controller in this arrangement";
    TestCgroup test(layout);
    for (const std::int64_t limit : {64, 256, 32, 128}) {
      CgroupLimits limits;
      limits.memory_limit_bytes = limit << 20;
      limits.memory_swap_bytes = limit << 20;
      must(test.cgroup.apply(limits));
      EXPECT_EQ(must(test.cgroup.stats()).memory_limit_bytes, static_cast<std::uint64_t>(limit) << 20U);
    }
  });
}

TEST_P(CgroupTest, an_exec_goes_where_the_init_has_moved_itself) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    if (layout->v2() == nullptr) GTEST_SKIP() << "v2 alone has inner nodes";
    TestCgroup test(layout);
    const ChildProcess init = sleeper_in(test.cgroup);
    const std::string& directory = test.cgroup.directory(layout->hierarchies.size() - 1);
    must(mkdir(directory + "/deeper", 0755));
    must(write_kernel_file(directory + "/deeper/cgroup.procs", concat(init.pid)));
    const CgroupHandle beside = must(test.cgroup.handle_beside(init.pid));
    const ChildProcess second = must(fork_with_pidfd(0, beside.v2_dir.get()));
    if (second.pid == 0)
      while (true) ::pause();
    EXPECT_EQ(must(cgroup_of_process(second.pid)).at(""), test.cgroup.path() + "/deeper");
    must(write_kernel_file(directory + "/cgroup.procs", concat(init.pid)));
    must(test.cgroup.kill_all());
    must(wait_pidfd(init.pidfd.get()));
    must(wait_pidfd(second.pidfd.get()));
  });
}

TEST_P(CgroupTest, a_delegatee_owns_the_directory_and_no_limit) {
  on_host([](const std::shared_ptr<const CgroupLayout>& layout) {
    TestCgroup test(layout);
    must(test.cgroup.delegate(12345, 12346));
    for (std::size_t i = 0; i < layout->hierarchies.size(); ++i) {
      const std::string& directory = test.cgroup.directory(i);
      const bool given = layout->hierarchies[i].is_v2;
      EXPECT_EQ(must(stat(directory)).st_uid, given ? 12345U : 0U) << directory;
      EXPECT_EQ(must(stat(directory + "/cgroup.procs")).st_gid, given ? 12346U : 0U) << directory;
      EXPECT_TRUE(!given || must(stat(directory + "/cgroup.max.depth")).st_uid == 0) << directory;
    }
  });
}

}  // namespace
}  // namespace caisson::linux

// Processes, waiting, ids and the small facts about them.
#include "linux/process.hpp"

#include <linux/capability.h>

#include <cerrno>
#include <thread>

#include "linux/child.hpp"
#include "linux/event.hpp"
#include "linux/fault.hpp"
#include "linux/sysinfo.hpp"
#include "linux/testing.hpp"

namespace caisson::linux {
namespace {

/// A child that exits with `code` at once.
ChildProcess child_that_exits(int code) {
  ChildProcess child = must(fork_with_pidfd(0));
  if (child.pid == 0) raw::exit(code);
  return child;
}
/// A child that sleeps until it is killed.
ChildProcess child_that_sleeps() {
  ChildProcess child = must(fork_with_pidfd(0));
  if (child.pid == 0) {
    while (true) ::pause();
  }
  return child;
}

TEST(Process, an_exit_code_is_reported) {
  const ChildProcess child = child_that_exits(42);
  const ExitStatus status = must(wait_pidfd(child.pidfd.get()));
  EXPECT_EQ(status.pid, child.pid);
  EXPECT_EQ(status.exit_code(), 42);
  EXPECT_FALSE(status.signaled);
}

TEST(Process, a_killed_child_reports_its_signal) {
  const ChildProcess child = child_that_sleeps();
  EXPECT_FALSE(must(try_wait_pidfd(child.pidfd.get())).has_value());
  EXPECT_FALSE(must(pidfd_has_ended(child.pidfd.get())));
  EXPECT_EQ(must(pidfd_pid(child.pidfd.get())), child.pid);
  must(pidfd_send_signal(child.pidfd.get(), SIGTERM));
  EXPECT_TRUE(must(wait_readable(child.pidfd.get(), 10'000)));
  EXPECT_EQ(must(process_stat(child.pid)).state, 'Z');
  const ExitStatus status = must(wait_pidfd(child.pidfd.get()));
  EXPECT_TRUE(status.signaled);
  EXPECT_EQ(status.exit_code(), 128 + SIGTERM);
  EXPECT_EQ(pidfd_send_signal(child.pidfd.get(), SIGTERM).error().kind(), ErrorKind::not_found);
  EXPECT_EQ(pidfd_pid(child.pidfd.get()).error().kind(), ErrorKind::not_found);
}

TEST(Process, the_exit_status_survives_a_foreign_reap_where_the_kernel_keeps_it) {
  const ChildProcess child = child_that_exits(7);
  must(wait_pid(child.pid));  // as if another had reaped it
  const auto status = pidfd_exit_status(child.pidfd.get());
  if (!status && status.error().kind() == ErrorKind::unsupported) GTEST_SKIP() << "no PIDFD_INFO_EXIT on this kernel (6.15)";
  ASSERT_TRUE(status) << status.error().text();
  ASSERT_TRUE(status->has_value());
  EXPECT_EQ((*status)->exit_code(), 7);
}

TEST(Process, a_running_process_has_no_exit_status) {
  const ChildProcess child = child_that_sleeps();
  const auto status = pidfd_exit_status(child.pidfd.get());
  if (status) {
    EXPECT_FALSE(status->has_value());
  }
  kill_and_reap(child.pidfd.get());
}

TEST(Process, start_times_tell_processes_apart_and_missing_ones_are_not_found) {
  const auto mine = must(process_start_time(getpid()));
  EXPECT_GT(mine, 0U);
  EXPECT_EQ(must(process_start_time(getpid())), mine);
  const ChildProcess child = child_that_exits(0);
  must(wait_pidfd(child.pidfd.get()));
  const auto gone = process_start_time(child.pid);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().kind(), ErrorKind::not_found);
  EXPECT_EQ(gone.error().text().find("No such file"), std::string::npos);
}

TEST(Process, a_name_full_of_brackets_does_not_confuse_the_reader_of_stat) {
  ChildProcess child = must(fork_with_pidfd(0));
  if (child.pid == 0) {
    raw::prctl(15 /* PR_SET_NAME */, reinterpret_cast<unsigned long>(") Z 1 (x) ) 9"));
    while (true) ::pause();
  }
  // Poll until the name is in force: there is no event for it.
  std::string comm;
  for (int i = 0; i < 1000 && !comm.starts_with(')'); ++i) comm = must(read_file(concat("/proc/", child.pid, "/comm")));
  EXPECT_NE(must(process_stat(child.pid)).state, '?');
  EXPECT_GT(must(process_start_time(child.pid)), 0U);
  kill_and_reap(child.pidfd.get());
}

TEST(Process, a_descriptor_is_taken_from_another_process) {
  const Pipe pipe = must(pipe2());
  ChildProcess child = must(fork_with_pidfd(0));
  if (child.pid == 0) {
    while (true) ::pause();
  }
  const auto copy = pidfd_getfd(child.pidfd.get(), pipe.write_end.get());
  kill_and_reap(child.pidfd.get());
  if (!copy && copy.error().kind() == ErrorKind::denied) GTEST_SKIP() << "ptrace is restricted here";
  ASSERT_TRUE(copy) << copy.error().text();
  must(write_all(copy->get(), "x"));
  std::array<char, 1> byte{};
  EXPECT_EQ(must(read(pipe.read_end.get(), byte)), 1U);
}

TEST(Process, namespaces_know_their_type) {
  const UniqueFd net = must(open_namespace(0, "net"));
  EXPECT_EQ(must(namespace_type(net.get())), CLONE_NEWNET);
  EXPECT_TRUE(namespace_owner(net.get()));
  const UniqueFd null = must(open("/dev/null", O_RDONLY));
  EXPECT_EQ(namespace_type(null.get()).error().kind(), ErrorKind::invalid);
}

TEST(Process, limits_are_read_and_lowered) {
  EXPECT_EQ(must(limit_by_name("RLIMIT_NOFILE")), RLIMIT_NOFILE);
  EXPECT_EQ(must(limit_by_name("core")), RLIMIT_CORE);
  EXPECT_FALSE(limit_by_name("nosuch"));
  const ChildProcess child = child_that_sleeps();
  ResourceLimit limit = must(get_limit(child.pid, RLIMIT_NOFILE));
  limit.soft = 100;
  limit.hard = 200;
  must(set_limit(child.pid, RLIMIT_NOFILE, limit));
  EXPECT_EQ(must(get_limit(child.pid, RLIMIT_NOFILE)).hard, 200U);
  kill_and_reap(child.pidfd.get());
}

TEST(Process, file_system_ids_change_for_one_thread_and_come_back) {
  if (!has_capability(CAP_SETUID)) GTEST_SKIP() << "needs CAP_SETUID";
  const TemporaryFolder folder;
  must(fchmodat(AT_FDCWD, folder.path(), 0777));
  {
    const auto ids = must(ScopedFsIds::create(1234, 4321));
    must(write_file(folder / "theirs", "x"));
    std::thread([&] { must(write_file(folder / "others", "x")); }).join();
  }
  must(write_file(folder / "mine", "x"));
  EXPECT_EQ(must(stat(folder / "theirs")).st_uid, 1234U);
  EXPECT_EQ(must(stat(folder / "theirs")).st_gid, 4321U);
  EXPECT_EQ(must(stat(folder / "mine")).st_uid, geteuid());
}

TEST(Process, a_refused_user_id_brings_the_group_id_back) {
  if (!has_capability(CAP_SETUID)) GTEST_SKIP() << "needs CAP_SETUID";
  const TemporaryFolder folder;
  {
    const ScopedFault fault("setfsuid", EPERM);
    EXPECT_FALSE(ScopedFsIds::create(1234, 4321));
  }
  must(write_file(folder / "f", "x"));
  EXPECT_EQ(must(stat(folder / "f")).st_gid, getegid());
}

TEST(Process, affinity_is_read_and_set) {
  const auto cpus = must(sched_getaffinity(0));
  ASSERT_FALSE(cpus.empty());
  EXPECT_EQ(static_cast<int>(cpus.size()), cpu_count());
  const ChildProcess child = child_that_sleeps();
  const int first[] = {cpus.front()};
  must(sched_setaffinity(child.pid, first));
  EXPECT_EQ(must(sched_getaffinity(child.pid)), std::vector<int>{cpus.front()});
  kill_and_reap(child.pidfd.get());
}

TEST(Process, descriptors_are_closed_in_runs_and_those_between_stay) {
  std::vector<UniqueFd> fds;
  std::vector<int> numbers;
  for (int i = 0; i < 6; ++i) {
    fds.push_back(must(memfd_create("run")));
    numbers.push_back(fds.back().get());
  }
  UniqueFd kept = std::move(fds[2]);  // leaves an empty place, and a gap in the numbers
  {
    ScopedCallCount calls("close_range");
    close_all(std::move(fds));
    EXPECT_LE(calls.value(), 2U);
  }
  for (int number : numbers) EXPECT_EQ(fstat(number).ok(), number == kept.get()) << number;
}

TEST(Event, timers_and_counters_tell_when_and_how_often) {
  const UniqueFd timer = must(timerfd_create());
  EXPECT_EQ(must(timerfd_take(timer.get())), 0U);
  must(timerfd_settime(timer.get(), 1'000'000, 0));
  EXPECT_TRUE(must(wait_readable(timer.get(), 10'000)));
  EXPECT_EQ(must(timerfd_take(timer.get())), 1U);
  const UniqueFd counter = must(eventfd());
  EXPECT_FALSE(must(eventfd_take(counter.get())).has_value());
  must(eventfd_signal(counter.get()));
  must(eventfd_signal(counter.get()));
  EXPECT_EQ(must(eventfd_take(counter.get())), 2U);
}

TEST(Event, signals_arrive_by_descriptor) {
  std::thread([] {
    const auto blocked = must(BlockedSignals::create({SIGUSR1}));
    const UniqueFd fd = must(signalfd({SIGUSR1}));
    EXPECT_FALSE(must(signalfd_take(fd.get())).has_value());
    ::pthread_kill(::pthread_self(), SIGUSR1);
    const auto event = must(signalfd_take(fd.get()));
    ASSERT_TRUE(event.has_value());
    EXPECT_EQ(event->signal, SIGUSR1);
    EXPECT_EQ(event->pid, getpid());
  }).join();
}

TEST(Event, epoll_gives_back_the_tag) {
  const Pipe pipe = must(pipe2());
  const UniqueFd epoll = must(epoll_create());
  must(epoll_add(epoll.get(), pipe.read_end.get(), EPOLLIN, 0x1234567890ULL));
  std::array<EpollEvent, 4> events{};
  EXPECT_EQ(must(epoll_wait(epoll.get(), events, 0)), 0U);
  must(write_all(pipe.write_end.get(), "x"));
  ASSERT_EQ(must(epoll_wait(epoll.get(), events, 10'000)), 1U);
  EXPECT_EQ(events[0].tag, 0x1234567890ULL);
}

TEST(Event, inotify_names_what_changed) {
  const TemporaryFolder folder;
  const UniqueFd watcher = must(inotify_create());
  const int watch = must(inotify_add_watch(watcher.get(), folder.path(), IN_CREATE));
  EXPECT_TRUE(must(inotify_take(watcher.get())).empty());
  must(write_file(folder / "a", ""));
  must(write_file(folder / "bb", ""));
  const auto events = must(inotify_take(watcher.get()));
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].watch, watch);
  EXPECT_EQ(events[1].name, "bb");
}

TEST(SysInfo, facts_are_plausible) {
  EXPECT_EQ(must(uname()).sysname, "Linux");
  EXPECT_GT(must(total_memory_bytes()), 16U << 20U);
  EXPECT_EQ(must(boot_id()).size(), 36U);
  std::array<char, 64> one{};
  std::array<char, 64> two{};
  must(random_bytes(one));
  must(random_bytes(two));
  EXPECT_NE(one, two);
}

}  // namespace
}  // namespace caisson::linux

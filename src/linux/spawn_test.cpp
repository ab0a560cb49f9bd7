// Spawning: exact descriptors and environments, and workers that really have nothing left.
#include "linux/spawn.hpp"

#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <thread>

#include "linux/event.hpp"
#include "linux/fault.hpp"
#include "linux/testing.hpp"

namespace caisson::linux {
namespace {

std::string collect(UniqueFd& write_end, const UniqueFd& read_end) {
  write_end.reset();
  return must(read_all(read_end.get()));
}

ProcessRequest shell(std::string_view script, const Pipe& out) {
  ProcessRequest request;
  request.path = "/bin/sh";
  request.argv = {"sh", "-c", std::string(script)};
  request.env = {"PATH=/usr/bin:/bin"};
  request.fds = {{out.write_end.get(), 1}, {out.write_end.get(), 2}};
  return request;
}

TEST(Spawn, a_program_gets_its_arguments_and_nothing_of_our_environment) {
  Pipe out = must(pipe2());
  ProcessRequest request = shell("echo \"$1|$SECRET|$GIVEN\"; pwd", out);
  request.argv.insert(request.argv.end(), {"sh", "a b"});
  request.env.push_back("GIVEN=yes");
  request.cwd = "/usr";
  ::setenv("SECRET", "leak", 1);
  const ChildProcess child = must(spawn_process(request));
  EXPECT_EQ(collect(out.write_end, out.read_end), "a b||yes\n/usr\n");
  EXPECT_EQ(must(wait_pidfd(child.pidfd.get())).exit_code(), 0);
}

TEST(Spawn, only_mapped_descriptors_are_open_even_those_left_open_by_others) {
  const int leaked = ::open("/etc/passwd", O_RDONLY);  // no O_CLOEXEC, as a careless library would
  Pipe out = must(pipe2());
  const UniqueFd extra = must(sealed_memfd("x", "content"));
  ProcessRequest request = shell("cat <&5; ls /proc/self/fd", out);
  request.fds.push_back({extra.get(), 5});
  const ChildProcess child = must(spawn_process(request));
  // 3 is ls's own descriptor of the folder.
  EXPECT_EQ(collect(out.write_end, out.read_end), "content0\n1\n2\n3\n5\n");
  must(wait_pidfd(child.pidfd.get()));
  ::close(leaked);
}

TEST(Spawn, sources_and_targets_may_cross) {
  const UniqueFd one = must(sealed_memfd("one", "one"));
  const UniqueFd two = must(sealed_memfd("two", "two"));
  Pipe out = must(pipe2());
  ProcessRequest request = shell("", out);
  const int a = one.get();
  const int b = two.get();
  request.argv[2] = concat("cat <&", a, "; cat <&", b);
  if (a > 9 || b > 9) GTEST_SKIP() << "the shell takes one digit";
  request.fds.push_back({a, b});
  request.fds.push_back({b, a});
  const ChildProcess child = must(spawn_process(request));
  EXPECT_EQ(collect(out.write_end, out.read_end), "twoone");
  must(wait_pidfd(child.pidfd.get()));
}

TEST(Spawn, a_failed_start_names_the_step_and_leaves_no_child) {
  ProcessRequest request;
  request.argv = {"x"};
  request.path = "/no/such/program";
  auto failed = spawn_process(request);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind(), ErrorKind::not_found);
  EXPECT_EQ(failed.error().text(), "start /no/such/program: No such file or directory");
  request.path = "/etc/passwd";
  EXPECT_EQ(spawn_process(request).error().kind(), ErrorKind::denied);
  request.path = "/bin/true";
  request.cwd = "/no/such/folder";
  EXPECT_EQ(spawn_process(request).error().text(),
            "start /bin/true: enter the working directory /no/such/folder: No such file or directory");
  EXPECT_EQ(try_wait_any().error().error_number(), ECHILD);
}

TEST(Spawn, bad_requests_are_refused_before_any_process_exists) {
  const ScopedCallCount clones("clone");
  ProcessRequest request;
  request.path = "/bin/true";
  EXPECT_EQ(spawn_process(request).error().kind(), ErrorKind::invalid);  // no argv
  request.argv = {"true"};
  request.path = "true";
  EXPECT_EQ(spawn_process(request).error().kind(), ErrorKind::invalid);  // not absolute
  request.path = "/bin/true";
  request.env = {std::string("A=b\0c", 5)};
  EXPECT_EQ(spawn_process(request).error().kind(), ErrorKind::invalid);
  request.env = {};
  request.fds = {{0, 3}, {1, 3}};
  EXPECT_EQ(spawn_process(request).error().kind(), ErrorKind::invalid);
  EXPECT_EQ(clones.value(), 0U);
}

TEST(Spawn, blocked_and_ignored_signals_are_not_inherited) {
  std::thread([] {
    const auto blocked = must(BlockedSignals::create({SIGTERM, SIGINT}));
    must(ignore_signal(SIGPIPE));
    Pipe out = must(pipe2());
    const ChildProcess child = must(spawn_process(shell("grep -E 'Sig(Blk|Ign)' /proc/self/status", out)));
    EXPECT_EQ(collect(out.write_end, out.read_end), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    must(wait_pidfd(child.pidfd.get()));
    must(default_signal(SIGPIPE));
  }).join();
}

TEST(Spawn, many_threads_spawn_at_once) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([t] {
      for (int i = 0; i < 10; ++i) {
        const auto ran = must(run_program({"/bin/sh", "-c", concat("exit ", t)}));
        EXPECT_EQ(ran.status.exit_code(), t);
      }
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(RunProgram, input_output_and_exit_code_come_through) {
  RunOptions options;
  const std::string input(300000, 'i');
  options.standard_input = input;
  const ProgramOutput ran = must(run_program({"sh", "-c", "cat; echo problem >&2; exit 3"}, options));
  EXPECT_EQ(ran.status.exit_code(), 3);
  EXPECT_EQ(ran.standard_output, input);
  EXPECT_EQ(ran.standard_error, "problem\n");
}

TEST(RunProgram, a_program_can_be_called_by_another_name) {
  RunOptions options;
  options.path = "/bin/sh";
  EXPECT_EQ(must(run_program({"other-name", "-c", "echo $0"}, options)).standard_output, "other-name\n");
}

TEST(RunProgram, a_program_that_hangs_is_killed) {
  RunOptions options;
  options.timeout_ms = 50;
  const auto late = run_program({"sleep", "100"}, options);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind(), ErrorKind::timeout);
  EXPECT_EQ(late.error().text(), "sleep: it did not end within 50 ms");
  EXPECT_EQ(try_wait_any().error().error_number(), ECHILD);
}

TEST(RunProgram, endless_output_is_cut_off) {
  RunOptions options;
  options.limit_bytes = 100000;
  EXPECT_EQ(run_program({"yes"}, options).error().kind(), ErrorKind::invalid);
  EXPECT_EQ(try_wait_any().error().error_number(), ECHILD);
}

TEST(RunProgram, a_caller_who_goes_away_stops_it) {
  Pipe pipe = must(pipe2());
  RunOptions options;
  options.cancel.fd = pipe.read_end.get();
  pipe.write_end.reset();
  EXPECT_EQ(run_program({"sleep", "100"}, options).error().kind(), ErrorKind::unavailable);
}

TEST(RunProgram, a_program_that_is_not_installed_is_not_found) {
  EXPECT_EQ(run_program({"no-such-program-at-all"}).error().kind(), ErrorKind::not_found);
  EXPECT_FALSE(find_program("sh", ":.:relative"));
}

SpawnRequest worker(std::string_view script, const Pipe& out) {
  SpawnRequest request;
  request.process = shell(script, out);
  request.id_map.uids = {{0, 100000, 65536}};
  request.id_map.gids = {{0, 100000, 65536}};
  request.uid = 1000;
  request.gid = 1000;
  return request;
}

std::string run_worker(const SpawnRequest& request, Pipe& out) {
  const ChildProcess child = must(spawn_sandboxed(request));
  std::string text = collect(out.write_end, out.read_end);
  must(wait_pidfd(child.pidfd.get()));
  return text;
}

#define NEEDS_ROOT() \
  if (!has_capability(CAP_SYS_ADMIN)) GTEST_SKIP() << "needs CAP_SYS_ADMIN to make namespaces with a range of ids"

TEST(Sandbox, a_worker_has_its_ids_no_capabilities_and_no_new_privileges) {
  NEEDS_ROOT();
  Pipe out = must(pipe2());
  const std::string text = run_worker(worker("id -u; id -G; grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status; cat /proc/self/uid_map", out), out);
  EXPECT_EQ(text,
            "1000\n1000\nGroups:\t \nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
            "CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n         0     100000      65536\n");
}

TEST(Sandbox, root_inside_keeps_exactly_the_asked_capabilities) {
  NEEDS_ROOT();
  for (const std::uint32_t uid : {0U, 1000U}) {
    Pipe out = must(pipe2());
    SpawnRequest request = worker("grep CapEff /proc/self/status", out);
    request.uid = uid;
    request.capabilities = {CAP_CHOWN, CAP_FOWNER};
    EXPECT_EQ(run_worker(request, out), "CapEff:\t0000000000000009\n") << uid;
  }
}

TEST(Sandbox, a_worker_sees_no_network_and_no_foreign_process) {
  NEEDS_ROOT();
  Pipe out = must(pipe2());
  SpawnRequest request = worker("ls /sys/class/net >/dev/null; tail -n +3 /proc/net/dev | cut -d: -f1; echo $$; ls -d /proc/[0-9]*", out);
  request.mount_proc = true;
  // The shell, which expands the pattern, is the only process there is.
  EXPECT_EQ(run_worker(request, out), "    lo\n1\n/proc/1\n");
}

TEST(Sandbox, limits_are_set_and_clamped_to_ours) {
  NEEDS_ROOT();
  Pipe out = must(pipe2());
  SpawnRequest request = worker("ulimit -Hn; ulimit -Hc", out);
  request.limits = {{RLIMIT_NOFILE, 64}, {RLIMIT_CORE, 0}, {RLIMIT_NPROC, UINT64_MAX}};
  EXPECT_EQ(run_worker(request, out), "64\n0\n");
}

TEST(Sandbox, the_filter_is_in_force) {
  NEEDS_ROOT();
  Pipe out = must(pipe2());
  SpawnRequest request = worker("uname 2>/dev/null || echo refused", out);
  request.seccomp = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<std::uint32_t>(offsetof(struct ::seccomp_data, nr))},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_uname},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  EXPECT_EQ(run_worker(request, out), "refused\n");
}

TEST(Sandbox, landlock_is_in_force_where_there) {
  NEEDS_ROOT();
  if (landlock_abi() == 0) GTEST_SKIP() << "no Landlock on this kernel";
  Pipe out = must(pipe2());
  SpawnRequest request = worker("cat /etc/hostname 2>/dev/null || echo refused", out);
  request.landlock = LandlockPolicy{.rules = {{"/usr", LandlockAccess::execute}, {"/bin", LandlockAccess::execute},
                                              {"/lib", LandlockAccess::execute}, {"/lib64", LandlockAccess::execute},
                                              {"/dev/null", LandlockAccess::read_write}}};
  EXPECT_EQ(run_worker(request, out), "refused\n");
}

TEST(Sandbox, a_program_is_run_by_descriptor_from_a_folder_the_worker_cannot_enter) {
  NEEDS_ROOT();
  const TemporaryFolder folder;  // 0700 and ours
  {
    const UniqueFd from = must(open("/bin/cat", O_RDONLY));
    const UniqueFd to = must(open(folder / "cat", O_WRONLY | O_CREAT, 0755));
    must(copy_all(from.get(), to.get()));
    must(fchmod(to.get(), 0755));
  }
  const UniqueFd program = must(open(folder / "cat", O_PATH));
  Pipe out = must(pipe2());
  SpawnRequest request = worker("", out);
  request.process.argv = {"cat", "/proc/self/comm"};
  request.process.path = folder / "cat";
  EXPECT_EQ(spawn_sandboxed(request).error().kind(), ErrorKind::denied);
  request.process.exe_fd = program.get();
  EXPECT_FALSE(run_worker(request, out).empty());
}

TEST(Sandbox, the_worker_dies_with_the_thread_that_made_it) {
  NEEDS_ROOT();
  UniqueFd pidfd;
  Pipe out = must(pipe2());
  std::thread([&] {
    SpawnRequest request = worker("exec sleep 1000", out);
    request.process.parent_death_signal = SIGKILL;
    pidfd = std::move(must(spawn_sandboxed(request)).pidfd);
  }).join();
  EXPECT_EQ(must(wait_pidfd(pidfd.get())).exit_code(), 128 + SIGKILL);
}

TEST(Sandbox, no_failing_call_leaves_a_worker_or_a_descriptor_behind) {
  NEEDS_ROOT();
  Pipe out = must(pipe2());
  const SpawnRequest request = worker("exit 0", out);
  const auto descriptors = [] { return must(list_dir("/proc/self/fd")).size(); };
  std::uint32_t calls = 0;
  {
    const ScopedCallCount count;
    const ChildProcess child = must(spawn_sandboxed(request));
    must(wait_pidfd(child.pidfd.get()));
    calls = count.value();
  }
  const std::size_t before = descriptors();
  for (std::uint32_t nth = 1; nth <= calls; ++nth) {
    const ScopedFault fault("*", EIO, nth);
    auto child = spawn_sandboxed(request);
    if (child) kill_and_reap(child->pidfd.get());
    else EXPECT_FALSE(child.error().text().empty());
    child = Error(ErrorKind::io, "done");
    EXPECT_EQ(descriptors(), before) << nth << ' ' << fault.fired_name();
    EXPECT_EQ(try_wait_any().error().error_number(), ECHILD) << nth << ' ' << fault.fired_name();
  }
}

TEST(Sandbox, a_failing_call_in_the_child_is_reported_with_its_step) {
  NEEDS_ROOT();
  const std::pair<const char*, std::string_view> failures[] = {
      {"setresuid", "set the user id"}, {"setresgid", "set the group id"}, {"setgroups", "clear supplementary groups"},
      {"capset", "set capabilities"},   {"mount", "make mounts private"},  {"dup3", "arrange file descriptors"},
      {"sigmask", "reset signals"},
  };
  for (const auto& [call, step] : failures) {
    Pipe out = must(pipe2());
    const SpawnRequest request = worker("exit 0", out);
    const ScopedFault fault(call, EPERM, 1, FaultRepeat::always);
    const auto failed = spawn_sandboxed(request);
    if (call == std::string_view("sigmask")) {
      EXPECT_FALSE(failed);  // the parent's own mask comes first
      continue;
    }
    ASSERT_FALSE(failed) << call;
    EXPECT_EQ(failed.error().text(), concat("start /bin/sh: ", step, ": Operation not permitted"));
  }
}

}  // namespace
}  // namespace caisson::linux

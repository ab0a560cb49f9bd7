// Containers end to end through launcher and monitor, on this kernel, with a busybox root.
#include "runtime/oci_runtime.hpp"

#include <array>
#include <thread>

#include "linux/event.hpp"
#include "runtime/oci_runtime_testing.hpp"

namespace caisson::runtime {
namespace {

using testing::make_root;
using testing::make_spec;
using testing::must;
using testing::OciRuntimeTest;
using testing::TestFolder;
using testing::WaitingObserver;

TEST_F(OciRuntimeTest, a_program_runs_in_its_own_user_namespace_and_its_output_is_logged) {
  auto out = run(request({"sh", "-c", "id -u; cat /proc/self/uid_map; hostname; echo oops >&2; exit 7"}), 7);
  EXPECT_NE(out.find("0\n"), std::string::npos);
  EXPECT_NE(out.find("300000"), std::string::npos) << out;
  EXPECT_NE(out.find("box\n"), std::string::npos) << out;
  EXPECT_NE(out.find("oops\n"), std::string::npos) << out;
}

TEST_F(OciRuntimeTest, a_program_runs_without_a_user_namespace_too) {
  auto out = run(request({"sh", "-c", "cat /proc/self/uid_map; grep Cap /proc/self/status; ls /proc/1/fd"}, false));
  EXPECT_NE(out.find("4294967295"), std::string::npos) << out;
  EXPECT_NE(out.find("CapInh:\t0000000000000000"), std::string::npos) << out;
  EXPECT_NE(out.find("CapAmb:\t0000000000000000"), std::string::npos) << out;
  EXPECT_NE(out.find("CapBnd:\t00000000000004e1"), std::string::npos) << out;
}

TEST_F(OciRuntimeTest, capabilities_are_exactly_those_of_the_configuration) {
  auto out = run(request({"sh", "-c", "grep -E 'Cap|NoNew|Seccomp:' /proc/self/status"}));
  EXPECT_NE(out.find("CapInh:\t0000000000000000"), std::string::npos) << out;
  EXPECT_NE(out.find("CapPrm:\t00000000000004e1"), std::string::npos) << out;
  EXPECT_NE(out.find("CapEff:\t00000000000004e1"), std::string::npos) << out;
  EXPECT_NE(out.find("CapBnd:\t00000000000004e1"), std::string::npos) << out;
  EXPECT_NE(out.find("CapAmb:\t0000000000000000"), std::string::npos) << out;
  EXPECT_NE(out.find("NoNewPrivs:\t1"), std::string::npos) << out;
}

TEST_F(OciRuntimeTest, a_user_gets_its_ids_and_can_open_its_streams_again) {
  auto wanted = request({"sh", "-c", "id; echo again > /dev/stdout; pwd"});
  wanted.spec.process.user.uid = 1000;
  wanted.spec.process.user.gid = 1000;
  wanted.spec.process.user.additional_gids = {7};
  wanted.spec.process.cwd = "/home/user/made";
  auto out = run(std::move(wanted));
  EXPECT_NE(out.find("uid=1000(user) gid=1000 groups=7"), std::string::npos) << out;
  EXPECT_NE(out.find("again\n"), std::string::npos) << out;
  EXPECT_NE(out.find("/home/user/made\n"), std::string::npos) << out;
}

TEST_F(OciRuntimeTest, no_descriptor_of_the_host_is_left_in_the_container) {
  auto out = run(request({"sh", "-c", "ls /proc/self/fd | wc -l; ls -l /proc/self/fd"}));
  // 0, 1, 2 and the folder that ls has open.
  EXPECT_TRUE(out.starts_with("4\n")) << out;
  EXPECT_EQ(out.find("/dev/vda"), std::string::npos) << out;
}

TEST_F(OciRuntimeTest, masked_and_readonly_paths_hold) {
  auto wanted = request({"sh", "-c",
                         "wc -c < /proc/meminfo; wc -c < /proc/timer_list; ls /sys/firmware | wc -l; "
                         "grep -c ' /proc/fs ro' /proc/self/mountinfo; (echo x > /proc/sys/kernel/core_pattern) 2>&1; (mkdir "
                         "/sys/fs/cgroup/cpu/x) 2>&1; "
                         "grep ' / ' /proc/self/mountinfo | head -1"});
  wanted.spec.masked_paths.push_back("/proc/meminfo");
  auto out = run(std::move(wanted));
  EXPECT_TRUE(out.starts_with("0\n0\n0\n1\n")) << out;
  EXPECT_NE(out.find("core_pattern: Read-only file system"), std::string::npos) << out;
  EXPECT_NE(out.find("overlay"), std::string::npos) << out;
}

TEST_F(OciRuntimeTest, the_root_is_writable_through_the_id_map_and_read_only_when_asked) {
  auto wanted = request({"sh", "-c", "touch /made && stat -c %u /made"});
  const std::string id = wanted.id;
  EXPECT_EQ(run(std::move(wanted)), "0\n");
  auto status = must(linux::lstat(folder_ / concat("layer-", id.substr(0, 12), "/upper/made")));
  EXPECT_EQ(status.st_uid, 0U) << "ids on disk are the container's own";
  auto readonly = request({"sh", "-c", "touch /made 2>&1; touch /dev/shm/x && echo shm"});
  readonly.spec.root.readonly = true;
  auto out = run(std::move(readonly));
  EXPECT_NE(out.find("Read-only file system"), std::string::npos) << out;
  EXPECT_NE(out.find("shm\n"), std::string::npos) << out;
}

TEST_F(OciRuntimeTest, devices_work_and_the_standard_links_are_there) {
  auto wanted = request({"sh", "-c",
                         "echo x > /dev/null; head -c 4 /dev/zero | wc -c; ls -l /dev/ptmx /dev/fd /dev/console 2>&1; stat -c '%u %a "
                         "%n' /dev/null; test -c /dev/fuse && echo fuse"});
  wanted.spec.devices.push_back({"/dev/fuse", 'c', 10, 229, 0666, 0, 0});
  auto out = run(std::move(wanted));
  EXPECT_NE(out.find("4\n"), std::string::npos) << out;
  EXPECT_NE(out.find("0 666 /dev/null"), std::string::npos) << out;
  EXPECT_NE(out.find("fuse\n"), std::string::npos) << out;
}

TEST_F(OciRuntimeTest, binds_are_made_with_their_options_and_missing_targets) {
  must(linux::make_dirs(folder_ / "volume", 0777));
  must(linux::fchmodat(AT_FDCWD, folder_ / "volume", 0777));
  must(linux::write_file(folder_ / "file", "content\n", 0644));
  auto wanted = request({"sh", "-c", "cat /a/b/file; touch /data/x && echo rw; touch /ro/x 2>&1; exit 0"});
  Mount bind;
  bind.type = "bind";
  bind.source = folder_ / "file";
  bind.destination = "/a/b/file";
  bind.options = {"bind", "ro"};
  wanted.spec.mounts.push_back(bind);
  bind.source = folder_ / "volume";
  bind.destination = "/data";
  bind.options = {"rbind", "rprivate"};
  wanted.spec.mounts.push_back(bind);
  bind.destination = "/ro";
  bind.options = {"rbind", "rro"};
  wanted.spec.mounts.push_back(bind);
  auto out = run(std::move(wanted));
  EXPECT_NE(out.find("content\n"), std::string::npos) << out;
  EXPECT_NE(out.find("rw\n"), std::string::npos) << out;
  EXPECT_NE(out.find("/ro/x: Read-only file system"), std::string::npos) << out;
  auto missing = request({"true"});
  bind.source = folder_ / "nothing";
  missing.spec.mounts.push_back(bind);
  auto refused = runtime_->start(std::move(missing));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("does not exist"), std::string::npos) << refused.error().text();
}

TEST_F(OciRuntimeTest, a_program_that_cannot_be_executed_is_reported_in_dockers_words) {
  struct Case {
    std::vector<std::string> args;
    std::string_view text;
    ErrorKind kind;
  };
  must(linux::write_file(folder_ / "lower/bin/noexec", "x", 0644));
  must(linux::write_file(folder_ / "lower/bin/script", "#!/no/interpreter\n", 0755));
  const Case cases[] = {
      {{"nothing"}, "exec: \"nothing\": executable file not found in $PATH", ErrorKind::not_found},
      {{"/nothing"}, "exec: \"/nothing\": stat /nothing: no such file or directory", ErrorKind::not_found},
      {{"/bin/noexec"}, "exec: \"/bin/noexec\": permission denied", ErrorKind::denied},
      {{"/tmp"}, "exec: \"/tmp\": is a directory", ErrorKind::denied},
      {{"/bin/script"}, "exec /bin/script: no such file or directory", ErrorKind::not_found},
  };
  for (bool init : {false, true})
    for (const auto& one : cases) {
      if (init && one.args[0] == "/bin/script") continue;  // its interpreter is looked for by exec itself, inside init
      auto wanted = request(one.args);
      wanted.use_init = init;
      const std::string cgroup = wanted.spec.cgroups_path;
      auto outcome = runtime_->start(std::move(wanted));
      ASSERT_FALSE(outcome) << one.text;
      EXPECT_EQ(outcome.error().text(), one.text);
      EXPECT_EQ(outcome.error().kind(), one.kind);
      EXPECT_FALSE(linux::exists(concat("/sys/fs/cgroup/pids", cgroup)).value_or(true)) << "a failed start leaves no cgroup";
    }
}

TEST_F(OciRuntimeTest, init_is_pid_1_and_hands_the_exit_code_on) {
  if (!launcher_is_static()) GTEST_SKIP() << "needs a static caisson-runtime (release build): a container has no loader for ours";
  auto wanted = request({"sh", "-c", "cat /proc/1/comm; exit 9"});
  wanted.use_init = true;
  EXPECT_NE(run(std::move(wanted), 9).find("init"), std::string::npos);
  auto killed = request({"sleep", "100"});
  killed.use_init = true;
  const std::string id = killed.id;
  start(std::move(killed));
  must(runtime_->kill(id, 15));
  EXPECT_EQ(observer_.wait_exit(id).code, 143) << "sleep has no handler, but it is not pid 1";
}

TEST_F(OciRuntimeTest, clients_that_attached_before_the_start_see_every_byte_framed) {
  auto wanted = request({"sh", "-c", "echo out; echo err >&2"});
  auto attached = attachment(false, true);
  wanted.attached.push_back(std::move(attached.request));
  start(std::move(wanted));
  auto out = read_to_end(attached.ours.get());
  EXPECT_NE(out.find(std::string("\1\0\0\0\0\0\0\4out\n", 12)), std::string::npos);
  EXPECT_NE(out.find(std::string("\2\0\0\0\0\0\0\4err\n", 12)), std::string::npos);
}

TEST_F(OciRuntimeTest, stdin_reaches_the_program_early_bytes_first_and_half_close_ends_it) {
  auto wanted = request({"cat"});
  wanted.open_stdin = true;
  wanted.stdin_once = true;
  auto attached = attachment(true, false);
  attached.request.pending_input = "early ";
  wanted.attached.push_back(std::move(attached.request));
  const std::string id = wanted.id;
  must(linux::send_all(attached.ours.get(), "late\n"));
  start(std::move(wanted));
  must(linux::shutdown(attached.ours.get(), SHUT_WR));
  EXPECT_EQ(read_to_end(attached.ours.get()), "early late\n");
  EXPECT_EQ(observer_.wait_exit(id).code, 0);
}

TEST_F(OciRuntimeTest, megabytes_pass_through_a_client_and_the_log_whole) {
  auto wanted = request({"sh", "-c", "seq 1 200000"});
  auto attached = attachment(false, false);
  wanted.attached.push_back(std::move(attached.request));
  wanted.log.max_size_bytes = 0;
  const std::string id = wanted.id;
  start(std::move(wanted));
  std::string expected;
  for (int i = 1; i <= 200000; ++i) expected += concat(i, "\n");
  EXPECT_TRUE(read_to_end(attached.ours.get()) == expected);
  observer_.wait_exit(id);
  EXPECT_TRUE(log_text(id) == expected);
}

TEST_F(OciRuntimeTest, logs_rotate_and_whole_lines_stay_whole) {
  auto wanted = request({"sh", "-c", "seq 1 5000"});
  wanted.log.max_size_bytes = 20000;
  wanted.log.max_files = 3;
  const std::string id = wanted.id;
  run(std::move(wanted));
  EXPECT_TRUE(linux::exists(log_path(id) + ".1").value_or(false));
  EXPECT_TRUE(linux::exists(log_path(id) + ".2").value_or(false));
  EXPECT_FALSE(linux::exists(log_path(id) + ".3").value_or(true));
}

TEST_F(OciRuntimeTest, a_terminal_is_the_controlling_one_and_can_be_resized_and_detached) {
  auto wanted = request({"sh", "-c", "tty; stty size; read x; stty size; echo got $x; sleep 100"});
  wanted.spec.process.terminal = true;
  wanted.spec.process.console_size = ConsoleSize{33, 99};
  wanted.open_stdin = true;
  auto attached = attachment(true, false);
  wanted.attached.push_back(std::move(attached.request));
  const std::string id = wanted.id;
  start(std::move(wanted));
  auto out = read_until(attached.ours.get(), "33 99");
  EXPECT_NE(out.find("/dev/"), std::string::npos) << out;
  must(runtime_->resize(id, "", {44, 111}));
  must(linux::send_all(attached.ours.get(), "a\x10z\r"));
  out = read_until(attached.ours.get(), "got a\x10z");
  EXPECT_NE(out.find("44 111"), std::string::npos) << out;
  must(linux::send_all(attached.ours.get(), std::string("\x10\x11")));
  EXPECT_TRUE(observer_.wait_detached(id));
  read_to_end(attached.ours.get());
  must(runtime_->kill(id, 9));
  EXPECT_EQ(observer_.wait_exit(id).code, 137);
}

TEST_F(OciRuntimeTest, exec_enters_the_container_with_its_limits_and_reports_its_code) {
  auto wanted = request({"sleep", "1000"});
  const std::string id = wanted.id;
  start(std::move(wanted));
  auto out = exec(id,
                  {"sh", "-c",
                   "hostname; id -u; grep -E 'Cap(Inh|Amb|Bnd)|Seccomp:' /proc/self/status; ls /proc/self/fd | wc -l; cat "
                   "/proc/self/cgroup; ps | grep -c sleep; exit 5"},
                  5);
  EXPECT_TRUE(out.starts_with("box\n0\n")) << out;
  EXPECT_NE(out.find("CapInh:\t0000000000000000"), std::string::npos) << out;
  EXPECT_NE(out.find("CapBnd:\t00000000000004e1"), std::string::npos) << out;
  EXPECT_NE(out.find("\n4\n"), std::string::npos) << out;
  EXPECT_EQ(exec(id, {"nothing"}), "error: exec: \"nothing\": executable file not found in $PATH");
  // It is in the container's cgroup.
  auto pids = must(runtime_->processes(id));
  EXPECT_EQ(pids.size(), 1U);
  ExecRequest detached;
  detached.exec_id = random_id();
  detached.process = process({"sleep", "1000"});
  must(runtime_->exec(id, std::move(detached)));
  EXPECT_EQ(must(runtime_->processes(id)).size(), 2U);
  // A container that has gone since somebody looked is one that does not run: it is no missing program.
  ExecRequest late;
  late.exec_id = random_id();
  late.process = process({"true"});
  const auto refused = runtime_->exec(std::string(64, 'e'), std::move(late));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::conflict);
}

TEST_F(OciRuntimeTest, an_exec_whose_time_is_up_is_killed_with_its_children) {
  auto wanted = request({"sleep", "1000"});
  const std::string id = wanted.id;
  start(std::move(wanted));
  ExecRequest limited;
  limited.exec_id = random_id();
  limited.process = process({"sh", "-c", "sleep 1000 & sleep 1000"});
  limited.timeout_ms = 200;
  const std::string exec_id = limited.exec_id;
  must(runtime_->exec(id, std::move(limited)));
  EXPECT_EQ(observer_.wait_exit(exec_id).code, 137);
  const auto deadline = monotonic_ns() + 10'000'000'000;
  while (must(runtime_->processes(id)).size() > 1 && monotonic_ns() < deadline) std::this_thread::yield();  // zombies of the child's
  EXPECT_EQ(must(runtime_->processes(id)).size(), 1U);
  ExecRequest quick;
  quick.exec_id = random_id();
  quick.process = process({"true"});
  quick.timeout_ms = 60'000;
  const std::string quick_id = quick.exec_id;
  must(runtime_->exec(id, std::move(quick)));
  EXPECT_EQ(observer_.wait_exit(quick_id).code, 0);
}

TEST_F(OciRuntimeTest, exec_with_a_terminal_and_input_works) {
  auto wanted = request({"sleep", "1000"});
  const std::string id = wanted.id;
  start(std::move(wanted));
  ExecRequest request;
  request.exec_id = random_id();
  request.process = process({"sh", "-c", "tty; read x; echo got $x"});
  request.process.terminal = true;
  request.with_stdin = true;
  auto attached = attachment(true, false);
  request.attached = std::move(attached.request);
  const std::string exec_id = request.exec_id;
  must(runtime_->exec(id, std::move(request)));
  read_until(attached.ours.get(), "/dev/");
  must(linux::send_all(attached.ours.get(), "hello\r"));
  read_until(attached.ours.get(), "got hello");
  EXPECT_EQ(observer_.wait_exit(exec_id).code, 0);
}

TEST_F(OciRuntimeTest, pause_stops_and_resume_goes_on) {
  auto wanted = request({"sleep", "1000"});
  const std::string id = wanted.id;
  start(std::move(wanted));
  must(runtime_->pause(id));
  must(runtime_->resume(id));
  auto stats = must(runtime_->stats(id));
  EXPECT_GT(stats.memory_limit_bytes, 0U);
  EXPECT_EQ(stats.pids, 1U);
  must(runtime_->kill_all(id));
  EXPECT_EQ(observer_.wait_exit(id).code, 137);
  EXPECT_EQ(runtime_->kill(id, 15).error().kind(), ErrorKind::conflict);
  EXPECT_EQ(runtime_->kill("nobody", 15).error().kind(), ErrorKind::not_found);
}

TEST_F(OciRuntimeTest, running_out_of_memory_is_reported) {
  auto wanted = request({"dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=60"});
  wanted.spec.resources.memory.limit_bytes = 8 << 20;
  wanted.spec.resources.memory.swap_bytes = 8 << 20;
  const std::string id = wanted.id;
  start(std::move(wanted));
  auto status = observer_.wait_exit(id);
  EXPECT_EQ(status.code, 137);
  EXPECT_TRUE(status.oom_killed);
}

TEST_F(OciRuntimeTest, a_killed_monitor_is_replaced_and_nothing_is_lost) {
  auto wanted = request({"sh", "-c", "echo one; printf part; read x; echo ial; echo two; exit 3"});
  wanted.open_stdin = true;
  wanted.stdin_once = true;
  const std::string id = wanted.id;
  start(std::move(wanted));
  // The first line is in the log before the monitor dies; the second is half there.
  for (int i = 0; i < 2000 && log_text(id).find("one") == std::string::npos; ++i) (void)linux::poll({}, 5);
  kill_and_wait(monitor_pid(id));
  ASSERT_TRUE(observer_.wait_replaced(id));
  auto attached = attachment(true, false);
  must(runtime_->attach(id, std::move(attached.request)));
  must(linux::send_all(attached.ours.get(), "go\n"));
  auto status = observer_.wait_exit(id);
  EXPECT_EQ(status.code, 3);
  EXPECT_FALSE(status.lost);
  EXPECT_EQ(log_text(id), "one\npartial\ntwo\n");
}

TEST_F(OciRuntimeTest, what_a_killed_monitor_was_not_told_is_told_its_successor) {
  auto wanted = request({"sleep", "1000"});
  const std::string id = wanted.id;
  start(std::move(wanted));
  for (int round = 0; round < 20; ++round) {
    kill_and_wait(monitor_pid(id));
    EXPECT_EQ(exec(id, {"echo", "in"}), "in\n") << round;
  }
}

TEST_F(OciRuntimeTest, an_exec_into_a_container_that_is_ending_is_a_conflict) {
  for (int round = 0; round < 20; ++round) {
    // With many to end, its end takes a while.
    auto wanted = request({"sh", "-c", "for i in $(seq 60); do sleep 1000 & done; echo up; wait"});
    const std::string id = wanted.id;
    start(std::move(wanted));
    for (int i = 0; i < 2000 && log_text(id).find("up") == std::string::npos; ++i) (void)linux::poll({}, 5);
    std::thread killer([&] { ignore(runtime_->kill(id, 9)); });
    Status outcome;
    while (outcome.ok()) {
      ExecRequest again;
      again.exec_id = random_id();
      again.process = process({"true"});
      if (auto pid = runtime_->exec(id, std::move(again)); !pid) outcome = std::move(pid).error();
    }
    killer.join();
    EXPECT_EQ(outcome.error().kind(), ErrorKind::conflict) << outcome.error().text();
    observer_.wait_exit(id);
  }
}

TEST_F(OciRuntimeTest, containers_outlive_the_daemon_and_are_found_again) {
  auto wanted = request({"sh", "-c", "read x; echo after; exit 4"});
  wanted.open_stdin = true;
  wanted.stdin_once = true;
  auto again = recovery_of(wanted);
  const std::string id = wanted.id;
  auto started = start(std::move(wanted));
  again.pid = started.pid;
  again.start_time = started.start_time;
  runtime_.reset();
  open_runtime();
  auto recovered = must(runtime_->recover(std::move(again)));
  EXPECT_TRUE(recovered.running);
  EXPECT_FALSE(recovered.monitor_replaced);
  EXPECT_EQ(recovered.pid, started.pid);
  EXPECT_EQ(exec(id, {"echo", "inside"}), "inside\n");
  auto attached = attachment(true, false);
  must(runtime_->attach(id, std::move(attached.request)));
  must(linux::send_all(attached.ours.get(), "go\n"));
  EXPECT_EQ(observer_.wait_exit(id).code, 4);
  EXPECT_EQ(log_text(id), "after\n");
}

TEST_F(OciRuntimeTest, an_exit_while_the_daemon_was_away_is_kept) {
  auto wanted = request({"sh", "-c", "sleep 0.2; exit 6"});
  auto again = recovery_of(wanted);
  auto started = start(std::move(wanted));
  again.pid = started.pid;
  again.start_time = started.start_time;
  const int monitor = monitor_pid(again.id);
  auto pidfd = must(linux::pidfd_open(monitor));
  runtime_.reset();
  EXPECT_TRUE(linux::wait_readable(pidfd.get(), 20000).value_or(false)) << "with nobody to tell, the monitor ends";
  open_runtime();
  const std::string id = again.id;
  auto recovered = must(runtime_->recover(std::move(again)));
  EXPECT_FALSE(recovered.running);
  ASSERT_TRUE(recovered.exit.has_value());
  EXPECT_EQ(recovered.exit->code, 6);
  must(runtime_->remove(id, run_dir(id), started_[id]));
  removed_[id] = true;
}

TEST_F(OciRuntimeTest, a_container_without_daemon_and_monitor_is_adopted) {
  auto wanted = request({"sh", "-c", "read x < /tmp/fifo; echo after; exit 8"});
  must(linux::mknodat(AT_FDCWD, folder_ / "lower/tmp/fifo", 0010666, 0));
  auto again = recovery_of(wanted);
  const std::string id = wanted.id;
  auto started = start(std::move(wanted));
  again.pid = started.pid;
  again.start_time = started.start_time;
  const int monitor = monitor_pid(id);
  runtime_.reset();
  kill_and_wait(monitor);
  open_runtime();
  auto recovered = must(runtime_->recover(std::move(again)));
  EXPECT_TRUE(recovered.running);
  EXPECT_TRUE(recovered.monitor_replaced);
  EXPECT_EQ(exec(id, {"sh", "-c", "echo go > /tmp/fifo"}, any_code), "");  // the container's end may be quicker than its own
  auto status = observer_.wait_exit(id);
  // Its parent is whoever reaps orphans here; the code is known where the kernel keeps it (PIDFD_INFO_EXIT, 6.15).
  EXPECT_TRUE(status.code == 8 || status.lost);
  EXPECT_EQ(log_text(id), "after\n");
}

TEST_F(OciRuntimeTest, a_dead_launcher_is_restarted) {
  auto first = request({"sleep", "1000"});
  const std::string id = first.id;
  start(std::move(first));
  auto children = must(linux::read_file(concat("/proc/", starter_->pid(), "/task/", starter_->pid(), "/children")));
  const int launcher = must(parse_integer<int>(split_once(children, ' ').before));
  kill_and_wait(launcher);
  std::string out;
  for (int i = 0; i < 100; ++i) {
    auto pair = runtime_->make_namespaces(make_spec({"true"}, true).id_map, true, -1);
    if (pair) break;
    EXPECT_EQ(pair.error().kind(), ErrorKind::unavailable);
    (void)linux::poll({}, 10);
  }
  EXPECT_EQ(run(request({"echo", "again"})), "again\n");
  EXPECT_EQ(exec(id, {"echo", "still"}), "still\n");
}

TEST_F(OciRuntimeTest, a_dead_starter_of_launchers_is_told_of_and_the_launcher_goes_on) {
  EXPECT_FALSE(must(linux::wait_readable(starter_->pidfd(), 0)));
  kill_and_wait(starter_->pid());
  EXPECT_TRUE(must(linux::wait_readable(starter_->pidfd(), 10'000)));
  auto pair = must(linux::socketpair(linux::UnixType::seqpacket));
  auto refused = starter_->launch(pair.second.get());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind(), ErrorKind::unavailable);
  EXPECT_NE(refused.error().text().find("the process that starts launchers"), std::string::npos) << refused.error().text();
  EXPECT_EQ(run(request({"echo", "still"})), "still\n");
}

TEST_F(OciRuntimeTest, namespaces_given_by_descriptor_are_joined) {
  auto wanted = request({"sh", "-c", "cat /proc/self/uid_map; ls /sys/class/net"});
  auto pair = must(runtime_->make_namespaces(wanted.spec.id_map, true, -1));
  wanted.user_namespace = std::move(pair.user);
  wanted.network_namespace = std::move(pair.network);
  auto out = run(std::move(wanted));
  EXPECT_NE(out.find("300000"), std::string::npos) << out;
  EXPECT_NE(out.find("lo\n"), std::string::npos) << out;
}

TEST_F(OciRuntimeTest, the_host_network_works_beside_a_user_namespace) {
  auto wanted = request({"sh", "-c", "ls /sys/class/net; touch /sys/fs/cgroup/x 2>&1"});
  std::erase_if(wanted.spec.namespaces, [](const Namespace& item) { return item.type == NamespaceType::network; });
  auto out = run(std::move(wanted), 1);
  EXPECT_NE(out.find("lo\n"), std::string::npos) << out;
}

TEST_F(OciRuntimeTest, a_root_with_links_in_place_of_proc_and_dev_is_refused) {
  for (const char* name : {"proc", "dev", "sys"}) {
    const std::string lower = folder_ / concat("evil-", name);
    must(linux::make_dirs(lower, 0755));
    make_root(lower);
    must(linux::remove_tree(concat(lower, "/", name)));
    must(linux::make_dirs(folder_ / "outside", 0777));
    must(linux::symlinkat(folder_ / "outside", AT_FDCWD, concat(lower, "/", name)));
    auto wanted = request({"true"});
    wanted.rootfs->lowerdirs = {lower};
    auto outcome = runtime_->start(std::move(wanted));
    ASSERT_FALSE(outcome) << name;
    EXPECT_NE(outcome.error().text().find("symbolic link"), std::string::npos) << outcome.error().text();
    EXPECT_TRUE(must(linux::list_dir(folder_ / "outside")).empty());
  }
}

TEST_F(OciRuntimeTest, mount_targets_that_lead_out_of_the_root_stay_inside) {
  must(linux::symlinkat("../../../../../../..", AT_FDCWD, folder_ / "lower/up"));
  auto wanted = request({"sh", "-c", "mount | grep -c ' /inside '; ls /inside"});
  auto volume = testing::mount_of("/up/inside", "tmpfs", {});
  wanted.spec.mounts.push_back(volume);
  EXPECT_EQ(run(std::move(wanted)), "1\n");
  EXPECT_FALSE(linux::exists("/inside").value_or(true));
}

TEST_F(OciRuntimeTest, a_working_directory_behind_a_descriptor_is_refused) {
  for (int number = 3; number < 40; ++number) {
    auto wanted = request({"true"});
    wanted.spec.process.cwd = concat("/proc/self/fd/", number);
    auto outcome = runtime_->start(std::move(wanted));
    EXPECT_FALSE(outcome) << number;
  }
}

TEST_F(OciRuntimeTest, the_runtime_cannot_be_overwritten_from_inside) {
  if (!launcher_is_static()) GTEST_SKIP() << "needs a static caisson-runtime (release build): a container has no loader for ours";
  for (bool users : {true, false}) {
    auto wanted = request({"/proc/self/exe"}, users);
    const std::string id = wanted.id;
    const std::string cgroup = wanted.spec.cgroups_path;
    // Where it starts it runs our sealed copy, and nothing writable is reached; the end of the test takes it away.
    if (runtime_->start(std::move(wanted))) started_[id] = cgroup;
  }
  auto bytes = must(linux::read_file(launcher_, std::size_t{256} << 20U));
  auto wanted = request(
      {"sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do (echo bad > /proc/1/exe) 2>/dev/null; done; cat /proc/1/exe | wc -c"}, false);
  wanted.use_init = true;
  const auto out = run(std::move(wanted));
  EXPECT_EQ(must(parse_integer<std::size_t>(trim(out))), bytes.size());
  EXPECT_TRUE(must(linux::read_file(launcher_, std::size_t{256} << 20U)) == bytes);
}

TEST_F(OciRuntimeTest, an_idle_monitor_is_small) {
  if (!launcher_is_static()) GTEST_SKIP() << "needs a static caisson-runtime (release build)";
  std::vector<std::string> ids;
  for (int i = 0; i < 8; ++i) {
    auto wanted = request({"sleep", "1000"});
    ids.push_back(wanted.id);
    start(std::move(wanted));
  }
  const std::string file = concat("/proc/", monitor_pid(ids.back()), "/smaps_rollup");
  std::string rollup;
  int kilobytes = 0;
  // A monitor tidies up when it has slept for half a second; there is no event that tells.
  for (int i = 0; i < 100; ++i) {
    rollup = must(linux::read_file(file));
    const auto at = rollup.find("Pss:");
    ASSERT_NE(at, std::string::npos);
    kilobytes = must(parse_integer<int>(split_once(trim(std::string_view(rollup).substr(at + 4)), ' ').before));
    if (kilobytes <= 200) break;
    (void)linux::poll({}, 50);
  }
  RecordProperty("pss_kb", kilobytes);
  EXPECT_LE(kilobytes, 300) << rollup;
}

class PlainOverlayTest : public OciRuntimeTest {
 protected:
  void SetUp() override {
    ::setenv("CAISSON_OVERLAY", "plain", 1);
    OciRuntimeTest::SetUp();
  }
  void TearDown() override {
    OciRuntimeTest::TearDown();
    ::unsetenv("CAISSON_OVERLAY");
  }
};

TEST_F(PlainOverlayTest, layers_attached_in_a_private_namespace_give_the_same_root) {
  for (bool users : {true, false}) {
    for (int count : {1, 3, 100}) {
      auto wanted = request({"sh", "-c", "touch /made && stat -c %u /made; cat /last"}, users);
      for (int i = 1; i < count; ++i) {
        const std::string layer = folder_ / concat("many-", i);
        must(linux::make_dirs(layer, 0755));
        must(linux::write_file(layer + "/last", concat(i, "\n")));
        wanted.rootfs->lowerdirs.insert(wanted.rootfs->lowerdirs.begin(), layer);
      }
      if (count == 1) must(linux::write_file(folder_ / "lower/last", "0\n"));
      EXPECT_EQ(run(std::move(wanted)), concat("0\n", count - 1, "\n"));
    }
  }
}

}  // namespace
}  // namespace caisson::runtime

#!/usr/bin/env python3
"""The verbs of a container's life, through the command line and the daemon, against what the kernel says."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import unittest

import caisson
from caisson import wait_until


class Run(caisson.EngineTest):
    def test_output_streams_and_exit_code_come_back(self):
        run = self.engine.cli("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", check=7)
        self.assertEqual((run.stdout, run.stderr), ("out\n", "err\n"))

    def test_exit_codes_of_refused_starts_are_dockers(self):
        for command, code in ((["/no/such/program"], 127), (["no-such-program"], 127), (["/etc/not-executable"], 126), (["/etc"], 126)):
            with self.subTest(command=command):
                run = self.engine.cli("run", "--rm", "busybox", *command, check=code)
                self.assertIn(command[0], run.stderr)
        run = self.engine.cli("run", "--rm", "no-such-image:never", check=125)
        self.assertIn("no-such-image:never", run.stderr)
        self.engine.cli("run", "--no-such-flag", "busybox", check=125)
        self.assertEqual(self.engine.ok("ps", "-aq"), "")

    def test_a_signal_gives_128_plus_its_number(self):
        for signal_name, code in (("KILL", 137), ("TERM", 143), ("USR1", 138)):
            with self.subTest(signal=signal_name):
                name = self.run_detached("--init")
                self.engine.ok("kill", "-s", signal_name, name)
                self.assertEqual(self.engine.ok("wait", name), str(code))

    def test_stdin_reaches_the_program_and_ends_there(self):
        run = self.engine.cli("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo eof", stdin="one\ntwo\n", check=0)
        self.assertEqual(run.stdout, "one\ntwo\neof\n")

    def test_a_megabyte_passes_through_in_both_directions(self):
        data = os.urandom(1 << 20)
        run = self.engine.cli("run", "--rm", "-i", "busybox", "cat", stdin=data, text=False, check=0)
        self.assertEqual(run.stdout, data)

    def test_output_after_half_close_is_delivered(self):
        run = self.engine.cli("run", "--rm", "-i", "busybox", "sh", "-c", "cat >/dev/null; echo later; exit 3", stdin="x", check=3)
        self.assertEqual(run.stdout, "later\n")

    def test_rm_removes_the_container_and_its_anonymous_volumes(self):
        self.engine.ok("run", "--rm", "-v", "/data", "busybox", "touch", "/data/x")
        self.assertEqual(self.engine.ok("ps", "-aq"), "")
        self.assertEqual(self.engine.ok("volume", "ls", "-q"), "")

    def test_the_environment_is_the_images_plus_ours(self):
        out = self.engine.ok("run", "--rm", "-e", "A=1", "-e", "B=two words", "--hostname", "box", "busybox", "env")
        values = dict(line.split("=", 1) for line in out.splitlines())
        self.assertEqual((values["A"], values["B"], values["PATH"], values["HOSTNAME"]), ("1", "two words", "/bin:/usr/bin", "box"))
        self.assertNotIn("DOCKER_HOST", values)

    def test_user_groups_and_workdir_hold(self):
        self.assertEqual(self.engine.ok("run", "--rm", "-u", "user", "busybox", "id", "-u"), "1000")
        self.assertEqual(self.engine.ok("run", "--rm", "-u", "1234:2345", "--group-add", "777", "busybox", "sh", "-c", "id -u; id -g; id -G"),
                         "1234\n2345\n2345 777")
        self.assertIn("1500", self.engine.ok("run", "--rm", "-u", "user", "busybox", "id", "-G").split())
        self.assertEqual(self.engine.ok("run", "--rm", "-w", "/tmp", "busybox", "pwd"), "/tmp")
        self.assertEqual(self.engine.ok("run", "--rm", "-w", "/made/on/demand", "busybox", "pwd"), "/made/on/demand")
        self.assertIn("nosuch", self.engine.cli("run", "--rm", "-u", "nosuch", "busybox", "true", check=125).stderr)

    def test_hostname_defaults_to_the_short_id(self):
        name = self.name()
        container = self.engine.ok("run", "-d", "--name", name, "busybox", "hostname")
        self.engine.ok("wait", name)
        self.assertEqual(self.engine.ok("logs", name), container[:12])

    def test_init_reaps_orphans_and_forwards_signals(self):
        name = self.run_detached("--init", command=("sh", "-c", "(sleep 0.01 &) ; trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"))
        wait_until(lambda: "ready" in self.engine.ok("logs", name), "the program is ready")
        wait_until(lambda: " Z" not in self.engine.ok("exec", name, "sh", "-c", "cat /proc/[0-9]*/stat | cut -d')' -f2"), "no zombie is left")
        self.assertNotEqual(self.engine.ok("exec", name, "cat", "/proc/1/comm"), "sh")
        self.engine.ok("stop", "-t", "10", name)
        self.assertEqual(self.engine.inspect(name)["State"]["ExitCode"], 9)

    def test_a_terminal_has_a_name_and_a_size(self):
        if not shutil.which("script"):
            self.skipTest("needs script(1) of util-linux (bsdutils)")
        command = f"stty rows 33 cols 101; {' '.join(self.engine.as_user([]))} {caisson.BIN}/caisson -H {self.engine.host} run --rm -it busybox sh -c 'tty; stty size; sleep 0.2; stty size'"
        out = subprocess.run(["script", "-qec", command, "/dev/null"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False).stdout
        self.assertIn("/dev/pts/0", out)
        self.assertIn("33 101", out)

    def test_ulimits_hold(self):
        self.assertEqual(self.engine.ok("run", "--rm", "--ulimit", "nofile=100:200", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn"), "100\n200")

    def test_a_read_only_root_refuses_writes_but_tmpfs_takes_them(self):
        run = self.engine.cli("run", "--rm", "--read-only", "busybox", "touch", "/x", check=1)
        self.assertIn("Read-only file system", run.stderr)
        self.engine.ok("run", "--rm", "--read-only", "--tmpfs", "/scratch", "busybox", "touch", "/scratch/x")

    def test_the_writable_layer_is_private_and_kept_across_a_restart(self):
        name = self.name()
        self.engine.ok("run", "--name", name, "busybox", "sh", "-c", "[ -e /mark ] && exit 5; touch /mark")
        self.engine.cli("start", "-a", name, check=5)
        self.assertEqual(self.engine.cli("run", "--rm", "busybox", "test", "-e", "/mark").returncode, 1)

    def test_ids_hostnames_and_dns_files_are_there(self):
        out = self.engine.ok("run", "--rm", "--hostname", "web", "--add-host", "db:10.9.8.7", "--dns", "10.1.2.3", "busybox", "sh", "-c",
                             "cat /etc/hosts /etc/resolv.conf /etc/hostname")
        for words in ("localhost", "web", "10.9.8.7\tdb", "nameserver 10.1.2.3"):
            self.assertIn(words, out)


class Verbs(caisson.EngineTest):
    def state(self, name):
        return self.engine.inspect(name)["State"]["Status"]

    def test_create_start_stop_restart_rm(self):
        name = self.name()
        container = self.engine.ok("create", "--name", name, "busybox", "sleep", "1000")
        self.assertRegex(container, "^[0-9a-f]{64}$")
        self.assertEqual(self.state(name), "created")
        self.assertEqual(self.engine.ok("start", name), name)
        self.assertEqual(self.state(name), "running")
        first = self.engine.inspect(name)["State"]["Pid"]
        self.assertEqual(self.engine.cli("rm", name).returncode, 1)
        self.engine.ok("restart", "-t", "0", name)
        self.assertNotEqual(self.engine.inspect(name)["State"]["Pid"], first)
        self.engine.ok("stop", "-t", "0", name)
        self.assertEqual((self.state(name), self.engine.inspect(name)["State"]["ExitCode"]), ("exited", 137))
        self.engine.ok("rm", name)
        self.assertEqual(self.engine.cli("inspect", name).returncode, 1)
        self.assertIn(name, self.engine.cli("start", name, check=1).stderr)

    def test_stop_lets_the_program_clean_up(self):
        name = self.run_detached(command=("sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done"))
        wait_until(lambda: "ready" in self.engine.ok("logs", name), "the program is ready")
        started = time.monotonic()
        self.engine.ok("stop", name)
        self.assertLess(time.monotonic() - started, 8)
        self.assertEqual(self.engine.inspect(name)["State"]["ExitCode"], 3)
        self.assertIn("bye", self.engine.ok("logs", name))

    @caisson.needs_cgroups
    def test_pause_freezes_and_unpause_thaws(self):
        name = self.run_detached(command=("sh", "-c", "while :; do echo x; sleep 0.02; done"))
        wait_until(lambda: self.engine.ok("logs", name), "the program writes")
        self.engine.ok("pause", name)
        self.assertEqual(self.state(name), "paused")
        self.assertIn("(Paused)", self.engine.ok("ps"))
        before = len(self.engine.ok("logs", name))
        wait_until(lambda: len(self.engine.ok("logs", name)) in (before, before), "logs are read")
        self.assertEqual(self.engine.cli("exec", name, "true").returncode, 1)
        self.engine.ok("unpause", name)
        self.assertEqual(self.state(name), "running")
        wait_until(lambda: len(self.engine.ok("logs", name)) > before, "the program writes again")

    def test_wait_reports_the_code_of_a_running_and_of_an_ended_container(self):
        name = self.run_detached("-i", command=("sh", "-c", "read line; exit 4"))
        answers = []
        waiter = threading.Thread(target=lambda: answers.append(self.engine.ok("wait", name)))
        waiter.start()
        self.engine.cli("attach", name, stdin="go\n")
        waiter.join(30)
        self.assertEqual(answers, ["4"])
        self.assertEqual(self.engine.ok("wait", name), "4")

    def test_ps_shows_what_runs(self):
        name = self.run_detached("--label", "tier=test")
        table = self.engine.ok("ps")
        self.assertRegex(table.splitlines()[0], r"^CONTAINER ID\s+IMAGE\s+COMMAND\s+CREATED\s+STATUS\s+PORTS\s+NAMES")
        self.assertRegex(table, rf'busybox\s+"sleep 1000"\s+.*Up .*\s{name}')
        listed = [json.loads(line) for line in self.engine.ok("ps", "-a", "--format", "json").splitlines()]
        mine = [entry for entry in listed if entry["Names"] == name]
        self.assertEqual((mine[0]["State"], mine[0]["Image"]), ("running", "busybox"))
        self.assertEqual(self.engine.ok("ps", "-q", "--filter", "label=tier=test"), self.engine.inspect(name)["Id"][:12])
        self.assertEqual(self.engine.ok("ps", "-q", "--filter", "label=tier=other"), "")

    def test_names_are_unique_and_can_change(self):
        name, other = self.run_detached(), self.name()
        self.assertIn("already in use", self.engine.cli("create", "--name", name, "busybox", check=1).stderr)
        self.engine.ok("rename", name, other)
        self.assertEqual(self.engine.inspect(other)["Name"], "/" + other)
        self.assertEqual(self.engine.inspect(other)["Id"], self.engine.inspect(self.engine.inspect(other)["Id"][:10])["Id"])

    def test_logs_keep_streams_order_times_and_bounds(self):
        name = self.name()
        self.engine.ok("run", "--name", name, "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo $i; done; echo problem >&2")
        logs = self.engine.cli("logs", name, check=0)
        self.assertEqual((logs.stdout, logs.stderr), ("1\n2\n3\n4\n5\n", "problem\n"))
        self.assertEqual(self.engine.ok("logs", "--tail", "2", name), "5")  # the last two records: "5" and, on standard error, "problem"
        stamped = self.engine.ok("logs", "-t", name).splitlines()
        self.assertRegex(stamped[0], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z 1$")
        since = stamped[2].split()[0]
        self.assertEqual(self.engine.ok("logs", "--since", since, name), "3\n4\n5")
        self.assertEqual(self.engine.ok("logs", "--since", "1h", "--tail", "0", name), "")

    def test_logs_follow_until_the_end(self):
        name = self.run_detached("-i", command=("sh", "-c", "echo first; read x; echo last"))
        follower = subprocess.Popen(self.engine.as_user([f"{caisson.BIN}/caisson", "-H", self.engine.host, "logs", "-f", name]), stdout=subprocess.PIPE, text=True)
        self.assertEqual(follower.stdout.readline(), "first\n")
        self.engine.cli("attach", name, stdin="go\n")
        self.assertEqual(follower.communicate(timeout=30)[0], "last\n")
        self.assertEqual(follower.returncode, 0)

    def test_logs_rotate_by_default_bounds(self):
        name = self.name()
        self.engine.ok("run", "--name", name, "--log-opt", "max-size=64k", "--log-opt", "max-file=2", "busybox", "sh", "-c",
                       "i=0; while [ $i -lt 5000 ]; do echo line $i of a log that must not grow without end; i=$((i+1)); done")
        path = self.engine.inspect(name)["LogPath"]
        total = sum(os.path.getsize(os.path.join(os.path.dirname(path), f)) for f in os.listdir(os.path.dirname(path)) if "log" in f)
        self.assertLess(total, 2 * 64 * 1024 + 4096)
        lines = self.engine.ok("logs", name).splitlines()
        self.assertTrue(lines[-1].startswith("line 4999 "))
        numbers = [int(line.split()[1]) for line in lines]
        self.assertEqual(numbers, list(range(numbers[0], 5000)))

    def test_attach_sees_new_output_and_detaching_leaves_it_running(self):
        name = self.run_detached(command=("sh", "-c", "while :; do echo tick; sleep 0.05; done"))
        attached = subprocess.Popen(self.engine.as_user([f"{caisson.BIN}/caisson", "-H", self.engine.host, "attach", "--no-stdin", "--sig-proxy=false", name]),
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.assertEqual(attached.stdout.readline(), "tick\n")
        attached.kill()
        attached.wait()
        attached.stdout.close()
        self.assertEqual(self.state(name), "running")

    def test_exec_runs_inside_with_its_own_user_environment_and_code(self):
        name = self.run_detached("-e", "OUTER=1", "--hostname", "inside")
        self.assertEqual(self.engine.ok("exec", name, "hostname"), "inside")
        self.assertEqual(self.engine.ok("exec", "-u", "user", "-w", "/tmp", "-e", "INNER=2", name, "sh", "-c", "id -u; pwd; echo $OUTER$INNER"), "1000\n/tmp\n12")
        self.engine.cli("exec", name, "sh", "-c", "exit 42", check=42)
        self.assertIn(self.engine.cli("exec", name, "/no/such").returncode, (126, 127))
        self.assertEqual(self.engine.cli("exec", "-i", name, "cat", stdin="through\n", check=0).stdout, "through\n")
        self.engine.ok("exec", "-d", name, "sh", "-c", "echo done >/tmp/mark")
        wait_until(lambda: self.engine.cli("exec", name, "cat", "/tmp/mark").stdout == "done\n", "the detached exec has run")
        self.engine.ok("stop", "-t", "0", name)
        self.assertIn("is not running", self.engine.cli("exec", name, "true", check=1).stderr)

    def test_exec_joins_every_namespace_and_the_cgroup(self):
        name = self.run_detached()
        kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
        script = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)
        inside = self.engine.ok("exec", name, "sh", "-c", script).splitlines()
        pid = self.engine.inspect(name)["State"]["Pid"]
        self.assertEqual(inside, [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in kinds])
        self.assertNotEqual(inside, [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds])

    def test_restart_policies_bring_a_container_back(self):
        name = self.run_detached("--restart", "on-failure:2", command=("sh", "-c", "echo run; exit 1"))
        wait_until(lambda: self.state(name) == "exited" and self.engine.inspect(name)["RestartCount"] == 2, "two restarts", 40)
        self.assertEqual(self.engine.ok("logs", name).splitlines(), ["run"] * 3)
        self.engine.ok("start", name)  # by hand: the policy counts anew
        wait_until(lambda: len(self.engine.ok("logs", name).splitlines()) == 6 and self.state(name) == "exited", "two restarts more", 40)
        self.assertEqual(self.engine.inspect(name)["RestartCount"], 2)
        always = self.run_detached("--restart", "always")
        first = self.engine.inspect(always)["State"]["Pid"]
        os.kill(first, 9)
        wait_until(lambda: self.engine.inspect(always)["State"]["Pid"] not in (0, first), "the container is back", 40)
        self.engine.ok("stop", "-t", "0", always)
        self.assertEqual(self.state(always), "exited")

    @caisson.needs_cgroups
    def test_top_stats_and_events_tell_the_same_story(self):
        since = time.time()
        name = self.run_detached("-m", "64m")
        self.assertIn("sleep 1000", self.engine.ok("top", name))
        row = json.loads(self.engine.ok("stats", "--no-stream", "--format", "json", name).splitlines()[0])
        self.assertIn("64MiB", row["MemUsage"])
        self.engine.ok("rm", "-f", name)
        events = [json.loads(line) for line in self.engine.ok("events", "--since", f"{since:.3f}", "--until", f"{time.time():.3f}", "--format", "json").splitlines()]
        actions = [event["Action"] for event in events if event["Actor"]["Attributes"].get("name") == name]
        wanted = ["create", "start", "die", "destroy"]
        self.assertEqual([action for action in actions if action in wanted], wanted)


@caisson.needs_cgroups
class Resources(caisson.EngineTest):
    def test_limits_stand_in_the_kernels_own_files(self):
        name = self.run_detached("-m", "96m", "--cpus", "0.5", "--pids-limit", "77", "--cpu-shares", "512", "--cpuset-cpus", "0")
        pid = self.engine.inspect(name)["State"]["Pid"]
        self.assertEqual(int(caisson.read_limit(pid, "memory/memory.limit_in_bytes", "memory.max")), 96 << 20)
        self.assertEqual(caisson.read_limit(pid, "pids/pids.max", "pids.max"), "77")
        self.assertIn(caisson.read_limit(pid, "cpu/cpu.cfs_quota_us", "cpu.max"), ("50000", "50000 100000"))
        self.assertEqual(caisson.read_limit(pid, "cpuset/cpuset.cpus", "cpuset.cpus"), "0")
        self.assertIn(caisson.read_limit(pid, "cpu/cpu.shares", "cpu.weight"), ("512", "59", "20"))

    def test_update_changes_them_while_it_runs(self):
        name = self.run_detached("-m", "96m", "--pids-limit", "77")
        self.engine.ok("update", "-m", "64m", "--memory-swap", "128m", "--pids-limit", "55", name)
        pid = self.engine.inspect(name)["State"]["Pid"]
        self.assertEqual(int(caisson.read_limit(pid, "memory/memory.limit_in_bytes", "memory.max")), 64 << 20)
        self.assertEqual(caisson.read_limit(pid, "pids/pids.max", "pids.max"), "55")

    def test_too_much_memory_is_an_oom_kill_and_said_so(self):
        name = self.name()
        self.engine.cli("run", "--name", name, "-m", "32m", "busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1", check=137)
        state = self.engine.inspect(name)["State"]
        self.assertEqual((state["OOMKilled"], state["ExitCode"]), (True, 137))

    def test_an_ordinary_sigkill_is_no_oom(self):
        name = self.run_detached("-m", "32m")
        self.engine.ok("kill", name)
        self.engine.ok("wait", name)
        self.assertFalse(self.engine.inspect(name)["State"]["OOMKilled"])

    def test_a_fork_bomb_ends_at_the_limit(self):
        name = self.run_detached("--pids-limit", "20", command=("sh", "-c", "i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i+1)); done; wait"))
        pid = self.engine.inspect(name)["State"]["Pid"]
        # The shell gives up at the first fork that fails, so the container ends; its own words tell what happened.
        wait_until(lambda: not caisson.is_alive(pid), "the bomb has ended")
        self.assertIn("Resource temporarily unavailable", self.engine.cli("logs", name, check=0).stderr)

    def test_cpu_time_is_throttled(self):
        name = self.run_detached("--cpus", "0.2", command=("sh", "-c", "while :; do :; done"))
        pid = self.engine.inspect(name)["State"]["Pid"]

        def used():
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                fields = file.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        begin, started = used(), time.monotonic()
        wait_until(lambda: time.monotonic() - started > 2, "two seconds of measuring")
        self.assertLess((used() - begin) / (time.monotonic() - started), 0.35)


class Mounts(caisson.EngineTest):
    def folder(self):
        path = os.path.join(self.engine.folder, self._testMethodName)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o777)
        return path

    def test_bind_mounts_carry_changes_both_ways(self):
        path = self.folder()
        with open(os.path.join(path, "in"), "w", encoding="utf-8") as file:
            file.write("hello\n")
        self.assertEqual(self.engine.ok("run", "--rm", "-v", f"{path}:/data", "busybox", "sh", "-c", "cat /data/in; echo back >/data/out"), "hello")
        with open(os.path.join(path, "out"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "back\n")

    @caisson.differs_without_root("root inside is the user")
    def test_what_root_writes_through_a_bind_belongs_to_the_host_id_that_the_mount_promises(self):
        path = self.folder()
        self.engine.ok("run", "--rm", "-v", f"{path}:/data", "busybox", "touch", "/data/mine")
        self.assertEqual(os.stat(os.path.join(path, "mine")).st_uid, 0)

    def test_read_only_binds_and_single_files(self):
        path = self.folder()
        with open(os.path.join(path, "config"), "w", encoding="utf-8") as file:
            file.write("x=1\n")
        self.assertIn("Read-only", self.engine.cli("run", "--rm", "-v", f"{path}:/data:ro", "busybox", "touch", "/data/x", check=1).stderr)
        self.assertEqual(self.engine.ok("run", "--rm", "-v", f"{path}/config:/etc/config:ro", "busybox", "cat", "/etc/config"), "x=1")

    def test_a_missing_bind_source_is_an_error_with_mount_and_made_with_volume(self):
        path = os.path.join(self.folder(), "missing")
        self.assertIn(path, self.engine.cli("run", "--rm", "--mount", f"type=bind,source={path},target=/data", "busybox", "true", check=125).stderr)
        self.assertFalse(os.path.exists(path))
        self.engine.ok("run", "--rm", "-v", f"{path}:/data", "busybox", "true")
        self.assertTrue(os.path.isdir(path))

    def test_tmpfs_is_empty_bounded_and_gone_afterwards(self):
        out = self.engine.cli("run", "--rm", "--tmpfs", "/t:size=1m", "busybox", "sh", "-c", "dd if=/dev/zero of=/t/x bs=64k count=64", check=1)
        self.assertIn("No space left", out.stderr)

    def test_named_volumes_keep_their_content_and_refuse_removal_in_use(self):
        volume = f"vol{os.getpid()}"
        self.engine.ok("volume", "create", volume)
        self.engine.ok("run", "--rm", "-v", f"{volume}:/data", "busybox", "sh", "-c", "echo kept >/data/x")
        self.assertEqual(self.engine.ok("run", "--rm", "--mount", f"type=volume,source={volume},target=/data", "busybox", "cat", "/data/x"), "kept")
        self.assertIn(volume, self.engine.ok("volume", "ls", "-q").split())
        name = self.run_detached("-v", f"{volume}:/data")
        self.assertIn("in use", self.engine.cli("volume", "rm", volume, check=1).stderr)
        self.engine.ok("rm", "-f", name)
        self.engine.ok("volume", "rm", volume)
        self.assertNotIn(volume, self.engine.ok("volume", "ls", "-q").split())

    def test_a_new_volume_takes_the_images_content_and_owner(self):
        volume = f"copy{os.getpid()}"
        out = self.engine.ok("run", "--rm", "-v", f"{volume}:/home", "busybox", "stat", "-c", "%u %n", "/home/user")
        self.engine.ok("volume", "rm", volume)
        self.assertEqual(out, "1000 /home/user")

    def test_shm_has_the_size_asked_for(self):
        self.assertRegex(self.engine.ok("run", "--rm", "--shm-size", "16m", "busybox", "df", "-k", "/dev/shm"), r"\b16384\b")


class Network(caisson.EngineTest):
    def fetch(self, address, port, timeout=10):
        def attempt():
            try:
                with socket.create_connection((address, port), timeout=timeout) as connection:
                    connection.settimeout(timeout)
                    return connection.makefile("rb").read()
            except (ConnectionError, socket.timeout):
                return None

        return wait_until(attempt, f"{address}:{port} answers", 20)

    @caisson.differs_without_root("the host's network is not the engine's")
    def test_a_published_tcp_port_answers_on_loopback_and_on_the_bridge(self):
        name = self.run_detached("-p", "127.0.0.1::8080", command=("sh", "-c", "while :; do echo greetings | nc -l -p 8080; done"))
        port = int(self.engine.ok("port", name, "8080/tcp").rsplit(":", 1)[1])
        self.assertEqual(self.fetch("127.0.0.1", port), b"greetings\n")
        self.assertIn(f"127.0.0.1:{port}->8080/tcp", self.engine.ok("ps"))
        address = self.engine.inspect(name)["NetworkSettings"]["IPAddress"]
        self.assertTrue(address.startswith(self.engine.subnet.rsplit(".", 1)[0] + "."))
        self.assertEqual(self.fetch(address, 8080), b"greetings\n")

    def test_a_published_port_goes_with_its_container(self):
        name = self.run_detached("-p", "127.0.0.1::8080", command=("nc", "-l", "-p", "8080"))
        port = int(self.engine.ok("port", name, "8080/tcp").rsplit(":", 1)[1])
        self.engine.ok("rm", "-f", name)
        with self.assertRaises(ConnectionError):
            socket.create_connection(("127.0.0.1", port), timeout=3)

    def test_a_port_can_be_published_once_only(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.run_detached("-p", f"127.0.0.1:{port}:80")
        second = self.name()
        run = self.engine.cli("run", "-d", "--name", second, "-p", f"127.0.0.1:{port}:80", "busybox", "true", check=125)
        self.assertIn(str(port), run.stderr)

    def test_a_published_udp_port_answers(self):
        name = self.run_detached("-p", "127.0.0.1::9000/udp")
        # busybox has no UDP server; this one runs in the container's network namespace.
        script = ("import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('0.0.0.0', 9000))\n"
                  "while True:\n    data, sender = s.recvfrom(100)\n    s.sendto(b'pong\\n', sender)\n")
        server = subprocess.Popen(["nsenter", f"--net=/proc/{self.engine.inspect(name)['State']['Pid']}/ns/net", "python3", "-c", script])
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        port = int(self.engine.ok("port", name, "9000/udp").rsplit(":", 1)[1])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0.5)
            sender.connect(("127.0.0.1", port))

            def ask():
                try:
                    sender.send(b"ping\n")
                    return sender.recv(100)
                except (ConnectionError, socket.timeout):
                    return None

            self.assertEqual(wait_until(ask, "the UDP port answers"), b"pong\n")

    def test_containers_reach_each_other_and_the_gateway(self):
        server = self.run_detached(command=("sh", "-c", "while :; do echo peer | nc -l -p 7000; done"))
        address = self.engine.inspect(server)["NetworkSettings"]["IPAddress"]
        self.assertEqual(self.engine.ok("run", "--rm", "busybox", "sh", "-c", f"for i in 1 2 3 4 5 6 7 8 9; do nc -w 3 {address} 7000 </dev/null && break; sleep 0.1; done"), "peer")
        gateway = self.engine.inspect(server)["NetworkSettings"]["Gateway"]
        self.engine.ok("run", "--rm", "--cap-add", "NET_RAW", "busybox", "ping", "-c", "1", "-W", "3", gateway)

    def test_none_has_loopback_only(self):
        out = self.engine.ok("run", "--rm", "--network", "none", "busybox", "sh", "-c", "ls /sys/class/net; ip addr show lo | grep -c UP")
        self.assertEqual(out.split(), ["lo", "1"])

    @caisson.differs_without_root("the host's network is not the engine's")
    def test_host_is_the_hosts_namespace(self):
        self.assertEqual(self.engine.ok("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"), os.readlink("/proc/self/ns/net"))

    def test_container_shares_the_others_namespace(self):
        name = self.run_detached()
        inside = self.engine.ok("run", "--rm", "--network", f"container:{name}", "busybox", "readlink", "/proc/self/ns/net")
        self.assertEqual(inside, os.readlink(f"/proc/{self.engine.inspect(name)['State']['Pid']}/ns/net"))

    def test_low_ports_and_ping_work_for_the_containers_root(self):
        # Debian's busybox knows raw sockets only; iputils and Alpine ping without any capability, by ping_group_range.
        self.assertEqual(self.engine.ok("run", "--rm", "busybox", "cat", "/proc/sys/net/ipv4/ping_group_range"), "0\t65535")
        self.engine.ok("run", "--rm", "--cap-add", "NET_RAW", "busybox", "ping", "-c", "1", "127.0.0.1")
        self.engine.cli("run", "--rm", "--init", "busybox", "timeout", "0.3", "nc", "-l", "-p", "80", check=143)


class Images(caisson.EngineTest):
    def test_images_are_listed_tagged_inspected_and_removed(self):
        self.engine.ok("tag", "busybox", "local/copy:v1")
        self.assertRegex(self.engine.ok("images"), r"local/copy\s+v1\s+[0-9a-f]{12}")
        info = json.loads(self.engine.ok("image", "inspect", "local/copy:v1"))[0]
        self.assertEqual(sorted(info["RepoTags"]), ["busybox:latest", "local/copy:v1"])
        self.assertIn("Untagged: local/copy:v1", self.engine.ok("rmi", "local/copy:v1"))
        self.assertNotIn("local/copy", self.engine.ok("images"))

    def test_an_image_in_use_is_not_removed(self):
        name = self.run_detached()
        self.assertIn("conflict", self.engine.cli("rmi", "busybox", check=1).stderr.lower())
        self.engine.ok("rm", "-f", name)

    def test_a_removed_image_leaves_no_layer_behind(self):
        def extra(tar):
            caisson.add_file(tar, "unique", os.urandom(1000))

        before = self.tree()
        self.engine.import_image(caisson.busybox_rootfs(extra), "gone:latest")
        self.assertNotEqual(self.tree(), before)
        self.engine.ok("rmi", "gone")
        self.assertEqual(self.tree(), before)

    def tree(self):
        found = []
        for kind in ("content/blobs", "layers"):
            for folder, _, files in os.walk(os.path.join(self.engine.root, kind)):
                if "/fs/" in folder or "/mount/" in folder + "/":
                    continue  # what is in a layer, in either form
                found += [os.path.join(folder, f) for f in files]
                if folder.count("/") - self.engine.root.count("/") >= 3:
                    found.append(folder)
        return sorted(found)

    def test_save_and_load_give_back_the_same_image(self):
        saved = self.engine.ok("save", "busybox", text=False)
        image = json.loads(self.engine.ok("image", "inspect", "busybox"))[0]["Id"]
        self.engine.ok("rmi", "busybox")
        try:
            self.assertIn(b"busybox:latest", self.engine.ok("load", stdin=saved, text=False))
            self.assertEqual(json.loads(self.engine.ok("image", "inspect", "busybox"))[0]["Id"], image)
            self.assertEqual(self.engine.ok("run", "--rm", "busybox", "echo", "again"), "again")
        finally:
            self.engine.import_busybox()

    def test_layers_stack_and_whiteouts_hide(self):
        def layer(fill):
            import io
            import tarfile
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w") as tar:
                fill(tar)
            return out.getvalue()

        def upper(tar):
            caisson.add_file(tar, "etc/.wh.os-release")
            caisson.add_file(tar, "home/.wh..wh..opq")
            caisson.add_file(tar, "new", b"new\n")

        self.engine.ok("load", stdin=caisson.docker_archive([caisson.busybox_rootfs(), layer(upper)], {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, ["stack:latest"]), text=False)
        out = self.engine.ok("run", "--rm", "stack", "sh", "-c", "cat /new; ls /home; ls /etc")
        self.assertEqual(out.split(), ["new", "group", "hostname", "hosts", "not-executable", "passwd", "resolv.conf"])


@unittest.skipUnless(shutil.which("docker"), "needs the docker command line: tools/dependencies peers")
class DockerCommandLine(caisson.EngineTest):
    def docker(self, *arguments, check=0, **options):
        return self.engine.docker(*arguments, check=check, **options).stdout.strip()

    def test_docker_runs_lists_inspects_and_removes(self):
        name = self.name()
        self.assertEqual(self.docker("run", "--rm", "busybox", "echo", "by docker"), "by docker")
        self.docker("run", "-d", "--name", name, "busybox", "sh", "-c", "echo line; sleep 1000")
        self.assertIn(name, self.docker("ps"))
        wait_until(lambda: self.docker("logs", name) == "line", "the log line")
        self.assertEqual(self.docker("inspect", "-f", "{{.State.Status}}", name), "running")
        self.assertEqual(self.docker("exec", name, "echo", "in"), "in")
        self.docker("stop", "-t", "0", name)
        self.assertEqual(self.docker("wait", name), "137")
        self.docker("rm", name)

    def test_dockers_exit_codes_come_out(self):
        for command, code in ((["sh", "-c", "exit 5"], 5), (["/no/such"], 127), (["/etc"], 126)):
            self.docker("run", "--rm", "busybox", *command, check=code)

    @caisson.needs_cgroups
    def test_dockers_stdin_and_stats_work(self):
        self.assertEqual(self.docker("run", "--rm", "-i", "busybox", "cat", stdin="typed\n"), "typed")
        name = self.run_detached("-m", "50m")
        self.assertIn("50MiB", self.docker("stats", "--no-stream", name))
        self.assertIn("sleep", self.docker("top", name))

    def test_docker_saves_loads_and_lists_images(self):
        self.assertIn("busybox", self.docker("images"))
        self.docker("tag", "busybox", "via:docker")
        self.docker("rmi", "via:docker")


if __name__ == "__main__":
    caisson.main()

#!/usr/bin/env python3
"""What must survive: kill -9 of every process of ours at any time, a full disk, missing layers, damaged rows, a reboot of the host."""

import concurrent.futures
import contextlib
import glob
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
import unittest

import caisson
from caisson import wait_until

SEED = int(os.environ.get("CAISSON_TEST_SEED", random.SystemRandom().randrange(1 << 31)))
COUNTING = "i=0; trap 'exit {code}' TERM; while :; do echo {name} $i; i=$((i+1)); sleep 0.05; done"


class OwnEngine(unittest.TestCase):
    """A fresh engine per test: a fault must not reach the next test."""

    def setUp(self):
        self.engine = caisson.Engine()
        self.addCleanup(self.engine.close)
        self.prepare()
        self.engine.start()
        self.engine.import_busybox()

    def prepare(self):
        pass

    def finish_clean(self):
        """Removes all containers, stops the daemon, and demands that nothing is left on the host."""
        ids = self.engine.ok("ps", "-aq").split()
        if ids:
            self.engine.ok("rm", "-f", "-v", *ids)
        self.assertEqual(self.engine.stop(), 0, self.engine.log_text()[-2000:])
        self.assertEqual(self.engine.leftovers(), [])

    def whole_log(self, name):
        """The container's numbered lines; fails when one is missing or double."""
        lines = self.engine.ok("logs", name, timeout=120).splitlines()
        numbers = [int(line.split()[1]) for line in lines]
        self.assertEqual(numbers, list(range(len(numbers))), f"the log of {name} has a gap")
        return numbers


class DaemonDies(OwnEngine):
    def test_running_containers_exit_codes_and_logs_outlive_the_daemon(self):
        count = 100 if caisson.FULL else 30
        names = [f"c{number}" for number in range(count)]

        def run(number):
            command = COUNTING.format(code=number, name=names[number])
            self.engine.ok("run", "-d", "--name", names[number], "--network", "none", "busybox", "sh", "-c", command, timeout=180)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(run, range(count)))
        pids = {name: info["State"]["Pid"] for name, info in zip(names, json.loads(self.engine.ok("inspect", *names, timeout=120)))}
        self.assertTrue(all(caisson.is_alive(pid) for pid in pids.values()))

        self.engine.kill9()
        # A third ends while nobody is there to see it: the monitors keep the exit codes.
        for number in range(0, count, 3):
            os.kill(pids[names[number]], signal.SIGTERM)
        wait_until(lambda: not any(caisson.is_alive(pids[names[n]]) for n in range(0, count, 3)), "a third has ended", 60)
        self.assertTrue(all(caisson.is_alive(pids[names[n]]) for n in range(count) if n % 3), "a container died with the daemon")

        begin = time.monotonic()
        self.engine.start()
        recovered = time.monotonic() - begin
        print(f"back after {recovered * 1000:.0f} ms with {count} containers", flush=True)
        self.assertLess(recovered, 5)
        after = dict(zip(names, json.loads(self.engine.ok("inspect", *names, timeout=120))))
        for number, name in enumerate(names):
            state = after[name]["State"]
            if number % 3 == 0:
                self.assertEqual((state["Status"], state["ExitCode"]), ("exited", number), name)
            else:
                self.assertEqual((state["Status"], state["Pid"]), ("running", pids[name]), name)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: self.engine.ok("stop", "-t", "60", names[n], timeout=180), (n for n in range(count) if n % 3)))
            codes = list(pool.map(lambda name: int(self.engine.ok("wait", name)), names))
            list(pool.map(self.whole_log, names))
        self.assertEqual(codes, list(range(count)))
        self.finish_clean()

    def test_an_attached_stream_lives_on_while_the_daemon_is_away(self):
        client = subprocess.Popen(self.engine.as_user([f"{caisson.BIN}/caisson", "-H", self.engine.host, "run", "-i", "--name", "talk", "busybox", "cat"]),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.addCleanup(client.kill)
        client.stdin.write(b"before\n")
        self.assertEqual(client.stdout.read(7), b"before\n")
        self.engine.kill9()
        client.stdin.write(b"while\n")
        self.assertEqual(client.stdout.read(6), b"while\n")
        self.engine.start()
        client.stdin.write(b"after\n")
        self.assertEqual(client.stdout.read(6), b"after\n")
        client.stdin.close()
        self.assertEqual(self.engine.ok("wait", "talk"), "0")
        client.stdout.close()
        client.stderr.close()
        client.wait(30)
        self.finish_clean()

    def attached(self, *arguments):
        client = subprocess.Popen(self.engine.as_user([f"{caisson.BIN}/caisson", "-H", self.engine.host, "run", *arguments]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        for stream in (client.stdin, client.stdout, client.stderr):
            self.addCleanup(stream.close)
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        return client

    def test_an_attached_run_tells_the_exit_code_although_the_daemon_died(self):
        for arguments in (("--name", "kept"), ("--rm", "--name", "thrown")):
            with self.subTest(arguments=arguments):
                client = self.attached("-i", *arguments, "--network", "none", "busybox", "sh", "-c", "echo up; read x; echo got $x; exit 7")
                self.assertEqual(client.stdout.read(3), b"up\n")
                self.engine.kill9()
                self.engine.start()
                if "--rm" in arguments:  # it must watch again before the container ends, for then nothing is left to ask
                    wait_until(lambda: self.watchers() > 0, "the client asks the new daemon")
                out, err = client.communicate(b"word\n", timeout=60)
                self.assertEqual((out, err, client.returncode), (b"got word\n", b"", 7))
        self.finish_clean()

    def watchers(self):
        """How many accepted connections the daemon holds: sockets with the listener's address that are connected (03)."""
        held = set()
        pid = self.engine.own_pid
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                held.add(os.readlink(f"/proc/{pid}/fd/{fd}").removeprefix("socket:[").rstrip("]"))
        with open("/proc/net/unix", encoding="utf-8") as file:
            rows = [line.split() for line in file]
        return sum(len(row) == 8 and row[5] == "03" and row[6] in held and row[7].startswith(self.engine.folder) for row in rows)

    def test_an_attached_run_waits_for_a_daemon_that_comes_late(self):
        client = self.attached("-i", "--name", "late", "--network", "none", "busybox", "sh", "-c", "echo up; read x; exit 9")
        self.assertEqual(client.stdout.read(3), b"up\n")
        pid = self.engine.inspect("late")["State"]["Pid"]
        self.engine.kill9()
        client.stdin.write(b"end\n")
        wait_until(lambda: not caisson.is_alive(pid), "the container has ended while no daemon is there")
        self.assertIsNone(client.poll())
        self.engine.start()
        out, err = client.communicate(timeout=60)
        self.assertEqual((out, err, client.returncode), (b"", b"", 9))
        self.finish_clean()

    def test_a_signal_reaches_the_container_after_the_daemon_was_replaced(self):
        client = self.attached("--name", "trapped", "--network", "none", "busybox", "sh", "-c", "trap 'echo caught; exit 5' TERM; echo up; while :; do sleep 0.05; done")
        self.assertEqual(client.stdout.read(3), b"up\n")
        self.engine.kill9()
        self.engine.start()
        client.send_signal(signal.SIGTERM)
        out, err = client.communicate(timeout=60)
        self.assertEqual((out, err, client.returncode), (b"caught\n", b"", 5))
        self.finish_clean()

    def test_a_stop_that_waits_for_long_does_not_hold_up_a_daemon_that_is_told_to_end(self):
        self.engine.ok("run", "-d", "--name", "deaf", "--network", "none", "busybox", "sh", "-c", "trap 'echo heard' TERM; while :; do sleep 0.05; done")
        pid = self.engine.inspect("deaf")["State"]["Pid"]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(self.engine.cli, "stop", "-t", "300", "deaf", timeout=120)
            wait_until(lambda: "heard" in self.engine.ok("logs", "deaf"), "the container has been told to stop")
            self.engine.process.terminate()
            self.assertEqual(self.engine.process.wait(30 * caisson.PATIENCE), 0)
            answer = stopping.result()
        self.assertEqual(answer.returncode, 1)
        self.assertIn("the engine is ending, and the container had not ended yet", answer.stderr)
        self.assertTrue(caisson.is_alive(pid))
        self.engine.start()
        self.assertEqual(self.engine.inspect("deaf")["State"]["Pid"], pid)
        self.finish_clean()

    def test_kill_9_at_random_moments_of_starts_and_removals_leaves_a_working_engine(self):
        dice = random.Random(SEED)
        print(f"CAISSON_TEST_SEED={SEED}", flush=True)
        for turn in range(20 if caisson.FULL else 8):
            work = [subprocess.Popen(self.engine.as_user([f"{caisson.BIN}/caisson", "-H", self.engine.host, "run", "--rm", "--name", f"t{turn}n{n}", "-p", "127.0.0.1::80",
                                      "-v", f"/v{n}", "busybox", "sleep", "0.1"]), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    for n in range(3)]
            with contextlib.suppress(subprocess.TimeoutExpired):
                work[0].wait(dice.uniform(0.0, 0.25))  # the moment is the dice's, not an event's
            self.engine.kill9()
            for process in work:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)  # one that runs already looks for the next daemon
                process.kill()
                process.wait()
            self.engine.start()
            self.assertEqual(self.engine.ok("run", "--rm", "busybox", "echo", f"turn {turn}"), f"turn {turn}")
            self.assertIn("busybox", self.engine.ok("images"))
        wait_until(lambda: not [line for line in self.engine.ok("ps", "-q").split()], "what ran has ended", 30)
        self.finish_clean()

    def test_kill_9_during_an_import_leaves_no_half_image(self):
        blob = os.urandom(24 << 20)
        rootfs = caisson.busybox_rootfs(lambda tar: caisson.add_file(tar, "blob", blob))
        for delay in (0.02, 0.1, 0.3):
            importing = threading.Thread(target=lambda: self.engine.cli("import", "-", "big:latest", stdin=rootfs, text=False))
            importing.start()
            importing.join(delay)
            self.engine.kill9()
            importing.join(30)
            self.engine.start()
            self.assertIn("busybox", self.engine.ok("images"))
            self.assertEqual(os.listdir(os.path.join(self.engine.root, "content", "ingest"))
                             if os.path.isdir(os.path.join(self.engine.root, "content", "ingest")) else [], [])
        self.engine.import_image(rootfs, "big:latest")
        self.assertEqual(self.engine.ok("run", "--rm", "big", "stat", "-c", "%s", "/blob"), str(24 << 20))
        self.finish_clean()


class HelpersDie(OwnEngine):
    def test_a_monitor_that_dies_is_replaced_while_its_container_runs_on(self):
        command = COUNTING.format(code=33, name="adopted")
        self.engine.ok("run", "-d", "--name", "adopted", "busybox", "sh", "-c", command)
        state = self.engine.inspect("adopted")["State"]
        wait_until(lambda: self.engine.ok("logs", "adopted"), "the first lines")
        monitor = caisson.parent_of(state["Pid"])
        os.kill(monitor, signal.SIGKILL)
        wait_until(lambda: not caisson.is_alive(monitor), "the monitor is gone")
        self.assertTrue(caisson.is_alive(state["Pid"]))
        self.assertEqual(self.engine.ok("exec", "adopted", "echo", "still here"), "still here")
        before = len(self.engine.ok("logs", "adopted").splitlines())
        wait_until(lambda: len(self.engine.ok("logs", "adopted").splitlines()) > before + 3, "the log goes on", 30)
        self.engine.ok("stop", "-t", "60", "adopted", timeout=120)
        ended = self.engine.inspect("adopted")["State"]
        self.assertEqual(ended["Status"], "exited")
        # Linux 6.18 tells the exit code of a process that somebody else reaped (PIDFD_INFO_EXIT); older ones cannot, and then 255
        # with the words "exit status lost" is the honest answer.
        if ended["ExitCode"] == 255:
            self.assertIn("lost", json.dumps(ended).lower())
        else:
            self.assertEqual(ended["ExitCode"], 33)
        self.finish_clean()

    def test_monitor_and_daemon_may_die_together(self):
        self.engine.ok("run", "-d", "--name", "both", "busybox", "sh", "-c", COUNTING.format(code=3, name="both"))
        pid = self.engine.inspect("both")["State"]["Pid"]
        monitor = caisson.parent_of(pid)
        self.engine.kill9()
        os.kill(monitor, signal.SIGKILL)
        wait_until(lambda: not caisson.is_alive(monitor), "the monitor is gone")
        self.engine.start()
        state = self.engine.inspect("both")["State"]
        if caisson.is_alive(pid):
            self.assertEqual((state["Status"], state["Pid"]), ("running", pid))
            self.assertEqual(self.engine.ok("exec", "both", "echo", "in"), "in")
        else:
            self.assertEqual(state["Status"], "exited")
        self.assertIn("both", self.engine.log_text() + self.engine.ok("ps", "-a"))
        self.engine.ok("run", "--rm", "busybox", "true")
        self.finish_clean()

    def test_a_launcher_that_dies_is_replaced(self):
        self.engine.ok("run", "-d", "--name", "stays", "busybox", "sleep", "1000")
        pid = self.engine.inspect("stays")["State"]["Pid"]
        launchers = self.engine.launchers()
        self.assertTrue(launchers, "the daemon keeps a launcher")
        for launcher in launchers:
            os.kill(launcher, signal.SIGKILL)
        wait_until(lambda: not any(map(caisson.is_alive, launchers)), "the launcher is gone")
        self.assertEqual(self.engine.ok("run", "--rm", "busybox", "echo", "again"), "again")
        self.assertTrue(caisson.is_alive(pid))
        self.assertEqual(self.engine.ok("exec", "stays", "echo", "in"), "in")
        self.finish_clean()

    def test_a_daemon_without_the_starter_of_launchers_ends_and_the_next_goes_on(self):
        self.engine.ok("run", "-d", "--name", "stays", "busybox", "sleep", "1000")
        pid = self.engine.inspect("stays")["State"]["Pid"]
        starters = self.engine.launchers("caisson-starter")
        self.assertEqual(len(starters), 1)
        os.kill(starters[0], signal.SIGKILL)
        self.assertEqual(self.engine.process.wait(30), 1)
        self.assertIn("the process that starts launchers has been killed", self.engine.log_text())
        self.assertTrue(caisson.is_alive(pid))
        self.engine.start()
        self.assertEqual(self.engine.inspect("stays")["State"]["Pid"], pid)
        self.assertEqual(self.engine.ok("exec", "stays", "echo", "in"), "in")
        self.finish_clean()

    def test_a_worker_that_dies_fails_its_import_and_nothing_else(self):
        blob = os.urandom(1 << 20)
        rootfs = caisson.busybox_rootfs(lambda tar: caisson.add_file(tar, "blob", blob))
        result = {}
        read_end, write_end = os.pipe()
        importing = subprocess.Popen(self.engine.as_user([f"{caisson.BIN}/caisson", "-H", self.engine.host, "import", "-", "killed:latest"]), stdin=read_end,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        os.close(read_end)
        with os.fdopen(write_end, "wb") as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(rootfs[: len(rootfs) // 2])
            pipe.flush()
            workers = None
            with contextlib.suppress(AssertionError):
                workers = wait_until(lambda: self.engine.processes("caisson-worker"), "a worker unpacks", 5)
            for worker in workers or []:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            pipe.write(rootfs[len(rootfs) // 2 :])
        out, err = importing.communicate(timeout=60)
        result["code"] = importing.returncode
        if workers is None:
            self.assertEqual(result["code"], 0, err)  # this engine spools first and unpacks at the end: the worker came too late to be killed
        else:
            self.assertNotEqual(result["code"], 0)
            self.assertTrue(err.strip())
            self.assertNotIn("killed", self.engine.ok("images"))
        self.engine.import_image(rootfs, "fine:latest")
        self.assertEqual(self.engine.ok("run", "--rm", "fine", "stat", "-c", "%s", "/blob"), str(1 << 20))
        self.finish_clean()


class DiskIsFull(OwnEngine):
    """The whole state folder on a disk of 48 MiB."""

    def prepare(self):
        disk = caisson.SmallDisk(self.engine.root, 48)
        self.addCleanup(disk.close)
        self.engine.give(self.engine.root)

    def fill(self):
        """Takes all free space; returns a function that gives it back."""
        path = os.path.join(self.engine.root, "ballast")
        with open(path, "wb", buffering=0) as file:
            for piece in (1 << 16, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(piece))
        return lambda: os.unlink(path)

    def test_an_image_that_does_not_fit_is_refused_and_leaves_nothing(self):
        blob = os.urandom(64 << 20)
        rootfs = caisson.busybox_rootfs(lambda tar: caisson.add_file(tar, "blob", blob))
        free_before = shutil.disk_usage(self.engine.root).free
        run = self.engine.cli("import", "-", "fat:latest", stdin=rootfs, text=False, timeout=120)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn(b"No space left on device", run.stderr)
        self.assertNotIn("fat", self.engine.ok("images"))
        wait_until(lambda: abs(shutil.disk_usage(self.engine.root).free - free_before) < 1 << 20, "the space is given back", 10)
        self.assertEqual(self.engine.ok("run", "--rm", "busybox", "echo", "works"), "works")

    def test_a_build_that_does_not_fit_fails_leaves_nothing_and_its_cache_stays_right(self):
        folder = os.path.join(self.engine.folder, "context")
        os.mkdir(folder)

        def build(dockerfile, check):
            with open(os.path.join(folder, "Dockerfile"), "w", encoding="utf-8") as file:
                file.write("FROM busybox\nRUN echo done > /done\n" + dockerfile)
            return self.engine.cli("build", folder, check=check, timeout=120)
        build("", 0)
        free_before = shutil.disk_usage(self.engine.root).free
        out = build("RUN dd if=/dev/urandom of=/big bs=1M count=64\n", 1)
        self.assertRegex(out.stdout + out.stderr, "(?i)no space left|full")
        with open(os.path.join(folder, "big"), "wb") as file:
            file.write(os.urandom(64 << 20))
        out = build("COPY big /big\n", 1)  # the context itself does not fit
        self.assertRegex(out.stdout + out.stderr, "(?i)no space left|full")
        os.unlink(os.path.join(folder, "big"))
        self.assertEqual(os.listdir(os.path.join(self.engine.root, "builds")), [])
        self.assertEqual(self.engine.ok("ps", "-aq"), "")
        wait_until(lambda: abs(shutil.disk_usage(self.engine.root).free - free_before) < 1 << 20, "the space is given back", 10)
        self.assertIn("Using cache", build("RUN true\n", 0).stdout)

    def test_log_lines_that_do_not_fit_are_counted_not_corrupted(self):
        command = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo end"
        free = self.fill()
        run = self.engine.cli("run", "-d", "--name", "noisy", "--network", "none", "busybox", "sh", "-c", command, timeout=60)
        if run.returncode != 0:  # no room for the record itself is an honest answer too; it must name the reason and leave nothing
            self.assertRegex(run.stderr, "No space left|full")
            free()
            self.engine.ok("run", "--name", "noisy", "--network", "none", "busybox", "sh", "-c", command, timeout=60)
            self.assertEqual(self.engine.ok("logs", "noisy").splitlines()[-1], "end")
            return
        self.assertEqual(self.engine.cli("ps", timeout=20).returncode, 0)
        free()
        self.engine.ok("wait", "noisy", timeout=60)
        lines = self.engine.ok("logs", "noisy").splitlines()
        for line in lines:
            self.assertRegex(line, r"^(line \d+|end)$")
        if len(lines) < 3001:
            self.assertRegex(json.dumps(self.engine.inspect("noisy")) + self.engine.log_text(), r"(?i)drop|could not be written|lost")

    def test_a_log_that_meets_a_full_disk_counts_what_it_dropped_and_goes_on_when_there_is_room(self):
        # It fills the disk by itself, lives on, and is written again once there is room.
        command = "trap 'exit 0' TERM; read start; i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); done; echo filled >&2; read more; echo after; read end"
        client = subprocess.Popen(self.engine.as_user([f"{caisson.BIN}/caisson", "-H", self.engine.host, "run", "-i", "--name", "full", "--network", "none", "busybox", "sh", "-c", command]),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(client.kill)
        wait_until(lambda: "full" in self.engine.ok("ps", "--format", "{{.Names}}"), "it runs")
        free = self.fill()
        client.stdin.write(b"start\n")
        client.stdin.flush()
        for number in range(4000):
            self.assertEqual(client.stdout.readline(), b"line %d\n" % number)  # whoever watches misses nothing
        self.assertEqual(client.stderr.readline(), b"filled\n")
        self.assertEqual(self.engine.cli("ps", timeout=20).returncode, 0, "the engine answers on a full disk")
        refused = self.engine.cli("create", "--name", "another", "busybox", "true", timeout=20)
        if refused.returncode != 0:
            self.assertRegex(refused.stderr, "(?i)no space left|full")
        loaded = self.engine.cli("load", stdin=caisson.docker_archive([caisson.busybox_rootfs(lambda tar: caisson.add_file(tar, "x", os.urandom(1 << 20)))], tags=("tardy:1",)),
                                 text=False, timeout=60)
        self.assertNotEqual(loaded.returncode, 0)
        self.assertRegex(loaded.stderr, b"(?i)no space left|full")
        free()
        client.stdin.write(b"more\n")
        client.stdin.flush()
        self.assertEqual(client.stdout.readline(), b"after\n")
        client.stdin.write(b"end\n")
        client.communicate(timeout=30)
        self.assertEqual(self.engine.ok("wait", "full"), "0")
        lines = self.engine.ok("logs", "full").splitlines()
        self.assertEqual(lines[-1], "after", "the log goes on")
        numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
        self.assertEqual(numbers, sorted(set(numbers)), "lines are whole, in order and single")
        if len(numbers) < 4000:
            self.assertRegex(json.dumps(self.engine.inspect("full")) + self.engine.log_text() + "".join(lines), r"(?i)drop|could not be written|lost")
        self.assertNotIn("tardy", self.engine.ok("images"))
        self.assertEqual(self.engine.ok("run", "--rm", "--network", "none", "busybox", "echo", "works"), "works")

    def test_the_daemon_comes_back_on_a_full_disk(self):
        self.engine.ok("run", "-d", "--name", "keeps", "--network", "none", "busybox", "sleep", "1000")
        free = self.fill()
        self.engine.kill9()
        try:
            self.engine.start()
        except AssertionError as refused:
            self.assertRegex(str(refused), "(?i)no space left|disk is full|database or disk")
            free()
            self.engine.start()
        else:
            self.assertIn("keeps", self.engine.ok("ps"))
            free()
        self.assertEqual(self.engine.inspect("keeps")["State"]["Status"], "running")
        self.assertEqual(self.engine.ok("exec", "keeps", "echo", "in"), "in")


    def test_everything_can_be_removed_when_no_byte_is_free(self):
        folder = os.path.join(self.engine.folder, "context")
        os.mkdir(folder)
        with open(os.path.join(folder, "Dockerfile"), "w", encoding="utf-8") as file:
            file.write("FROM busybox\nRUN echo some > /thing\nRUN --mount=type=cache,id=kept,target=/cache echo more > /cache/thing\n")
        self.engine.ok("build", "-t", "built", folder, timeout=120)
        self.engine.import_image(caisson.busybox_rootfs(lambda tar: caisson.add_file(tar, "other", b"x")), "other:latest", ["ENV PATH=/bin"])
        for volume in ("one", "two"):
            self.engine.ok("volume", "create", volume)
        self.engine.ok("network", "create", "apart")
        for name in ("runs", "named"):
            self.engine.ok("run", "-d", "--name", name, "--network", "apart", "-v", "one:/data", "-v", "/anonymous", "busybox", "sleep", "1000")
        self.engine.ok("run", "-d", "--name", "loops", "--restart", "always", "--network", "none", "busybox", "sh", "-c", "sleep 0.1; exit 3")
        runs = {name: self.engine.inspect(name)["Id"] for name in ("runs", "named", "loops")}
        free = self.fill()
        self.engine.ok("rm", "-f", "-v", "runs", timeout=60)
        self.engine.ok("stop", "-t", "0", "named", "loops", timeout=60)
        self.assertEqual(self.engine.inspect("loops")["State"]["Status"], "exited")
        self.engine.ok("rm", "-v", "named", "loops")
        self.engine.ok("network", "rm", "apart")
        self.engine.ok("volume", "rm", "one", "two")
        self.engine.ok("rmi", "built", "other")
        self.engine.ok("builder", "prune", "-af")
        self.assertEqual(self.engine.ok("ps", "-aq") + self.engine.ok("volume", "ls", "-q"), "")
        self.assertEqual(self.engine.ok("images", "--format", "{{.Repository}}"), "busybox")
        wait_until(lambda: not any(os.path.exists(os.path.join(self.engine.exec_root, "containers", id)) for id in runs.values()), "the run folders are gone")
        wait_until(lambda: os.listdir(os.path.join(self.engine.root, "containers")) == [], "the containers' folders are gone")
        free()
        self.engine.ok("run", "--rm", "busybox", "true")

        def is_held_back():
            self.engine.ok("run", "--rm", "--network", "none", "busybox", "true")
            return os.path.exists(os.path.join(self.engine.root, "state.db-reserve"))
        wait_until(is_held_back, "space is held back again")


class StateIsDamaged(OwnEngine):
    def test_a_missing_layer_is_named_and_the_other_images_work(self):
        self.engine.import_image(caisson.busybox_rootfs(lambda tar: caisson.add_file(tar, "other", b"x")), "other:latest", ["ENV PATH=/bin"])
        diff_id = json.loads(self.engine.ok("image", "inspect", "other"))[0]["RootFS"]["Layers"][0]
        layer = os.path.join(self.engine.root, "layers", diff_id.split(":")[1])
        candidates = [path for path in glob.glob(os.path.join(self.engine.root, "**", diff_id.split(":")[1]), recursive=True) if os.path.isdir(path)]
        self.assertTrue(candidates, f"no folder of layer {layer}")
        subprocess.run(["umount", "-l", os.path.join(candidates[0], "mount")], capture_output=True, check=False)  # of a layer that is an index
        shutil.rmtree(candidates[0])
        run = self.engine.cli("run", "--rm", "other", "true", check=125)
        self.assertIn(diff_id[:19], run.stderr)
        self.assertEqual(self.engine.ok("run", "--rm", "busybox", "echo", "fine"), "fine")
        self.engine.kill9()
        self.engine.start()
        self.assertEqual(self.engine.ok("run", "--rm", "busybox", "echo", "fine"), "fine")
        self.assertIn(diff_id[:19], self.engine.log_text())

    def test_an_unreadable_row_is_put_aside_and_reported(self):
        for name in ("good", "bad"):
            self.engine.ok("create", "--name", name, "busybox", "true")
        victim = self.engine.inspect("bad")["Id"]
        self.engine.stop()
        databases = [path for path in glob.glob(os.path.join(self.engine.root, "**", "*"), recursive=True) if os.path.isfile(path) and self.is_sqlite(path)]
        self.assertEqual(len(databases), 1, databases)
        changed = self.damage(databases[0], victim)
        self.assertGreater(changed, 0)
        self.engine.start()
        listed = self.engine.ok("ps", "-a")
        self.assertIn("good", listed)
        self.assertEqual(self.engine.ok("run", "--rm", "busybox", "echo", "fine"), "fine")
        self.assertIn(victim[:12], self.engine.log_text())

    @staticmethod
    def is_sqlite(path):
        with open(path, "rb") as file:
            return file.read(15) == b"SQLite format 3"

    @staticmethod
    def damage(path, victim):
        """Cuts the value of every row whose key is `victim`'s record to half; returns how many."""
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            changed = 0
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
                if {"key", "value"} <= set(columns):
                    changed += database.execute(f"UPDATE \"{table}\" SET value = CAST(substr(CAST(value AS BLOB), 1, length(value) / 2) AS BLOB) "
                                                "WHERE key = ?", (f"container/{victim}",)).rowcount
            return changed

    def test_an_unreadable_endpoint_is_said_and_everything_else_works(self):
        self.engine.ok("run", "-d", "--name", "hurt", "busybox", "sleep", "1000")
        before = self.engine.inspect("hurt")
        address = before["NetworkSettings"]["IPAddress"]
        self.engine.kill9()
        with contextlib.closing(sqlite3.connect(os.path.join(self.engine.root, "state.db"))) as database, database:
            changed = database.execute("UPDATE entries SET value = '{\"ipv4\":5}' WHERE key GLOB ?", (f"network/endpoint/{before['Id']}*",)).rowcount
            database.execute("UPDATE entries SET value = '{\"id\":5}' WHERE key IN ('network/definition/host', 'network/definition/none')")
        self.assertEqual(changed, 1)
        self.engine.start()
        self.assertIn("network/endpoint/", self.engine.log_text())
        self.assertIn("network/endpoint/", json.dumps(json.loads(self.engine.ok("info", "--format", "json"))))
        self.assertEqual(self.engine.inspect("hurt")["NetworkSettings"]["IPAddress"], address)
        self.assertIn(f"inet {address}/", self.engine.ok("exec", "hurt", "ip", "addr", "show", "eth0"))
        self.assertNotEqual(self.engine.ok("run", "--rm", "busybox", "hostname", "-i"), address)
        self.assertEqual(len(self.engine.ok("network", "ls", "-q").split()), 3)
        self.finish_clean()

    def test_a_database_that_is_no_database_is_an_error_that_names_it(self):
        self.engine.stop()
        path = [p for p in glob.glob(os.path.join(self.engine.root, "**", "*"), recursive=True) if os.path.isfile(p) and self.is_sqlite(p)][0]
        for extra in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + extra)
        with open(path, "r+b") as file:
            file.write(b"this is no database at all" * 200)
        with contextlib.suppress(AssertionError):
            self.engine.start()  # going on with a fresh database, the damaged one put aside, is an honest answer too
        self.assertIn(os.path.basename(path), self.engine.log_text())
        self.assertTrue(any(b"this is no database" in open(p, "rb").read(4096) for p in glob.glob(path + "*")), "the damaged file was thrown away")


class HostReboots(OwnEngine):
    """A reboot as the engine sees it: processes, mounts and the runtime folder are gone, the boot id is another one."""

    def test_after_a_reboot_containers_are_stopped_and_policies_apply(self):
        self.engine.ok("run", "-d", "--name", "plain", "busybox", "sleep", "1000")
        self.engine.ok("run", "-d", "--name", "always", "--restart", "always", "busybox", "sleep", "1000")
        self.engine.ok("create", "--name", "unborn", "busybox", "true")
        self.engine.kill9()
        for _ in range(50):
            victims = {**caisson.processes_mentioning(self.engine.folder), **caisson.processes_mentioning(self.engine.tag)}
            for pid in victims:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            if not victims:
                break
            wait_until(lambda: not any(map(caisson.is_alive, victims)), "all processes are gone")
        for line in reversed(caisson.mounts_mentioning(self.engine.folder)):
            subprocess.run(["umount", "-l", line.split()[4]], capture_output=True, check=False)
        shutil.rmtree(self.engine.exec_root)
        for path in sorted(caisson.cgroups_named(self.engine.tag), key=len, reverse=True):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        subprocess.run(["ip", "link", "delete", self.engine.tag], capture_output=True, check=False)
        subprocess.run(["nft", "delete", "table", "inet", self.engine.tag], capture_output=True, check=False)
        # The records say which boot they speak of. (Covering the kernel's file by a mount would forbid containers their own /proc.)
        with contextlib.closing(sqlite3.connect(os.path.join(self.engine.root, "state.db"))) as database, database:
            database.execute("UPDATE entries SET value = json_set(value, '$.boot_id', '00000000-1111-2222-3333-444444444444') WHERE key LIKE 'container/%'")
        self.engine.start()
        plain = self.engine.inspect("plain")["State"]
        self.assertEqual((plain["Status"], plain["Pid"]), ("exited", 0))
        self.assertNotEqual(plain["ExitCode"], 0)
        self.assertEqual(self.engine.inspect("unborn")["State"]["Status"], "created")
        wait_until(lambda: self.engine.inspect("always")["State"]["Status"] == "running",
                   lambda: f"the restart policy applies: {self.engine.inspect('always')['State']}\n{self.engine.log_text()[-3000:]}")
        self.engine.ok("start", "plain")
        self.assertEqual(self.engine.ok("exec", "plain", "echo", "back"), "back")
        self.finish_clean()


if __name__ == "__main__":
    caisson.main()

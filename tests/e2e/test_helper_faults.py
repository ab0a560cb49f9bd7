#!/usr/bin/env python3
"""Each system call of the daemon's helpers failing once in a verb: of the launcher and what it forks during start, of the monitor and what it forks during exec, kill, stop and remove.

strace counts the calls of one verb, and then lets one after the other fail, in each of the helper's processes, with an error number of a full disk, a busy machine or a bad disk. The daemon
answers in time that it is done or why not, what it says of the container is so, the container can be removed, and nothing is left of it. Under CI every n-th call with one error; all with
all three and CAISSON_TEST_FULL=1. The calls of `caisson-runtime` alone: tests/conformance/test_fault_walk.py; those of the daemon: src/engine/fault_walk_test.cpp.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "conformance"))
import caisson  # noqa: E402
from caisson import wait_until  # noqa: E402
from test_fault_walk import NOT_OURS  # noqa: E402

ERRORS = {"EIO": "Input/output error", "ENOSPC": "No space left on device", "EMFILE": "Too many open files"}
EVERY = 1 if caisson.FULL else 17
SEED = int(os.environ.get("CAISSON_TEST_SEED", random.SystemRandom().randrange(1000)))
ALIVE = ("running", "paused")


class Tracing:
    """strace beside processes and, with `follows`, what they fork, until these execute a program."""

    def __init__(self, pids, follows, trace, *options):
        self.trace = trace
        self.said = tempfile.TemporaryFile()  # pylint: disable=consider-using-with
        words = [word for pid in pids for word in ("-p", str(pid))]
        self.process = subprocess.Popen(["strace", *(("-f", "-b", "execve") if follows else ()), "-o", trace, *options, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.said, start_new_session=True)
        wait_until(lambda: self.process.poll() is not None or self.text().count("attached") >= len(pids), "strace is attached")
        if self.process.poll() is not None:
            raise AssertionError("strace ended: " + self.text())

    def lines(self):
        """Once it has ended."""
        with open(self.trace, encoding="utf-8", errors="replace") as file:
            return file.readlines()

    def text(self):
        return os.pread(self.said.fileno(), 1 << 20, 0).decode(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(30 * caisson.PATIENCE)
        self.said.close()


@unittest.skipUnless(shutil.which("strace"), "needs strace: tools/dependencies test")
class HelpersFail(caisson.EngineTest):
    engine_options = ("--start-pool", "0")
    network = "none"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        print(f"CAISSON_TEST_SEED={SEED}", flush=True)
        cls.count = 0
        cls.trace = os.path.join(cls.engine.folder, "trace")
        cls.engine.ok("run", "--rm", "--network", cls.network, "busybox", "true")  # what the first one makes and all others use

    # -- what is looked at

    def launcher(self):
        """It; another one when it has ended, which is made when it is needed."""
        found = self.engine.launchers()
        if not found:
            self.engine.ok("run", "--rm", "--network", "none", "busybox", "true")
        return found or self.engine.launchers()

    def helpers(self):
        """Of the running container: its monitor, and the launcher."""
        return [*self.monitors(), *self.launcher()]

    def monitors(self):
        return [pid for pid in self.engine.processes("caisson-runtime") if caisson.comm_of(pid) not in ("caisson-launch", "caisson-starter")]

    def left(self):
        """Of containers, while the daemon runs."""
        found = [f"cgroup {group}/{name}" for group in caisson.cgroups_named(self.engine.tag) for name in os.listdir(group) if os.path.isdir(os.path.join(group, name))]
        found += [f"mount {text}" for text in caisson.mounts_mentioning(self.engine.folder) if "/containers/" in text]
        found += [f"folder {name}" for name in os.listdir(os.path.join(self.engine.exec_root, "containers"))]
        found += [f"monitor {pid}" for pid in self.monitors()]
        return found

    def state(self, name):
        status, _, body = self.engine.request("GET", f"/containers/{name}/json")
        if status == 404:
            return "none", 0
        self.assertEqual(status, 200, body)
        state = json.loads(body)["State"]
        return state["Status"], state["Pid"]

    def descriptors(self):
        """Of the daemon."""
        return len(os.listdir(f"/proc/{self.engine.own_pid}/fd"))

    # -- the containers

    def created(self):
        HelpersFail.count += 1
        name = f"c{HelpersFail.count}"
        self.engine.ok("create", "--name", name, "--network", self.network, "-v", f"v{name}:/data", "--tmpfs", "/t", "busybox", "sleep", "1000")
        return name

    def started(self):
        name = self.created()
        self.assertEqual(self.engine.request("POST", f"/containers/{name}/start")[0], 204)
        return name

    def remove(self, name):
        status, _, body = self.engine.request("DELETE", f"/containers/{name}?force=1&v=1", timeout=100)
        self.assertIn(status, (204, 404), body)
        self.engine.cli("volume", "rm", "-f", f"v{name}")

    # -- the walk

    def calls_of(self, helpers, verb, prepare, follows):
        """(name, number) of each call that a process makes during the verb."""
        name = prepare()
        with Tracing(helpers(), follows, self.trace) as tracing:
            status, _, body = verb(name)
            self.assertLess(status, 300, body)
        self.remove(name)
        counts = {}
        for line in tracing.lines():
            if found := re.match(r"(\d*) *([a-z_0-9]+)\(", line):
                key = (found[2], found[1])
                counts[key] = counts.get(key, 0) + 1
        most = {}
        for (call, _), count in counts.items():
            # The kernel lets everybody kill a child of his own; who could not would wait for one that lives on.
            if call not in NOT_OURS and call not in ("execve", "exit_group", "pidfd_send_signal"):
                most[call] = max(most.get(call, 0), count)
        return [(call, number) for call in sorted(most) for number in range(1, most[call] + 1)]

    def walk(self, title, prepare, helpers, verb, done, refused, follows=False):
        """`done`, `refused`: the states that the container may be in then. `follows`: what the helpers fork fails as well; where a monitor may have to be replaced, its successors would, one by one."""
        calls = self.calls_of(helpers, verb, prepare, follows)
        self.assertGreater(len(calls), 5)
        step = min(EVERY, max(1, len(calls) // 6))
        chosen = calls[SEED % step::step]
        refusals, bitten, slowest = 0, 0, (0, "")
        before = self.descriptors()
        errors = list(ERRORS) if caisson.FULL else [list(ERRORS)[SEED % len(ERRORS)]]
        for error in errors:
            for call, number in chosen:
                name = prepare()
                with Tracing(helpers(), follows, self.trace, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}") as tracing:
                    began = time.monotonic()
                    status, _, body = verb(name)
                    took = time.monotonic() - began
                bitten += any("(INJECTED)" in line for line in tracing.lines())
                slowest = max(slowest, (took, f"{call} number {number}"))
                text = body.decode(errors="replace") if isinstance(body, bytes) else body
                where = f"{title} with {error} from {call} number {number}, answered {status} {text.strip()}"
                with self.subTest(where):
                    allowed = done if status < 300 else refused
                    refusals += status >= 300
                    wait_until(lambda: self.state(name)[0] in allowed, lambda: f"{where}: it is {self.state(name)}")  # pylint: disable=cell-var-from-loop
                    state, pid = self.state(name)
                    self.assertEqual(state in ALIVE, bool(pid) and caisson.is_alive(pid), where)
                    self.assertLess(took, 30 * caisson.PATIENCE, f"{where}: the answer")
                    if status >= 300:
                        self.assertGreater(len(text.replace(ERRORS[error], "").strip('{}"\n ')), 20, where)  # more than the bare words of the number
                with self.subTest(where):
                    self.remove(name)
                    wait_until(lambda: not self.left(), lambda: f"{where}: left {self.left()}")  # pylint: disable=cell-var-from-loop
        print(f"{title}: {bitten} failures of {len(calls)} calls, {refusals} refusals; the slowest answer after {slowest[0]:.1f} s ({slowest[1]})", flush=True)
        self.assertGreater(3 * bitten, len(chosen) * len(errors), "calls that failed; some come only now and then")
        self.assertEqual(self.engine.ok("run", "--rm", "--network", self.network, "busybox", "echo", "works"), "works")
        wait_until(lambda: self.descriptors() < before + 4, lambda: f"the daemon's descriptors: {before} before, {self.descriptors()} now")

    def post(self, path, body=None):
        return lambda name: self.engine.request("POST", f"/containers/{name}/{path}", body=body, timeout=100)

    def test_start(self):
        self.walk("start", self.created, self.launcher, self.post("start"), done=["running"], refused=["created", "exited"], follows=True)

    def test_exec(self):
        def verb(name):
            status, headers, body = self.engine.request("POST", f"/containers/{name}/exec", body={"Cmd": ["true"], "AttachStdout": True})
            if status != 201:
                return status, headers, body
            return self.engine.request("POST", f"/exec/{json.loads(body)['Id']}/start", body={"Detach": True}, timeout=100)
        self.walk("exec", self.started, self.helpers, verb, done=["running"], refused=["running"], follows=True)

    def test_kill(self):
        self.walk("kill", self.started, self.helpers, self.post("kill"), done=["exited"], refused=["running", "exited"])

    def test_stop(self):
        self.walk("stop", self.started, self.helpers, self.post("stop?t=1"), done=["exited"], refused=["running", "exited"])

    def test_remove(self):
        verb = lambda name: self.engine.request("DELETE", f"/containers/{name}?force=1", timeout=100)
        self.walk("remove", self.started, self.helpers, verb, done=["none"], refused=["running", "exited", "none"])


if __name__ == "__main__":
    caisson.main()

#!/usr/bin/env python3
"""kill -9 of the runtime at each of its system calls during create, start, exec, delete and run: the next `delete --force` cleans everything.

strace counts the calls of a whole run, and then ends the runtime at one of them after the other. Under CI every n-th; all with
CAISSON_TEST_FULL=1.
"""

import os
import random
import re
import shutil
import subprocess
import unittest

import oci
from oci import FULL, wait_until

EVERY = 1 if FULL else 11
SLEEP = ("sleep", "1000")


class KillWalk(oci.OciTest):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("strace"):
            raise unittest.SkipTest("needs strace: tools/dependencies test")
        super().setUpClass()
        probe = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
        if probe.returncode != 0:
            cls.tearDownClass()
            raise unittest.SkipTest("strace may not trace here: " + probe.stderr.strip())
        cls.seed = int(os.environ.get("CAISSON_TEST_SEED", random.SystemRandom().randrange(1000)))
        print(f"CAISSON_TEST_SEED={cls.seed}", flush=True)

    def calls_of(self, *arguments):
        """The runtime's system calls in order, as (name, how often it was called up to here)."""
        trace = self.playground.path("trace")
        with open(self.playground.log, "ab") as log:
            subprocess.run(["strace", "-o", trace, *self.runtime.command(*arguments)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=120, check=True)
        counts = {}
        calls = []
        with open(trace, encoding="utf-8", errors="replace") as file:
            for line in file:
                found = re.match(r"([a-z_0-9]+)\(", line)
                if not found or found[1] in ("execve", "exit_group"):
                    continue  # strace's own start of the program; and there is nothing left to interrupt
                counts[found[1]] = counts.get(found[1], 0) + 1
                calls.append((found[1], counts[found[1]]))
        self.assertGreater(len(calls), 30)
        return calls

    def run_killed(self, call, *arguments):
        """Runs a command that is killed as it enters the call. False when it came to its end before."""
        name, number = call
        with open(self.playground.log, "ab") as log:
            run = subprocess.run(["strace", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}",
                                  *self.runtime.command(*arguments)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=120, check=False)
        return run.returncode in (-9, 137)

    def walk(self, command, prepare, arguments, finish=None):
        """`prepare` makes what the command needs and returns an id; `arguments(id)` is the command line."""
        self.runtime("delete", "--force", self.started(), check=0)  # makes the common parent of the cgroups, which stays
        identifier = prepare()
        calls = self.calls_of(*arguments(identifier))
        if finish:
            finish(identifier)
        self.runtime("delete", "--force", identifier, check=0)
        killed = 0
        missed = []
        chosen = calls[self.seed % EVERY::EVERY]
        for call in chosen:
            identifier = prepare()
            died = self.run_killed(call, *arguments(identifier))
            killed += died
            if not died:
                missed.append(f"{call[0]} {call[1]}")
            run = self.runtime("delete", "--force", identifier)
            where = f"{command} killed at {call[0]} number {call[1]}"
            self.assertEqual(run.returncode, 0, f"{where}: {run.stderr}")
            self.assert_clean(identifier, where)
            self.runtime.ids = []
        print(f"{command}: killed {killed} times at {len(chosen)} of {len(calls)} calls", flush=True)
        # Some calls come in another number from run to run (waiting, retries).
        self.assertGreater(killed, len(chosen) * 3 // 4, f"the command came to its end all the same: {missed}")

    def assert_clean(self, identifier, where):
        self.assertFalse(os.path.exists(os.path.join(self.runtime.root, identifier)), f"{where}: its state folder is left")
        left = []

        def nothing_left():
            nonlocal left
            left = self.playground.leftovers()
            return not left

        # Processes that are killed with the runtime, or told by its end, take a moment to be gone.
        try:
            wait_until(nothing_left, "nothing is left", 10)
        except AssertionError:
            self.fail(f"{where}: left on the host:\n" + "\n".join(left))

    def new_id(self):
        identifier = self.runtime.new_id()
        return identifier

    def bundle(self):
        if not hasattr(self, "made"):
            self.made = self.playground.bundle(*SLEEP, change=self.change)
        return self.made

    @staticmethod
    def change(config):
        del config

    def created(self):
        return self.runtime.create(self.bundle())

    def started(self):
        return self.runtime.start(self.bundle())

    def test_create(self):
        self.walk("create", self.new_id, lambda identifier: ["create", "--bundle", self.bundle(), identifier])

    def test_run(self):
        self.walk("run", self.new_id, lambda identifier: ["run", "--detach", "--bundle", self.bundle(), identifier])

    def test_start(self):
        self.walk("start", self.created, lambda identifier: ["start", identifier])

    def test_exec(self):
        self.walk("exec", self.started, lambda identifier: ["exec", "--detach", identifier, *SLEEP])

    def test_delete(self):
        self.walk("delete", self.started, lambda identifier: ["delete", "--force", identifier])


class InUserNamespace(KillWalk):
    """With helper processes that hold a user namespace, and without the exchange of the binary."""

    @staticmethod
    def change(config):
        mapping = [{"containerID": 0, "hostID": 0, "size": 65536}]
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"].update(uidMappings=mapping, gidMappings=mapping)

    @unittest.skip("the same as without a user namespace")
    def test_start(self):
        pass

    @unittest.skip("the same as without a user namespace")
    def test_delete(self):
        pass

    @unittest.skip("the same as create, but for the last calls")
    def test_run(self):
        pass


if __name__ == "__main__":
    oci.main()

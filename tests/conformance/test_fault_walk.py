#!/usr/bin/env python3
"""Each system call of the runtime failing once during create, run, start, exec, kill, update and delete: the command does what it was asked for or says in
words what it could not do, the container is in a state that the command may leave, and nothing is left behind.

strace counts the calls of a whole command, and then lets one after the other fail with an error number of a full disk, a busy machine or a bad disk. Under CI
every n-th with one of them; all with all three and CAISSON_TEST_FULL=1.
"""

import errno
import os
import re
import subprocess

import oci
import test_kill_walk
from oci import FULL

EVERY = 1 if FULL else 13
# Before main, and what the C library asks for by itself (without memory there is no program that could say so); calls that the kernel cannot fail; close(2), which
# gives the descriptor up whatever it answers, and would not under strace.
NOT_OURS = {"brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "futex", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
            "prlimit64", "getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "umask", "close", "exit", "sched_yield", "restart_syscall", "getrandom"}


class FaultWalk(test_kill_walk.KillWalk):
    cannot_fail = NOT_OURS

    def run_failing(self, call, error, *arguments):
        """The command's exit code and what it said on standard error, its call having failed."""
        name, number = call
        errors = self.playground.path("errors")
        with open(self.playground.log, "ab") as log, open(errors, "wb") as err:
            code = subprocess.run(["strace", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:error={error}:when={number}",
                                   *self.runtime.command(*arguments)], stdin=subprocess.DEVNULL, stdout=log, stderr=err, timeout=120, check=False).returncode
        with open(errors, encoding="utf-8", errors="replace") as err:
            return code, err.read()

    def status_of(self, identifier):
        run = self.runtime("state", identifier)
        return re.search(r'"status":\s*"(\w+)"', run.stdout)[1] if run.returncode == 0 else "none"

    def walk(self, command, prepare, arguments, done=(), refused=()):
        """`done`, `refused`: the states in which the container may then be."""
        self.runtime("delete", "--force", self.started(), check=0)  # makes the common parent of the cgroups, which stays
        identifier = prepare()
        calls = [call for call in self.calls_of(*arguments(identifier)) if call[0] not in self.cannot_fail]
        self.runtime("delete", "--force", identifier, check=0)
        refusals = 0
        chosen = calls[self.seed % EVERY::EVERY]
        errors = ("EIO", "ENOSPC", "EMFILE") if FULL else (("EIO", "ENOSPC", "EMFILE")[self.seed % 3],)
        for error in errors:
            for call in chosen:
                identifier = prepare()
                code, said = self.run_failing(call, error, *arguments(identifier))
                where = f"{command} with {error} from {call[0]} number {call[1]}, which ended with {code} and said <{said.strip()}>"
                with self.subTest(where):
                    status = self.status_of(identifier)
                    if code == 0:
                        self.assertIn(status, done, where)
                    else:
                        refusals += 1
                        self.assertGreater(code, 0, f"{where}: it died")
                        self.assertIn(status, refused, where)
                        # More than the bare words of the error number, which name nothing.
                        self.assertRegex(said, r"caisson-runtime: \S.*\S", where)
                        self.assertNotRegex(said, rf"caisson-runtime: {re.escape(os.strerror(getattr(errno, error)))}\s*$", where)
                        if status == "none":
                            self.assert_clean(identifier, where)
                with self.subTest(where):
                    self.assertEqual(self.runtime("delete", "--force", identifier).returncode, 0, where)
                    self.assert_clean(identifier, where)
                self.runtime.ids = []
        print(f"{command}: {len(chosen) * len(errors)} failures of {len(calls)} calls, {refusals} refusals", flush=True)
        if len(chosen) > 9:  # of a few all may be calls that may fail
            self.assertGreater(refusals, 0)

    def test_create(self):
        self.walk("create", self.new_id, lambda identifier: ["create", "--bundle", self.bundle(), identifier], done=["created"], refused=["none"])

    def test_run(self):
        self.walk("run", self.new_id, lambda identifier: ["run", "--detach", "--bundle", self.bundle(), identifier], done=["running"], refused=["none"])

    def test_start(self):
        self.walk("start", self.created, lambda identifier: ["start", identifier], done=["running"], refused=["created", "running", "stopped", "none"])

    def test_exec(self):
        self.walk("exec", self.started, lambda identifier: ["exec", "--detach", identifier, *test_kill_walk.SLEEP], done=["running"], refused=["running"])

    def test_kill(self):
        self.walk("kill", self.started, lambda identifier: ["kill", identifier, "KILL"], done=["running", "stopped"], refused=["running", "stopped"])

    def test_update(self):
        self.walk("update", self.started, lambda identifier: ["update", "--pids-limit", "50", identifier], done=["running"], refused=["running"])

    def test_delete(self):
        self.walk("delete", self.started, lambda identifier: ["delete", "--force", identifier], done=["none"], refused=["running", "stopped", "none"])


class InUserNamespace(FaultWalk):
    """With helper processes that hold a user namespace, and without the exchange of the binary."""

    # Here it ends a helper, a child of ours that the kernel lets us kill; and nobody could wait for one that lives on.
    cannot_fail = NOT_OURS | {"pidfd_send_signal"}
    change = staticmethod(test_kill_walk.InUserNamespace.change)
    test_start = test_kill = test_update = test_delete = test_run = None  # the same as without


if __name__ == "__main__":
    oci.main()

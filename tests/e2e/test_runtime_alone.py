#!/usr/bin/env python3
"""caisson-runtime by itself, as podman or a person calls it: its cache of seccomp programs, and its own file out of a container's reach."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

BIN = os.environ.get("CAISSON_BIN", os.path.abspath("build/release/bin"))
BUSYBOX = "/bin/busybox"
CAPABILITIES = ["CAP_KILL", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"]
PROFILE = {"defaultAction": "SCMP_ACT_ALLOW",
           "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}


@unittest.skipUnless(os.geteuid() == 0 and os.path.exists(BUSYBOX), "needs root and busybox-static")
class RuntimeAlone(unittest.TestCase):
    def setUp(self):
        self.work = tempfile.mkdtemp(prefix="caisson-alone-")
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)
        self.runtime = os.path.join(self.work, "caisson-runtime")
        shutil.copy(os.path.join(BIN, "caisson-runtime"), self.runtime)
        self.state = os.path.join(self.work, "state")
        self.root = os.path.join(self.work, "rootfs")
        for name in ("bin", "proc", "tmp"):
            os.makedirs(os.path.join(self.root, name))
        shutil.copy(BUSYBOX, os.path.join(self.root, "bin/busybox"))
        self.names = []

    def configure(self, args, seccomp=None):
        config = {"ociVersion": "1.0.2", "root": {"path": "rootfs"},
                  "process": {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": True,
                              "capabilities": {kind: CAPABILITIES for kind in ("bounding", "permitted", "effective")}},
                  "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
                  "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]}}
        if seccomp:
            config["linux"]["seccomp"] = seccomp
        with open(os.path.join(self.work, "config.json"), "w", encoding="utf-8") as out:
            json.dump(config, out)

    def call(self, *args, **options):
        return subprocess.run([self.runtime, "--root", self.state, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                              check=False, **options)

    def name(self):
        name = f"alone-{os.getpid()}-{self.id().rsplit('.', 1)[-1][:20]}-{len(self.names)}"
        self.names.append(name)
        self.addCleanup(self.call, "delete", "--force", name)
        return name

    def run_mkdir(self):
        return self.call("run", "--bundle", self.work, self.name())

    def entries(self):
        folder = os.path.join(self.state, ".cache/seccomp")
        return [os.path.join(folder, name) for name in os.listdir(folder)]

    def test_a_filter_from_the_cache_refuses_what_the_compiled_one_refuses(self):
        self.configure(["/bin/busybox", "mkdir", "/tmp/x"], PROFILE)
        for _ in range(2):
            result = self.run_mkdir()
            self.assertEqual(result.returncode, 1, result)
            self.assertIn("Operation not supported", result.stderr)  # errno 95
        self.assertEqual(len(self.entries()), 1)
        self.configure(["/bin/busybox", "mkdir", "/tmp/x"])
        self.assertEqual(self.run_mkdir().returncode, 0, "without the profile the folder is made")

    def test_a_damaged_or_foreign_entry_is_made_anew_and_never_loaded(self):
        self.configure(["/bin/busybox", "mkdir", "/tmp/x"], PROFILE)
        self.run_mkdir()
        [entry] = self.entries()
        with open(entry, "rb") as source:
            whole = source.read()

        def damage(change):
            with open(entry, "r+b") as out:
                change(out)
        for change in (lambda out: out.truncate(len(whole) // 2), lambda out: out.write(b"nonsense"),
                       lambda out: (out.seek(-20, os.SEEK_END), out.write(b"\xff" * 4)), lambda out: os.chmod(entry, 0o666)):
            damage(change)
            result = self.run_mkdir()
            self.assertIn("Operation not supported", result.stderr)
            with open(entry, "rb") as source:
                self.assertEqual(source.read(), whole)
            self.assertEqual(os.stat(entry).st_mode & 0o777, 0o600)

    def test_exec_is_under_the_filter_too(self):
        self.configure(["/bin/busybox", "sleep", "1000"], PROFILE)
        name = self.name()
        started = subprocess.run([self.runtime, "--root", self.state, "run", "--detach", "--bundle", self.work, name], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, check=False)
        self.assertEqual(started.returncode, 0)
        result = self.call("exec", name, "/bin/busybox", "mkdir", "/tmp/x")
        self.assertEqual(result.returncode, 1, result)
        self.assertIn("Operation not supported", result.stderr)

    def test_the_cache_is_no_container(self):
        self.configure(["/bin/busybox", "true"], PROFILE)
        self.assertEqual(self.run_mkdir().returncode, 0)
        self.assertEqual(self.call("list", "--quiet").stdout, "")
        self.assertEqual(os.listdir(self.state), [".cache"])

    def test_a_container_cannot_write_the_file_of_the_runtime(self):
        """CVE-2019-5736. The container's root is the host's. Its command is the runtime itself, which then waits for the reader of a fifo; a
        shell inside keeps a descriptor of that process's file, lets it end, and only then opens the descriptor for writing."""
        script = """
            mkfifo /fifo
            while true; do
              for p in /proc/[0-9]*; do
                grep -q nonsense $p/cmdline 2>/dev/null && [ $p != /proc/$$ ] || continue
                ( : <$p/exe ) 2>/dev/null || continue  # not yet executed: it cannot be looked into
                exec 9<$p/exe
                cat /fifo >/dev/null
                while [ -e $p ]; do usleep 1000; done
                cmp -s /proc/self/fd/9 /bin/busybox && exit 4
                if ( echo broken >/proc/self/fd/9 ) 2>/tmp/why; then exit 5; fi
                cat /tmp/why
                exit 0
              done
              usleep 1000
            done"""
        os.makedirs(os.path.join(self.root, "dev"))
        for tool in ("sh", "mkfifo", "grep", "cat", "cmp", "usleep"):
            os.symlink("busybox", os.path.join(self.root, "bin", tool))
        self.configure(["/bin/sh", "-c", script])
        before = self.digest()
        name = self.name()
        with subprocess.Popen([self.runtime, "--root", self.state, "run", "--bundle", self.work, name], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as container:
            while not os.path.exists(os.path.join(self.root, "fifo")):
                self.assertIsNone(container.poll(), "the container ended early")
            result = self.call("exec", name, "/proc/self/exe", "--log", "/fifo", "nonsense")
            self.assertIn("unknown command", result.stderr)  # it was the runtime that ran
            output, errors = container.communicate(timeout=120)
        self.assertEqual((container.returncode, errors), (0, ""))
        self.assertIn("Read-only file system", output)
        self.assertEqual(self.digest(), before)

    def digest(self):
        with open(self.runtime, "rb") as source:
            return hashlib.sha256(source.read()).hexdigest()


if __name__ == "__main__":
    outcome = unittest.main(exit=False).result
    sys.exit(77 if outcome.testsRun == len(outcome.skipped) else not outcome.wasSuccessful())

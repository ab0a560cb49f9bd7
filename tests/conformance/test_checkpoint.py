#!/usr/bin/env python3
"""checkpoint and restore by CRIU: state survives, flags do what they say, and CRIU's own reason is told when it fails.

A CRIU that works on this kernel is looked for in PATH and in $CAISSON_CRIU; without one those tests are skipped, and the ones
with a stand-in for CRIU remain.
"""

import json
import os
import select
import shutil
import socket
import subprocess
import threading
import unittest

import oci
from oci import wait_until
from test_command_line import receive_fd

COUNTER = ("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /counter.tmp; mv /counter.tmp /counter; sleep 0.02; done")

# Answers every request as a CRIU that fails would: one message, and a log with its reason.
STAND_IN = """#!/usr/bin/env python3
import os, socket, sys
s = socket.socket(fileno=int(sys.argv[2]))
request = s.recv(1 << 20)
with open(os.environ["CRIU_REQUEST"], "wb") as file:
    file.write(request)
if os.environ["CRIU_ANSWER"] != "none":
    with open(os.environ["CRIU_LOG"], "w") as file:
        file.write("(00.01) Note: nothing\\n(00.02) Error (criu/vdso.c:1): vdso: Unexpected rt vDSO area bounds\\n(00.03) done\\n")
    s.send(bytes.fromhex(os.environ["CRIU_ANSWER"]))
"""


def working_criu():
    """A CRIU that can work on this kernel, and None; or None and the reason."""
    criu = os.environ.get("CAISSON_CRIU") or shutil.which("criu")
    if not criu:
        return None, "no criu in PATH or CAISSON_CRIU"
    check = subprocess.run([criu, "check"], capture_output=True, text=True, check=False)
    if check.returncode != 0:
        return None, f"{criu} check fails on this kernel: {(check.stdout + check.stderr).strip()[-200:]}"
    return criu, None


class CriuTest(oci.OciTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.criu, reason = working_criu()
        if reason:
            cls.tearDownClass()
            raise unittest.SkipTest(reason)
        cls.runtime.flags = ["--criu", cls.criu]

    def counter(self):
        with open(os.path.join(self.playground.rootfs, "counter"), encoding="utf-8") as file:
            return int(file.read())

    def counting(self, **options):
        path = os.path.join(self.playground.rootfs, "counter")
        if os.path.exists(path):
            os.unlink(path)
        bundle = self.playground.bundle(*COUNTER, **options)
        identifier = self.runtime.start(bundle)
        wait_until(lambda: os.path.exists(path) and self.counter() > 5, "it counts")
        return bundle, identifier

    def images(self):
        self.playground.count += 1
        return self.playground.path(f"images{self.playground.count}")

    def restore(self, bundle, images, *flags, identifier=None):
        identifier = identifier or self.runtime.new_id()
        self.runtime.launch("restore", "--detach", "--bundle", bundle, "--image-path", images, *flags, identifier)
        return identifier

    def goes_on(self, before):
        wait_until(lambda: self.counter() > before + 5, lambda: f"it goes on from {before}: {self.counter()}", 20)
        self.assertLess(self.counter(), before + 2000)


class Checkpoint(CriuTest):
    def test_a_container_goes_on_where_it_stood(self):
        bundle, identifier = self.counting()
        images = self.images()
        self.runtime("checkpoint", "--image-path", images, identifier, check=0)
        self.assertNotEqual(self.runtime("state", identifier).returncode, 0, "what was checkpointed is deleted")
        self.assertEqual(self.playground.leftovers(), [])
        before = self.counter()
        pid_file = self.playground.path("restored-pid")
        self.assertEqual(self.restore(bundle, images, "--pid-file", pid_file, identifier=identifier), identifier)
        state = self.runtime.state(identifier)
        self.assertEqual(state["status"], "running")
        with open(pid_file, encoding="utf-8") as file:
            self.assertEqual(int(file.read()), state["pid"])
        self.goes_on(before)
        with open(f"/proc/{state['pid']}/cgroup", encoding="utf-8") as file:
            self.assertTrue(any(f"/{self.playground.name}/" in line for line in file), "it is in its cgroup again")
        self.assertEqual(self.runtime("exec", identifier, "hostname", check=0).stdout, "test\n")
        self.runtime("pause", identifier, check=0)
        self.runtime("resume", identifier, check=0)
        self.runtime("kill", identifier, "KILL", check=0)
        self.runtime.wait_stopped(identifier)
        self.runtime("delete", identifier, check=0)

    def test_one_that_is_left_running_runs_on(self):
        bundle, identifier = self.counting()
        images = self.images()
        pid = self.runtime.state(identifier)["pid"]
        self.runtime("checkpoint", "--leave-running", "--image-path", images, "--work-path", self.playground.path("work"), identifier, check=0)
        self.assertTrue(os.path.exists(self.playground.path("work/dump.log")))
        self.assertEqual((self.runtime.state(identifier)["status"], self.runtime.state(identifier)["pid"]), ("running", pid))
        self.goes_on(self.counter())
        self.runtime("delete", "-f", identifier, check=0)
        before = self.counter()
        self.restore(bundle, images)
        self.goes_on(max(5, min(before, self.counter())))

    def test_binds_masks_and_cgroups_are_there_again(self):
        volume = self.playground.path("volume")
        os.makedirs(volume, exist_ok=True)
        with open(os.path.join(volume, "file"), "w", encoding="utf-8") as file:
            file.write("content")

        def change(config):
            config["mounts"].append({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "rw"]})
            config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]})
            config["linux"]["namespaces"].append({"type": "cgroup"})
            config["linux"]["resources"]["pids"] = {"limit": 77}

        bundle, identifier = self.counting(change=change)
        images = self.images()
        self.runtime("checkpoint", "--image-path", images, identifier, check=0)
        before = self.counter()
        identifier = self.restore(bundle, images)
        self.goes_on(before)
        self.assertEqual(self.runtime("exec", identifier, "cat", "/data/file", check=0).stdout, "content")
        self.assertEqual(self.runtime("exec", identifier, "wc", "-c", "/proc/keys", check=0).stdout.split()[0], "0", "the mask is there")
        self.assertEqual(oci.caisson.read_limit(self.runtime.state(identifier)["pid"], "pids/pids.max", "pids.max"), "77")

    def test_a_given_network_namespace_is_joined_again(self):
        name = "caioci" + self.playground.name[-6:].replace("_", "x")
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.addCleanup(lambda: subprocess.run(["ip", "netns", "delete", name], check=True))

        def change(config):
            for entry in config["linux"]["namespaces"]:
                if entry["type"] == "network":
                    entry["path"] = f"/run/netns/{name}"

        bundle, identifier = self.counting(change=change)
        images = self.images()
        self.runtime("checkpoint", "--image-path", images, identifier, check=0)
        before = self.counter()
        identifier = self.restore(bundle, images)
        self.goes_on(before)
        self.assertEqual(os.stat(f"/proc/{self.runtime.state(identifier)['pid']}/ns/net").st_ino, os.stat(f"/run/netns/{name}").st_ino)
        self.runtime("delete", "-f", identifier, check=0)

    def test_a_terminal_is_sent_anew(self):
        def console(path, action):
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
                listener.listen()
                received = []
                taker = threading.Thread(target=lambda: received.append(receive_fd(listener)))
                taker.start()
                action()
                taker.join(20)
            return received[0][1]

        bundle = self.playground.bundle("sh", "-c", "while read line; do echo \"heard $line\"; done", terminal=True)
        identifier = self.runtime.new_id()
        first = console(self.playground.path("c1"), lambda: self.runtime.launch("create", "-b", bundle, "--console-socket", self.playground.path("c1"), identifier))
        self.runtime("start", identifier, check=0)
        self.expect(first, b"one\n", b"heard one")
        images = self.images()
        self.runtime("checkpoint", "--image-path", images, identifier, check=0)
        os.close(first)
        second = console(self.playground.path("c2"), lambda: self.restore(bundle, images, "--console-socket", self.playground.path("c2")))
        self.expect(second, b"two\n", b"heard two")
        os.close(second)

    def expect(self, master, typed, answer):
        os.write(master, typed)
        text = b""
        while answer not in text:
            self.assertTrue(select.select([master], [], [], 20)[0], text)
            text += os.read(master, 4096)

    def test_in_the_foreground_streams_and_exit_code_are_the_programs(self):
        go = os.path.join(self.playground.rootfs, "go")
        bundle = self.playground.bundle("sh", "-c", "touch /up; while [ ! -e /go ]; do sleep 0.05; done; echo out; exit 23")
        identifier = self.runtime.new_id()
        read_end, write_end = os.pipe()
        subprocess.run(self.runtime.command("create", "--bundle", bundle, identifier), stdin=subprocess.DEVNULL, stdout=write_end, stderr=write_end, check=True)
        os.close(write_end)
        self.runtime("start", identifier, check=0)
        wait_until(lambda: os.path.exists(os.path.join(self.playground.rootfs, "up")), "it is up")
        images = self.images()
        self.runtime("checkpoint", "--image-path", images, identifier, check=0)
        os.close(read_end)
        with open(go, "w", encoding="utf-8"):
            pass
        run = self.runtime("restore", "--bundle", bundle, "--image-path", images, identifier)
        os.unlink(go)
        self.assertEqual((run.returncode, run.stdout), (23, "out\n"), run.stderr)
        self.assertNotEqual(self.runtime("state", identifier).returncode, 0)

    def test_pre_dump_says_what_the_kernel_lacks(self):
        _, identifier = self.counting()
        images = self.images()
        run = self.runtime("checkpoint", "--pre-dump", "--image-path", images, identifier)
        if run.returncode != 0:
            self.assertIn("memTrack", run.stderr)
        self.assertEqual(self.runtime.state(identifier)["status"], "running")

    def test_a_failed_restore_leaves_nothing(self):
        bundle, identifier = self.counting()
        images = self.images()
        self.runtime("checkpoint", "--image-path", images, identifier, check=0)
        os.unlink(os.path.join(images, "pstree.img"))
        run = self.runtime("restore", "-d", "--bundle", bundle, "--image-path", images, identifier)
        self.assertEqual(run.returncode, 1)
        self.assertIn("criu failed to restore the container: ", run.stderr)
        self.assertNotEqual(self.runtime("state", identifier).returncode, 0)
        self.assertEqual(self.playground.leftovers(), [])


class Refusals(oci.OciTest):
    """What needs no CRIU that works."""

    def stand_in(self, answer):
        folder = self.playground.path("stand-in")
        os.makedirs(folder, exist_ok=True)
        program = os.path.join(folder, "criu")
        with open(program, "w", encoding="utf-8") as file:
            file.write(STAND_IN)
        os.chmod(program, 0o755)
        images = self.playground.path("stand-in-images")
        return images, {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "CRIU_ANSWER": answer, "CRIU_REQUEST": self.playground.path("request"),
                        "CRIU_LOG": os.path.join(images, "dump.log")}

    def test_crius_own_reason_is_told(self):
        identifier = self.runtime.start(self.playground.bundle("sleep", "1000"))
        images, environment = self.stand_in("08011000")  # type DUMP, success false
        run = self.runtime("checkpoint", "--image-path", images, "--tcp-established", "--manage-cgroups-mode=strict", identifier, env=environment)
        self.assertEqual(run.returncode, 1)
        self.assertIn("vdso: Unexpected rt vDSO area bounds", run.stderr)
        self.assertIn(os.path.join(images, "dump.log"), run.stderr)
        self.assertEqual(self.runtime.state(identifier)["status"], "running")
        with open(self.playground.path("request"), "rb") as file:
            request = file.read()
        self.assertTrue(request.startswith(b"\x08\x01\x12"), "a dump request with options")
        self.assertIn(b"\x28\x01", request, "field 5, tcp_established")
        self.assertIn(b"\x90\x02\x05", request, "field 34, the cgroup mode")

    def test_a_criu_that_dies_or_babbles_is_an_error(self):
        identifier = self.runtime.start(self.playground.bundle("sleep", "1000"))
        for answer, words in (("none", "without an answer"), ("ff", "protobuf"), ("0a", "protobuf"), ("12ff01", "protobuf"), ("0b", "protobuf")):
            images, environment = self.stand_in(answer)
            run = self.runtime("checkpoint", "--image-path", images, identifier, env=environment)
            self.assertEqual(run.returncode, 1, answer)
            self.assertIn(words, run.stderr, answer)

    def test_a_missing_criu_is_named(self):
        identifier = self.runtime.start(self.playground.bundle("sleep", "1000"))
        run = self.runtime("checkpoint", "--image-path", self.playground.path("none"), identifier, env={"PATH": "/nowhere"})
        self.assertEqual(run.returncode, 1)
        self.assertIn("need the program criu", run.stderr)
        self.assertNotIn("not found in $PATH", run.stderr, "callers would take it for the container's program")

    def test_wrong_flags_are_refused(self):
        identifier = self.runtime.start(self.playground.bundle("sleep", "1000"))
        for flags, words in ((["--manage-cgroups-mode", "some"], "want soft"), (["--network-lock", "some"], "want iptables"), (["--empty-ns", "pid"], "only network"),
                             (["--page-server", "nowhere"], "ADDRESS:PORT"), (["--parent-path", "/absolute"], "relative"), (["--status-fd", "x"], "--status-fd")):
            run = self.runtime("checkpoint", "--image-path", self.playground.path("wrong"), *flags, identifier)
            self.assertEqual(run.returncode, 1)
            self.assertIn(words, run.stderr)
        created = self.runtime.create(self.playground.bundle("sleep", "1000"))
        self.assertIn("cannot be checkpointed in created state", self.runtime("checkpoint", created).stderr)
        bundle = self.playground.bundle("sleep", "1000")
        self.assertIn("there is no checkpoint", self.runtime("restore", "-d", "--bundle", bundle, "--image-path", "/no/such", "x").stderr)
        self.assertIn("already exists", self.runtime("restore", "-d", "-b", bundle, "--image-path", self.playground.folder, created).stderr)


if __name__ == "__main__":
    oci.main()

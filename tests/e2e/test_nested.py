#!/usr/bin/env python3
"""Engines inside containers of an engine: with all rights, as root of the container's user namespace, and as an ordinary user in it (docs/how-to/engine-in-a-container.md)."""

import os
import random
import re
import shutil
import struct
import subprocess
import unittest

import caisson
from caisson import wait_until

INNER_SOCKET = "/run/caisson.sock"
CONTAINED = ("--security-opt", "nesting", "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "SYS_PTRACE")
USER_SETTINGS = ("-e", "HOME=/home/user", "-e", "XDG_RUNTIME_DIR=/run/user", "-e", "PATH=/bin:/usr/bin")


# File capabilities in the place of the setuid bit, whose root would need CAP_SYS_ADMIN in the container to map what is another user's: version 2, effective;
# CAP_SETUID is 7, CAP_SETGID 6.
MAP_HELPERS = {name: struct.pack("<IIIII", 0x02000001, 1 << number, 0, 0, 0) for name, number in (("newuidmap", 7), ("newgidmap", 6))}


def why_not():
    if caisson.ROOTLESS:
        return "an engine of root is what others are put into here"
    if not shutil.which("nft"):
        return "needs nft for the engine inside: tools/dependencies test"
    return None


def libraries_of(program):
    out = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+)", out)


def engine_rootfs():
    """busybox with our programs, nft, the helpers of an ordinary user, and an image for the containers inside."""

    def extra(tar):
        done = set()

        def put(path, name, **fields):
            if name not in done:
                done.add(name)
                with open(os.path.realpath(path), "rb") as file:
                    caisson.add_file(tar, name.lstrip("/"), file.read(), mode=0o755, **fields)

        programs = [os.path.join(caisson.BIN, name) for name in (*caisson.BINARIES, "caisson-fetch")]
        programs += [shutil.which(name) for name in ("nft", "pasta", "newuidmap", "newgidmap")]
        for path in programs:
            if path and os.path.exists(path):
                name = os.path.basename(path)
                put(path, "/usr/bin/" + name, **({"pax_headers": {"SCHILY.xattr.security.capability": MAP_HELPERS[name].decode("utf-8", "surrogateescape")}} if name in MAP_HELPERS else {}))
                for library in libraries_of(path):
                    put(library, library)
        # All ids that the container leaves to its user: 1000 is the user's own, and 0 is the container's root.
        for name in ("etc/subuid", "etc/subgid"):
            caisson.add_file(tar, name, b"user:1:999\nuser:1001:64535\n")
        for folder in ("run/user", "home/user/.local", "home/user/.local/share", "home/user/.local/share/caisson"):
            caisson.add_file(tar, folder, mode=0o700, type=caisson.tarfile.DIRTYPE, uid=1000, gid=1000)
        caisson.add_file(tar, "busybox.tar", caisson.busybox_rootfs())
        caisson.add_file(tar, "build/Dockerfile", b"FROM busybox\nRUN echo built > /result\n")

    return caisson.busybox_rootfs(extra)


@unittest.skipIf(why_not(), why_not())
class NestedTest(caisson.EngineTest):
    """An engine whose image `engine` is an engine."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        try:
            cls.engine.import_image(engine_rootfs(), "engine:latest", ['CMD ["caissond"]', "ENV PATH=/bin:/usr/bin"])
        except BaseException:
            cls.engine.close()
            raise

    def start_inner(self, *options, state="/var/lib/caisson", user="0", socket=INNER_SOCKET, command=()):
        """A container with an engine in it, which answers on return; its state is on a volume of its own."""
        name = f"nested-{random.SystemRandom().randrange(16**6):06x}"
        self.addCleanup(lambda: (self.engine.cli("rm", "-f", name), self.engine.cli("volume", "rm", "-f", name)))
        self.engine.ok("run", "-d", "--name", name, "-u", user, "-v", f"{name}:{state}", *options, "engine", *command)

        def answers():
            if self.engine.inspect(name)["State"]["Status"] != "running":
                raise AssertionError("the engine inside ended:\n" + self.engine.cli("logs", name).stderr)
            return self.inner(name, "version", user=user, socket=socket).returncode == 0

        wait_until(answers, lambda: "the engine inside answers: " + self.engine.cli("logs", name).stderr, 60)
        return name

    def inner(self, name, *arguments, user="0", socket=INNER_SOCKET, check=None, timeout=90):
        """Runs `caisson ARGUMENTS` beside the engine in the container."""
        settings = USER_SETTINGS if user != "0" else ()
        run = self.engine.cli("exec", "-u", user, *settings, name, "caisson", "-H", "unix://" + socket, *arguments, timeout=timeout)
        if check is not None and run.returncode != check:
            logs = self.engine.cli("logs", name)
            raise AssertionError(f"inside: {' '.join(arguments)}\nended with {run.returncode}, not {check}\nstdout: {run.stdout}\nstderr: {run.stderr}\ndaemon: {logs.stdout}{logs.stderr}")
        return run

    def ok(self, name, *arguments, **options):
        return self.inner(name, *arguments, check=0, **options).stdout.rstrip("\n")

    def do_the_rounds(self, name, **who):
        """What an engine is for, once."""
        self.ok(name, "import", "--change", 'CMD ["/bin/sh"]', "--change", "ENV PATH=/bin", "/busybox.tar", "busybox:latest", **who)
        self.assertEqual(self.ok(name, "run", "--rm", "busybox", "echo", "hello", **who), "hello")
        self.ok(name, "build", "-t", "built", "/build", **who)
        self.assertEqual(self.ok(name, "run", "--rm", "built", "cat", "/result", **who), "built")
        self.ok(name, "network", "create", "n1", **who)
        self.ok(name, "run", "-d", "--name", "web", "--network", "n1", "-p", "8080:80", "busybox", "sh", "-c",
                "echo begun; trap 'exit 7' TERM; nc -ll -p 80 -e echo served & while :; do sleep 0.05; done", **who)
        wait_until(lambda: self.ok(name, "logs", "web", **who) == "begun", "the inner container's log")
        address = self.engine.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        wait_until(lambda: self.engine.cli("run", "--rm", "busybox", "nc", "-w", "5", address, "8080").stdout == "served\n", "an answer at the inner container's port")
        self.assertIn("served", self.ok(name, "run", "--rm", "--network", "n1", "busybox", "nc", "-w", "5", "web", "80", **who), "by name")
        self.assertEqual(self.ok(name, "exec", "-u", "1000", "web", "id", "-u", **who), "1000")
        self.assertIn("sleep", self.ok(name, "top", "web", **who))
        self.ok(name, "stop", "-t", "20", "web", **who)
        self.assertEqual(self.ok(name, "wait", "web", **who), "7")
        self.ok(name, "rm", "web", **who)

    def host_pid_of(self, marker):
        """The process whose arguments hold `marker`, as the host sees it."""
        found = [pid for pid, text in caisson.processes_mentioning(marker).items() if text.startswith("sleep")]
        self.assertEqual(len(found), 1, found)
        return found[0]


class Privileged(NestedTest):
    def test_an_engine_with_all_rights_works_and_keeps_its_state_on_a_volume(self):
        name = self.start_inner("--privileged")
        self.do_the_rounds(name)
        self.ok(name, "run", "-d", "--name", "limited", "-m", "32m", "--pids-limit", "20", "busybox", "sleep", "1000")
        self.assertRegex(self.ok(name, "stats", "--no-stream", "limited"), r"/ 32MiB")
        self.ok(name, "pause", "limited")
        self.ok(name, "unpause", "limited")
        # Another container with the same volume finds containers and images.
        self.engine.ok("rm", "-f", name)
        self.engine.ok("run", "-d", "--name", name, "--privileged", "-v", f"{name}:/var/lib/caisson", "engine")
        wait_until(lambda: self.inner(name, "version").returncode == 0, "the next engine answers")
        self.assertIn("limited", self.ok(name, "ps", "-a"))
        self.ok(name, "start", "limited")
        self.assertEqual(self.ok(name, "exec", "limited", "echo", "again"), "again")
        self.ok(name, "rm", "-f", "limited")


class Contained(NestedTest):
    """As root of the container's user namespace."""

    def test_an_engine_works_in_a_user_namespace(self):
        name = self.start_inner(*CONTAINED, command=("sh", "-c", "while :; do caissond; done"))
        self.do_the_rounds(name)
        said = self.inner(name, "doctor").stdout
        self.assertNotIn("broken", said)
        self.assertIn("rootless", self.ok(name, "info"))
        self.ok(name, "run", "-d", "--name", "kept", "busybox", "sleep", "1000")
        self.engine.ok("exec", name, "sh", "-c", "kill -9 $(pidof caissond)")
        wait_until(lambda: self.inner(name, "exec", "kept", "echo", "found").stdout == "found\n", "the next engine finds what runs")
        self.ok(name, "rm", "-f", "kept")

    def test_whoever_is_inside_gets_no_more_than_the_box(self):
        name = self.start_inner(*CONTAINED, "-m", "96m", "--memory-swap", "96m", "--pids-limit", "200")
        self.ok(name, "import", "--change", "ENV PATH=/bin", "/busybox.tar", "busybox:latest")
        marker = str(random.SystemRandom().randrange(10**8, 10**9))
        self.ok(name, "run", "-d", "--name", "inmost", "--privileged", "busybox", "sleep", marker)
        pid = self.host_pid_of(marker)
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            status = file.read()
        self.assertGreaterEqual(int(re.search(r"^Uid:\s+(\d+)", status, re.M).group(1)), 0x70000000, "root in there is nobody on the host")
        self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/user"), os.readlink("/proc/self/ns/user"))
        outer = self.engine.inspect(name)["Id"]
        for controller, path in caisson.cgroup_files(pid).items():
            self.assertIn(outer, path, f"{controller}: below the outer container's cgroup")
        nodes = self.ok(name, "exec", "inmost", "ls", "/dev").split()
        self.assertFalse([node for node in nodes if re.match(r"(loop|vd|sd|nvme|mem|kmsg|kvm)", node)], "the host's devices are not seen")
        sh = ("exec", "--privileged", "inmost", "sh", "-c")
        made = self.inner(name, *sh, "mknod /disk b 7 0 && head -c 1 /disk")
        self.assertNotEqual(made.returncode, 0, made.stdout)
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/kernel/modprobe"):
            written = self.inner(name, *sh, f"echo x > {path}")
            self.assertNotEqual(written.returncode, 0, path)
        # The limit of the box, by the shortest ways: raising it, leaving it, and simply using more.
        tried = self.inner(name, *sh, "mkdir -p /c; for type in 'cgroup -o memory' cgroup2; do umount /c 2>/dev/null; mount -t $type x /c 2>/dev/null || continue;"
                           " for file in memory.limit_in_bytes memory.max release_agent ../cgroup.procs; do [ -e /c/$file ] && echo max 2>/dev/null > /c/$file && echo changed $file; done; done; true", check=0)
        self.assertNotIn("changed", tried.stdout)
        self.assertEqual(caisson.read_limit(self.engine.inspect(name)["State"]["Pid"], "memory/memory.limit_in_bytes", "memory.max"), str(96 << 20))
        hog = self.inner(name, "run", "--rm", "--privileged", "busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
        self.assertEqual(hog.returncode, 137, hog.stderr)

    def test_what_is_missing_is_said(self):
        for given, missing in (((), "CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_SYS_PTRACE"), (("--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE"), "CAP_NET_ADMIN")):
            with self.subTest(given=given):
                run = self.engine.cli("run", "--rm", *given, "engine", check=1)
                self.assertIn(f"root lacks {missing} here", run.stderr)
                self.assertIn("--security-opt nesting", run.stderr)
        said = self.engine.cli("run", "--rm", "engine", "caisson", "doctor").stdout
        self.assertIn("start the container around with --security-opt nesting --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add SYS_PTRACE", said)
        said = self.engine.cli("run", "--rm", "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "engine", "caisson", "doctor").stdout
        self.assertRegex(said, r"broken +fresh-proc")
        refused = self.engine.cli("run", "--rm", "--security-opt", "nesting", "--userns", "host", "engine", check=125)
        self.assertIn("could leave its container", refused.stderr)


class OfAUser(NestedTest):
    """As an ordinary user of the container."""

    who = {"user": "1000", "socket": "/run/user/caisson.sock"}

    def test_an_engine_of_an_ordinary_user_works(self):
        missing = [name for name in ("pasta", "newuidmap", "newgidmap") if not shutil.which(name)]
        if missing:
            self.skipTest(f"{', '.join(missing)} not installed: tools/dependencies test")
        name = self.start_inner("--security-opt", "nesting", "--device", "/dev/net/tun", *USER_SETTINGS, state="/home/user/.local/share/caisson", **self.who)
        self.do_the_rounds(name, **self.who)


if __name__ == "__main__":
    caisson.main()

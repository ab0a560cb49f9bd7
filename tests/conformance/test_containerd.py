#!/usr/bin/env python3
"""containerd 1.6, whose shim calls caisson-runtime in runc's place (BinaryName); the same tests on runc show that they are right."""

import json
import os
import re
import subprocess

import dropin
import caisson
import peers
from caisson import wait_until
from terminal import Terminal

IMAGE = "docker.io/library/busybox:latest"
LOOP = ("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")


class ContainerdTest(dropin.WatchedTest):
    @classmethod
    def open_peer(cls):
        cls.peer = peers.PrivateContainerd(cls.runtime)
        cls.peer.__enter__()
        cls.peer.ctr("images", "import", "--base-name", "docker.io/library/busybox", cls.image, check=0)

    def ctr(self, *arguments, check=0):
        run = self.peer.ctr(*arguments, check=check)
        return (run.stdout if check == 0 else run.stdout + run.stderr).decode(errors="replace").strip()

    def options(self, *options):
        return ["--cgroup", f"/{self.peer.namespace}/{self.name()}", *options]

    def run_command(self, *command, options=()):
        return self.peer.run_command("--rm", *self.options(*options), IMAGE, self.name(), *command)

    def run_once(self, *command, options=(), check=0):
        run = subprocess.run(self.run_command(*command, options=options), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
        self.assertEqual(run.returncode, check, run.stdout + run.stderr)
        return (run.stdout if check == 0 else run.stdout + run.stderr).strip()

    def detached(self, *options, command=LOOP):
        name = self.name()
        subprocess.run(self.peer.run_command("-d", *self.options(*options), IMAGE, name, *command), capture_output=True, timeout=60, check=True)
        self.addCleanup(self.remove, name)
        return name

    def remove(self, name):
        self.peer.ctr("task", "kill", "-s", "KILL", name)
        wait_until(lambda: self.status(name) in (None, "STOPPED"), f"{name} has ended")
        self.peer.ctr("task", "delete", name)
        self.peer.ctr("container", "delete", name)

    def delete(self, name):
        """What `ctr task delete` says; it tells the exit code as a warning."""
        return self.peer.ctr("task", "delete", name, check=0).stderr.decode()

    def tasks(self):
        """name → (pid, status)"""
        rows = [line.split() for line in self.ctr("task", "list").splitlines()[1:]]
        return {row[0]: (int(row[1]), row[2]) for row in rows}

    def status(self, name):
        return self.tasks().get(name, (0, None))[1]

    def pid(self, name):
        return self.tasks()[name][0]

    def exec(self, name, *command, options=(), check=0):
        return self.ctr("task", "exec", "--exec-id", f"e{os.urandom(4).hex()}", *options, name, *command, check=check)


class Containerd:
    """The tests; run on each runtime by the classes at the end."""

    def test_a_foreground_run_passes_output_and_exit_code(self):
        self.assertEqual(self.run_once("echo", "hello"), "hello")
        self.run_once("sh", "-c", "exit 7", check=7)
        run = subprocess.run(self.run_command("sh", "-c", "read x; echo $x"), input=b"through\n", capture_output=True, timeout=60, check=True)
        self.assertEqual(run.stdout, b"through\n")

    def test_a_missing_program_is_told_in_the_words_docker_reads(self):
        self.assertIn("executable file not found in $PATH", self.run_once("nope", check=1))
        self.assertIn("no such file or directory", self.run_once("/nope", check=1))
        self.assertIn("permission denied", self.run_once("/etc/not-executable", check=1))

    def test_a_terminal_is_one(self):
        terminal = Terminal(self.run_command("sh", "-c", "tty; read x; echo got $x; exit 5", options=["--tty"]), dict(os.environ))
        terminal.read_until(b"/dev/pts/0")
        terminal.type(b"word\n")
        out, code = terminal.wait()
        self.assertIn(b"got word", out)
        self.assertEqual(code, 5)

    def test_exec_passes_output_codes_and_user(self):
        name = self.detached()
        self.assertEqual(self.exec(name, "echo", "inside"), "inside")
        self.exec(name, "sh", "-c", "exit 9", check=9)
        self.assertIn("executable file not found in $PATH", self.exec(name, "nope", check=1))
        self.assertIn("no such file or directory", self.exec(name, "/nope", check=1))
        self.assertIn("permission denied", self.exec(name, "/etc/not-executable", check=1))
        self.assertEqual(self.exec(name, "id", "-u", options=["--user", "1000"]), "1000")
        self.assertEqual(self.exec(name, "pwd", options=["--cwd", "/tmp"]), "/tmp")

    def test_an_exec_with_a_terminal_is_interactive(self):
        name = self.detached()
        terminal = Terminal(self.peer.command("task", "exec", "--tty", "--exec-id", "tty", name, "sh", "-c", "tty; read x; echo got $x; exit 6"), dict(os.environ))
        terminal.read_until(b"/dev/pts/")
        terminal.type(b"word\n")
        out, code = terminal.wait()
        self.assertIn(b"got word", out)
        self.assertEqual(code, 6)

    def test_pause_resume_and_what_is_refused_meanwhile(self):
        name = self.detached()
        self.ctr("task", "pause", name)
        self.assertEqual(self.status(name), "PAUSED")
        self.exec(name, "true", check=1)
        self.ctr("task", "resume", name)
        self.assertEqual(self.status(name), "RUNNING")
        self.assertEqual(self.exec(name, "echo", "on"), "on")

    def test_kill_by_name_and_number(self):
        name = self.detached()
        # Before the shell has set its trap, the kernel drops what is sent to a pid 1.
        wait_until(lambda: int(self.exec(name, "sh", "-c", "grep SigCgt /proc/1/status | cut -f2"), 16) & 1 << 14, "the trap is set")
        self.ctr("task", "kill", "-s", "SIGTERM", name)
        wait_until(lambda: self.status(name) == "STOPPED", "it took the signal")
        self.assertIn("not found", self.ctr("task", "kill", name, check=1))
        self.assertIn("exit code 3", self.delete(name))

    def test_kill_all_takes_every_process(self):
        name = self.detached(command=("sh", "-c", "sleep 1000 & sleep 1000 & wait"))
        wait_until(lambda: len(self.ctr("task", "ps", name).splitlines()) == 4, "three processes are listed")
        self.ctr("task", "kill", "--all", "-s", "SIGKILL", name)
        wait_until(lambda: self.status(name) == "STOPPED", "it has ended")
        self.assertIn("exit code 137", self.delete(name))

    def test_metrics_come_from_its_cgroup(self):
        name = self.detached("--memory-limit", str(64 << 20))
        metrics = json.loads(self.ctr("task", "metrics", "--format", "json", name))
        text = json.dumps(metrics)
        self.assertIn(str(64 << 20), text)
        self.assertRegex(self.ctr("task", "metrics", name), r"(memory.usage_in_bytes|memory.usage) +[1-9]")

    def test_limits_stand_in_the_cgroup(self):
        name = self.detached("--memory-limit", str(64 << 20), "--cpu-quota", "50000", "--cpu-period", "100000")
        limits = dropin.limits_of(self.pid(name))
        self.assertEqual((limits["memory"], limits["cpu"]), (str(64 << 20), "50000"))

    def test_a_deleted_tasks_id_can_be_used_again(self):
        for _ in range(3):
            self.assertEqual(self.run_once("echo", "again"), "again")

    def test_mounts_environment_and_cwd(self):
        folder = os.path.join(self.peer.folder, "volume")
        os.makedirs(folder, exist_ok=True)
        out = self.run_once("sh", "-c", "echo w >/v/file; touch /r/x 2>/dev/null || echo refused; cat /r/file; echo $A; pwd",
                            options=["--mount", f"type=bind,src={folder},dst=/v,options=rbind:rw", "--mount", f"type=bind,src={folder},dst=/r,options=rbind:ro", "--env", "A=b", "--cwd", "/tmp"])
        self.assertEqual(out.split(), ["refused", "w", "b", "/tmp"])

    def test_privileged_read_only_and_seccomp(self):
        self.assertIn("mounted", self.run_once("sh", "-c", "mount -t tmpfs none /tmp && echo mounted", options=["--privileged"]))
        self.assertEqual(self.run_once("sh", "-c", "touch /x 2>/dev/null || echo refused", options=["--read-only"]), "refused")
        self.assertIn("2", self.run_once("grep", "Seccomp:", "/proc/self/status", options=["--seccomp"]))
        self.assertEqual(self.run_once("grep", "NoNewPrivs", "/proc/self/status").split()[1], "1")

    def test_host_network_and_a_device(self):
        self.assertEqual(self.run_once("readlink", "/proc/self/ns/net", options=["--net-host"]), os.readlink("/proc/self/ns/net"))
        self.assertIn("rw", self.run_once("sh", "-c", "test -c /dev/zero && (: </dev/zero) && echo rw", options=["--device", "/dev/zero"]))

    def test_a_shim_that_was_killed_leaves_a_container_that_can_be_removed(self):
        name = self.detached()
        pid = self.pid(name)
        shim = caisson.parent_of(pid)
        os.kill(shim, 9)
        wait_until(lambda: self.status(name) is None, "containerd has noticed")
        wait_until(lambda: not caisson.is_alive(pid), "its clean-up has killed the container")
        self.assertIsNone(re.search(name, " ".join(caisson.cgroups_named(self.peer.namespace))))


class OnCaisson(Containerd, ContainerdTest):
    peer_class = peers.PrivateContainerd


class OnRunc(Containerd, ContainerdTest):
    peer_class = peers.PrivateContainerd
    runtime = dropin.PEER


if __name__ == "__main__":
    caisson.main()

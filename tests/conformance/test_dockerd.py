#!/usr/bin/env python3
"""dockerd with caisson-runtime as an added runtime; the same tests on docker's own runc show that they ask for the right thing."""

import json
import os
import subprocess

import dropin
import caisson
import peers
from caisson import wait_until
from terminal import Terminal

LOOP = ("sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done")


class DockerdTest(dropin.WatchedTest):
    runtime_name = "caisson"

    @classmethod
    def open_peer(cls):
        cls.peer = peers.PrivateDockerd("--add-runtime", f"caisson={cls.runtime}")
        cls.peer.__enter__()
        cls.peer.docker("load", "-i", cls.image, check=0)

    def docker(self, *arguments, check=0):
        run = self.peer.docker(*arguments, check=check)
        return (run.stdout if check == 0 else run.stdout + run.stderr).decode(errors="replace").strip()

    def run_arguments(self, *options):
        return ["run", "--runtime", self.runtime_name, *options]

    def run_once(self, *command, options=("--network", "none"), check=0):
        return self.docker(*self.run_arguments("--rm", *options), "busybox", *command, check=check)

    def detached(self, *options, command=LOOP):
        name = self.name()
        self.addCleanup(self.peer.docker, "rm", "-f", name)
        self.docker(*self.run_arguments("-d", "--name", name, *options), "busybox", *command)
        return name

    def inspect(self, name):
        return json.loads(self.docker("inspect", name))[0]

    def pid(self, name):
        return self.inspect(name)["State"]["Pid"]

    def until_logged(self, name, text):
        wait_until(lambda: text in self.docker("logs", name), f"{text} in the log of {name}")


class Dockerd:
    """The tests; run on each runtime by the classes at the end."""

    def test_the_runtime_is_the_one_that_was_asked_for(self):
        name = self.detached()
        self.assertEqual(self.inspect(name)["HostConfig"]["Runtime"], self.runtime_name)

    def test_a_foreground_run_passes_output_and_exit_code(self):
        self.assertEqual(self.run_once("echo", "hello"), "hello")
        self.run_once("sh", "-c", "exit 7", check=7)
        run = self.peer.docker(*self.run_arguments("--rm", "-i"), "busybox", "cat", stdin=b"through\n", check=0)
        self.assertEqual(run.stdout, b"through\n")

    def test_a_missing_program_is_127_and_one_that_cannot_run_126(self):
        self.run_once("nope", check=127)
        self.run_once("/nope", check=127)
        self.run_once("/etc/not-executable", check=126)
        self.run_once("/etc", check=126)

    def test_a_terminal_is_one_and_has_the_callers_size(self):
        command = ["docker", *self.run_arguments("--rm", "-it"), "busybox", "sh", "-c", "tty; while read word; do case $word in size) stty size;; end) exit 5;; esac; done"]
        terminal = Terminal(command, self.peer.environment())
        terminal.read_until(b"/dev/pts/0")
        terminal.ask_size_until(b"33 99")
        terminal.type(b"end\n")
        self.assertEqual(terminal.wait()[1], 5)

    def test_exec_passes_output_codes_user_and_terminal(self):
        name = self.detached()
        self.assertEqual(self.docker("exec", name, "echo", "inside"), "inside")
        self.docker("exec", name, "sh", "-c", "exit 9", check=9)
        # dockerd 20.10 makes 126 of whatever an exec cannot start (later ones: 127 for a missing program).
        for program in ("nope", "/nope", "/etc/not-executable"):
            self.docker("exec", name, program, check=126)
        self.assertEqual(self.docker("exec", "-u", "1000:1500", "-w", "/tmp", "-e", "A=b", name, "sh", "-c", "id -u; id -g; pwd; echo $A").split(), ["1000", "1500", "/tmp", "b"])
        self.docker("exec", "-d", name, "sh", "-c", "echo there >/tmp/mark")
        wait_until(lambda: self.peer.docker("exec", name, "cat", "/tmp/mark").stdout == b"there\n", "the detached exec has written")
        terminal = Terminal(["docker", "exec", "-it", name, "sh", "-c", "tty; read x; echo got $x; exit 6"], self.peer.environment())
        terminal.read_until(b"/dev/pts/")
        terminal.type(b"word\n")
        out, code = terminal.wait()
        self.assertIn(b"got word", out)
        self.assertEqual(code, 6)

    def test_stop_kill_start_and_restart(self):
        name = self.detached()
        self.until_logged(name, "up")
        self.docker("stop", "-t", "10", name)
        self.assertEqual(self.inspect(name)["State"]["ExitCode"], 3)
        self.docker("start", name)
        self.docker("kill", "-s", "KILL", name)
        self.assertEqual(self.docker("wait", name), "137")
        self.docker("start", name)
        before = self.pid(name)
        self.docker("restart", "-t", "5", name)
        self.assertNotEqual(self.pid(name), before)
        self.docker("rm", "-f", name)
        self.assertEqual(self.docker("ps", "-aq", "--filter", f"name={name}"), "")

    def test_a_paused_container_stands_still(self):
        name = self.detached()
        self.docker("pause", name)
        self.assertEqual(self.inspect(name)["State"]["Status"], "paused")
        self.docker("exec", name, "true", check=1)
        self.docker("unpause", name)
        self.assertEqual(self.docker("exec", name, "echo", "on"), "on")

    def test_stats_and_top_see_the_container(self):
        name = self.detached("--memory", "64m")
        stats = json.loads(self.docker("stats", "--no-stream", "--format", "{{json .}}", name))
        self.assertIn("64MiB", stats["MemUsage"])
        self.assertGreater(int(stats["PIDs"]), 0)
        self.assertIn("sh -c", self.docker("top", name))

    def test_limits_stand_in_the_cgroup_and_update_changes_them(self):
        name = self.detached("--memory", "64m", "--pids-limit", "50", "--cpus", "0.5", "--cpuset-cpus", "0")
        self.assertEqual(dropin.limits_of(self.pid(name)), {"memory": str(64 << 20), "pids": "50", "cpu": "50000", "cpus": "0"})
        self.docker("update", "--memory", "96m", "--memory-swap", "192m", "--cpus", "0.25", "--pids-limit", "77", name)
        self.assertEqual(dropin.limits_of(self.pid(name)), {"memory": str(96 << 20), "pids": "77", "cpu": "25000", "cpus": "0"})

    def test_a_memory_hog_is_killed_and_its_code_told(self):
        name = self.detached("--memory", "16m", "--memory-swap", "16m", command=("sh", "-c", "x=$(yes | head -c 200000000); echo $x"))
        self.assertEqual(self.docker("wait", name), "137")

    def test_logs_hold_both_streams(self):
        name = self.detached(command=("sh", "-c", "echo to-out; echo to-err >&2"))
        self.until_logged(name, "to-out")
        self.docker("wait", name)
        run = self.peer.docker("logs", name, check=0)
        self.assertEqual((run.stdout, run.stderr), (b"to-out\n", b"to-err\n"))

    def test_a_health_check_turns_healthy(self):
        name = self.detached("--health-cmd", "test -e /tmp/healthy", "--health-interval", "1s")
        self.docker("exec", name, "touch", "/tmp/healthy")
        wait_until(lambda: self.inspect(name)["State"]["Health"]["Status"] == "healthy", "it is healthy", 30)

    def test_an_init_is_pid_1_and_forwards_the_code(self):
        out = self.run_once("sh", "-c", "cat /proc/1/comm; exit 4", options=["--init", "--network", "none"], check=4)
        self.assertIn("init", out)

    def test_privileged_may_mount(self):
        if self.runtime_name == "runc" and not dropin.has_every_capability():
            self.skipTest("runc fails where a capability is missing; ours leaves it out")
        self.assertIn("mounted", self.run_once("sh", "-c", "mount -t tmpfs none /tmp && echo mounted", options=["--privileged"]))

    def test_a_read_only_root_refuses_writing(self):
        out = self.run_once("sh", "-c", "touch /x 2>/dev/null || echo refused; touch /tmp/y && echo kept", options=["--read-only", "--tmpfs", "/tmp"])
        self.assertEqual(out.split(), ["refused", "kept"])

    def test_volumes_read_only_and_read_write(self):
        folder = os.path.join(self.peer.folder, "volume")
        os.makedirs(folder, exist_ok=True)
        out = self.run_once("sh", "-c", "echo w >/rw/file && cat /ro/file; touch /ro/x 2>/dev/null || echo refused", options=["-v", f"{folder}:/rw", "-v", f"{folder}:/ro:ro"])
        self.assertEqual(out.split(), ["w", "refused"])
        self.docker("volume", "create", "kept")
        self.run_once("sh", "-c", "echo named >/v/file", options=["-v", "kept:/v"])
        self.assertEqual(self.run_once("cat", "/v/file", options=["--mount", "type=volume,source=kept,target=/v,readonly"]), "named")

    def test_user_groups_and_capabilities(self):
        self.assertEqual(self.run_once("sh", "-c", "id -u; id -G; echo $HOME", options=["--user", "user", "--group-add", "4242"]).split("\n"), ["1000", "1000 1500 4242", "/home/user"])

        def effective(*options):
            return int(self.run_once("grep", "CapEff", "/proc/self/status", options=options).split()[1], 16)
        self.assertTrue(effective("--cap-add", "NET_ADMIN") & 1 << 12)
        self.assertFalse(effective("--cap-drop", "CHOWN") & 1)
        self.assertEqual(effective("--cap-drop", "ALL"), 0)

    def test_seccomp_profiles_are_applied(self):
        self.assertEqual(self.run_once("sh", "-c", "grep Seccomp: /proc/self/status | cut -f2"), "2")
        self.assertEqual(self.run_once("sh", "-c", "grep Seccomp: /proc/self/status | cut -f2", options=["--security-opt", "seccomp=unconfined"]), "0")
        profile = os.path.join(self.peer.folder, "profile.json")
        with open(profile, "w", encoding="utf-8") as file:
            json.dump({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}, file)
        self.assertIn("not supported", self.run_once("mkdir", "/tmp/x", options=["--security-opt", f"seccomp={profile}"], check=1).lower())
        self.assertEqual(self.run_once("grep", "NoNewPrivs", "/proc/self/status", options=["--security-opt", "no-new-privileges"]).split()[1], "1")

    def test_a_device_can_be_given(self):
        self.assertIn("rw", self.run_once("sh", "-c", "test -c /dev/given && (: </dev/given) && (: >/dev/given) && echo rw", options=["--device", "/dev/null:/dev/given:rw"]))
        self.assertIn("refused", self.run_once("sh", "-c", "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem || echo refused"))

    def test_sysctls_hostname_ulimits_and_shm(self):
        out = self.run_once("sh", "-c", "cat /proc/sys/kernel/msgmax; hostname; ulimit -n; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2",
                            options=["--sysctl", "kernel.msgmax=4096", "--hostname", "named", "--ulimit", "nofile=512:512", "--shm-size", "4m"])
        self.assertEqual(out.split(), ["4096", "named", "512", "4096"])

    def test_a_published_port_answers(self):
        name = self.detached("-p", "127.0.0.1:18081:80", command=("sh", "-c", "mkdir /tmp/w; echo page >/tmp/w/index.html; httpd -f -h /tmp/w"))
        address = self.inspect(name)["NetworkSettings"]["IPAddress"]
        fetch = ["nsenter", f"--net=/run/netns/{self.peer.namespace}", "busybox", "wget", "-q", "-O", "-"]
        for url in (f"http://{address}/", "http://127.0.0.1:18081/"):
            wait_until(lambda url=url: subprocess.run([*fetch, url], capture_output=True, check=False).stdout == b"page\n", f"{url} answers")

    def test_host_namespaces_and_those_of_another_container(self):
        for kind in ("uts", "ipc", "pid"):
            self.assertEqual(self.run_once("readlink", f"/proc/self/ns/{kind}", options=[f"--{kind}", "host"]), os.readlink(f"/proc/self/ns/{kind}"))
        name = self.detached("--ipc", "shareable")
        for kind in ("net", "ipc", "pid"):
            option = "--network" if kind == "net" else f"--{kind}"
            self.assertEqual(self.run_once("readlink", f"/proc/self/ns/{kind}", options=[option, f"container:{name}"]), self.docker("exec", name, "readlink", f"/proc/self/ns/{kind}"))

    def test_with_the_hosts_pids_nothing_of_it_survives_rm(self):
        mark = f"sleep 5432{os.getpid()}"
        name = self.detached("--pid", "host", command=("sh", "-c", f"{mark} & {mark} & exec sleep 12345"))
        wait_until(lambda: len(caisson.processes_mentioning(mark)) >= 2, "its processes run")
        self.docker("rm", "-f", name)
        wait_until(lambda: not caisson.processes_mentioning(mark), "its processes are gone")

    def test_files_are_copied_in_and_out(self):
        name = self.detached()
        path = os.path.join(self.peer.folder, "copied")
        with open(path, "w", encoding="utf-8") as file:
            file.write("carried")
        self.docker("cp", path, f"{name}:/tmp/copied")
        self.assertEqual(self.docker("exec", name, "cat", "/tmp/copied"), "carried")
        self.docker("cp", f"{name}:/tmp/copied", path + ".back")
        with open(path + ".back", encoding="utf-8") as file:
            self.assertEqual(file.read(), "carried")


class OnCaisson(Dockerd, DockerdTest):
    peer_class = peers.PrivateDockerd


class OnRunc(Dockerd, DockerdTest):
    peer_class = peers.PrivateDockerd
    runtime_name = "runc"


if __name__ == "__main__":
    caisson.main()

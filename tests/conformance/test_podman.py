#!/usr/bin/env python3
"""podman, with caisson-runtime where it expects crun or runc; the same tests on runc show that they ask for the right thing."""

import json
import os
import shutil
import subprocess

import dropin
import caisson
import peers
from caisson import wait_until
from terminal import Terminal


class PodmanTest(dropin.WatchedTest):
    @classmethod
    def open_peer(cls):
        cls.peer = peers.PrivatePodman(cls.runtime)
        cls.peer.podman("load", "-i", cls.image, check=0)

    def podman(self, *arguments, check=0):
        run = self.peer.podman(*arguments, check=check)
        return (run.stdout + run.stderr if check is None or check != 0 else run.stdout).decode(errors="replace").strip()

    def arguments(self, *arguments, network="none"):
        return ["--cgroup-parent", "/" + self.peer.namespace, "--network", network, *arguments]

    def run_once(self, *command, options=(), check=0, network="none"):
        return self.podman("run", "--rm", *self.arguments(*options, network=network), "busybox", *command, check=check)

    def detached(self, *options, command=("sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done")):
        name = self.name()
        self.addCleanup(self.peer.podman, "rm", "-f", "-t", "0", name)
        self.podman("run", "-d", "--name", name, *self.arguments(*options), "busybox", *command)
        return name

    def inspect(self, name):
        return json.loads(self.podman("inspect", name))[0]

    def pid(self, name):
        return self.inspect(name)["State"]["Pid"]

    def until_logged(self, name, text):
        wait_until(lambda: text in self.podman("logs", name), f"{text} in the log of {name}")


class Podman:
    """The tests; run on each runtime by the classes at the end."""

    def test_a_foreground_run_passes_output_and_exit_code(self):
        self.assertEqual(self.run_once("echo", "hello"), "hello")
        self.run_once("sh", "-c", "exit 7", check=7)
        self.run_once("sh", "-c", "sh -c 'kill -9 $$'; exit $?", check=137)

    def test_input_reaches_the_program(self):
        run = self.peer.podman("run", "-i", "--rm", *self.arguments(), "busybox", "cat", stdin=b"through\n", check=0)
        self.assertEqual(run.stdout, b"through\n")

    def test_a_missing_program_is_127_and_one_that_cannot_run_126(self):
        self.run_once("nope", check=127)
        self.run_once("/nope", check=127)
        self.run_once("/etc/not-executable", check=126)
        self.run_once("/etc", check=126)

    def test_exec_passes_output_codes_user_and_environment(self):
        name = self.detached()
        self.assertEqual(self.podman("exec", name, "echo", "inside"), "inside")
        self.podman("exec", name, "sh", "-c", "exit 9", check=9)
        self.podman("exec", name, "nope", check=127)
        self.podman("exec", name, "/nope", check=127)
        self.podman("exec", name, "/etc/not-executable", check=126)
        self.assertEqual(self.podman("exec", "-u", "1000:1500", "-w", "/tmp", "-e", "A=b", name, "sh", "-c", "id -u; id -g; pwd; echo $A").split(), ["1000", "1500", "/tmp", "b"])
        run = self.peer.podman("exec", "-i", name, "cat", stdin=b"typed", check=0)
        self.assertEqual(run.stdout, b"typed")
        self.podman("exec", "-d", name, "sh", "-c", "echo there >/tmp/mark")
        wait_until(lambda: self.peer.podman("exec", name, "cat", "/tmp/mark").stdout == b"there\n", "the detached exec has written")

    def test_a_terminal_is_one_and_has_the_callers_size(self):
        # conmon sets the size on its own, beside podman's start: the program may run before that.
        command = "tty; until stty size 2>/dev/null | grep -v '^0 0'; do usleep 50000; done; read x; echo got $x; exit 5"
        terminal = Terminal(self.peer.command("run", "--rm", "-it", *self.arguments(), "busybox", "sh", "-c", command), self.peer.environment())
        self.assertIn(b"/dev/pts/0", terminal.read_until(b"33 99"))
        terminal.type(b"word\n")
        out, code = terminal.wait()
        self.assertIn(b"got word", out)
        self.assertEqual(code, 5)

    def test_an_exec_with_a_terminal_is_interactive(self):
        name = self.detached()
        terminal = Terminal(self.peer.command("exec", "-it", name, "sh", "-c", "tty; read x; echo got $x; exit 6"), self.peer.environment())
        terminal.read_until(b"/dev/pts/")
        terminal.type(b"word\n")
        out, code = terminal.wait()
        self.assertIn(b"got word", out)
        self.assertEqual(code, 6)

    def test_stop_is_a_signal_and_kill_any(self):
        name = self.detached()
        self.until_logged(name, "up")
        self.podman("stop", "-t", "10", name)
        self.assertEqual(self.inspect(name)["State"]["ExitCode"], 3)
        self.podman("start", name)
        self.podman("kill", "-s", "KILL", name)
        self.assertEqual(self.podman("wait", name), "137")

    def test_restart_runs_it_anew_and_rm_f_takes_a_running_one(self):
        name = self.detached()
        before = self.pid(name)
        self.podman("restart", "-t", "5", name)
        self.assertNotEqual(self.pid(name), before)
        self.assertEqual(self.inspect(name)["State"]["Status"], "running")
        self.podman("rm", "-f", "-t", "1", name)
        self.assertEqual(self.podman("ps", "-aq", "--filter", f"name={name}"), "")

    def test_a_paused_container_stands_still(self):
        name = self.detached()
        self.podman("pause", name)
        self.assertEqual(self.inspect(name)["State"]["Status"], "paused")
        self.podman("exec", name, "true", check=255)
        self.podman("unpause", name)
        self.assertEqual(self.podman("exec", name, "echo", "on"), "on")
        self.podman("pause", name)
        self.podman("rm", "-f", "-t", "0", name)

    def test_stats_and_top_see_the_container(self):
        name = self.detached("--memory", "64m")
        self.podman("exec", name, "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
        stats = json.loads(self.podman("stats", "--no-stream", "--format", "json", name))[0]
        self.assertIn("67.11MB", stats["mem_usage"])
        self.assertGreater(int(stats["pids"]), 0)
        self.assertRegex(stats["cpu_time"], r"[1-9]")
        self.assertIn("sleep", self.podman("top", name))

    def test_limits_stand_in_the_cgroup_and_update_changes_them(self):
        name = self.detached("--memory", "64m", "--pids-limit", "50", "--cpus", "0.5", "--cpuset-cpus", "0")
        limits = dropin.limits_of(self.pid(name))
        self.assertEqual(limits, {"memory": str(64 << 20), "pids": "50", "cpu": "50000", "cpus": "0"})
        self.podman("update", "--memory", "96m", "--memory-swap", "96m", "--cpus", "0.25", name)
        limits = dropin.limits_of(self.pid(name))
        self.assertEqual(limits, {"memory": str(96 << 20), "pids": "50", "cpu": "25000", "cpus": "0"})

    def test_a_memory_hog_is_killed_and_its_code_told(self):
        name = self.detached("--memory", "16m", "--memory-swap", "16m", command=("sh", "-c", "x=$(yes | head -c 200000000); echo $x"))
        self.assertEqual(self.podman("wait", name), "137")

    def test_logs_hold_both_streams(self):
        name = self.detached(command=("sh", "-c", "echo to-out; echo to-err >&2"))
        self.until_logged(name, "to-out")
        run = self.peer.podman("logs", name, check=0)
        self.assertEqual((run.stdout, run.stderr), (b"to-out\n", b"to-err\n"))

    def test_a_health_check_runs_inside(self):
        name = self.detached("--health-cmd", "test -e /tmp/healthy", "--health-interval", "disable", "--health-retries", "1")
        self.podman("healthcheck", "run", name, check=1)
        self.podman("exec", name, "touch", "/tmp/healthy")
        self.podman("healthcheck", "run", name)

    def test_privileged_may_mount_and_sees_devices(self):
        out = self.run_once("sh", "-c", "mount -t tmpfs none /tmp && echo mounted; ls /dev; grep CapEff /proc/self/status", options=["--privileged"])
        self.assertIn("mounted", out)
        self.assertIn("loop-control" if os.path.exists("/dev/loop-control") else "null", out)

    def test_a_read_only_root_refuses_writing_and_keeps_its_tmpfs(self):
        out = self.run_once("sh", "-c", "touch /x 2>/dev/null || echo refused; touch /tmp/y && echo kept; touch /run/z && echo kept", options=["--read-only"])
        self.assertEqual(out.split(), ["refused", "kept", "kept"])

    def test_volumes_read_only_and_read_write(self):
        folder = os.path.join(self.peer.folder, "volume")
        os.makedirs(folder, exist_ok=True)
        out = self.run_once("sh", "-c", "echo w >/rw/file && cat /ro/file; touch /ro/x 2>/dev/null || echo refused", options=["-v", f"{folder}:/rw", "-v", f"{folder}:/ro:ro"])
        self.assertEqual(out.split(), ["w", "refused"])
        self.assertEqual(self.run_once("cat", "/v/file", options=["--mount", f"type=bind,source={folder},target=/v,ro"]), "w")
        self.assertEqual(self.run_once("sh", "-c", "df -m /scratch | tail -1 | tr -s ' ' | cut -d' ' -f2", options=["--tmpfs", "/scratch:size=4m"]), "4")

    def test_user_groups_and_home(self):
        self.assertEqual(self.run_once("sh", "-c", "id -u; id -G; echo $HOME", options=["--user", "user", "--group-add", "4242"]).split("\n"), ["1000", "1000 1500 4242", "/home/user"])

    def test_capabilities_are_added_and_dropped(self):
        def effective(*options):
            return int(self.run_once("grep", "CapEff", "/proc/self/status", options=options).split()[1], 16)
        self.assertTrue(effective("--cap-add", "NET_ADMIN") & 1 << 12)
        self.assertFalse(effective("--cap-drop", "CHOWN") & 1)
        self.assertEqual(effective("--cap-drop", "ALL"), 0)

    def test_seccomp_profiles_are_applied(self):
        self.assertIn("2", self.run_once("grep", "Seccomp:", "/proc/self/status"))
        self.assertIn("0", self.run_once("grep", "Seccomp:", "/proc/self/status", options=["--security-opt", "seccomp=unconfined"]))
        profile = os.path.join(self.peer.folder, "profile.json")
        with open(profile, "w", encoding="utf-8") as file:
            json.dump({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}, file)
        self.assertIn("not supported", self.run_once("mkdir", "/tmp/x", options=["--security-opt", f"seccomp={profile}"], check=1).lower())
        self.assertEqual(self.run_once("grep", "NoNewPrivs", "/proc/self/status", options=["--security-opt", "no-new-privileges"]).split()[1], "1")

    def test_a_device_can_be_given(self):
        self.assertIn("rw", self.run_once("sh", "-c", "test -c /dev/given && (: </dev/given) && (: >/dev/given) && echo rw", options=["--device", "/dev/null:/dev/given:rw"]))
        self.run_once("sh", "-c", "test -e /dev/net/tun", check=1)

    def test_an_init_reaps_and_forwards(self):
        init = shutil.which("docker-init") or shutil.which("tini")
        if not init:
            self.skipTest("needs an init program: tools/dependencies peers")
        out = self.run_once("sh", "-c", "cat /proc/1/comm; exit 4", options=["--init", "--init-path", init], check=4)
        self.assertNotIn("sh\n", out)

    def test_a_network_of_its_own_has_an_address_and_a_published_port_answers(self):
        name = self.name()
        self.addCleanup(self.peer.podman, "rm", "-f", "-t", "0", name)
        self.podman("run", "-d", "--name", name, *self.arguments("-p", "18080:80", network="podman"), "busybox", "sh", "-c", "mkdir /tmp/w; echo page >/tmp/w/index.html; httpd -f -h /tmp/w")
        address = self.inspect(name)["NetworkSettings"]["Networks"]["podman"]["IPAddress"]
        fetch = ["nsenter", f"--net=/run/netns/{self.peer.namespace}", "busybox", "wget", "-q", "-O", "-"]
        for url in (f"http://{address}/", "http://127.0.0.1:18080/"):
            wait_until(lambda url=url: subprocess.run([*fetch, url], capture_output=True, check=False).stdout == b"page\n", f"{url} answers")

    def test_a_pod_shares_namespaces(self):
        name = self.detached()
        links = ["sh", "-c", "readlink /proc/self/ns/net; readlink /proc/self/ns/ipc"]
        first = self.podman("exec", name, *links).split()
        again = self.podman("run", "--rm", "--cgroup-parent", "/" + self.peer.namespace, "--network", f"container:{name}", "--ipc", f"container:{name}", "--pid", f"container:{name}", "busybox", *links).split()
        self.assertEqual(first, again)

    def test_host_namespaces_are_the_hosts(self):
        for kind in ("uts", "ipc", "pid"):
            self.assertEqual(self.run_once("readlink", f"/proc/self/ns/{kind}", options=[f"--{kind}", "host"]), os.readlink(f"/proc/self/ns/{kind}"))
        # podman itself stands in a network namespace of its own here.
        outside = subprocess.run(["nsenter", f"--net=/run/netns/{self.peer.namespace}", "readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True)
        self.assertEqual(self.run_once("readlink", "/proc/self/ns/net", network="host"), outside.stdout.strip())

    def test_with_the_hosts_pids_nothing_of_it_survives_rm(self):
        mark = f"sleep 5432{os.getpid()}"
        name = self.detached("--pid", "host", command=("sh", "-c", f"{mark} & {mark} & exec sleep 12345"))
        wait_until(lambda: len(caisson.processes_mentioning(mark)) >= 2, "its processes run")
        self.podman("rm", "-f", "-t", "0", name)
        wait_until(lambda: not caisson.processes_mentioning(mark), "its processes are gone")

    def test_sysctls_hostname_ulimits_and_shm(self):
        out = self.run_once("sh", "-c", "cat /proc/sys/kernel/msgmax; hostname; ulimit -n; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2",
                            options=["--sysctl", "kernel.msgmax=4096", "--hostname", "named", "--ulimit", "nofile=512:512", "--ulimit", "nproc=512:512", "--shm-size", "4m"])
        self.assertEqual(out.split(), ["4096", "named", "512", "4096"])

    def test_a_user_namespace_maps_root_away(self):
        out = self.run_once("sh", "-c", "cat /proc/self/uid_map; id -u; touch /x && stat -c %u /x", options=["--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536"])
        self.assertEqual(out.split(), ["0", "200000", "65536", "0", "0"])

    def test_create_then_start_and_attach(self):
        name = self.name()
        self.addCleanup(self.peer.podman, "rm", "-f", "-t", "0", name)
        self.podman("create", "--name", name, *self.arguments(), "busybox", "echo", "attached")
        self.podman("init", name)
        self.assertEqual(self.podman("start", "--attach", name), "attached")


class OnCaisson(Podman, PodmanTest):
    peer_class = peers.PrivatePodman


class OnRunc(Podman, PodmanTest):
    peer_class = peers.PrivatePodman
    runtime = dropin.PEER


if __name__ == "__main__":
    caisson.main()

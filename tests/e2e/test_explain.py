#!/usr/bin/env python3
"""`security explain` says what holds a container back and what it ran into, as the kernel has it; `security learn` proposes a box that is tighter and still does."""

import json
import os
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import caisson  # noqa: E402
from caisson import wait_until  # noqa: E402

SYS_MOUNT = 165


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def instances():
    """Trace instances of ours, of any engine."""
    folder = "/sys/kernel/tracing/instances"
    mounted = os.path.isdir(folder)
    if not mounted and subprocess.run(["mount", "-t", "tracefs", "none", "/sys/kernel/tracing"], capture_output=True, check=False).returncode != 0:
        return []
    try:
        return [name for name in os.listdir(folder) if name.startswith("caisson-")]
    finally:
        if not mounted:
            subprocess.run(["umount", "/sys/kernel/tracing"], check=True)


class Explain(caisson.EngineTest):
    def explain(self, name):
        return json.loads(self.engine.ok("security", "explain", "--format", "json", name))[0]

    def test_a_running_containers_box_is_the_kernels(self):
        name = self.run_detached("--cap-drop", "chown", "--security-opt", "no-new-privileges", "--pids-limit", "77", "--memory", "64m", "--read-only", "-v", "/usr/share:/host:ro")
        report = self.explain(name)
        status = status_of(self.engine.inspect(name)["State"]["Pid"])
        names = report["Capabilities"]
        self.assertNotIn("CAP_CHOWN", names)
        self.assertEqual(len(names), bin(int(status["CapBnd"], 16)).count("1"))
        self.assertIn("CAP_CHOWN", report["WithoutDockers"])
        self.assertTrue(report["NoNewPrivileges"])
        self.assertTrue(report["ReadonlyRootfs"])
        self.assertEqual(report["Seccomp"]["Profile"], "default")
        self.assertGreater(report["Seccomp"]["Refused"], 30)
        self.assertEqual((report["PidsLimit"], report["Memory"]), (77, 64 << 20))
        self.assertEqual(set(report["Namespaces"].values()), {"own"})
        self.assertIn({"Destination": "/host", "Source": "/usr/share", "RW": False, "KeepsOwners": True}, report["Mounts"])
        with open(f"/proc/{self.engine.inspect(name)['State']['Pid']}/uid_map", encoding="utf-8") as file:
            first = file.readline().split()
        self.assertEqual((report["FirstHostId"], report["HostIds"]), (int(first[1]), int(first[2])))
        text = self.engine.ok("security", "explain", name)
        for part in ("Capabilities", "default profile", "root read-only", "/host from /usr/share, read-only", "processes: 77", "memory: 64MiB"):
            self.assertIn(part, text)

    def test_shared_namespaces_and_no_filter_are_said(self):
        name = self.run_detached("--network", "host", "--security-opt", "seccomp=unconfined")
        joined = self.run_detached("--pid", f"container:{name}")
        report = self.explain(name)
        self.assertEqual(report["Namespaces"]["network"], "host")
        self.assertEqual(report["Namespaces"]["user"], "own")
        self.assertEqual(report["Seccomp"]["Profile"], "unconfined")
        self.assertTrue(self.explain(joined)["Namespaces"]["pid"].startswith("container:"))
        self.assertIn("all: it has no filter", self.engine.ok("security", "explain", name))

    def test_one_that_never_ran_is_told_as_it_would_start(self):
        name = self.name()
        self.engine.ok("create", "--name", name, "--cap-add", "NET_ADMIN", "busybox", "true")
        report = self.explain(name)
        self.assertEqual((report["Pid"], report["State"]), (0, "created"))
        self.assertIn("CAP_NET_ADMIN", report["Capabilities"])

    def test_what_is_not_there_and_several_at_once(self):
        name = self.run_detached()
        result = self.engine.cli("security", "explain", name, "nobody")
        self.assertEqual(result.returncode, 1)
        self.assertIn("No such container: nobody", result.stderr)
        self.assertIn(name, result.stdout)

    @caisson.differs_without_root("the kernel's trace and audit records are for the host's root")
    def test_refused_calls_are_told_when_they_were_asked_to_be_noted(self):
        name = self.run_detached("--security-opt", "log-refusals")
        silent = self.run_detached()
        for container in (name, silent):
            for _ in range(3):
                self.assertNotEqual(self.engine.cli("exec", container, "mount", "-t", "tmpfs", "none", "/mnt").returncode, 0)
        wait_until(lambda: any(refusal["What"] == "mount" and refusal["Count"] == 3 for refusal in self.explain(name)["Refusals"]), "the kernel's note of three mounts")
        refusal = next(refusal for refusal in self.explain(name)["Refusals"] if refusal["What"] == "mount")
        self.assertEqual((refusal["By"], refusal["Program"], refusal["Killed"]), ("seccomp", "mount", False))
        self.assertIn('seccomp: mount, asked by "mount", 3 times', self.engine.ok("security", "explain", name))
        self.assertEqual(self.explain(silent)["Refusals"], [])
        self.assertIn("log-refusals", " ".join(self.explain(silent)["Gaps"]))
        self.engine.ok("restart", "-t", "0", name)
        self.assertTrue(self.engine.inspect(name)["HostConfig"]["SecurityOpt"], "the option is given back")

    @caisson.differs_without_root("the kernel's trace and audit records are for the host's root")
    def test_what_a_filter_killed_is_told_after_the_end(self):
        profile = os.path.join(self.engine.folder, "kill.json")
        with open(profile, "w", encoding="utf-8") as file:
            json.dump({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS"}]}, file)
        name = self.name()
        self.engine.cli("run", "--name", name, "--security-opt", f"seccomp={profile}", "busybox", "hostname", "other")
        wait_until(lambda: [(refusal["What"], refusal["Killed"]) for refusal in self.explain(name)["Refusals"]] == [("sethostname", True)], "the kernel's note")
        self.assertIn("it was killed for it", self.engine.ok("security", "explain", name))

    def test_memory_beyond_the_limit_is_told(self):
        name = self.name()
        self.engine.cli("run", "--name", name, "--memory", "16m", "busybox", "sh", "-c", "head -c 100000000 /dev/zero | tail", timeout=60)
        if not self.engine.inspect(name)["State"]["OOMKilled"]:
            self.skipTest("this kernel killed nobody here")
        self.assertIn("memory", [refusal["By"] for refusal in self.explain(name)["Refusals"]])


@caisson.differs_without_root("the kernel's trace and audit records are for the host's root")
class Learn(caisson.EngineTest):
    def learn(self, name, *options):
        return json.loads(self.engine.ok("security", "learn", "--format", "json", *options, name, timeout=120))[0]

    def create(self, *arguments, command):
        name = self.name()
        self.engine.ok("create", "--name", name, *arguments, "busybox", *command)
        return name

    def test_a_run_is_seen_whole_and_runs_again_in_what_was_proposed(self):
        script = "chown 1:1 /tmp; cat /etc/passwd >/dev/null; mount -t tmpfs none /mnt 2>/dev/null; mkdir -p /run/x; echo x >/run/x/y; true"
        name = self.create(command=("sh", "-c", script))
        profile = os.path.join(self.engine.folder, "learned.json")
        learned = self.learn(name, "--output", profile)
        self.assertTrue(learned["SawTheStart"])
        self.assertFalse(learned["Watching"])
        for call in ("read", "write", "openat", "execve"):
            self.assertIn(call, learned["Calls"])
        for call in ("pivot_root", "move_mount", "seccomp", "setns", "capset"):
            self.assertNotIn(call, learned["Calls"], "the engine's own doings are not the container's")
        self.assertIn("mount", learned["RefusedCalls"])
        self.assertNotIn("mount", learned["Calls"])
        if learned["KnowsCapabilities"]:
            self.assertIn("CAP_CHOWN", learned["Capabilities"])
            self.assertNotIn("CAP_SETUID", learned["Proposal"]["CapAdd"])
        self.assertTrue(any(path.startswith("/run/x") for path in learned["Written"]), learned["Written"])
        self.assertEqual(instances(), [])
        proposal = learned["Proposal"]
        self.assertIn("/run", proposal["Tmpfs"])
        flags = ["--cap-drop", "all", *(word for capability in proposal["CapAdd"] for word in ("--cap-add", capability)), "--security-opt", f"seccomp={profile}", "--pids-limit", str(proposal["PidsLimit"] or 32)]
        again = self.engine.cli("run", "--rm", *flags, "busybox", "sh", "-c", script)
        self.assertEqual(again.returncode, 0, again.stderr)
        with open(profile, encoding="utf-8") as file:
            allowed = [call for rule in json.load(file)["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for call in rule["names"]]
        self.assertLess(len(set(allowed)), 100)
        self.assertNotIn("socket", allowed)
        refused = self.engine.cli("run", "--rm", *flags, "busybox", "nc", "-w", "1", "127.0.0.1", "1")
        self.assertIn("Operation not permitted", refused.stderr + refused.stdout)

    def test_one_that_runs_is_watched_with_its_execs_and_for_a_while(self):
        name = self.run_detached()
        neighbour = self.run_detached(command=("sh", "-c", "while :; do hostname >/dev/null; umount /nothing 2>/dev/null; done"))
        process = subprocess.Popen(self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "security", "learn", "--format", "json", name]), env=self.engine.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            self.assertIn("watching", process.stderr.readline())
            self.engine.ok("exec", name, "dd", "if=/dev/zero", "of=/file", "bs=1", "count=1")
            self.engine.ok("exec", name, "chmod", "600", "/file")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        self.assertEqual(process.returncode, 0, err)
        learned = json.loads(out)[0]
        self.assertFalse(learned["SawTheStart"])
        self.assertTrue({"chmod", "fchmodat"} & set(learned["Calls"]), learned["Calls"])
        self.assertFalse({"umount2", "uname"} & set(learned["Calls"]), "a neighbour's calls are not its own")
        self.assertNotIn("umount2", learned["RefusedCalls"])
        self.assertEqual(learned["Written"], ["/file"])
        self.assertEqual(self.engine.inspect(name)["State"]["Status"], "running")
        self.assertTrue(learned["MostProcesses"] >= 1)
        self.engine.ok("rm", "-f", neighbour)
        self.assertEqual(instances(), [])

    def test_one_watch_at_a_time_and_an_end_by_somebody_else(self):
        name = self.run_detached()
        self.assertEqual(self.engine.request("POST", f"/caisson/v1/containers/{name}/learning")[0], 201)
        self.assertEqual(self.engine.request("POST", f"/caisson/v1/containers/{name}/learning")[0], 409)
        refused = self.engine.cli("security", "learn", name)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("is being watched already", refused.stderr)
        self.assertIn("What would have done", self.engine.ok("security", "learn", "--stop", name))
        result = self.engine.cli("security", "learn", "--stop", name)
        self.assertEqual(result.returncode, 1)
        self.assertIn("is not being watched", result.stderr)
        self.assertEqual(instances(), [])

    def test_a_program_that_cannot_start_leaves_no_watch(self):
        name = self.create(command=("/no/such/program",))
        result = self.engine.cli("security", "learn", name)
        self.assertEqual(result.returncode, 1)
        self.assertIn("no such file or directory", result.stderr)
        self.assertEqual(self.engine.request("GET", f"/caisson/v1/containers/{name}/learning")[0], 404)
        self.assertEqual(instances(), [])

    def test_a_killed_daemons_watch_is_taken_away_by_the_next(self):
        name = self.run_detached()
        self.assertEqual(self.engine.request("POST", f"/caisson/v1/containers/{name}/learning")[0], 201)
        self.assertEqual(len(instances()), 1)
        self.engine.kill9()
        self.engine.start()
        self.assertEqual(instances(), [])
        self.assertEqual(self.engine.request("GET", f"/caisson/v1/containers/{name}/learning")[0], 404)


if __name__ == "__main__":
    caisson.main()

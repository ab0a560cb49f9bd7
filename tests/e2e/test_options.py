#!/usr/bin/env python3
"""Options that open a container towards the host or another container: each is seen from inside and from the host."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import unittest

import caisson


DEVICE = "/dev/net/tun" if caisson.ROOTLESS else "/dev/fuse"  # one that whoever asks may open on the host


def namespace(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


class Options(caisson.EngineTest):
    def pid_of(self, name):
        return self.engine.inspect(name)["State"]["Pid"]

    def inside(self, script, *arguments, **options):
        return self.engine.ok("run", "--rm", *arguments, "busybox", "sh", "-c", script, **options)

    # -- the user namespace
    def test_userns_host_is_the_hosts_root_with_the_same_confinement(self):
        name = self.run_detached("--userns=host", command=("sh", "-c", "touch /made; sleep 1000"))
        pid = self.pid_of(name)
        self.assertEqual(namespace(pid, "user"), namespace(self.engine.own_pid, "user"))
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
        self.assertEqual(status["Uid"].split()[0], str(self.engine.user.uid if caisson.ROOTLESS else 0))
        self.assertEqual(status["Seccomp"], "2")
        self.assertLess(bin(int(status["CapBnd"], 16)).count("1"), 20)
        self.assertEqual(self.engine.inspect(name)["HostConfig"]["UsernsMode"], "host")
        with open(f"/proc/{self.engine.own_pid}/uid_map", encoding="utf-8") as file:
            ids = [line.split()[::2] for line in file]
        self.assertEqual([line.split()[::2] for line in self.engine.ok("exec", name, "cat", "/proc/self/uid_map").splitlines()], ids)
        self.assertEqual(self.engine.ok("exec", name, "stat", "-c", "%u:%g", "/made", "/bin/busybox").split(), ["0:0", "0:0"])
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"):
            self.assertNotEqual(self.engine.cli("exec", name, "sh", "-c", f"echo x >{path}").returncode, 0)

    def test_privileged_has_devices_capabilities_and_no_filter(self):
        name = self.run_detached("--privileged")
        pid = self.pid_of(name)
        status = dict(line.split(":\t", 1) for line in self.engine.ok("exec", name, "cat", "/proc/self/status").splitlines() if ":\t" in line)
        (starter,) = self.engine.launchers("caisson-starter")
        with open(f"/proc/{starter}/status", encoding="utf-8") as file:
            whole = next(line.split()[1] for line in file if line.startswith("CapBnd"))
        self.assertEqual(int(status["CapEff"], 16), int(whole, 16), "all that the daemon was started with")
        self.assertEqual((status["Seccomp"], status["NoNewPrivs"]), ("0", "0"))
        self.assertEqual(namespace(pid, "user"), namespace(self.engine.own_pid, "user"))
        devices = {entry for entry in os.listdir("/dev") if stat.S_ISCHR(os.lstat(f"/dev/{entry}").st_mode)} - {"console", "ptmx", "tty"}
        self.assertLessEqual(devices, set(self.engine.ok("exec", name, "ls", "/dev").split()))
        self.engine.ok("exec", name, "sh", "-c", "mount -t tmpfs none /srv && touch /srv/x && umount /srv")
        self.assertNotIn("/proc/sys", self.engine.ok("exec", name, "sh", "-c", "grep ' ro,' /proc/mounts || true"))
        self.assertTrue(self.engine.inspect(name)["HostConfig"]["Privileged"])
        self.assertEqual(caisson.mounts_mentioning("/srv/x"), [])

    def test_a_profile_of_ones_own_is_the_one_that_holds_for_exec_too(self):
        profile = os.path.join(self.engine.folder, "profile.json")
        with open(profile, "w", encoding="utf-8") as file:
            json.dump({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}, file)
        name = self.run_detached("--security-opt", f"seccomp={profile}")
        os.unlink(profile)  # its text was sent: nothing reads the file later
        for _ in range(2):
            run = self.engine.cli("exec", name, "mkdir", "/tmp/x")
            self.assertIn("No space left on device", run.stderr)
            self.assertEqual(self.engine.ok("exec", name, "sh", "-c", "echo x >/tmp/y; cat /tmp/y"), "x")
            self.engine.ok("restart", "-t", "0", name)

    def test_a_limit_that_cannot_be_raised_is_said_or_holds(self):
        with open("/proc/self/limits", encoding="utf-8") as file:
            hard = next(line.split()[4] for line in file if line.startswith("Max open files"))
        if hard == "unlimited":
            self.skipTest("this host has no hard limit of open files to exceed")
        wanted = int(hard) + 1
        name = self.name()
        self.engine.ok("run", "--name", name, "--ulimit", f"nofile={wanted}:{wanted}", "busybox", "sh", "-c", "ulimit -Hn")
        if self.engine.ok("logs", name) != str(wanted):
            self.assertEqual(self.engine.ok("logs", name), hard)
            self.assertIn("clamped", self.engine.log_text())

    # -- devices
    def test_a_device_has_the_name_and_the_rights_that_were_asked_for(self):
        if not os.path.exists(DEVICE):
            self.skipTest("needs a device that no container has by default")
        host = os.stat(DEVICE).st_rdev
        number = f"{os.major(host):x} {os.minor(host):x}"
        self.assertEqual(self.inside(f"stat -c '%t %T' {DEVICE}", "--device", DEVICE), number)
        self.assertEqual(self.inside("stat -c '%t %T' /dev/mine; : >>/dev/mine && echo opened", "--device", f"{DEVICE}:/dev/mine").splitlines(), [number, "opened"])
        self.assertNotEqual(self.engine.cli("run", "--rm", "busybox", "ls", DEVICE).returncode, 0)

    @caisson.differs_without_root("the host's node is bound with the rights that it has for the user")
    def test_a_device_may_be_read_but_not_written(self):
        if not os.path.exists(DEVICE):
            self.skipTest("needs a device that no container has by default")
        read_only = "exec 3</dev/mine && echo read; exec 4>>/dev/mine && echo written"
        run = self.engine.cli("run", "--rm", "--device", f"{DEVICE}:/dev/mine:r", "busybox", "sh", "-c", read_only)
        self.assertEqual(run.stdout, "read\n")
        self.assertIn("not permitted", run.stderr)

    # -- groups
    def test_added_groups_are_the_processes_own(self):
        self.assertEqual(self.inside("id -G", "--group-add", "extra", "--group-add", "4321").split(), ["0", "1500", "4321"])
        name = self.run_detached("-u", "user", "--group-add", "nogroup")
        first = self.engine.inspect(name)
        with open(f"/proc/{first['State']['Pid']}/uid_map", encoding="utf-8") as file:
            base = int(file.read().split()[1])
        with open(f"/proc/{first['State']['Pid']}/status", encoding="utf-8") as file:
            groups = next(line.split()[1:] for line in file if line.startswith("Groups:"))
        if not caisson.ROOTLESS:  # there 0 is the user, and the others follow somewhere else
            self.assertEqual({int(group) - base for group in groups} - {1000}, {1500, 65534}, "as the host sees them")
        self.assertEqual(set(self.engine.ok("exec", name, "id", "-G").split()), {"1000", "1500", "65534"})
        self.assertIn("unable to find group audio", self.engine.cli("run", "--rm", "--group-add", "audio", "busybox", "true", check=125).stderr)

    # -- joined namespaces
    def test_pid_of_another_container_shows_its_processes_and_nothing_of_the_host(self):
        other = self.run_detached()
        for more in ((), ("--network", f"container:{other}"), ("--network", "none")):
            with self.subTest(more=more):
                name = self.run_detached("--pid", f"container:{other}", *more, command=("sleep", "2000"))
                pid, target = self.pid_of(name), self.pid_of(other)
                self.assertEqual(namespace(pid, "pid"), namespace(target, "pid"))
                self.assertEqual(namespace(pid, "user"), namespace(target, "user"))
                self.assertNotEqual(namespace(pid, "mnt"), namespace(target, "mnt"))
                self.assertEqual(namespace(pid, "net") == namespace(target, "net"), bool(more) and "container" in more[1])
                seen = self.engine.ok("exec", name, "ps", "-o", "args")
                self.assertIn("sleep 1000", seen)
                self.assertIn("sleep 2000", seen)
                self.assertNotIn("caissond", seen)
                self.assertIn("127.0.0.1", self.engine.ok("exec", name, "ip", "addr"))
                self.assertTrue(caisson.is_alive(target))
                self.engine.ok("rm", "-f", name)
        self.assertIn("nosuch", self.engine.cli("run", "--rm", "--pid", "container:nosuch", "busybox", "true", check=125).stderr)

    def test_a_partner_may_be_renamed_before_the_start(self):
        other, name, new_name = self.run_detached(), self.name(), self.name()
        self.engine.ok("create", "--name", name, "--network", f"container:{other}", "--pid", f"container:{other}", "busybox", "ip", "addr")
        partner = self.engine.inspect(other)["Id"]
        self.engine.ok("rename", other, new_name)
        host = self.engine.inspect(name)["HostConfig"]
        self.assertEqual((host["NetworkMode"], host["PidMode"]), (f"container:{partner}", f"container:{partner}"))
        self.assertIn(self.engine.inspect(new_name)["NetworkSettings"]["IPAddress"], self.engine.ok("start", "-a", name))

    def test_no_apparmor_profile_can_be_asked_for_where_there_is_no_apparmor(self):
        self.assertEqual(self.engine.ok("run", "--rm", "--security-opt", "apparmor=unconfined", "busybox", "echo", "free"), "free")

    def test_a_link_to_one_outside_the_default_network_is_refused(self):
        self.engine.ok("network", "create", "apart")
        self.addCleanup(self.engine.cli, "network", "rm", "apart")
        far, name = self.run_detached("--network", "apart"), self.name()
        run = self.engine.cli("run", "--name", name, "--link", f"{far}:far", "busybox", "true", check=125)
        self.assertIn(f"Cannot link to /{far}, as it does not belong to the default network", run.stderr)

    def test_a_container_that_joined_a_pid_namespace_has_a_network_of_its_own(self):
        other = self.run_detached()
        name = self.run_detached("--pid", f"container:{other}", "-p", "127.0.0.1::80", command=("sh", "-c", "while :; do echo joined | nc -l -p 80; done"))
        self.assertNotEqual(self.engine.inspect(name)["NetworkSettings"]["IPAddress"], self.engine.inspect(other)["NetworkSettings"]["IPAddress"])
        port = self.engine.ok("port", name, "80").rpartition(":")[2]

        def answer():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), timeout=5) as connection:
                return connection.makefile("rb").read() == b"joined\n"

        caisson.wait_until(answer, "its published port answers")

    def test_ipc_of_another_container_is_shared_and_the_hosts_is_not_touched(self):
        other = self.run_detached("--ipc", "shareable")
        name = self.run_detached("--ipc", f"container:{other}")
        self.assertEqual(namespace(self.pid_of(name), "ipc"), namespace(self.pid_of(other), "ipc"))
        self.assertNotEqual(namespace(self.pid_of(name), "ipc"), namespace("self", "ipc"))
        self.assertIn("mqueue", self.engine.ok("exec", name, "sh", "-c", "grep ' /dev/mqueue ' /proc/mounts"))

    def test_the_hosts_namespaces_one_by_one(self):
        for flag, kind in (("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--network", "net"), ("--cgroupns", "cgroup")):
            with self.subTest(flag=flag):
                name = self.run_detached(flag, "host")
                pid = self.pid_of(name)
                self.assertEqual(namespace(pid, kind), namespace(self.engine.own_pid, kind))
                for other in {"pid", "ipc", "uts", "net", "mnt", "user"} - {kind}:
                    self.assertNotEqual(namespace(pid, other), namespace(self.engine.own_pid, other), f"{flag} host opens {other} too")
                self.assertEqual(self.engine.ok("exec", name, "echo", "in"), "in")
        self.assertIn("caissond", self.inside("ps -o args", "--pid", "host"))
        self.assertEqual(self.inside("hostname", "--uts", "host"), os.uname().nodename)

    def test_what_the_hosts_namespaces_show_cannot_be_changed(self):
        for arguments, script in ((("--pid", "host"), "echo x >/proc/sys/kernel/core_pattern"), (("--pid", "host"), "kill -9 %d"), (("--uts", "host"), "hostname evil"),
                                  (("--network", "host"), "ip link add dummy0 type dummy"), (("--pid", "host"), "cat /proc/%d/root/etc/shadow")):
            with self.subTest(arguments=arguments, script=script):
                bystander = subprocess.Popen(["sleep", "1000"])
                try:
                    script = script % bystander.pid if "%d" in script else script
                    self.assertNotEqual(self.engine.cli("run", "--rm", *arguments, "busybox", "sh", "-c", script).returncode, 0)
                    self.assertIsNone(bystander.poll())
                finally:
                    bystander.kill()
                    bystander.wait()

    def test_ipc_none_has_no_shared_memory(self):
        self.assertNotEqual(self.engine.cli("run", "--rm", "--ipc", "none", "busybox", "sh", "-c", "grep ' /dev/shm ' /proc/mounts").returncode, 0)


if __name__ == "__main__":
    caisson.main()

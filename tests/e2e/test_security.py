#!/usr/bin/env python3
"""What a container may not do, asked from inside and checked from outside; rows of the attack table carry their CVE."""

import io
import os
import re
import signal
import stat
import subprocess
import tarfile
import unittest

import caisson

ALL_CAPABILITIES = 41  # CAP_CHECKPOINT_RESTORE is number 40


class Confinement(caisson.EngineTest):
    def inside(self, script, *arguments, image="busybox", check=None):
        return self.engine.cli("run", "--rm", *arguments, image, "sh", "-c", script, check=check)

    def status(self, *arguments):
        out = self.engine.ok("run", "--rm", *arguments, "busybox", "cat", "/proc/self/status")
        return dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)

    def test_capabilities_are_fewer_than_half_of_roots(self):
        status = self.status()
        for which in ("CapEff", "CapPrm", "CapBnd"):
            self.assertLess(bin(int(status[which], 16)).count("1"), ALL_CAPABILITIES / 2, which)
        # CVE-2022-24769 and its siblings: nothing may be inherited.
        self.assertEqual((int(status["CapInh"], 16), int(status["CapAmb"], 16)), (0, 0))
        user = self.status("-u", "user")
        self.assertEqual((int(user["CapEff"], 16), int(user["CapAmb"], 16)), (0, 0))
        dropped = self.status("--cap-drop", "ALL")
        self.assertEqual((int(dropped["CapEff"], 16), int(dropped["CapBnd"], 16)), (0, 0))
        self.assertTrue(int(self.status("--cap-add", "NET_ADMIN")["CapEff"], 16) & (1 << 12))

    def test_exec_is_confined_as_the_container_is(self):
        name = self.run_detached()
        ours = dict(line.split(":\t", 1) for line in self.engine.ok("exec", name, "cat", "/proc/self/status").splitlines() if ":\t" in line)
        first = self.status()
        for field in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp", "NoNewPrivs"):
            self.assertEqual(ours[field], first[field], field)

    def test_a_seccomp_filter_is_on_and_refuses_dangerous_calls(self):
        self.assertEqual(self.status()["Seccomp"], "2")
        self.assertEqual(self.status("--security-opt", "seccomp=unconfined")["Seccomp"], "0")
        for command in ("mount -t tmpfs none /tmp", "unshare -U true", "unshare -m true", "reboot -f", "swapoff /x", "insmod /x", "pivot_root . .", "mount --bind /bin /tmp"):
            with self.subTest(command=command):
                self.assertNotEqual(self.inside(command).returncode, 0)

    def test_no_new_privileges_is_set_when_asked_for(self):
        self.assertEqual(self.status("--security-opt", "no-new-privileges")["NoNewPrivs"], "1")

    def test_the_containers_root_is_not_the_hosts(self):
        name = self.run_detached()
        pid = self.engine.inspect(name)["State"]["Pid"]
        with open(f"/proc/{pid}/uid_map", encoding="utf-8") as file:
            inside, outside, count = map(int, file.read().split()[:3])
        self.assertEqual(inside, 0)
        self.assertNotEqual(outside, 0)
        self.assertLess(count, 1 << 32)
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            self.assertNotIn("Uid:\t0", file.read())

    @caisson.differs_without_root("all containers of a user have his ids")
    def test_two_containers_do_not_share_ids(self):
        names = [self.run_detached(), self.run_detached()]
        maps = []
        for name in names:
            with open(f"/proc/{self.engine.inspect(name)['State']['Pid']}/uid_map", encoding="utf-8") as file:
                maps.append(file.read().split()[1])
        self.assertNotEqual(maps[0], maps[1])

    def test_kernel_files_are_masked_or_read_only(self):
        for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats"):
            with self.subTest(path=path):
                self.assertEqual(self.inside(f"cat {path} 2>/dev/null | head -c 100").stdout, "")
        for path in ("/sys/firmware", "/proc/scsi", "/proc/acpi", "/proc/asound"):
            with self.subTest(path=path):
                self.assertEqual(self.inside(f"ls {path} 2>/dev/null").stdout, "")
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/panic_on_oom", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper", "/proc/bus/x"):
            with self.subTest(path=path):
                self.assertNotEqual(self.inside(f"echo x >{path}").returncode, 0)

    def test_masks_cannot_be_taken_off(self):
        for command in ("umount /proc/kcore", "umount /proc", "mount -o remount,rw /proc/sys", "umount /sys/firmware"):
            with self.subTest(command=command):
                self.assertNotEqual(self.inside(command).returncode, 0)
        # Who asks for SYS_ADMIN gets it within the container's own user namespace: the host's settings stay out of reach.
        run = self.inside("mount -o remount,rw /proc/sys; echo x >/proc/sys/kernel/core_pattern", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined")
        self.assertNotEqual(run.returncode, 0)

    def test_devices_cannot_be_made_or_opened(self):
        self.assertNotEqual(self.inside("mknod /tmp/disk b 8 0").returncode, 0)
        self.assertNotEqual(self.inside("mknod /tmp/mem c 1 1 && cat /tmp/mem").returncode, 0)
        listed = self.engine.ok("run", "--rm", "busybox", "ls", "/dev").split()
        self.assertLessEqual(set(listed), {"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"})
        self.assertEqual(self.inside("echo x >/dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c", check=0).stdout.split(), ["4", "4"])

    def test_the_cgroup_tree_cannot_be_written(self):
        # CVE-2022-0492, CVE-2023-25809
        self.assertNotEqual(self.inside("for f in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do [ -e $f ] && echo 1 >$f && exit 0; done; exit 1").returncode, 0)

    def test_the_keyring_and_the_terminal_are_the_containers_own(self):
        self.assertNotEqual(self.engine.ok("run", "--rm", "busybox", "sh", "-c", "cut -d' ' -f6 /proc/1/stat"), "0")

    def test_no_descriptor_of_ours_is_open_inside(self):
        # CVE-2024-21626
        for arguments in ((), ("-w", "/tmp")):
            out = self.inside("ls -l /proc/self/fd | sed -n 's/.* -> //p'", *arguments, check=0).stdout.split("\n")
            for target in filter(None, out):
                self.assertRegex(target, r"^(/dev/null|pipe:\[\d+\]|socket:\[\d+\]|/proc/\d+/fd|/dev/pts/\d+)$")
        for number in range(3, 31):
            run = self.engine.cli("run", "--rm", "-w", f"/proc/self/fd/{number}", "busybox", "ls", "../../..")
            self.assertNotIn("caisson-test", run.stdout)
        name = self.run_detached()
        for number in range(3, 31):
            run = self.engine.cli("exec", "-w", f"/proc/self/fd/{number}", name, "ls", "../../..")
            self.assertNotIn("caisson-test", run.stdout)

    def test_the_entering_program_is_out_of_reach(self):
        # CVE-2019-5736: a command that is its own interpreter runs a sealed copy of ours at most, and cannot write it.
        self.engine.cli("run", "--rm", "busybox", "/proc/self/exe", "--version")
        name = self.run_detached(command=("sh", "-c", "sleep 1000"))
        monitor = self.engine.monitor_of(name)
        with self.assertRaises(OSError):  # ETXTBSY while it runs, EPERM for ever: the copy is a sealed memfd
            with open(f"/proc/{monitor}/exe", "r+b", buffering=0) as program:
                program.write(b"x")
        paths = [os.path.join(caisson.BIN, name) for name in caisson.BINARIES]
        before = [os.stat(path).st_mtime_ns for path in paths]
        name = self.run_detached(command=("sh", "-c", "while :; do for p in /proc/[0-9]*; do cp /bin/true $p/exe 2>/dev/null; done; done"))
        for _ in range(20):
            self.engine.ok("exec", name, "true")
        self.assertEqual([os.stat(path).st_mtime_ns for path in paths], before)

    def test_user_texts_are_read_strictly(self):
        # CVE-2026-30892
        for text in ("1:", ":", "0x1", "-1", "4294967296", "1 ", "1:2:3", "1:-1", "+1"):
            with self.subTest(user=text):
                self.assertEqual(self.engine.cli("run", "--rm", "-u", text, "busybox", "true").returncode, 125)


class HostileImages(caisson.EngineTest):
    def setUp(self):
        self.victim = os.path.join(self.engine.folder, f"victim-{self._testMethodName}")
        os.makedirs(self.victim, exist_ok=True)
        os.chmod(self.victim, 0o777)
        with open(os.path.join(self.victim, "file"), "w", encoding="utf-8") as file:
            file.write("untouched")

    def untouched(self):
        self.assertEqual(os.listdir(self.victim), ["file"])
        with open(os.path.join(self.victim, "file"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "untouched")

    def image_with_link(self, name, path, target):
        """A busybox image in which `path` is a symbolic link to `target` instead of a folder."""
        source = tarfile.open(fileobj=io.BytesIO(caisson.busybox_rootfs()))
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for member in source:
                if member.name == path or member.name.startswith(path + "/"):
                    continue
                tar.addfile(member, source.extractfile(member) if member.isreg() else None)
            caisson.add_file(tar, path, type=tarfile.SYMTYPE, linkname=target)
        self.engine.import_image(out.getvalue(), name, ["ENV PATH=/bin"])
        self.addCleanup(self.engine.cli, "rmi", "-f", name)

    def test_mount_targets_that_are_links_stay_in_the_root(self):
        # CVE-2014-9357, CVE-2021-30465
        for target in (self.victim, "../../../../../../../.." + self.victim):
            self.image_with_link("linked:latest", "srv", target)
            for arguments in (["-v", "/srv/deep/volume"], ["--tmpfs", "/srv/scratch"], ["-w", "/srv/work"], ["-v", "/etc/hostname:/srv/file2"]):
                with self.subTest(target=target, arguments=arguments):
                    self.engine.cli("run", "--rm", *arguments, "linked", "true")
                    self.untouched()

    def test_dev_proc_and_sys_as_links_are_refused_or_harmless(self):
        # CVE-2026-41579 (runc), CVE-2026-47766 (crun), CVE-2019-19921
        for path in ("dev", "proc", "sys", "etc"):
            with self.subTest(path=path):
                self.image_with_link(f"link-{path}:latest", path, self.victim)
                self.engine.cli("run", "--rm", f"link-{path}", "true")
                self.untouched()

    def test_passwd_as_a_link_reads_nothing_of_the_host(self):
        secret = os.path.join(self.victim, "file")
        with open(secret, "w", encoding="utf-8") as file:
            file.write("ghost:x:4242:4242::/:/bin/sh\n")
        self.image_with_link("passwd:latest", "etc/passwd", secret)
        run = self.engine.cli("run", "--rm", "-u", "ghost", "passwd", "id", "-u")
        self.assertNotIn("4242", run.stdout)
        with open(secret, "w", encoding="utf-8") as file:
            file.write("untouched")

    def test_a_setuid_file_of_a_container_is_out_of_the_hosts_users_reach(self):
        name = self.run_detached()
        self.engine.ok("exec", name, "sh", "-c", "cp /bin/busybox /suid && chmod 4755 /suid")
        found = subprocess.run(["find", self.engine.root, "-name", "suid", "-perm", "-4000"], capture_output=True, text=True, check=False).stdout.split()
        self.assertTrue(found)
        for path in found:
            run = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", path, "id", "-u"], capture_output=True, text=True, check=False)
            self.assertNotEqual(run.returncode, 0, f"an ordinary user of the host could run {path}")
        self.assertEqual(stat.S_IMODE(os.stat(self.engine.root).st_mode) & 0o077 & ~0o011, 0)

    def test_state_folders_and_socket_are_closed_to_others(self):
        mode = stat.S_IMODE(os.stat(self.engine.socket).st_mode)
        self.assertEqual(mode & 0o007, 0, oct(mode))
        for folder in ("layers", "content", "containers"):
            path = os.path.join(self.engine.root, folder)
            if os.path.isdir(path):
                run = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ls", path], capture_output=True, check=False)
                self.assertNotEqual(run.returncode, 0, path)

    def test_layers_cannot_be_written_through_a_container(self):
        self.engine.ok("run", "--rm", "busybox", "sh", "-c", "echo changed >/etc/os-release; rm /bin/true; chmod 777 /etc/passwd")
        self.assertEqual(self.engine.ok("run", "--rm", "busybox", "sh", "-c", "cat /etc/os-release | head -1; stat -c %a /etc/passwd; ls /bin/true").split(), ["ID=busybox", "644", "/bin/true"])

    def test_no_abstract_socket_is_open(self):
        # CVE-2020-15257: reachable from a container in the host's network namespace
        out = self.engine.ok("run", "--rm", "--network", "host", "busybox", "cat", "/proc/net/unix")
        self.assertFalse([line for line in out.splitlines() if re.search(r"@.*caisson", line)])

    def test_endless_output_does_not_fill_the_daemons_memory(self):
        # CVE-2022-1708: the reader is slow on purpose
        client = subprocess.Popen([f"{caisson.BIN}/caisson", "-H", self.engine.host, "run", "--rm", "--name", "flood", "--network", "none", "--log-driver", "none", "busybox", "yes"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            client.stdout.read(1 << 20)
            with open(f"/proc/{self.engine.process.pid}/status", encoding="utf-8") as file:
                resident = int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))
            self.assertLess(resident, 64 * 1024)
        finally:
            client.kill()
            client.wait()
            client.stdout.close()
            self.engine.cli("rm", "-f", "flood")



class TheEngineItself(caisson.EngineTest):
    """ADR 19: the daemon has less than its containers may be given."""

    REFUSED = ("SYS_MODULE", "SYS_RAWIO", "SYS_BOOT", "SYS_TIME", "MAC_OVERRIDE", "BPF", "PERFMON")
    NUMBERS = {"SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_BOOT": 22, "SYS_TIME": 25, "MAC_OVERRIDE": 32, "PERFMON": 38, "BPF": 39}

    @staticmethod
    def status_of(path):
        with open(f"{path}/status", encoding="utf-8") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)

    def test_every_thread_of_the_daemon_has_given_up_what_serving_does_not_need(self):
        self.engine.ok("run", "--rm", "busybox", "true")
        tasks = f"/proc/{self.engine.own_pid}/task"
        threads = os.listdir(tasks)
        self.assertGreater(len(threads), 1)
        for thread in threads:
            status = self.status_of(f"{tasks}/{thread}")
            self.assertEqual(status["Seccomp"], "2")
            for which in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"):
                held = int(status[which], 16)
                self.assertEqual([name for name in self.REFUSED if held >> self.NUMBERS[name] & 1], [], which)
            self.assertTrue(int(status["CapEff"], 16) >> 21 & 1, "CAP_SYS_ADMIN")

    def test_containers_are_given_what_the_daemon_has_not_also_by_a_second_launcher(self):
        for _ in range(2):
            launchers = self.engine.launchers()
            for pid in (*launchers, *self.engine.launchers("caisson-starter")):
                self.assertEqual(self.status_of(f"/proc/{pid}")["Seccomp"], "0")
            out = self.engine.ok("run", "--rm", "--privileged", "busybox", "cat", "/proc/self/status")
            status = dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)
            self.assertEqual(status["Seccomp"], "0")
            self.assertEqual([name for name in self.REFUSED if not int(status["CapEff"], 16) >> self.NUMBERS[name] & 1], [])
            for pid in launchers:
                os.kill(pid, signal.SIGKILL)
                caisson.wait_until(lambda pid=pid: not caisson.is_alive(pid), "the launcher is gone")


if __name__ == "__main__":
    caisson.main()

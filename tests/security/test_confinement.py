#!/usr/bin/env python3
"""Known escapes from the inside of a container of caisson-runtime: rows of docs/security/escapes.md."""

import contextlib
import os
import pty
import subprocess

import attacks
import caisson
from attacks import CAISSON, program, read
from caisson import differs_without_root


class Confined(attacks.AttackTest):
    """Rows 10, 11, 14, 22–31: what is left to try from inside."""

    @differs_without_root("an ordinary user has no 340 ranges of ids")
    def test_row_10_large_configurations_are_read_whole(self):
        bundle = self.bundle("sh", "-c", "wc -l </proc/self/uid_map; grep -c ' /srv/' /proc/self/mountinfo; echo ${#BIG}; cat /srv/" + "d" * 200 + "0/file")
        source = self.canary("source", "seen")
        bundle.config["linux"]["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            bundle.config["linux"][kind] = [{"containerID": n, "hostID": 70_000 + n, "size": 1} for n in range(340)]  # as many as the kernel takes
        bundle.give_root_to(70_000)
        for number in range(300):
            bundle.mount(f"/srv/{'d' * 200}{number}", source)
        bundle.config["process"]["env"].append("BIG=" + "x" * 100_000)
        self.assertEqual(bundle.run(CAISSON).stdout.split(), ["340", "300", "100000", "seen"])

    def test_row_11_release_agents_cannot_be_set(self):
        agents = [os.path.join("/sys/fs/cgroup", name, "release_agent") for name in os.listdir("/sys/fs/cgroup")]
        agents = {path: read(path) for path in agents if os.path.exists(path)}
        name = f"name={self.watch.mark}"
        if not agents:
            # Pure version 2: what is left is a hierarchy of one's own, which the host's root may still make.
            folder = self.canary("hierarchy")
            control = f"mount -t cgroup -o none,{name} none {folder} && echo /evil >{folder}/release_agent && echo set"
            self.assertIn("set", subprocess.run(["unshare", "-m", "sh", "-c", control], capture_output=True, text=True, check=False).stdout)
        script = ("try() { for f in $(find /sys/fs/cgroup /tmp/cg -name release_agent 2>/dev/null); do echo /evil >$f && echo set; done; }; try;"
                  f"mkdir -p /tmp/cg; for c in rdma memory pids none,{name}; do mount -t cgroup -o $c none /tmp/cg && try; done;"
                  f"for c in memory none,{name}; do unshare -UrmC sh -c \"mount -t cgroup -o $c none /tmp/cg && echo /evil >/tmp/cg/release_agent && echo set\"; done")

        def attack(runtime):
            bundle = self.bundle("sh", "-c", script)
            for mount in bundle.config["mounts"]:
                if mount["type"] == "cgroup":
                    mount["options"].remove("ro")
            out = bundle.run(runtime).stdout
            return "set" in out or any(read(path) != text for path, text in agents.items())
        self.check(attack)

    def test_row_14_the_cgroups_of_others_cannot_be_written(self):
        script = "find /sys/fs/cgroup -type d 2>/dev/null | while read d; do mkdir $d/evil 2>/dev/null && echo made $d; done; echo tried"
        for with_network in (True, False):
            bundle = self.bundle("sh", "-c", script).without("cgroup").user_namespace()
            if not with_network:
                bundle.without("network")
            out = bundle.run(CAISSON).stdout
            self.assertIn("tried", out)
            self.assertNotIn("made", out)

    def test_row_22_no_id_or_path_leaves_the_containers_place(self):
        for name in ("..", ".", "../x", "a/b", "", ".hidden", "a b", "a\nb"):
            bundle = self.bundle("echo", "ran")
            bundle.id = name
            bundle.write()
            run = bundle.call(CAISSON, "run", "--bundle", bundle.folder, "--", name)
            self.assertNotEqual(run.returncode, 0, name)
            self.assertNotIn("ran", run.stdout)
        if caisson.ROOTLESS:
            return  # what follows needs cgroups that are delegated
        for path in ("../x", f"/{self.watch.mark}/../x", f"/{self.watch.mark}/a/../../x"):
            bundle = self.bundle("echo", "ran")
            bundle.config["linux"]["cgroupsPath"] = path
            self.assertNotIn("ran", bundle.run(CAISSON).stdout)
        self.assertFalse([path for path in caisson.cgroups_named("x") if os.path.basename(path) == "x"])
        bundle = self.bundle("sleep", "1000")
        bundle.config["annotations"] = {"run.oci.systemd.subgroup": "../x", "run.oci.delegate-cgroup": "../x"}
        with contextlib.suppress(AssertionError), bundle.running(CAISSON):
            self.assertNotIn("ran", bundle.exec(CAISSON, "echo", "ran", flags=["--cgroup", "../x"]).stdout)
        self.assertFalse([path for path in caisson.cgroups_named("x") if os.path.basename(path) == "x"])

    def test_row_23_no_configuration_of_ours_passes_through_the_root(self):
        self.skipTest("caisson-runtime starts no virtual machines: nothing is handed to one through the root")

    def test_row_24_no_file_is_opened_by_its_handle(self):
        where = self.canary("volume")
        try:
            handle = subprocess.run([program("handle"), where], capture_output=True, text=True, check=True).stdout
        except subprocess.CalledProcessError:
            handle = ""
        bundle = self.bundle("handle", "/vol").add_program("handle").mount("/vol", where)
        self.assertEqual(bundle.run(CAISSON).stdout.strip(), "errno 1")
        if not handle.startswith("open"):
            self.skipTest("the refusal holds; but here the host's root is not ext4, so that it cannot be shown to be the capability's doing")
        with_capability = self.bundle("handle", "/vol").add_program("handle").mount("/vol", where).capabilities("CAP_DAC_READ_SEARCH")
        # Of a user namespace the capability says nothing about the host's files.
        self.assertEqual(with_capability.run(CAISSON).stdout.strip(), "errno 1" if caisson.ROOTLESS else "open")

    def test_row_25_kernel_files_cannot_be_read_or_written(self):
        before = read("/proc/sys/kernel/core_pattern")
        try:
            script = ("for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/latency_stats; do echo read $f $(head -c 100 $f 2>/dev/null | wc -c); done;"
                      "for d in /sys/firmware /proc/scsi /proc/acpi /proc/asound; do echo list $d $(ls $d 2>/dev/null | wc -l); done;"
                      "for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/vm/drop_caches /proc/irq/default_smp_affinity /sys/kernel/uevent_helper /sys/power/state /proc/sys/fs/binfmt_misc/register;"
                      "do [ -e $f ] && (echo x >$f) 2>/dev/null && echo wrote $f; done; echo end")
            out = self.bundle("sh", "-c", script).run(CAISSON).stdout.splitlines()
            self.assertEqual(out[-1], "end")
            self.assertEqual([line for line in out if line.startswith(("read", "list")) and not line.endswith(" 0")], [])
            self.assertEqual([line for line in out if line.startswith("wrote")], [])
            self.assertEqual(read("/proc/sys/kernel/core_pattern"), before)
        finally:
            with open("/proc/sys/kernel/core_pattern", "w", encoding="utf-8") as file:
                file.write(before)

    def test_row_26_masks_cannot_be_taken_off(self):
        tries = "umount /proc/kcore; umount -l /proc/sys; mount -o remount,rw,bind /proc/sys; umount /sys/firmware; umount -l /proc; mount -t tmpfs none /proc/sys"
        looks = "[ $(grep -c ' /proc/' /proc/self/mountinfo) -gt 0 ] && echo masked; (echo x >/proc/sys/kernel/core_pattern) 2>/dev/null && echo open; [ $(head -c 10 /proc/kcore 2>/dev/null | wc -c) = 0 ] || echo open; echo tried"
        before = read("/proc/sys/kernel/core_pattern")
        cases = {"as root without CAP_SYS_ADMIN": self.bundle("sh", "-c", f"({tries}) 2>/dev/null; {looks}"),
                 "in a namespace within": self.bundle("unshare", "-Urmpf", "sh", "-c", f"({tries}) 2>/dev/null; {looks}").capabilities("CAP_SETFCAP"),
                 "as root of a user namespace": self.bundle("sh", "-c", f"({tries}) 2>/dev/null; {looks}").user_namespace().capabilities("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"),
                 "from a namespace within it": self.bundle("unshare", "-Urmpf", "sh", "-c", f"({tries}) 2>/dev/null; {looks}").user_namespace().capabilities("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SETFCAP")}
        try:
            for what, bundle in cases.items():
                with self.subTest(what):
                    out = bundle.run(CAISSON).stdout
                    self.assertIn("tried", out)
                    self.assertNotIn("open", out)
        finally:
            with open("/proc/sys/kernel/core_pattern", "w", encoding="utf-8") as file:
                file.write(before)

    def on_terminal(self, command):
        """Output of a program that has a terminal as its controlling one, the way a shell gives it."""
        pid, fd = pty.fork()
        if pid == 0:
            os.execvp(command[0], command)
        seen = b""
        with contextlib.suppress(OSError):
            while piece := os.read(fd, 4096):
                seen += piece
        os.waitpid(pid, 0)
        os.close(fd)
        return seen.decode()

    def test_row_27_no_command_is_pushed_into_the_callers_terminal(self):
        if "pushed" not in self.on_terminal([program("push")]):
            self.skipTest("this kernel refuses TIOCSTI to everybody (dev.tty.legacy_tiocsti)")
        bundle = self.bundle("push").add_program("push").write()
        self.assertIn("errno", self.on_terminal(CAISSON.command(self.folder, "run", "--bundle", bundle.folder, bundle.id)))
        bundle = self.bundle("sleep", "1000").add_program("push")
        with bundle.running(CAISSON):
            self.assertIn("errno", self.on_terminal(CAISSON.command(self.folder, "exec", bundle.id, "push")))

    def test_row_28_the_callers_keys_are_not_the_containers(self):
        name = f"{self.watch.mark}-key"
        with_key = [program("key"), "add", name]
        self.assertEqual(subprocess.run([*with_key, program("key"), "find", name], capture_output=True, text=True, check=True).stdout.strip(), "secret")
        bundle = self.bundle("key", "find", name).add_program("key").write()
        found = subprocess.run([*with_key, *CAISSON.command(self.folder, "run", "--bundle", bundle.folder, bundle.id)], capture_output=True, text=True, check=False).stdout
        self.assertIn("errno", found)
        bundle = self.bundle("sleep", "1000").add_program("key")
        with bundle.running(CAISSON):
            found = subprocess.run([*with_key, *CAISSON.command(self.folder, "exec", bundle.id, "key", "find", name)], capture_output=True, text=True, check=False).stdout
            self.assertIn("errno", found)

    @differs_without_root("it is without root already")
    def test_row_29_a_denying_group_cannot_be_dropped(self):
        user, group = 54_998, 54_997  # nobody's

        def attack(user_owns_the_group):
            bundle = self.bundle("sh", "-c", "cat /proc/self/setgroups; cat /denied; su root -c 'cat /denied'; echo tried").capabilities("CAP_SETGID", "CAP_SETUID")
            denied = os.path.join(self.canary("denied", "secret"), "file")
            os.chown(denied, 0, group)
            os.chmod(denied, 0o604)  # everybody may read it, but not this group
            os.chmod(self.folder, 0o755)
            bundle.mount("/denied", denied).user_namespace(user, 1).unmount("/sys/fs/cgroup")
            os.chmod(bundle.folder, 0o755)
            state = os.path.join(bundle.folder, "state")
            os.mkdir(state)
            os.chown(state, user, user)
            groups = ["--groups", str(group)] if user_owns_the_group else ["--clear-groups"]
            return subprocess.run(["setpriv", "--reuid", str(user), "--regid", str(user), *groups, *CAISSON.command(state, "run", "--bundle", bundle.write().folder, bundle.id)],
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * caisson.PATIENCE, check=False)

        control = attack(False)
        self.assertIn("secret", control.stdout, control.stderr)
        run = attack(True)
        self.assertIn("tried", run.stdout, run.stderr)
        self.assertIn("deny", run.stdout)
        self.assertNotIn("secret", run.stdout)

    def test_row_30_a_disk_can_be_neither_made_nor_opened(self):
        disk = os.stat("/dev/vda" if os.path.exists("/dev/vda") else "/dev/loop0") if os.path.exists("/dev/vda") or os.path.exists("/dev/loop0") else None
        major, minor = (os.major(disk.st_rdev), os.minor(disk.st_rdev)) if disk else (8, 0)
        script = f"mknod /tmp/disk b {major} {minor} && echo made; head -c 1 /tmp/disk >/dev/null && echo read; mknod /tmp/mem c 1 1; head -c 1 /tmp/mem >/dev/null && echo read; echo tried"
        plain = self.bundle("sh", "-c", script).run(CAISSON).stdout
        self.assertIn("tried", plain)
        self.assertNotIn("made", plain)
        with_mknod = self.bundle("sh", "-c", script).capabilities("CAP_MKNOD", "CAP_DAC_OVERRIDE").run(CAISSON).stdout
        self.assertIn("tried" if caisson.ROOTLESS else "made", with_mknod)
        self.assertNotIn("read", with_mknod)

    @caisson.needs_cgroups
    def test_row_31_a_bomb_as_exec_is_counted_from_its_first_fork(self):
        bundle = self.bundle("sleep", "1000").add_program("bomb")
        bundle.config["linux"]["resources"]["pids"] = {"limit": 10}
        with bundle.running(CAISSON):
            made = int(bundle.exec(CAISSON, "bomb").stdout)
            self.assertLess(made, 10)
            bundle.call(CAISSON, "kill", "--all", bundle.id, "KILL")

    @caisson.needs_cgroups
    def test_row_31_a_memory_bomb_ends_alone(self):
        bundle = self.bundle("sh", "-c", "x=$(yes | head -c 100000000); echo $x")
        bundle.config["linux"]["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
        self.assertEqual(bundle.run(CAISSON).returncode, 137)


if __name__ == "__main__":
    attacks.main()

#!/usr/bin/env python3
"""Known escapes from containers, tried on caisson-runtime: rows of docs/security/escapes.md. Beside ours, the runtimes known to be weak."""

import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import socket
import subprocess

import attacks
import caisson
from attacks import CAISSON, CRUN, RUNC, ROUNDS, attacker, program, read, status_fields
from caisson import wait_until


class Links(attacks.AttackTest):
    """Rows 1, 5, 20: symbolic links in the root that point out of it."""

    def test_row_01_links_as_mount_targets_stay_in_the_root(self):
        source = self.canary("source")
        for up in ("", "../../../../../../../../.."):
            def attack(runtime, up=up):
                victim = self.canary("victim")
                bundle = self.bundle("true").replace("srv", up + victim)
                bundle.mount("/srv/deep/volume", source).mount("/srv/scratch", "tmpfs", "nosuid", type="tmpfs").mount("/srv/file2", source + "/file").run(runtime)
                return not self.is_untouched(victim)
            self.check(attack)

    def test_row_05_a_link_at_proc_or_sys_is_refused(self):
        for name in ("proc", "sys"):
            def attack(runtime, name=name):
                victim = self.canary("victim")
                bundle = self.bundle("sh", "-c", f"echo ran; echo x >/{name}/self").replace(name, victim)
                return "ran" in bundle.run(runtime).stdout or not self.is_untouched(victim)
            self.check(attack)

    def test_row_05_a_volume_over_proc_gets_no_writes_of_ours(self):
        def attack(runtime):
            fake = self.canary("fake")
            for folder in ("sys/kernel", "sys/net/ipv4", "self/attr", "thread-self/attr"):
                os.makedirs(os.path.join(fake, folder))
            files = [os.path.join(fake, name) for name in ("sys/kernel/msgmax", "sys/net/ipv4/ip_default_ttl", "self/attr/exec", "thread-self/attr/exec", "self/oom_score_adj")]
            for path in files:
                with open(path, "w", encoding="utf-8") as file:
                    file.write("fake")
            bundle = self.bundle("true").mount("/proc", fake)
            bundle.config["linux"]["sysctl"] = {"kernel.msgmax": "4242", "net.ipv4.ip_default_ttl": "42"}
            bundle.config["process"]["oomScoreAdj"] = 500
            bundle.run(runtime)
            return any(read(path) != "fake" for path in files)
        self.check(attack)

    def test_row_20_nothing_is_made_behind_a_dev_that_is_a_link(self):
        def attack(runtime):
            victim = self.canary("victim")
            for with_mount in (True, False):
                bundle = self.bundle("true").replace("dev", victim)
                if not with_mount:
                    for destination in ("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"):
                        bundle.unmount(destination)
                bundle.run(runtime)
            return not self.is_untouched(victim)
        self.check(attack, weak=[CRUN])

    def test_a_hostile_dev_proc_and_sys_change_nothing_outside(self):
        def attack(runtime):
            victim = self.canary("victim")
            bundle = self.bundle("sh", "-c", "echo x >/dev/null; echo y >/dev/stdout")
            for path, target in (("dev/null", "file"), ("dev/console", "file"), ("dev/stdout", "file"), ("dev/fd", ""), ("dev/pts", ""), ("dev/shm", ""), ("dev/ptmx", "file")):
                bundle.replace(path, os.path.join(victim, target))
            # Without a /dev of its own everything is made in the root itself.
            for destination in ("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"):
                bundle.unmount(destination)
            bundle.run(runtime)
            return not self.is_untouched(victim)
        self.check(attack)

    def test_a_device_whose_parent_is_a_link_is_not_made_outside(self):
        def attack(runtime):
            victim = self.canary("victim")
            bundle = self.bundle("true").replace("srv", victim)
            bundle.config["linux"]["devices"] = [{"path": "/srv/made", "type": "c", "major": 1, "minor": 3}]
            bundle.run(runtime)
            return not self.is_untouched(victim)
        self.check(attack)


class Races(attacks.AttackTest):
    """Rows 8, 9, 17, 18, 19: names that change between check and use."""

    def race(self, runtime, bundle, shared, names, has_escaped, rounds=ROUNDS):
        """Starts containers while two names of a shared folder are exchanged; stops at the first escape."""
        self.successes = 0
        with attacker(program("swap"), *(os.path.join(shared, name) for name in names)):
            for _ in range(rounds):
                run = bundle.run(runtime)
                self.successes += run.returncode == 0
                if has_escaped(run):
                    return True
        return False

    def check_race(self, attack, weak=()):
        self.check(attack)
        # A race in which no container ever started would prove nothing.
        self.assertGreater(self.successes, 0)
        for runtime in weak:
            self.check_weak(attack, runtime)

    def shared_folder(self, link_target):
        """A volume of two containers: `folder`, and `link`, which leads out of the root."""
        shared = self.canary("shared")
        os.mkdir(os.path.join(shared, "folder"))
        os.symlink(link_target, os.path.join(shared, "link"))
        return shared

    def test_row_08_folders_are_never_made_outside(self):
        source = self.canary("source")

        def attack(runtime):
            victim = self.canary("victim")
            shared = self.shared_folder(victim)
            bundle = self.bundle("true").mount("/vol", shared).mount("/vol/folder/a/b/c", source)

            def has_escaped(_):
                if not self.is_untouched(victim):
                    return True
                for name in ("folder", "link"):  # else the next round would find everything made
                    shutil.rmtree(os.path.join(shared, name, "a"), ignore_errors=True)
                return False
            return self.race(runtime, bundle, shared, ("folder", "link"), has_escaped)
        self.check_race(attack, weak=[RUNC])

    def test_row_09_a_mount_never_lands_outside(self):
        source = self.canary("source", "mounted")

        def attack(runtime):
            victim = self.canary("victim")
            shared = self.shared_folder(victim)
            # Where the mount landed is read inside: one that went outside is missing there.
            bundle = self.bundle("sh", "-c", "grep -c ' /vol/' /proc/self/mountinfo; true").mount("/vol", shared).mount("/vol/folder", source)

            def has_escaped(run):
                return run.returncode == 0 and run.stdout.strip() != "1"
            return self.race(runtime, bundle, shared, ("folder", "link"), has_escaped) or not self.is_untouched(victim)
        self.check_race(attack)

    def test_row_17_a_swapped_null_masks_nothing_with_the_attackers_file(self):
        def attack(runtime):
            shared = self.canary("dev")
            for name in ("null", "zero", "full", "random", "urandom", "tty"):
                os.mknod(os.path.join(shared, name), 0o020666, os.stat("/dev/" + name).st_rdev)
            with open(os.path.join(shared, "evil"), "w", encoding="utf-8") as file:
                file.write("evil")
            os.symlink("/dev/evil", os.path.join(shared, "link"))
            bundle = self.bundle("head", "-c", "4", "/proc/version").mount("/dev", shared)
            bundle.config["linux"]["maskedPaths"].append("/proc/version")
            for destination in ("/dev/pts", "/dev/shm", "/dev/mqueue"):
                bundle.unmount(destination)
            bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if mount["destination"] != "/dev" or mount["type"] == "bind"]
            return self.race(runtime, bundle, shared, ("null", "link"), lambda run: run.stdout == "evil", rounds=min(ROUNDS, 1000))
        self.check_race(attack, weak=[RUNC])

    def test_row_18_the_console_is_never_bound_to_a_link(self):
        def attack(runtime):
            victim = self.canary("victim")
            shared = self.canary("dev")
            for name in ("null", "zero", "full", "random", "urandom", "tty"):
                os.mknod(os.path.join(shared, name), 0o020666, os.stat("/dev/" + name).st_rdev)
            os.makedirs(os.path.join(shared, "pts"))
            with open(os.path.join(shared, "console"), "w", encoding="utf-8"):
                pass
            os.symlink(os.path.join(victim, "file"), os.path.join(shared, "link"))
            bundle = self.bundle("sh", "-c", "readlink /proc/self/fd/0; grep -c ' /dev/console ' /proc/self/mountinfo").mount("/dev", shared)
            bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if mount["destination"] not in ("/dev", "/dev/shm", "/dev/mqueue") or mount["type"] == "bind"]
            bundle.config["mounts"].sort(key=lambda mount: mount["destination"])
            bundle.config["process"]["terminal"] = True
            return self.race(runtime, bundle, shared, ("console", "link"), lambda run: not self.is_untouched(victim), rounds=min(ROUNDS, 1000))
        self.check_race(attack)

    def test_row_18_a_false_devpts_hands_out_no_terminal(self):
        def attack(runtime):
            fake = self.canary("pts")
            with open(os.path.join(fake, "ptmx"), "w", encoding="utf-8"):
                pass
            bundle = self.bundle("echo", "ran").unmount("/dev/pts").mount("/dev/pts", fake)
            bundle.config["process"]["terminal"] = True
            return "ran" in bundle.run(runtime).stdout
        self.check(attack)

    def test_row_19_sysctls_never_go_through_a_swapped_proc(self):
        def attack(runtime):
            victim = self.canary("victim")
            shared = self.canary("shared")
            os.makedirs(os.path.join(shared, "sys/net/ipv4"))
            os.makedirs(os.path.join(shared, "other/net/ipv4"))
            os.symlink(os.path.join(victim, "file"), os.path.join(shared, "sys/net/ipv4/ip_default_ttl"))
            os.symlink(os.path.join(victim, "file"), os.path.join(shared, "other/net/ipv4/ip_default_ttl"))
            bundle = self.bundle("true").mount("/proc/sys", os.path.join(shared, "sys"))
            bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "42"}
            return self.race(runtime, bundle, shared, ("sys", "other"), lambda _: not self.is_untouched(victim), rounds=min(ROUNDS, 100))
        self.check(attack)

    def test_row_19_a_sysctl_is_set_in_the_container_whatever_lies_over_proc(self):
        bundle = self.bundle("cat", "/proc/sys/net/ipv4/ip_default_ttl")
        bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "42"}
        self.assertEqual(bundle.run(CAISSON).stdout.strip(), "42")


class Entering(attacks.AttackTest):
    """Rows 2, 3, 4, 15, 21: what a process is while it enters."""

    def hunted(self, *whom):
        bundle = self.bundle("hunt", "/found", *whom).add_program("hunt")
        return bundle, os.path.join(bundle.root, "found")

    def test_row_02_an_entering_process_can_be_neither_traced_nor_robbed(self):
        bundle, found = self.hunted("caisson")
        with bundle.running(CAISSON):
            for count in range(min(ROUNDS, 1000)):
                # One that fails ends as what it was while it entered.
                bundle.exec(CAISSON, "true" if count % 2 else "/missing")
        lines = read(found).splitlines() if os.path.exists(found) else []
        # While it exits its streams can be seen by its equals; they are the container's already.
        harmless = re.compile(r"fd \d+ (/dev/null|pipe:.*|socket:.*)$")
        self.assertEqual([line for line in lines if not harmless.match(line)], [])

    def test_row_02_the_hunter_catches_who_can_be_caught(self):
        bundle, found = self.hunted()
        with bundle.running(CAISSON), attacker(*CAISSON.command(self.folder, "exec", bundle.id, "sleep", "1000")):
            wait_until(lambda: os.path.exists(found) and {"ptrace", "exe", "fd"} <= {line.split()[0] for line in read(found).splitlines()}, "an ordinary process is caught")

    def test_row_03_nothing_is_inheritable_or_ambient(self):
        show = ("cat", "/proc/self/status")

        def bare(text):
            fields = status_fields(text)
            self.assertEqual((int(fields["CapInh"], 16), int(fields["CapAmb"], 16)), (0, 0))
            return fields
        bare(self.bundle(*show).run(CAISSON).stdout)
        bundle = self.bundle("sleep", "1000")
        with bundle.running(CAISSON):
            bare(bundle.exec(CAISSON, *show).stdout)
            self.assertEqual(int(bare(bundle.exec(CAISSON, *show, flags=["--user", "1000"]).stdout)["CapEff"], 16), 0)
            added = bare(bundle.exec(CAISSON, *show, flags=["--cap", "CAP_SYS_CHROOT"]).stdout)
            self.assertTrue(int(added["CapEff"], 16) & 1 << 18)
            process = os.path.join(bundle.folder, "process.json")
            with open(process, "w", encoding="utf-8") as file:
                json.dump({**bundle.config["process"], "args": list(show)}, file)
            bare(bundle.exec(CAISSON, flags=["--process", process]).stdout)

    def test_row_04_the_runtimes_program_cannot_be_overwritten(self):
        binary = os.path.join(self.folder, "runtime-copy")
        subprocess.run(["cp", CAISSON.path, binary], check=True)
        runtime = attacks.Runtime("caisson", binary)
        before = os.stat(binary)
        with open(binary, "rb") as file:
            content = file.read()
        for command in (("/proc/self/exe", "--version"), ("/script",)):
            bundle = self.bundle(*command)
            with open(os.path.join(bundle.root, "script"), "w", encoding="utf-8") as file:
                file.write("#!/proc/self/exe\n")
            os.chmod(file.name, 0o755)
            bundle.run(runtime)
        bundle = self.bundle("overwrite", "/written").add_program("overwrite")
        with bundle.running(runtime):
            for count in range(min(ROUNDS, 1000)):
                # Every other one runs the runtime's own program inside.
                bundle.exec(runtime, *(("true",) if count % 2 else ("/proc/self/exe", "features")))
        self.assertFalse(os.path.exists(os.path.join(bundle.root, "written")), "it wrote to a program that was not its own")
        with open(binary, "rb") as file:
            self.assertTrue(file.read() == content)
        self.assertEqual(os.stat(binary).st_ino, before.st_ino)

    def test_row_04_the_overwriter_overwrites_what_it_can(self):
        bundle = self.bundle("overwrite", "/written").add_program("overwrite")
        victim = os.path.join(bundle.root, "bin", "victim")
        subprocess.run(["cp", program("key"), victim], check=True)
        with bundle.running(CAISSON):
            def overwritten():
                bundle.exec(CAISSON, "victim", "find", "nothing")
                return os.path.exists(os.path.join(bundle.root, "written"))
            wait_until(overwritten, "an ordinary program is overwritten")

    def leak(self, folder):
        """Descriptors of a host folder at 3…30 without close-on-exec, as a careless caller leaks them."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        return [fd, *(fcntl.fcntl(fd, fcntl.F_DUPFD, number) for number in range(3, 31))]

    def test_row_15_no_descriptor_of_the_host_is_a_way_out(self):
        secret = self.canary("secret", "secret of the host")
        held = self.leak(secret)
        try:
            def attack(runtime):
                for number in range(3, 31):
                    bundle = self.bundle("sh", "-c", "cat file ../file ../../../../../../../../.." + secret + "/file")
                    bundle.config["process"]["cwd"] = f"/proc/self/fd/{number}"
                    if "secret" in bundle.run(runtime, pass_fds=held).stdout:
                        return True
                bundle = self.bundle("sleep", "1000")
                with bundle.running(runtime):
                    for number in range(3, 31):
                        for cwd in (f"/proc/self/fd/{number}", f"/proc/1/fd/{number}"):
                            if "secret" in bundle.exec(runtime, "sh", "-c", "cat file", flags=["--cwd", cwd], pass_fds=held).stdout:
                                return True
                return False
            self.check(attack)
        finally:
            for fd in held:
                os.close(fd)

    def test_row_15_the_callers_descriptors_are_not_inside(self):
        secret = self.canary("secret")
        held = self.leak(secret)
        left, right = socket.socketpair()
        held += [left.detach(), right.detach()]
        list_all = ("sh", "-c", "for f in /proc/self/fd/*; do echo ${f##*/} $(readlink $f); done")
        try:
            def inside(text):
                return {int(line.split()[0]) for line in text.splitlines() if " " in line and "/proc/" not in line}
            bundle = self.bundle(*list_all)
            self.assertLessEqual(inside(bundle.run(CAISSON, pass_fds=held).stdout), {0, 1, 2})
            bundle = self.bundle("sleep", "1000")
            with bundle.running(CAISSON):
                self.assertLessEqual(inside(bundle.exec(CAISSON, *list_all, pass_fds=held).stdout), {0, 1, 2})
                self.assertLessEqual({int(name) for name in os.listdir(f"/proc/{bundle.pid(CAISSON)}/fd")}, {0, 1, 2})
            # One that waits for start, or fails while its rights are gone already, holds none either.
            bundle = self.bundle("true").write()
            created = subprocess.run(CAISSON.command(self.folder, "create", "--bundle", bundle.folder, bundle.id), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=held, check=False)
            self.assertEqual(created.returncode, 0)
            waiting = f"/proc/{bundle.pid(CAISSON)}/fd"
            targets = {os.readlink(os.path.join(waiting, name)) for name in os.listdir(waiting)}
            bundle.call(CAISSON, "delete", "--force", bundle.id)
            self.assertEqual({target for target in targets if target != "/dev/null" and not target.endswith("/exec.fifo")}, set())
            # Those that are asked for come through, and no more.
            bundle = self.bundle(*list_all)
            self.assertEqual(inside(bundle.run(CAISSON, "--preserve-fds", "2", pass_fds=held).stdout) - {0, 1, 2}, {3, 4})
        finally:
            for fd in held:
                os.close(fd)

    def test_row_15_the_working_directory_is_inside(self):
        for cwd in ("/proc/self/cwd", "/proc/1/root", "/proc/self/root", "/proc/self/fd/0", "/nowhere/../../..", "/srv/out"):
            with self.subTest(cwd=cwd):
                bundle = self.bundle("sh", "-c", f"pwd; cat .{self.folder}/marker").replace("srv/out", "/proc/self/cwd")
                with open(os.path.join(self.folder, "marker"), "w", encoding="utf-8") as file:
                    file.write("host")
                bundle.config["process"]["cwd"] = cwd
                self.assertNotIn("host", bundle.run(CAISSON).stdout)

    def test_row_21_a_user_is_read_strictly(self):
        texts = ("", "1:", ":", ":1", "0x1", "-1", "4294967296", "4294967295", "1 ", " 1", "1:2:3", "1:-1", "+1", "1:0x", "1e3", "root")

        def attack(runtime):
            bundle = self.bundle("sleep", "1000")
            with bundle.running(runtime):
                # "ran" is enough: whoever was asked for was nobody that can be named so.
                return any("uid=" in bundle.exec(runtime, "id", flags=["--user", text]).stdout for text in texts)
        self.check(attack, weak=[CRUN])


class Confined(attacks.AttackTest):
    """Rows 10, 11, 14, 22–31: what is left to try from inside."""

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
        if not agents:
            self.skipTest("needs cgroup v1: version 2 has no release agent")
        script = ("try() { for f in $(find /sys/fs/cgroup /tmp/cg -name release_agent 2>/dev/null); do echo /evil >$f && echo set; done; }; try;"
                  "mkdir -p /tmp/cg; for c in rdma memory pids; do mount -t cgroup -o $c none /tmp/cg && try; done; unshare -UrmC sh -c 'mount -t cgroup -o memory none /tmp/cg && echo /evil >/tmp/cg/release_agent && echo set'")

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
        self.assertEqual(with_capability.run(CAISSON).stdout.strip(), "open")

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

    def test_row_29_a_denying_group_cannot_be_dropped(self):
        self.skipTest("rootless containers are not supported yet: without them nobody but root makes the namespaces in question")

    def test_row_30_a_disk_can_be_neither_made_nor_opened(self):
        disk = os.stat("/dev/vda" if os.path.exists("/dev/vda") else "/dev/loop0") if os.path.exists("/dev/vda") or os.path.exists("/dev/loop0") else None
        major, minor = (os.major(disk.st_rdev), os.minor(disk.st_rdev)) if disk else (8, 0)
        script = f"mknod /tmp/disk b {major} {minor} && echo made; head -c 1 /tmp/disk >/dev/null && echo read; mknod /tmp/mem c 1 1; head -c 1 /tmp/mem >/dev/null && echo read; echo tried"
        plain = self.bundle("sh", "-c", script).run(CAISSON).stdout
        self.assertIn("tried", plain)
        self.assertNotIn("made", plain)
        with_mknod = self.bundle("sh", "-c", script).capabilities("CAP_MKNOD", "CAP_DAC_OVERRIDE").run(CAISSON).stdout
        self.assertIn("made", with_mknod)
        self.assertNotIn("read", with_mknod)

    def test_row_31_a_bomb_as_exec_is_counted_from_its_first_fork(self):
        bundle = self.bundle("sleep", "1000").add_program("bomb")
        bundle.config["linux"]["resources"]["pids"] = {"limit": 10}
        with bundle.running(CAISSON):
            made = int(bundle.exec(CAISSON, "bomb").stdout)
            self.assertLess(made, 10)
            bundle.call(CAISSON, "kill", "--all", bundle.id, "KILL")

    def test_row_31_a_memory_bomb_ends_alone(self):
        bundle = self.bundle("sh", "-c", "x=$(yes | head -c 100000000); echo $x")
        bundle.config["linux"]["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
        self.assertEqual(bundle.run(CAISSON).returncode, 137)


if __name__ == "__main__":
    attacks.main()

#!/usr/bin/env python3
"""Known escapes by links and races, tried on caisson-runtime: rows of docs/security/escapes.md. Beside ours, the runtimes known to be weak."""

import collections
import os
import shutil

import attacks
from attacks import CAISSON, CRUN, RUNC, ROUNDS, attacker, program, read


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
            attacks.own_tree(fake)
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
        self.check(attack, weak=[CRUN, RUNC])

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

    def setUp(self):
        self.successes = collections.Counter()

    def race(self, runtime, bundle, shared, names, has_escaped, rounds=ROUNDS):
        """Starts containers while two names of a shared folder are exchanged; stops at the first escape."""
        weak = runtime.is_known_weak()  # then it ends with the first that gets through
        least = max(rounds, 300) if weak else rounds
        with attacker(program("swap"), *(os.path.join(shared, name) for name in names)):
            for count in range(10 * least):
                if count >= least and (weak or self.successes[runtime.name]):
                    break
                run = bundle.run(runtime)
                self.successes[runtime.name] += run.returncode == 0
                if has_escaped(run):
                    return True
        return False

    def check_race(self, attack, weak=()):
        self.check(attack)
        # A race in which no container ever started would prove nothing.
        self.assertGreater(self.successes[CAISSON.name], 0)
        for runtime in weak:
            self.check_weak(attack, runtime)

    def shared_folder(self, link_target):
        """A volume of two containers: `folder`, and `link`, which leads out of the root."""
        shared = self.canary("shared")
        os.mkdir(os.path.join(shared, "folder"))
        os.symlink(link_target, os.path.join(shared, "link"))
        attacks.own_tree(shared)
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
            # The link may also lead to a place inside; a mount that went outside is missing in the container's own list.
            bundle = self.bundle("sh", "-c", f"grep -c {os.path.basename(source)} /proc/self/mountinfo; true").mount("/vol", shared).mount("/vol/folder", source)

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
            attacks.own_tree(shared)
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
            attacks.own_tree(shared)
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
            attacks.own_tree(shared)
            bundle = self.bundle("true").mount("/proc/sys", os.path.join(shared, "sys"))
            bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "42"}
            return self.race(runtime, bundle, shared, ("sys", "other"), lambda _: not self.is_untouched(victim), rounds=min(ROUNDS, 100))
        self.check(attack)

    def fake_proc(self, folder):
        """A folder that looks like a procfs to whoever sets labels, scores and sysctls; the paths of its files, which all say "fake"."""
        names = ("sys/kernel/msgmax", "sys/net/ipv4/ip_default_ttl", "self/attr/exec", "self/attr/apparmor/exec", "thread-self/attr/exec", "thread-self/attr/apparmor/exec", "self/oom_score_adj")
        paths = [os.path.join(folder, name) for name in names]
        for path in paths:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write("fake")
        attacks.own_tree(folder)
        return paths

    def test_row_05_a_proc_that_is_swapped_gets_no_writes_of_ours(self):
        def attack(runtime):
            bundle = self.bundle("grep", "-c", " / .* - proc ", "/proc/self/mountinfo")
            os.makedirs(os.path.join(bundle.root, "srv/fake"))
            files = self.fake_proc(os.path.join(bundle.root, "srv/fake"))
            os.symlink("srv/fake", os.path.join(bundle.root, "link"))
            bundle.config["linux"]["sysctl"] = {"kernel.msgmax": "4242", "net.ipv4.ip_default_ttl": "42"}
            bundle.config["process"]["oomScoreAdj"] = 500
            return self.race(runtime, bundle, bundle.root, ("proc", "link"), lambda run: any(read(path) != "fake" for path in files))
        self.check_race(attack, weak=[RUNC])

    def test_row_19_labels_are_never_written_to_a_false_proc(self):
        profile = attacks.apparmor_profile(self)

        def attack(runtime):
            fake = self.canary("fake")
            os.unlink(os.path.join(fake, "file"))
            files = self.fake_proc(fake)
            bundle = self.bundle("sleep", "1000").mount("/proc", fake)
            bundle.config["process"]["apparmorProfile"] = profile
            try:
                with bundle.running(runtime):
                    label = read(f"/proc/{bundle.pid(runtime)}/attr/current").split(" ")[0]
            except attacks.NotStarted:
                label = profile
            return label.strip() != profile or any(read(path) != "fake" for path in files)
        self.check(attack)

    def test_row_19_labels_are_never_written_through_a_swapped_proc(self):
        profile = attacks.apparmor_profile(self)

        def attack(runtime):
            bundle = self.bundle("cat", "/proc/self/attr/current")
            os.makedirs(os.path.join(bundle.root, "srv/fake"))
            files = self.fake_proc(os.path.join(bundle.root, "srv/fake"))
            os.symlink("srv/fake", os.path.join(bundle.root, "link"))
            bundle.config["process"]["apparmorProfile"] = profile
            return self.race(runtime, bundle, bundle.root, ("proc", "link"), lambda run: any(read(path) != "fake" for path in files) or (run.returncode == 0 and profile not in run.stdout))
        self.check_race(attack)

    def test_row_19_a_sysctl_is_set_in_the_container_whatever_lies_over_proc(self):
        bundle = self.bundle("cat", "/proc/sys/net/ipv4/ip_default_ttl")
        bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "42"}
        self.assertEqual(bundle.run(CAISSON).stdout.strip(), "42")


if __name__ == "__main__":
    attacks.main()

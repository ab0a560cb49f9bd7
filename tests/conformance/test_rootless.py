#!/usr/bin/env python3
"""caisson-runtime without root: started by an ordinary user, by rootless podman, and inside a user namespace, with crun beside where it works."""

import contextlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
import unittest

import oci
from oci import caisson, wait_until

UID = 54999  # nobody's here; the files that say who it is are the test's own
RANGE = (7000000, 65536)


def map_line(outside):
    return {"containerID": 0, "hostID": outside, "size": 1}


class User:
    """An ordinary user of a private mount namespace, with a home, a runtime folder, a name and a range of ids. Nothing of the host changes."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "rootless-")
        os.chmod(self.folder, 0o755)
        self.home = self.path("home")
        self.runtime_folder = self.path("run")
        self.rootfs = self.path("home/rootfs")
        os.mkdir(self.home)
        os.mkdir(self.runtime_folder, 0o700)
        os.mkdir(self.rootfs)
        self.runtime = shutil.copy(oci.RUNTIME, self.path("caisson-runtime"))  # the folder it was built in may be closed to others
        with tarfile.open(fileobj=io.BytesIO(caisson.busybox_rootfs())) as tar:
            tar.extractall(self.rootfs)
        self.own(self.home)
        self.own(self.runtime_folder)
        self.overlay_files()
        self.count = 0

    def path(self, name):
        return os.path.join(self.folder, name)

    @staticmethod
    def own(top):
        for folder, _, files in os.walk(top):
            for entry in [folder, *(os.path.join(folder, one) for one in files)]:
                os.lchown(entry, UID, UID)

    def overlay_files(self):
        """newuidmap looks its caller up by name."""
        texts = {"passwd": f"tester:x:{UID}:{UID}::{self.home}:/bin/sh\n", "group": f"tester:x:{UID}:\n"}
        for name, text in texts.items():
            with open(f"/etc/{name}", encoding="utf-8") as file:
                texts[name] = file.read() + text
        texts["subuid"] = texts["subgid"] = f"tester:{RANGE[0]}:{RANGE[1]}\n"
        for name, text in texts.items():
            with open(self.path(name), "w", encoding="utf-8") as file:
                file.write(text)

    def command(self, *arguments, prepare="true"):
        """The command as the user; `prepare` is done before, as root, in the same mount namespace."""
        binds = "; ".join(f"[ ! -e /etc/{name} ] || mount --bind {self.path(name)} /etc/{name}" for name in ("passwd", "group", "subuid", "subgid"))
        script = f'set -e; {binds}; {prepare}; exec setpriv --reuid {UID} --regid {UID} --clear-groups "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "_", *arguments]

    def environment(self):
        return {"PATH": os.environ["PATH"], "HOME": self.home, "XDG_RUNTIME_DIR": self.runtime_folder, "USER": "tester"}

    def run(self, *arguments, prepare="true", check=None, timeout=120, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        run = subprocess.run(self.command(*arguments, prepare=prepare), env=self.environment(), cwd=self.home, capture_output=True, text=True,
                             timeout=timeout, check=False, **options)
        if check is not None and run.returncode != check:
            raise AssertionError(f"{' '.join(arguments)} ended with {run.returncode}, not {check}: {run.stdout}{run.stderr}")
        return run

    def bundle(self, *args, change=None):
        self.count += 1
        bundle = self.path(f"home/bundle{self.count}")
        os.mkdir(bundle)
        os.chown(bundle, UID, UID)
        self.run(self.runtime, "spec", "--rootless", "--bundle", bundle, check=0)
        file_name = os.path.join(bundle, "config.json")
        with open(file_name, encoding="utf-8") as file:
            config = json.load(file)
        config["process"].update(args=list(args), terminal=False)
        config["root"] = {"path": self.rootfs, "readonly": False}
        if change:
            change(config)
        with open(file_name, "w", encoding="utf-8") as file:
            json.dump(config, file)
        return bundle

    @staticmethod
    def processes():
        """What runs as the user or as one of the user's ids."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                owner = os.stat(f"/proc/{pid}").st_uid
                if owner == UID or RANGE[0] <= owner < sum(RANGE):
                    with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                        found[int(pid)] = file.read().replace("\0", " ")
        return found

    def close(self):
        try:
            wait_until(lambda: not self.processes(), self.processes, 10)
        finally:
            for pid in self.processes():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.folder, ignore_errors=True)


# crun refuses the hybrid cgroups of many test machines.
PURE_V1 = "umount /sys/fs/cgroup/unified 2>/dev/null || true"


def map_range(config):
    for field, own in (("uidMappings", UID), ("gidMappings", UID)):
        config["linux"][field] = [map_line(own), {"containerID": 1, "hostID": RANGE[0], "size": RANGE[1]}]


class RootlessTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.user = User()

    @classmethod
    def tearDownClass(cls):
        cls.user.close()

    def setUp(self):
        self.ids = []
        self.addCleanup(self.remove_all)

    def remove_all(self):
        for identifier in self.ids:
            self.runtime("delete", "--force", identifier)

    def runtime(self, *arguments, **options):
        return self.user.run(self.user.runtime, *arguments, **options)

    def new_id(self):
        self.ids.append(f"rootless-{os.getpid()}-{self._testMethodName[5:20]}-{len(self.ids)}")
        return self.ids[-1]

    def run_inside(self, script, change=None, check=0, **options):
        run = self.runtime("run", "--bundle", self.user.bundle("sh", "-c", script, change=change), self.new_id(), check=check, **options)
        return run.stdout if check == 0 else run

    def run_logged(self, bundle):
        """Output and log of a run that succeeds."""
        log = self.user.path("home/log")
        out = self.runtime("--log", log, "run", "--bundle", bundle, self.new_id(), check=0).stdout
        with open(log, encoding="utf-8") as file:
            return out, file.read()

    def start(self, change=None):
        """A running container's id. What it keeps of stdio is a file, not our pipes."""
        identifier = self.new_id()
        bundle = self.user.bundle("sleep", "1000", change=change)
        with open(self.user.path("log"), "w+", encoding="utf-8") as log:
            run = subprocess.run(self.user.command(self.user.runtime, "run", "--detach", "--bundle", bundle, identifier), env=self.user.environment(),
                                 cwd=self.user.home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=60, check=False)
            log.seek(0)
            self.assertEqual(run.returncode, 0, log.read())
        return identifier

    def state(self, identifier):
        return json.loads(self.runtime("state", identifier, check=0).stdout)


class OrdinaryUser(RootlessTest):
    """No rights but one's own; the configuration of `spec --rootless`."""

    def test_a_container_of_one_id_runs_and_its_root_is_the_user(self):
        out = self.run_inside("id -u; cat /proc/self/uid_map /proc/self/setgroups; touch /home/mark; hostname; exit 0").split("\n")
        self.assertEqual(out[0], "0")
        self.assertEqual(out[1].split(), ["0", str(UID), "1"])
        self.assertEqual(out[2:4], ["deny", "caisson"])
        self.assertEqual(os.stat(os.path.join(self.user.rootfs, "home/mark")).st_uid, UID)
        self.assertEqual(self.run_inside("exit 7", check=7).stderr, "")

    def test_a_range_of_ids_comes_from_newuidmap(self):
        def change(config):
            map_range(config)
            config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [1500]}

        if not shutil.which("newuidmap"):
            self.skipTest("needs newuidmap: tools/dependencies test")
        out = self.run_inside("id -u; id -g; id -G; cat /proc/self/uid_map", change=change).split("\n")
        self.assertEqual(out[:3], ["1000", "1000", "1000 1500"])
        self.assertEqual([line.split() for line in out[3:5]], [["0", str(UID), "1"], ["1", str(RANGE[0]), str(RANGE[1])]])
        pid = self.state(self.start(change))["pid"]
        self.assertEqual(os.stat(f"/proc/{pid}").st_uid, RANGE[0] + 999)

    def test_a_range_that_is_not_the_users_is_refused_with_its_name(self):
        def change(config):
            config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 1, "size": 10}]

        run = self.run_inside("true", change=change, check=1)
        self.assertIn("newuidmap", run.stderr)
        self.assertIn("/etc/subuid", run.stderr)
        self.assertEqual(json.loads(self.runtime("list", "--format", "json", check=0).stdout) or [], [])

    def test_its_whole_life_is_that_of_any_container(self):
        identifier = self.new_id()
        bundle = self.user.bundle("sh", "-c", "trap 'exit 3' TERM; echo up >/tmp/up; while :; do sleep 0.05; done")
        with open(self.user.path("log"), "w", encoding="utf-8") as log:
            subprocess.run(self.user.command(self.user.runtime, "create", "--bundle", bundle, identifier), env=self.user.environment(), cwd=self.user.home,
                           stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=60, check=True)
        self.assertEqual(self.state(identifier)["status"], "created")
        self.assertEqual(os.listdir(os.path.join(self.user.runtime_folder, "caisson-runtime")), [identifier])
        self.runtime("start", identifier, check=0)
        wait_until(lambda: os.path.exists(os.path.join(self.user.rootfs, "tmp/up")), "the program is up")
        os.unlink(os.path.join(self.user.rootfs, "tmp/up"))
        self.assertEqual(self.state(identifier)["status"], "running")
        self.assertIn("that is not stopped", self.runtime("delete", identifier, check=1).stderr)
        self.runtime("kill", identifier, "TERM", check=0)
        wait_until(lambda: self.state(identifier)["status"] == "stopped", "it stopped")
        self.runtime("delete", identifier, check=0)
        self.assertIn("does not exist", self.runtime("state", identifier, check=1).stderr)

    def test_exec_enters_it_with_the_same_rights(self):
        identifier = self.start()
        out = self.runtime("exec", identifier, "sh", "-c", "id -u; grep CapBnd /proc/self/status; cat /proc/1/cmdline", check=0).stdout
        self.assertEqual(out.split("\n")[0], "0")
        self.assertEqual(out.split("\n")[1].split(), ["CapBnd:", "0000000020000420"])
        self.assertIn("sleep", out)
        self.runtime("exec", identifier, "sh", "-c", "exit 9", check=9)
        self.assertIn("executable file not found", self.runtime("exec", identifier, "nope", check=255).stderr)

    def test_without_a_cgroup_it_is_said_that_there_is_none(self):
        identifier = self.start()
        self.assertIn("cannot pause the container without a cgroup", self.runtime("pause", identifier, check=1).stderr)
        self.assertIn("cannot resume the container without a cgroup", self.runtime("resume", identifier, check=1).stderr)
        for command in (["update", "--pids-limit", "5", identifier], ["events", "--stats", identifier]):
            self.assertIn("the container is not using cgroups", self.runtime(*command, check=1).stderr)

        def change(config):
            config["linux"]["resources"]["memory"] = {"limit": 64 << 20}

        self.assertIn("rootless use needs cgroup v2 with delegation", self.run_inside("true", change=change, check=1).stderr)

    def test_devices_are_those_of_the_host_and_work(self):
        out = self.run_inside("for d in null zero full random urandom tty; do stat -c '%n %t %T' /dev/$d; done; echo x >/dev/null; head -c 3 /dev/zero | wc -c; mknod /tmp/m c 1 3 2>&1; ls -l /dev/fd /dev/ptmx")
        self.assertIn("/dev/null 1 3", out)
        self.assertIn("/dev/urandom 1 9", out)
        self.assertIn("3\n", out)
        self.assertIn("Operation not permitted", out)

    def test_with_the_hosts_network_sysfs_is_the_hosts_and_read_only(self):
        def change(config):
            config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != "network"]

        out = self.run_inside("grep ' /sys ' /proc/self/mounts; mkdir /sys/fs/cgroup/x 2>&1; ls /sys/class/net | head -1", change=change)
        self.assertRegex(out, r"sysfs /sys sysfs ro,")
        self.assertIn("Read-only file system", out)

    def test_the_group_of_terminals_is_left_out_where_it_has_no_id(self):
        def change(config):
            next(mount for mount in config["mounts"] if mount["type"] == "devpts")["options"].append("gid=5")

        self.assertIn("devpts", self.run_inside("grep /dev/pts /proc/self/mounts", change=change))

    def test_a_score_that_cannot_be_had_becomes_ours(self):
        def change(config):
            config["process"]["oomScoreAdj"] = -500

        with open("/proc/self/oom_score_adj", encoding="utf-8") as file:
            own = file.read()
        self.assertEqual(self.run_inside("cat /proc/self/oom_score_adj", change=change), own)

        def rise(config):
            config["process"]["oomScoreAdj"] = 700

        self.assertEqual(self.run_inside("cat /proc/self/oom_score_adj", change=rise), "700\n")

    def test_groups_are_left_out_where_setgroups_is_denied(self):
        def change(config):
            config["process"]["user"]["additionalGids"] = [10, 11]

        out, log = self.run_logged(self.user.bundle("id", "-G", change=change))
        self.assertEqual(out, "0\n")
        self.assertIn("additionalGids", log)

    def test_a_configuration_for_root_gets_a_user_namespace(self):
        def change(config):
            config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != "user"]
            del config["linux"]["uidMappings"], config["linux"]["gidMappings"]

        out, log = self.run_logged(self.user.bundle("cat", "/proc/self/uid_map", change=change))
        self.assertEqual(out.split(), ["0", str(UID), "1"])
        self.assertIn("non root user need to have an 'user' namespace", log)

    def test_hooks_of_every_kind_run(self):
        marks = self.user.path("home/marks")

        def change(config):
            config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"cat >/dev/null; echo {kind} >>{marks}"]}]
                               for kind in ("prestart", "createRuntime", "createContainer", "poststart", "poststop")}

        self.assertEqual(self.run_inside("echo ran", change=change), "ran\n")
        with open(marks, encoding="utf-8") as file:
            self.assertEqual(sorted(file.read().split()), ["createContainer", "createRuntime", "poststart", "poststop", "prestart"])

    def test_a_bind_keeps_what_the_host_forbids(self):
        shared = self.user.path("home/shared")
        os.makedirs(shared, exist_ok=True)
        os.chown(shared, UID, UID)

        def change(config):
            config["mounts"].append({"destination": "/mnt", "type": "bind", "source": shared, "options": ["rbind", "rw", "exec", "relatime"]})

        prepare = f"mount --bind {shared} {shared}; mount -o remount,bind,ro,noexec,noatime {shared}"
        out = self.run_inside("grep ' /mnt ' /proc/self/mounts; touch /mnt/x 2>&1; true", change=change, prepare=prepare)
        self.assertRegex(out, r" /mnt \S+ ro,noexec,noatime")
        self.assertIn("Read-only file system", out)

    def test_nobody_may_write_to_the_runtime_of_the_user(self):
        """CVE-2019-5736, where the container's root is the user who has installed the runtime."""
        own = self.user.path("home/runtime")
        shutil.copy(oci.RUNTIME, own)
        os.chown(own, UID, UID)
        with open(own, "rb") as file:
            before = file.read()
        attack = "cp /bin/busybox /tmp/sh; printf '#!/proc/self/exe\\n' >/tmp/entry; chmod +x /tmp/entry; exec sleep 1000"
        identifier = self.new_id()
        bundle = self.user.bundle("sh", "-c", attack)
        with open(self.user.path("log"), "w", encoding="utf-8") as log:
            subprocess.run(self.user.command(own, "run", "--detach", "--bundle", bundle, identifier), env=self.user.environment(), cwd=self.user.home,
                           stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=60, check=True)
        wait_until(lambda: os.path.exists(os.path.join(self.user.rootfs, "tmp/entry")), "the trap is laid")
        watch = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); for p in /proc/[0-9]*; do case $(readlink $p/exe) in *busybox*|/tmp/sh|'') ;; *) readlink $p/exe; echo x 2>/dev/null >$p/exe && echo WRITTEN;; esac; done; done"
        with open(self.user.path("watch"), "w+", encoding="utf-8") as out:
            watcher = subprocess.Popen(self.user.command(own, "exec", identifier, "sh", "-c", watch), env=self.user.environment(), cwd=self.user.home,
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            for _ in range(20):
                self.user.run(own, "exec", identifier, "/tmp/entry")
            self.runtime("kill", identifier, "KILL", check=0)
            watcher.wait(60)
            out.seek(0)
            self.assertNotIn("WRITTEN", out.read())
        with open(own, "rb") as file:
            self.assertEqual(file.read(), before)

    def test_crun_sees_and_says_the_same(self):
        if not shutil.which("crun"):
            self.skipTest("needs crun beside: tools/dependencies peers")
        script = "id -u; id -G; cat /proc/self/uid_map /proc/self/setgroups; grep Cap /proc/self/status; stat -c '%n %a %F' /dev/* | sort; ls /proc/self/ns; grep -c . /proc/net/dev"

        def change(config):
            config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/sys/fs/cgroup"]
            config["hostname"] = "same"
            config["ociVersion"] = "1.0.2"  # crun 1.8 refuses later ones

        outputs = {}
        for binary in (self.user.runtime, shutil.which("crun")):
            run = self.user.run(binary, "run", "--bundle", self.user.bundle("sh", "-c", script, change=change), self.new_id(), prepare=PURE_V1)
            if run.returncode != 0 and binary != self.user.runtime:
                self.skipTest(f"crun cannot run here: {run.stderr.strip()[-200:]}")
            self.assertEqual(run.returncode, 0, run.stderr)
            outputs[binary] = [line for line in run.stdout.splitlines() if "/dev/core" not in line]
        self.assertEqual(*outputs.values())


class DelegatedCgroup(RootlessTest):
    """Pure cgroup v2, and a group of it that belongs to the user, as systemd delegates one to user@.service."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.group = os.path.basename(cls.user.folder)
        own = f"/sys/fs/cgroup/{cls.group}/own"
        cls.prepare = (f"umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; mkdir -p {own}; "
                       f"chown {UID}:{UID} {own} {own}/cgroup.procs {own}/cgroup.threads {own}/cgroup.subtree_control; echo 0 >{own}/cgroup.procs")
        probe = cls.user.run("cat", "/proc/self/cgroup", prepare=cls.prepare)
        if f"0::/{cls.group}/own" not in probe.stdout.split():
            cls.tearDownClass()
            raise unittest.SkipTest(f"needs cgroup v2: {probe.stderr.strip()[-200:]}")

    @classmethod
    def tearDownClass(cls):
        script = f"umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; rmdir /sys/fs/cgroup/{cls.group}/own /sys/fs/cgroup/{cls.group}"
        super().tearDownClass()
        gone = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script], capture_output=True, text=True, check=False)
        assert gone.returncode == 0 or "No such file" in gone.stderr, gone.stderr

    def runtime(self, *arguments, **options):
        return super().runtime(*arguments, prepare=self.prepare, **options)

    def cgroup_of(self, pid):
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            return next(line[3:].strip() for line in file if line.startswith("0::"))

    def test_its_cgroup_lies_below_the_users_and_does_what_a_cgroup_does(self):
        identifier = self.new_id()
        bundle = self.user.bundle("sleep", "1000")
        with open(self.user.path("log"), "w+", encoding="utf-8") as log:
            run = subprocess.run(self.user.command(self.user.runtime, "run", "--detach", "--bundle", bundle, identifier, prepare=self.prepare),
                                 env=self.user.environment(), cwd=self.user.home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=60, check=False)
            log.seek(0)
            self.assertEqual(run.returncode, 0, log.read())
        pid = self.state(identifier)["pid"]
        self.assertEqual(self.cgroup_of(pid), f"/{self.group}/own/{identifier}")
        self.assertEqual(json.loads(self.runtime("ps", "--format", "json", identifier, check=0).stdout), [pid])
        self.runtime("pause", identifier, check=0)
        self.assertEqual(self.state(identifier)["status"], "paused")
        self.assertIn("paused", self.runtime("exec", identifier, "true", check=255).stderr)
        self.runtime("resume", identifier, check=0)
        self.assertEqual(self.runtime("exec", identifier, "cat", "/proc/self/cgroup", check=0).stdout.split()[-1], "0::/")
        self.runtime("kill", "--all", identifier, "KILL", check=0)
        wait_until(lambda: self.state(identifier)["status"] == "stopped", "it stopped")
        self.runtime("delete", identifier, check=0)
        look = self.user.run("ls", f"/sys/fs/cgroup/{self.group}/own", prepare=self.prepare, check=0).stdout
        self.assertNotIn(identifier, look)

    def test_a_limit_whose_controller_was_not_delegated_is_refused(self):
        def change(config):
            config["linux"]["resources"]["memory"] = {"limit": 64 << 20}

        self.assertIn("memory controller is not available", self.run_inside("true", change=change, check=1).stderr)


class InsideAUserNamespace(RootlessTest):
    """uid 0 of a user namespace that somebody else has made, as in a container, or under podman."""

    def nested(self, *arguments, check=0, **options):
        return self.user.run("unshare", "--user", "--map-root-user", "--mount", self.user.runtime, *arguments, check=check, **options)

    def for_root(self, config):
        config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != "user"]
        del config["linux"]["uidMappings"], config["linux"]["gidMappings"]

    def test_a_configuration_without_a_user_namespace_runs_in_that_one(self):
        bundle = self.user.bundle("sh", "-c", "id -u; cat /proc/self/uid_map; echo >/dev/null; mount | grep -c ' on /proc '", change=self.for_root)
        self.assertEqual(self.nested("run", "--bundle", bundle, self.new_id()).stdout.split(), ["0", "0", str(UID), "1", "1"])

    def test_one_with_its_own_is_nested_in_it(self):
        def change(config):
            config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = [map_line(0)]

        bundle = self.user.bundle("sh", "-c", "id -u; grep -c . /proc/self/uid_map; readlink /proc/self/ns/user", change=change)
        out = self.nested("run", "--bundle", bundle, self.new_id()).stdout.split()
        self.assertEqual(out[:2], ["0", "1"])

    def test_the_hosts_sysfs_stands_in_for_one_that_cannot_be_mounted(self):
        def change(config):
            self.for_root(config)
            config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != "network"]

        bundle = self.user.bundle("sh", "-c", "grep ' /sys ' /proc/self/mounts", change=change)
        self.assertIn("ro,", self.nested("run", "--bundle", bundle, self.new_id()).stdout)


class RootlessPodman(unittest.TestCase):
    """podman as an ordinary user; the same steps on crun or runc show that they ask for the right thing."""

    @classmethod
    def setUpClass(cls):
        for program in ("podman", "newuidmap"):
            if not shutil.which(program):
                raise unittest.SkipTest(f"needs {program}: tools/dependencies peers")
        cls.user = User()
        try:
            with open(cls.user.path("home/image.tar"), "wb") as file:
                file.write(caisson.docker_archive([caisson.busybox_rootfs()], {"Cmd": ["sh"], "Env": ["PATH=/bin:/usr/bin"]}, ["busybox:latest"]))
            cls.podman(cls.user.runtime, "load", "-i", cls.user.path("home/image.tar"), check=0)
        except BaseException:
            cls.close()
            raise

    @classmethod
    def podman(cls, runtime, *arguments, **options):
        return cls.user.run("podman", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", runtime, *arguments, prepare=PURE_V1, **options)

    @classmethod
    def close(cls):
        cls.podman(cls.user.runtime, "rm", "-af", "-t", "0")
        # Files of other ids can only be removed in its user namespace, which its pause process keeps; that one names no folder.
        cls.podman(cls.user.runtime, "unshare", "rm", "-rf", cls.user.path("home/.local"))
        for folder, _, files in os.walk(cls.user.runtime_folder):
            if "pause.pid" in files:
                with open(os.path.join(folder, "pause.pid"), encoding="utf-8") as file:
                    os.kill(int(file.read()), signal.SIGKILL)
        cls.user.close()

    @classmethod
    def tearDownClass(cls):
        cls.close()

    def life(self, runtime):
        """What a container shows of itself, and the codes of its commands."""
        name = f"c{os.getpid()}"
        self.addCleanup(self.podman, runtime, "rm", "-f", "-t", "0", name)
        seen = [self.podman(runtime, "run", "--rm", "--network", "none", "busybox", "sh", "-c", "id -u; cat /proc/self/uid_map; exit 7", check=7).stdout]
        self.podman(runtime, "run", "-d", "--name", name, "--network", "none", "busybox", "sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done", check=0)
        wait_until(lambda: "up" in self.podman(runtime, "logs", name).stdout, "it is up")
        seen.append(self.podman(runtime, "exec", name, "sh", "-c", "id -u; hostname >/dev/null; echo inside", check=0).stdout)
        seen.append(self.podman(runtime, "exec", "-u", "1000", name, "id", "-u", check=0).stdout)
        seen.append(self.podman(runtime, "exec", name, "nope").returncode)
        self.podman(runtime, "stop", "-t", "10", name, check=0)
        seen.append(json.loads(self.podman(runtime, "inspect", name, check=0).stdout)[0]["State"]["ExitCode"])
        self.podman(runtime, "rm", name, check=0)
        return seen

    def test_it_runs_execs_and_stops_as_with_its_own_runtime(self):
        ours = self.life(self.user.runtime)
        self.assertEqual(ours[1:], ["0\ninside\n", "1000\n", 127, 3])
        peer = shutil.which("crun") or shutil.which("runc")
        if peer:
            self.assertEqual(self.life(peer), ours)

    def test_the_hosts_network_and_a_volume(self):
        volume = self.user.path("home/volume")
        os.makedirs(volume)
        os.chown(volume, UID, UID)
        out = self.podman(self.user.runtime, "run", "--rm", "--network", "host", "-v", f"{volume}:/v", "busybox", "sh", "-c", "echo x >/v/file; ls /sys/class/net", check=0).stdout
        self.assertIn("lo", out.split())
        self.assertEqual(os.stat(os.path.join(volume, "file")).st_uid, UID)
        self.assertTrue(stat.S_ISREG(os.stat(os.path.join(volume, "file")).st_mode))

    def test_a_container_that_keeps_the_users_id(self):
        out = self.podman(self.user.runtime, "run", "--rm", "--network", "none", "--userns", "keep-id", "busybox", "id", "-u", check=0).stdout
        self.assertEqual(out, f"{UID}\n")


def main():
    if reason := oci.why_not():
        print(f"SKIPPED: {os.path.basename(__file__)}: {reason}")
        raise SystemExit(77)
    oci.main()


if __name__ == "__main__":
    main()

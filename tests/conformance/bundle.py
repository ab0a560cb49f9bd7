"""Bundles for caisson-runtime: a busybox root, the configuration of `runc spec`, and a state root and cgroup parent of their own."""

import copy
import glob
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
import caisson  # noqa: E402  (what it stands on lies beside, not above)

RUNTIME = os.path.join(caisson.BIN, "caisson-runtime")

BASE = {
    "ociVersion": "1.3.0",
    "process": {
        "args": ["sh"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "env": ["PATH=/bin:/usr/bin"],
        "noNewPrivileges": True,
        "capabilities": {name: ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"] for name in ("bounding", "effective", "permitted")},
    },
    "root": {"path": "rootfs"},
    "hostname": "box",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ],
    "linux": {"namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount", "cgroup")]},
}


def mounts_mentioning(text):
    """Mounts of the host that are of this test: others mount and unmount meanwhile."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return sorted(line for line in file if text in line)


class BundleTest(unittest.TestCase):
    """One bundle per test; at its end nothing may be left of any container."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix=caisson.PREFIX)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.chmod(self.folder, 0o755)
        self.bundle = os.path.join(self.folder, "bundle")
        self.rootfs = os.path.join(self.bundle, "rootfs")
        self.state = os.path.join(self.folder, "state")
        self.parent = "/" + os.path.basename(self.folder)
        os.makedirs(self.rootfs)
        with tarfile.open(fileobj=io.BytesIO(caisson.busybox_rootfs()), mode="r") as tar:
            tar.extractall(self.rootfs)
        self.config = copy.deepcopy(BASE)
        self.count = 0
        self.addCleanup(self.end)

    def end(self):
        for name in self.state_folders():
            self.runtime("delete", "--force", name)
        for folder in sorted(self.cgroups(), key=len, reverse=True):
            os.rmdir(folder)

    def cgroups(self):
        found = []
        for top in glob.glob(f"/sys/fs/cgroup{self.parent}") + glob.glob(f"/sys/fs/cgroup/*{self.parent}"):
            found += [folder for folder, _, _ in os.walk(top)]
        return found

    def state_folders(self):
        """Of containers; compiled filters (.cache) belong to none and stay."""
        return [name for name in os.listdir(self.state) if name != ".cache"] if os.path.isdir(self.state) else []

    def containers_left(self):
        """Cgroups of containers (their parent folder may stay) and state folders."""
        return [group for group in self.cgroups() if not group.endswith(self.parent)] + self.state_folders()

    def runtime(self, *arguments, check=None, timeout=60, **options):
        run = subprocess.run([RUNTIME, "--root", self.state, *arguments], capture_output=True, text=True, timeout=timeout, check=False, **options)
        if check is not None:
            self.assertEqual(run.returncode, check, f"{arguments}: {run.stderr}{run.stdout}")
        return run

    def write_config(self):
        with open(os.path.join(self.bundle, "config.json"), "w", encoding="utf-8") as file:
            json.dump(self.config, file)

    def name(self):
        self.count += 1
        name = f"c{self.count}"
        self.config["linux"]["cgroupsPath"] = f"{self.parent}/{name}"
        return name

    def set_args(self, script):
        self.config["process"]["args"] = ["sh", "-c", script] if isinstance(script, str) else script

    def run_inside(self, script, check=0, **options):
        """`run` of a shell script; its output."""
        name = self.name()
        self.set_args(script)
        self.write_config()
        run = self.runtime("run", "--bundle", self.bundle, name, check=check, stdin=subprocess.DEVNULL, **options)
        return run.stdout if check == 0 else run

    def refused(self, *words):
        """`run` must fail with these words, and leave nothing."""
        mounts = mounts_mentioning(self.folder)
        run = self.run_inside("echo it ran", check=None)
        self.assertNotEqual(run.returncode, 0, "it ran")
        for word in words:
            self.assertIn(word, run.stderr)
        self.assertNotIn("it ran", run.stdout)
        self.assertEqual(self.containers_left(), [], "left behind")
        self.assertEqual(mounts_mentioning(self.folder), mounts)
        return run.stderr

    def start(self, script="sleep 1000"):
        """A container that runs in the background: its name and pid."""
        name = self.name()
        self.set_args(script)
        self.write_config()
        return name, self.detached("run", "--detach", "--bundle", self.bundle, name)

    def create(self, name):
        return self.detached("create", "--bundle", self.bundle, name)

    def detached(self, command, *arguments):
        """A command after which a process lives on that keeps its stdio: files, not pipes of ours. Returns that process's pid."""
        pid_file = os.path.join(self.folder, "pid")
        log_file = os.path.join(self.folder, "log")
        with open(log_file, "wb") as log:
            run = subprocess.run([RUNTIME, "--root", self.state, command, "--pid-file", pid_file, *arguments],
                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=60, check=False)
        with open(log_file, encoding="utf-8") as log:
            self.assertEqual(run.returncode, 0, log.read())
        with open(pid_file, encoding="utf-8") as file:
            return int(file.read())

    def end_container(self, name):
        self.runtime("delete", "--force", name, check=0)

    def inside_exec(self, name, *command, check=0):
        return self.runtime("exec", name, *command, check=check, stdin=subprocess.DEVNULL).stdout

    def add_namespace(self, kind, path=None):
        self.config["linux"]["namespaces"] = [one for one in self.config["linux"]["namespaces"] if one["type"] != kind]
        self.config["linux"]["namespaces"].append({"type": kind, **({"path": path} if path else {})})

    def add_user_namespace(self, start=200000, count=65536):
        self.add_namespace("user")
        for field in ("uidMappings", "gidMappings"):
            self.config["linux"][field] = [{"containerID": 0, "hostID": start, "size": count}]
        # The container's root must be able to enter its own root folder and to own it.
        for path, folders, files in os.walk(self.rootfs):
            for entry in [path] + [os.path.join(path, one) for one in folders + files]:
                os.lchown(entry, start, start)

    def add_mount(self, destination, kind, source, *options, **fields):
        self.config["mounts"].append({"destination": destination, "type": kind, "source": source, "options": list(options), **fields})


def mount_lines(text, destination):
    """Fields of mountinfo for one mount point."""
    return [line.split() for line in text.splitlines() if line.split()[4] == destination]


def main():
    """Runs the calling file's tests. Exit code 77 when they cannot run here; the output says why."""
    reason = None
    if not os.access(RUNTIME, os.X_OK):
        reason = f"caisson-runtime is not built in {caisson.BIN}"
    elif os.geteuid() != 0:
        reason = "needs root: devices, cgroups and namespaces of the host are used"
    elif not shutil.which("busybox"):
        reason = "needs busybox-static: tools/dependencies test"
    if reason:
        print(f"SKIPPED: {os.path.basename(sys.argv[0])}: {reason}")
        sys.exit(77)
    unittest.main(module="__main__")

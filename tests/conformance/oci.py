"""What the conformance tests of the OCI command line stand on: our runtime and Debian's with roots of their own, bundles, and a count of leftovers."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import io

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
import caisson  # noqa: E402 (found by the line above)
from caisson import FULL, wait_until  # noqa: E402,F401

RUNTIME = os.path.join(caisson.BIN, "caisson-runtime")
PREFIX = "/tmp/caisson-oci-"


def why_not():
    """The reason why no container can be made here, or None."""
    if not os.access(RUNTIME, os.X_OK):
        return f"caisson-runtime not built in {caisson.BIN}"
    if os.geteuid() != 0:
        return "needs root: namespaces, mounts and cgroups are made on the host"
    if not shutil.which("busybox"):
        return "needs busybox-static for its root file system: tools/dependencies test"
    return None


class Playground:
    """A folder with a busybox root, bundles, and one state folder per runtime. Cgroups carry its name. close() demands that nothing is left."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix=PREFIX)
        os.chmod(self.folder, 0o755)
        self.name = os.path.basename(self.folder)
        self.rootfs = os.path.join(self.folder, "rootfs")
        os.mkdir(self.rootfs)
        with tarfile.open(fileobj=io.BytesIO(caisson.busybox_rootfs())) as tar:
            tar.extractall(self.rootfs)
        self.count = 0
        self.log = os.path.join(self.folder, "output")

    def path(self, name):
        return os.path.join(self.folder, name)

    def bundle(self, *args, change=None, terminal=False):
        """A new bundle whose program is `args`; `change(config)` edits the configuration."""
        self.count += 1
        bundle = self.path(f"bundle{self.count}")
        os.mkdir(bundle)
        config = json.loads(json.dumps(BASE))
        config["root"] = {"path": self.rootfs, "readonly": False}
        config["process"]["args"] = list(args)
        config["process"]["terminal"] = terminal
        config["linux"]["cgroupsPath"] = f"/{self.name}/c{self.count}"
        if change:
            change(config)
        with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        return bundle

    def leftovers(self):
        """What of this playground is still on the host: processes, mounts, cgroups with something in them."""
        found = [f"process {pid}: {line}" for pid, line in caisson.processes_mentioning(self.folder).items()]
        found += [f"process {pid}: {line}" for pid, line in caisson.processes_mentioning("/" + self.name).items()]
        found += [f"mount {line}" for line in caisson.mounts_mentioning(self.folder)]
        found += [f"cgroup {path}" for path in self.cgroups()]
        return sorted(set(found))

    def cgroups(self):
        """The containers' cgroups (their common parent is ours to remove)."""
        found = []
        for parent in caisson.cgroups_named(self.name):
            with contextlib.suppress(OSError):
                found += [os.path.join(parent, name) for name in os.listdir(parent) if os.path.isdir(os.path.join(parent, name))]
        return found

    def close(self):
        left = self.leftovers()
        for pid in list(caisson.processes_mentioning(self.folder)) + list(caisson.processes_mentioning("/" + self.name)):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for line in reversed(caisson.mounts_mentioning(self.folder)):
            subprocess.run(["umount", "-l", line.split()[4]], capture_output=True, check=False)

        def cgroups_gone():
            for parent in caisson.cgroups_named(self.name):
                for folder, _, _ in os.walk(parent, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(folder)
            return not caisson.cgroups_named(self.name)

        with contextlib.suppress(AssertionError):
            wait_until(cgroups_gone, "cgroups removed", 5)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not left, "left on the host:\n" + "\n".join(left)


class Runtime:
    """One runtime's command line with its own --root."""

    def __init__(self, playground, binary, name, flags=()):
        self.playground = playground
        self.binary = binary
        self.name = name
        self.root = playground.path("state-" + name)
        self.flags = list(flags)
        self.ids = []

    @property
    def is_ours(self):
        return self.name == "caisson"

    def command(self, *arguments, flags=()):
        return [self.binary, "--root", self.root, *self.flags, *flags, *arguments]

    def __call__(self, *arguments, flags=(), check=None, stdin=None, timeout=60, **options):
        """Runs one command with its output captured."""
        if stdin is None:
            options.setdefault("stdin", subprocess.DEVNULL)
        else:
            options["input"] = stdin
        run = subprocess.run(self.command(*arguments, flags=flags), capture_output=True, text=True, timeout=timeout, check=False, **options)
        if check is not None and run.returncode != check:
            raise AssertionError(f"{self.name} {' '.join(arguments)} ended with {run.returncode}, not {check}: {run.stdout}{run.stderr}")
        return run

    def pause(self, identifier):
        """runc 1.1 gives up ("unable to freeze") where a freezer of cgroup v1 takes its time on a busy machine; a peer may try again."""
        for _ in range(0 if self.is_ours else 20):
            if self("pause", identifier).returncode == 0:
                return
        self("pause", identifier, check=0)

    def launch(self, *arguments, check=0, **options):
        """Runs a command that leaves a process behind, whose streams are a file and not our pipes."""
        with open(self.playground.log, "ab+") as log:
            start = log.seek(0, os.SEEK_END)
            options.setdefault("stdin", subprocess.DEVNULL)
            run = subprocess.run(self.command(*arguments), stdout=log, stderr=log, timeout=60, check=False, **options)
            log.seek(start)
            text = log.read().decode(errors="replace")
        if run.returncode != check:
            raise AssertionError(f"{self.name} {' '.join(arguments)} ended with {run.returncode}, not {check}: {text}")
        return text

    def new_id(self):
        identifier = f"t{random.SystemRandom().randrange(16**8):08x}"
        self.ids.append(identifier)
        return identifier

    def create(self, bundle, *flags):
        identifier = self.new_id()
        self.launch("create", "--bundle", bundle, *flags, identifier)
        return identifier

    def start(self, bundle, *flags):
        """A running container's id."""
        identifier = self.create(bundle, *flags)
        self("start", identifier, check=0)
        return identifier

    def state(self, identifier):
        return json.loads(self("state", identifier, check=0).stdout)

    def wait_stopped(self, identifier):
        wait_until(lambda: self.state(identifier)["status"] == "stopped", f"{identifier} stopped")

    def remove_all(self):
        for identifier in self.ids:
            self("delete", "--force", identifier)
        self.ids = []


def peers(playground):
    """Debian's runtimes that can run a container here."""
    found = []
    for name, flags in (("runc", []), ("crun", [])):
        binary = shutil.which(name)
        if not binary:
            continue
        runtime = Runtime(playground, binary, name, flags)
        # crun refuses hybrid cgroups.
        probe = runtime("run", "--bundle", playground.bundle("true"), runtime.new_id())
        runtime.remove_all()
        if probe.returncode == 0:
            found.append(runtime)
    return found


DEFAULT_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_DAC_OVERRIDE"]
BASE = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False, "user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/", "noNewPrivileges": True,
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
        "capabilities": {name: DEFAULT_CAPABILITIES for name in ("bounding", "effective", "permitted")},
    },
    "root": {},
    "hostname": "test",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ],
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}


class OciTest(caisson.unittest.TestCase):
    """A playground for the tests of a class; `runtimes` is ours and, for tests that compare, Debian's beside it."""

    with_peers = False

    @classmethod
    def setUpClass(cls):
        cls.playground = Playground()
        cls.runtime = Runtime(cls.playground, RUNTIME, "caisson")
        cls.runtimes = [cls.runtime, *(peers(cls.playground) if cls.with_peers else ())]

    @classmethod
    def tearDownClass(cls):
        for runtime in cls.runtimes:
            runtime.remove_all()
        cls.playground.close()

    def tearDown(self):
        for runtime in self.runtimes:
            runtime.remove_all()

    def each(self):
        """Every runtime in turn; a failure's text names the one it was."""
        return list(self.runtimes)


def main():
    caisson.main(why_not)

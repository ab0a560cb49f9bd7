"""What the attack tests share: bundles, the runtimes under attack, and the attackers' programs, compiled when first used."""

import contextlib
import copy
import errno
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))

import caisson  # noqa: E402
import leaks  # noqa: E402

OURS = os.path.join(caisson.BIN, "caisson-runtime")
ROUNDS = 10_000 if caisson.FULL else int(os.environ.get("CAISSON_TEST_ROUNDS", "300"))


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


class Runtime:
    """One OCI runtime and how it is called on this machine."""

    def __init__(self, name, path, version=None, prefix=()):
        self.name = name
        self.path = path
        self.prefix = list(prefix)
        self.version = version

    def is_known_weak(self):
        """Is this the version whose weaknesses the tests know? A newer one may be mended."""
        if not self.path or not self.version:
            return False
        said = subprocess.run([self.path, "--version"], capture_output=True, text=True, check=False).stdout
        return said.split("\n")[0].split()[-1].startswith(self.version)

    def command(self, state, *arguments):
        user = caisson.User.get().command() if caisson.ROOTLESS else ()
        return [*self.prefix, *user, self.path, "--root", os.path.join(state, "state-" + self.name), *arguments]


CAISSON = Runtime("caisson", OURS)
RUNC = Runtime("runc", shutil.which("runc"), "1.1.5")
# crun refuses hybrid cgroups: it is shown a machine with version 1 only.
_PURE_V1 = ("unshare", "-m", "--propagation", "private", "sh", "-c", 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"', "_")
CRUN = Runtime("crun", shutil.which("crun"), "1.8.1", _PURE_V1)


SHARED = {"nss"}  # libraries; the other programs are static
PLACEHOLDER = b"PLACE-OF-THE-FILE".ljust(512, b"\0")  # of programs/nss.c


def compile_program(name, out):
    kind = ("-shared", "-fPIC") if name in SHARED else ("-static",)
    subprocess.run(["gcc", *kind, "-O1", "-Wall", "-Wextra", "-Werror", "-o", out + ".new", os.path.join(HERE, "programs", name + ".c")], check=True)
    os.rename(out + ".new", out)


def compile_programs(folder):
    """All of them, for a machine without a compiler: what CAISSON_TEST_PROGRAMS names there."""
    for source in os.listdir(os.path.join(HERE, "programs")):
        compile_program(source.removesuffix(".c"), os.path.join(folder, source.removesuffix(".c")))


def program(name):
    """Path of what is made of programs/NAME.c. Compiled once per run."""
    out = os.path.join(_program_folder(), name)
    if not os.path.exists(out):
        compile_program(name, out)
    return out


def needs_programs():
    """Skips where the attackers' programs can be neither compiled nor found."""
    if not shutil.which("gcc") and "CAISSON_TEST_PROGRAMS" not in os.environ:
        raise unittest.SkipTest("needs gcc: the attackers' programs are compiled here")


_programs = []


def _program_folder():
    if "CAISSON_TEST_PROGRAMS" in os.environ:
        return os.environ["CAISSON_TEST_PROGRAMS"]
    if not _programs:
        _programs.append(tempfile.mkdtemp(prefix=caisson.PREFIX + "programs-"))
    return _programs[0]


@contextlib.contextmanager
def attacker(*command):
    """A program that runs beside, until the block ends."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def own_tree(top):
    for folder, folders, files in os.walk(top):
        for name in [".", *folders, *files]:
            caisson.own(os.path.join(folder, name))


class Bundle:
    """A bundle with a busybox root. `config` is a dictionary to change before write()."""

    def __init__(self, test, *args, template):
        self.test = test
        self.number = random.SystemRandom().randrange(16**6)
        self.id = f"{test.watch.mark}-{self.number:06x}"
        self.folder = tempfile.mkdtemp(prefix="bundle-", dir=test.folder)
        caisson.own(self.folder)
        self.root = os.path.join(self.folder, "rootfs")
        subprocess.run(["cp", "-a", template, self.root], check=True)
        self.config = copy.deepcopy(test.default_config)
        self.config["process"]["args"] = list(args)
        if not caisson.ROOTLESS:  # a user without a session of systemd is delegated none
            self.config["linux"]["cgroupsPath"] = f"/{test.watch.mark}/{self.id}"

    def add_program(self, name):
        shutil.copy(program(name), os.path.join(self.root, "bin", name))
        return self

    def capabilities(self, *names):
        for kind in ("bounding", "effective", "permitted"):
            self.config["process"]["capabilities"][kind] = list(names)
        return self

    def user_namespace(self, first=300_000, count=65_536):
        if caisson.ROOTLESS:
            return self  # it is in one already
        self.config["linux"]["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            self.config["linux"][kind] = [{"containerID": 0, "hostID": first, "size": count}]
        return self.give_root_to(first)

    def give_root_to(self, owner):
        for folder, folders, files in os.walk(self.root):
            for name in [".", *folders, *files]:
                os.lchown(os.path.join(folder, name), owner, owner)
        return self

    def without(self, kind):
        self.config["linux"]["namespaces"] = [entry for entry in self.config["linux"]["namespaces"] if entry["type"] != kind]
        return self

    def mount(self, destination, source, *options, type="bind"):
        options = list(options) or (["rbind"] if type == "bind" else [])
        self.config["mounts"].append({"destination": destination, "type": type, "source": source, "options": options})
        return self

    def unmount(self, destination):
        self.config["mounts"] = [mount for mount in self.config["mounts"] if mount["destination"] != destination]
        return self

    def replace(self, path, target):
        """A symbolic link at `path` of the root, whatever was there."""
        full = os.path.join(self.root, path)
        if os.path.isdir(full) and not os.path.islink(full):
            shutil.rmtree(full)
        elif os.path.lexists(full):
            os.unlink(full)
        os.symlink(target, full)
        return self

    def write(self):
        with open(os.path.join(self.folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(self.config, file)
        return self

    def call(self, runtime, command, *arguments, stdin=subprocess.DEVNULL, timeout=60, **options):
        """Once more where the program was busy: an attempt to open it for writing, though the read-only mount refuses it, holds executions up while it
        lasts, because the kernel counts the writer before it looks at the mount (file_get_write_access in fs/internal.h)."""
        def executed():
            try:
                run = subprocess.run(runtime.command(self.test.folder, command, *arguments), stdin=stdin, capture_output=True, text=True, errors="replace", timeout=timeout * caisson.PATIENCE, check=False, cwd=self.folder, **options)
            except OSError as error:
                if error.errno != errno.ETXTBSY:
                    raise
                return None
            return None if run.returncode in (126, 127) and os.strerror(errno.ETXTBSY) in run.stderr else run
        return caisson.wait_until(executed, "the runtime can be executed")

    def run(self, runtime, *flags, **options):
        """One foreground run, deleted afterwards."""
        self.write()
        run = self.call(runtime, "run", *flags, "--bundle", self.folder, self.id, **options)
        self.call(runtime, "delete", "--force", self.id)
        return run

    @contextlib.contextmanager
    def running(self, runtime, *flags):
        """Detached, while the block lasts; standard streams lead to nowhere."""
        self.write()
        said = os.path.join(self.folder, "stderr")  # a pipe would stay open for as long as the container lives
        with open(said, "wb") as file:
            started = subprocess.run(runtime.command(self.test.folder, "run", "--detach", *flags, "--bundle", self.folder, self.id), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=file, timeout=60 * caisson.PATIENCE, check=False, cwd=self.folder)
        try:
            if started.returncode != 0:
                raise NotStarted(read(said))
            yield self
        finally:
            self.call(runtime, "delete", "--force", self.id)

    def exec(self, runtime, *arguments, flags=(), **options):
        return self.call(runtime, "exec", *flags, self.id, *arguments, **options)

    def pid(self, runtime):
        return json.loads(self.call(runtime, "state", self.id).stdout)["pid"]


class NotStarted(AssertionError):
    """A container that was to run beside the test did not start."""


def apparmor_profile(test):
    """The name of a profile that lets everything through, loaded for the length of a test; skipped where the kernel has no AppArmor."""
    enabled = "/sys/module/apparmor/parameters/enabled"
    if not os.path.exists(enabled) or read(enabled).strip() != "Y":
        test.skipTest("needs AppArmor, which the kernels of the guests have")
    name = test.watch.mark + "-label"
    text = f"profile {name} flags=(attach_disconnected) {{ file, capability, network, signal, ptrace, mount, umount, pivot_root, unix, }}\n".replace(", ", ",\n")
    subprocess.run(["apparmor_parser", "-K", "--replace"], input=text, text=True, check=True)
    test.addCleanup(subprocess.run, ["apparmor_parser", "-K", "--remove"], input=text, text=True, check=True)
    return name


class AttackTest(unittest.TestCase):
    """A folder, a canary on the host that must stay as it is, and a watch over what is left behind."""

    @classmethod
    def setUpClass(cls):
        needs_programs()
        cls.watch = leaks.Watch()
        cls.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + cls.watch.mark + "-")
        os.chmod(cls.folder, 0o711)
        caisson.own(cls.folder)
        cls.template = os.path.join(cls.folder, "template")
        os.mkdir(cls.template)
        with tarfile.open(fileobj=io.BytesIO(caisson.busybox_rootfs())) as tar:
            tar.extractall(cls.template)
        own_tree(cls.template)
        bundle = os.path.join(cls.folder, "spec")
        os.mkdir(bundle)
        subprocess.run([OURS, "spec", "--bundle", bundle], check=True)
        with open(os.path.join(bundle, "config.json"), encoding="utf-8") as file:
            cls.default_config = json.load(file)
        cls.default_config["ociVersion"] = "1.0.2"  # crun 1.8.1 knows no newer one
        cls.default_config["root"]["readonly"] = False
        cls.default_config["process"]["terminal"] = False
        cls.default_config["process"]["env"] = ["PATH=/bin:/usr/bin"]
        if caisson.ROOTLESS:
            cls.default_config["linux"]["namespaces"].append({"type": "user"})
            cls.default_config["linux"]["uidMappings"], cls.default_config["linux"]["gidMappings"] = caisson.User.get().mappings()

    @classmethod
    def tearDownClass(cls):
        for path in sorted(caisson.cgroups_named(cls.watch.mark), key=len, reverse=True):
            with contextlib.suppress(OSError):
                os.rmdir(path)  # only the parent that all containers share; a container's own would not be empty of children
        shutil.rmtree(cls.folder, ignore_errors=True)
        cls.watch.check()

    def bundle(self, *args):
        return Bundle(self, *args, template=self.template)

    def canary(self, name="canary", text="untouched"):
        """A folder of the host with one file; the pair is checked by assert_untouched."""
        folder = tempfile.mkdtemp(prefix=name + "-", dir=self.folder)
        os.chmod(folder, 0o777)
        with open(os.path.join(folder, "file"), "w", encoding="utf-8") as file:
            file.write(text)
        caisson.own(folder)
        caisson.own(os.path.join(folder, "file"))
        return folder

    def is_untouched(self, folder, text="untouched"):
        return os.listdir(folder) == ["file"] and read(os.path.join(folder, "file")) == text

    def check(self, attack, weak=()):
        """`attack(runtime)` tells whether it got through. It must not on ours, and must on the versions known to be weak."""
        self.assertFalse(attack(CAISSON), "it got through caisson-runtime")
        for runtime in weak:
            self.check_weak(attack, runtime)
        if os.environ.get("CAISSON_TEST_PEERS"):  # fills the table of docs/security/escapes.md
            for runtime in (CRUN, RUNC):
                print(f"{self.id()}: {runtime.name} {'fell' if runtime.path and attack(runtime) else 'held'}", file=sys.stderr)

    def check_weak(self, attack, runtime):
        if runtime.is_known_weak():
            self.assertTrue(attack(runtime), f"the test does not bite: it is known to get through {runtime.name} {runtime.version}")


def status_fields(text):
    return dict(re.findall(r"^(\w+):\s+(.*)$", text, re.MULTILINE))


def main():
    try:
        caisson.main()
    finally:
        for folder in _programs:
            shutil.rmtree(folder, ignore_errors=True)

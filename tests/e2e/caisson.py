"""What the end-to-end tests stand on: throw-away engines, command lines against them, an image, and a count of leftovers.

Every engine has its own state folder, runtime folder, socket, bridge, nft table, subnet and cgroup parent, so that several
run side by side, and beside an engine that is the host's own.
"""

import atexit
import contextlib
import hashlib
import http.client
import io
import json
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ask  # noqa: E402

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("CAISSON_BIN") or os.path.join(TREE, "build", "release", "bin")
SNAPSHOT_FORM = os.environ.get("CAISSON_SNAPSHOT_FORM", "")  # "erofs", "directory": the suites once more, with layers in that form
FULL = os.environ.get("CAISSON_TEST_FULL", "") not in ("", "0")
ROOTLESS = os.environ.get("CAISSON_TEST_ROOTLESS", "") not in ("", "0")  # the suites once more, with engines of an ordinary user
PATIENCE = float(os.environ.get("CAISSON_TEST_PATIENCE", "1"))  # every timeout so many times as long: an emulated machine is slow
BINARIES = ("caisson", "caissond", "caisson-runtime", "caisson-worker")
PREFIX = "/tmp/caisson-test-"


def why_not():
    """The reason why no end-to-end test can run here, or None."""
    missing = [name for name in BINARIES if not os.access(os.path.join(BIN, name), os.X_OK)]
    if missing:
        return f"{', '.join(missing)} not built in {BIN}"
    if os.geteuid() != 0:
        return "needs root: namespaces with mapped ids, cgroups and a bridge are made on the host"
    if ROOTLESS and why_no_user():
        return why_no_user()
    if not shutil.which("busybox"):
        return "needs busybox-static for its test image: tools/dependencies test"
    if os.environ.get("CAISSON_TEST_LONG") == "1" and os.environ.get("CAISSON_TEST_FULL") != "1":
        return "minutes more of what ran in another form: make test-all, or CAISSON_TEST_FULL=1"
    return None


def why_no_user():
    """The reason why no engine can run without root here, or None."""
    missing = [name for name in ("newuidmap", "newgidmap", "setpriv", "useradd", "userdel") if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} not installed: apt-get install uidmap passwd util-linux"
    folder = BIN
    while folder != "/":
        if not os.stat(folder).st_mode & 0o001:
            return f"an ordinary user cannot enter {folder}"
        folder = os.path.dirname(folder)
    return None


class User:
    """An ordinary user with subordinate ids for the engines of this process, who goes when it ends. One that a killed run left goes with the next."""

    _made = None

    def __init__(self):
        for entry in pwd.getpwall():
            if entry.pw_name.startswith("cstu-") and not is_alive(int(entry.pw_name[5:])):
                self.remove(entry.pw_name)
        self.name = f"cstu-{os.getpid()}"
        subprocess.run(["useradd", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", self.name], capture_output=True, check=True)
        entry = pwd.getpwnam(self.name)
        self.uid, self.gid = entry.pw_uid, entry.pw_gid
        for path, option in (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")):
            with open(path, encoding="utf-8") as file:
                if f"{self.name}:" in file.read():  # useradd has chosen a range
                    continue
            subprocess.run(["usermod", option, f"{0x40000000 + self.uid * 65536}-{0x40000000 + self.uid * 65536 + 65535}", self.name], check=True)
        atexit.register(lambda: self.remove(self.name))
        # As Debian's udev has it; this machine may have no udev.
        with contextlib.suppress(OSError):
            mode = os.stat("/dev/net/tun").st_mode & 0o7777
            os.chmod("/dev/net/tun", 0o666)
            atexit.register(lambda: os.chmod("/dev/net/tun", mode))

    @staticmethod
    def remove(name):
        """With whatever a failed test has left running: uplinks and containers' processes name no folder of their engine."""
        ids = {pwd.getpwnam(name).pw_uid}
        with open("/etc/subuid", encoding="utf-8") as file:
            for line in file:
                owner, first, count = line.strip().split(":")
                ids |= set(range(int(first), int(first) + int(count))) if owner == name else set()
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry}").st_uid in ids:
                    os.kill(int(entry), signal.SIGKILL)
        wait_until(lambda: subprocess.run(["userdel", name], capture_output=True, check=False).returncode != 8, f"{name} has no process")  # 8: in use

    @classmethod
    def get(cls):
        if cls._made is None:
            cls._made = cls()
        return cls._made

    def mappings(self):
        """Of a container whose root is this user: uidMappings, gidMappings."""
        found = []
        for path, own in (("/etc/subuid", self.uid), ("/etc/subgid", self.gid)):
            with open(path, encoding="utf-8") as file:
                first, count = next(line.split(":")[1:] for line in file if line.startswith(f"{self.name}:"))
            found.append([{"containerID": 0, "hostID": own, "size": 1}, {"containerID": 1, "hostID": int(first), "size": int(count)}])
        return found

    def command(self):
        """What a command line begins with to be this user's."""
        return ["setpriv", "--reuid", str(self.uid), "--regid", str(self.gid), "--clear-groups", "--inh-caps=-all", "--"]


def differs_without_root(why):
    """Skips a test where engines run without root; `why` stands in docs/how-to/rootless.md too."""
    return unittest.skipIf(ROOTLESS, f"differs without root: {why}")


def threads_of(pid):
    """What each thread of a process waits for: its name, its system call with its arguments, and the kernel's functions it is in."""
    out = []
    for thread in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        told = [thread]
        for name in ("comm", "syscall", "stack"):
            try:
                with open(f"/proc/{pid}/task/{thread}/{name}", encoding="utf-8") as file:
                    told.append(" ".join(file.read().split()))
            except OSError as error:
                told.append(f"{name}: {error.strerror}")
        out.append(" | ".join(told))
    return "\n".join(out)


def own(path):
    """Gives one file or folder to whoever runs the engines and runtimes: who is without root has no rights on what is root's. Returns the path."""
    if ROOTLESS:
        os.lchown(path, User.get().uid, User.get().gid)
    return path


def name_of_namespace(kind):
    """For add_network_namespace: it says whose it is."""
    return f"cst{kind}-{os.getpid()}-{random.SystemRandom().randrange(16**4):04x}"


def add_network_namespace(name):
    """With a loopback that is up. Those that a killed run left go first."""
    for entry in os.listdir("/run/netns") if os.path.isdir("/run/netns") else ():
        found = re.fullmatch(r"cst[a-z]+-(\d+)-[0-9a-f]{4}", entry)
        if found and not is_alive(int(found[1])):
            subprocess.run(["ip", "netns", "delete", entry], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)


class HostAddress:
    """Where engines reach what a test serves on this host. Without root their 127.0.0.1 is their own, and the host has another address as long as this lives."""

    def __init__(self, command=()):
        """`command`: what a command line begins with in the network namespace that plays the host."""
        self.command, self.text = list(command), "127.0.0.1"
        if ROOTLESS:
            for line in subprocess.run([*self.command, "ip", "-o", "-4", "address", "show", "dev", "lo"], capture_output=True, text=True, check=True).stdout.splitlines():
                # The label says whose it is; those that a killed run left go.
                if (found := re.search(r"inet (198\.18\.\S+) .*\blo:(\d+)", line)) and not is_alive(int(found[2])):
                    subprocess.run([*self.command, "ip", "address", "delete", found[1], "dev", "lo"], check=False)
            number = random.SystemRandom().randrange(256 * 254)
            self.text = f"198.18.{number % 256}.{1 + number // 256}"
            self.address("add")

    def address(self, verb):
        subprocess.run([*self.command, "ip", "address", verb, f"{self.text}/32", "dev", "lo", *(("label", f"lo:{os.getpid()}") if verb == "add" else ())], check=True)

    def close(self):
        if ROOTLESS:
            self.address("delete")


@contextlib.contextmanager
def temporary_folder():
    """A folder of whoever runs the engines, for a block."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        yield own(folder)


# Users without a session of systemd, as the tests' is, are delegated none.
needs_cgroups = differs_without_root("limits, pause and statistics need cgroups that are delegated")


def wait_until(condition, what, timeout_s=20.0):
    """Polls `condition` until it is true and returns its value; for states that have no event to wait for. `what`: a text, or makes one."""
    timeout_s *= PATIENCE
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out after {timeout_s:.0f} s: {what() if callable(what) else what}")
        time.sleep(0.01)


# ---- images ---------------------------------------------------------------------------------------------------------


def add_file(tar, name, data=b"", mode=0o644, **fields):
    info = tarfile.TarInfo(name)
    info.mode = mode
    info.mtime = 1_700_000_000
    for field, value in fields.items():
        setattr(info, field, value)
    if info.type == tarfile.REGTYPE:
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    else:
        tar.addfile(info)


def busybox_rootfs(extra=None):
    """The bytes of a root file system tar made of busybox-static; `extra(tar)` may add members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in ("bin", "dev", "etc", "home", "home/user", "proc", "root", "run", "srv", "sys", "usr", "usr/bin", "var", "var/opt"):
            owner = {"uid": 1000, "gid": 1000} if folder == "home/user" else {}
            add_file(tar, folder, mode=0o755, type=tarfile.DIRTYPE, **owner)
        add_file(tar, "tmp", mode=0o1777, type=tarfile.DIRTYPE)
        with open(shutil.which("busybox"), "rb") as busybox:
            add_file(tar, "bin/busybox", busybox.read(), mode=0o755)
        for applet in subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
            if applet != "busybox":
                add_file(tar, f"bin/{applet}", type=tarfile.SYMTYPE, linkname="busybox", mode=0o777)
        add_file(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
        add_file(tar, "etc/group", b"root:x:0:\nuser:x:1000:\nextra:x:1500:user\nnogroup:x:65534:\n")
        add_file(tar, "etc/os-release", b"ID=busybox\nPRETTY_NAME=busybox\n")
        add_file(tar, "etc/not-executable", b"#!/bin/sh\necho never\n")
        if extra:
            extra(tar)
    return out.getvalue()


def docker_archive(layers, config=None, tags=("test:latest",), manifest=None):
    """A docker-archive tar of uncompressed layer tars; `manifest` replaces manifest.json (for bad input)."""
    diff_ids = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    image = {"architecture": "amd64", "os": "linux", "config": config or {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    config_bytes = json.dumps(image).encode()
    config_name = hashlib.sha256(config_bytes).hexdigest() + ".json"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        add_file(tar, config_name, config_bytes)
        for number, layer in enumerate(layers):
            add_file(tar, f"layer{number}.tar", layer)
        listed = [{"Config": config_name, "RepoTags": list(tags), "Layers": [f"layer{n}.tar" for n in range(len(layers))]}]
        add_file(tar, "manifest.json", json.dumps(listed if manifest is None else manifest).encode() if not isinstance(manifest, bytes) else manifest)
    return out.getvalue()


# ---- what is on the host ----------------------------------------------------------------------------------------------


def processes_mentioning(text):
    """pid → command line of every process whose arguments, root or mapped program mention `text`; never this process."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                arguments = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
            with open(f"/proc/{entry}/cgroup", encoding="utf-8") as file:
                groups = file.read()
            with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                state = file.read().rpartition(")")[2].split()[0]
            if state != "Z" and (text in arguments or text in groups):
                found[int(entry)] = arguments or "(no arguments)"
    return found


def mounts_mentioning(text):
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return [line.strip() for line in file if text in line]


def mounts_of_containers(folder):
    """Mounts on the host below an engine's folder, but for those that are there by design: its run folder's, and layers that are indexes."""
    return [line for line in mounts_mentioning(folder) if "/run/" not in line and "/root/layers/" not in line]


def cgroups_named(text):
    found = []
    for folder, folders, _ in os.walk("/sys/fs/cgroup"):
        for name in list(folders):
            if text in name:
                found.append(os.path.join(folder, name))
    return found


def links_named(text, where=()):
    """Interfaces with `text` in their names; `where`: Engine.network_command."""
    out = subprocess.run([*where, "ip", "-o", "link"], capture_output=True, text=True, check=False).stdout
    return [line.split(": ")[1] for line in out.splitlines() if text in line]


def nft_tables_named(text, where=()):
    out = subprocess.run([*where, "nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    return [line.strip() for line in out.splitlines() if text in line]


def cgroup_files(pid):
    """name → absolute path of a process's cgroup, per v1 controller, and "" for v2 (hybrid: its unified half)."""
    mounts = {}
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            rest = fields[fields.index("-") + 1 :]
            if rest[0] == "cgroup2":
                mounts[""] = fields[4]
            elif rest[0] == "cgroup":
                for option in rest[2].split(","):
                    mounts[option] = fields[4]
    found = {}
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                if controller in mounts:
                    found[controller] = mounts[controller] + path
    return found


def read_limit(pid, v1, v2):
    """The text of a cgroup file of `pid`: `v1` as "controller/file", `v2` as "file", whichever hierarchy holds it."""
    files = cgroup_files(pid)
    controller, name = v1.split("/")
    path = os.path.join(files[controller], name) if controller in files else os.path.join(files[""], v2)
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


# ---- disks ----------------------------------------------------------------------------------------------------------


class SmallDisk:
    """A file system of so many MiB at `path`, to be filled: ext4 in a file, because not every form of layers can lie on a tmpfs. close() it."""

    def __init__(self, path, mebibytes):
        self.path = path
        self.image = path + ".disk"
        with open(self.image, "wb") as file:
            file.truncate(mebibytes << 20)
        os.makedirs(path, mode=0o700)
        for command in (["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", self.image], ["mount", "-o", "loop", self.image, path]):
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode != 0:
                raise unittest.SkipTest(f"{command[0]}: {run.stderr.strip()}")
        os.rmdir(os.path.join(path, "lost+found"))
        os.chmod(path, 0o700)

    def close(self):
        subprocess.run(["umount", "-l", self.path], capture_output=True, check=False)


# ---- an engine --------------------------------------------------------------------------------------------------------


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.unix_path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.unix_path)


def docker_program():
    """Docker's command line; a test that needs it is skipped where it is not installed."""
    if not shutil.which("docker"):
        raise unittest.SkipTest("needs docker's command line: tools/dependencies peers")
    return "docker"


class Engine:
    """A caissond of its own. Use as a context manager, or call close()."""

    def __init__(self, folder=None, options=()):
        self.tag = f"cst{random.SystemRandom().randrange(16**6):06x}"
        self.folder = folder or tempfile.mkdtemp(prefix=PREFIX)
        self.root = os.path.join(self.folder, "root")
        self.exec_root = os.path.join(self.folder, "run")
        self.socket = os.path.join(self.folder, "caisson.sock")
        self.host = "unix://" + self.socket
        number = int(self.tag[3:], 16)
        self.subnet = f"10.{200 + number % 50}.{(number >> 8) % 256}.0/24"
        self.log_path = os.path.join(self.folder, "caissond.log")
        self.options = list(options)
        self.prefix_command = []
        self.process = None
        self.keepers = []  # processes that hold connections of connect()
        os.chmod(self.folder, 0o711)
        self.user = User.get() if ROOTLESS else None
        if self.user:
            os.makedirs(self.runtime_dir, mode=0o700, exist_ok=True)
            for path in (self.folder, self.runtime_dir):
                own(path)

    @property
    def runtime_dir(self):
        return os.path.join(self.folder, "xdg")

    def as_user(self, command):
        """`command` as whoever this engine belongs to."""
        return [*self.user.command(), *command] if self.user else list(command)

    def give(self, *paths):
        """Makes files that the test has made the engine's user's."""
        for path in paths if self.user else ():
            own(path)

    def daemon_command(self):
        return [*self.prefix_command, *self.as_user([]), os.path.join(BIN, "caissond"), "--root", self.root, "--exec-root", self.exec_root, "-H", self.host,
                "--bridge", self.tag, "--nft-table", self.tag, "--subnet", self.subnet, "--cgroup-parent", "/" + self.tag,
                "--config", os.devnull, "--roles", os.devnull, *(("--snapshot-form", SNAPSHOT_FORM) if SNAPSHOT_FORM else ()), *self.options]

    def daemon_environment(self):
        return {**os.environ, **({"HOME": self.folder, "XDG_RUNTIME_DIR": self.runtime_dir} if self.user else {})}

    def start(self, timeout_s=20.0):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.daemon_command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=self.daemon_environment(),
                                            cwd="/" if self.user else None)

        def answers():
            if self.process.poll() is not None:
                if SNAPSHOT_FORM and "layers cannot be kept as EROFS indexes here" in self.log_text():
                    raise unittest.SkipTest(self.log_text()[-500:].strip())
                raise AssertionError(f"caissond ended with {self.process.returncode}:\n{self.log_text()[-4000:]}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.request("GET", "/_ping", timeout=2)[0] == 200
            return False

        wait_until(answers, "caissond answers", timeout_s)
        return self

    def log_text(self):
        with contextlib.suppress(OSError):
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read()
        return ""

    @property
    def own_pid(self):
        """The process whose namespaces and rights are the engine's: without root it is the supervisor's child."""
        if not self.user:
            return self.process.pid
        return next(pid for pid in self.processes("caissond") if comm_of(pid) == "caissond" and parent_of(pid) == self.process.pid)

    @property
    def network_command(self):
        """What a command line begins with to see the engine's bridges and rules."""
        return ["nsenter", f"--net=/proc/{self.own_pid}/ns/net"]

    def kill9(self):
        """What a crash of the daemon looks like. Containers and monitors go on."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s=30.0):
        self.let_keepers_go()
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout_s * PATIENCE)
        return self.process.returncode if self.process else 0

    def environment(self):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "CAISSON_"))}
        environment.update(DOCKER_HOST=self.host, CAISSON_HOST=self.host, HOME=self.folder, DOCKER_CONFIG=os.path.join(self.folder, "docker"))
        if self.user:
            environment.update(XDG_RUNTIME_DIR=self.runtime_dir)
        return environment

    def cli(self, *arguments, stdin=None, timeout=60, check=None, program=None, text=True, cwd=None, env=None):
        """Runs `caisson -H … arguments`. `check`: the exit code that must come back (None: any); `env`: variables beside the usual ones."""
        command = [docker_program() if program == "docker" else program] if program else [os.path.join(BIN, "caisson"), "-H", self.host]
        options = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        run = subprocess.run(self.as_user([*command, *map(str, arguments)]), capture_output=True, text=text, timeout=timeout * PATIENCE, env={**self.environment(), **(env or {})}, cwd=cwd, check=False, **options)
        if check is not None and run.returncode != check:
            raise AssertionError(f"{' '.join(map(str, arguments))}\nended with {run.returncode}, not {check}\nstdout: {run.stdout}\nstderr: {run.stderr}\n"
                                 f"daemon: {self.log_text()[-1500:]}")
        return run

    def ok(self, *arguments, **options):
        """Standard output of a command line that must succeed, without the last newline."""
        out = self.cli(*arguments, check=0, **options).stdout
        return out.rstrip("\n") if isinstance(out, str) else out

    def docker(self, *arguments, **options):
        return self.cli(*arguments, program=docker_program(), **options)

    def inspect(self, name):
        return json.loads(self.ok("inspect", name))[0]

    def request(self, method, path, body=None, headers=None, timeout=30):
        """(status, headers, body bytes) of one request to the API."""
        timeout *= PATIENCE
        if self.user:
            return self.request_as_user(method, path, body, headers, timeout)
        connection = UnixConnection(self.socket, timeout)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body).encode()
            sent = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, body=body, headers={**sent, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def connect(self, timeout=20):
        return self.connections(1, timeout)[0]

    def connections(self, count, timeout=20):
        """Connections to the API, for tests that speak HTTP themselves. Without root a process of the user makes them, and stays until the engine's end or the
        next stop(), for the engine knows its callers by their processes."""
        if not self.user:
            made = [socket.socket(socket.AF_UNIX) for _ in range(count)]
            for connection in made:
                connection.settimeout(timeout)
                connection.connect(self.socket)
            return made
        code = ("import socket, sys\nwith socket.socket(fileno=0) as to:\n  for _ in range(int(sys.argv[2])):\n    with socket.socket(socket.AF_UNIX) as c:\n"
                "      c.connect(sys.argv[1])\n      socket.send_fds(to, [b'x'], [c.fileno()])\n  to.recv(1)\n")
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen([*self.user.command(), sys.executable, "-I", "-c", code, self.socket, str(count)], stdin=theirs)
        self.keepers.append((ours, process))
        made = []
        while len(made) < count:
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
            if not fds:
                raise OSError(f"no connection to {self.socket}")
            made.append(socket.socket(fileno=fds[0]))
            made[-1].settimeout(timeout)
        return made

    def let_keepers_go(self):
        for ours, process in self.keepers:
            ours.close()
            process.wait()
        self.keepers.clear()

    def request_as_user(self, method, path, body, headers, timeout):
        """The same from a process of the user: the engine knows its callers by their ids and namespaces."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if body is not None else {}
        asked = json.dumps([self.socket, method, path, {**sent, **(headers or {})}, timeout, body is not None]).encode() + b"\n" + (body or b"")
        run = subprocess.run([*self.user.command(), sys.executable, "-I", "-B", os.path.join(os.path.dirname(os.path.abspath(__file__)), "ask.py")],
                             input=asked, capture_output=True, timeout=timeout + 20, check=False)
        if run.returncode == ask.CLOSED:
            raise ConnectionError(f"{method} {path}: closed without an answer")
        if run.returncode != 0:
            raise OSError(run.stderr.decode(errors="replace")[-500:])
        head, _, data = run.stdout.partition(b"\n")
        status, fields = json.loads(head)
        answer = http.client.HTTPMessage()
        for key, value in fields:
            answer[key] = value
        return status, answer, data

    def import_image(self, rootfs, name, changes=()):
        arguments = [word for change in changes for word in ("--change", change)]
        return self.ok("import", *arguments, "-", name, stdin=rootfs, text=False, timeout=120)

    def import_busybox(self, name="busybox:latest"):
        return self.import_image(busybox_rootfs(), name, ['CMD ["/bin/sh"]', "ENV PATH=/bin:/usr/bin"])

    # -- processes of this engine
    def processes(self, program):
        """pids of this engine's processes that run BIN/program (by /proc/PID/exe or comm)."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            with contextlib.suppress(OSError):
                with open(f"/proc/{entry}/comm", encoding="utf-8") as file:
                    comm = file.read().strip()
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    arguments = file.read().split(b"\0")
                name = os.path.basename(arguments[0].decode(errors="replace")) if arguments[0] else comm
                if name.startswith(program) or comm.startswith(program[:15]):
                    if self.process is not None and self.belongs(int(entry)):
                        found.append(int(entry))
        return found

    def launchers(self, name="caisson-launch"):
        """pids of this engine's launchers; of what starts them ("caisson-starter")."""
        found = []
        for pid in self.processes("caisson-runtime"):
            with contextlib.suppress(OSError):  # it may end meanwhile
                if comm_of(pid) == name:
                    found.append(pid)
        return found

    def belongs(self, pid):
        """Is `pid` ours: a descendant of the daemon, or a process whose arguments or open files lie in our folder?"""
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if self.folder.encode() in file.read():
                    return True
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{fd}").startswith(self.folder):
                        return True
            parent = pid
            while parent > 1:
                if self.process and parent == self.process.pid:
                    return True
                parent = parent_of(parent)
        return False

    def monitor_of(self, container):
        """pid of the monitor: the parent of the container's init."""
        return parent_of(self.inspect(container)["State"]["Pid"])

    # -- the end
    def leftovers(self):
        """What this engine left on the host, as sentences; [] when it cleaned up."""
        found = [f"process {pid}: {text}" for pid, text in processes_mentioning(self.folder).items()]
        found += [f"process {pid} in our cgroup: {text}" for pid, text in processes_mentioning(self.tag).items()]
        found += [f"mount {text}" for text in mounts_mentioning(self.folder)]
        found += [f"link {text}" for text in links_named(self.tag)]
        found += [f"nft {text}" for text in nft_tables_named(self.tag)]
        found += [f"cgroup {text}" for text in cgroups_named(self.tag)]
        for kind in ("containers",):
            folder = os.path.join(self.exec_root, kind)
            with contextlib.suppress(OSError):
                found += [f"file {os.path.join(folder, name)}" for name in os.listdir(folder)]
        return sorted(set(found))

    def close(self):
        """Ends everything that belongs to this engine, whatever state it is in. Safe to repeat."""
        self.let_keepers_go()
        if self.process and self.process.poll() is None:
            with contextlib.suppress(Exception):
                ids = self.cli("ps", "-aq", timeout=20).stdout.split()
                if ids:
                    self.cli("rm", "-f", "-v", *ids, timeout=60)
            with contextlib.suppress(Exception):
                self.stop()
            with contextlib.suppress(Exception):
                self.process.kill()
                self.process.wait()
        for _ in range(3):
            victims = {**processes_mentioning(self.folder), **processes_mentioning(self.tag)}
            for pid in victims:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            if not victims:
                break
            time.sleep(0.05)
        for line in reversed(mounts_mentioning(self.folder)):
            subprocess.run(["umount", "-l", line.split()[4]], capture_output=True, check=False)
        for name in links_named(self.tag):
            subprocess.run(["ip", "link", "delete", name.split("@")[0]], capture_output=True, check=False)
        for line in nft_tables_named(self.tag):
            subprocess.run(["nft", "delete", *line.split()], capture_output=True, check=False)
        for path in sorted(cgroups_named(self.tag), key=len, reverse=True):
            for folder, _, _ in os.walk(path, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()


def comm_of(pid):
    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
        return file.read().strip()


def parent_of(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def is_alive(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def write_files(folder, files):
    """Files below a folder: path → text or bytes, or (those, mode), or None for a folder. Returns the folder."""
    os.makedirs(folder, exist_ok=True)
    for name, content in files.items():
        path = os.path.join(folder, name)
        os.makedirs(path if content is None else os.path.dirname(path), exist_ok=True)
        if content is None:
            continue
        text, mode = content if isinstance(content, tuple) else (content, 0o644)
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, mode)
    return folder


class EngineTest(unittest.TestCase):
    """One engine for the tests of a class, with `busybox` in it; at the end nothing of it may be left on the host."""

    engine = None
    engine_options = ()

    @classmethod
    def setUpClass(cls):
        cls.engine = Engine(options=cls.engine_options)
        try:
            cls.engine.start()
            cls.engine.import_busybox()
        except BaseException:
            cls.engine.close()
            raise

    @classmethod
    def tearDownClass(cls):
        try:
            ids = cls.engine.cli("ps", "-aq").stdout.split()
            if ids:
                cls.engine.cli("rm", "-f", "-v", *ids)
            status = cls.engine.stop()
            left = cls.engine.leftovers()
            assert status == 0, f"caissond ended with {status}:\n{cls.engine.log_text()[-2000:]}"
            assert not left, "left on the host:\n" + "\n".join(left)
        finally:
            cls.engine.close()

    def name(self):
        """A fresh container name; the container is removed after the test."""
        name = f"{self._testMethodName[5:35].rstrip('_')}-{random.SystemRandom().randrange(16**8):08x}"
        self.addCleanup(lambda: self.engine.cli("rm", "-f", "-v", name))
        return name

    def run_detached(self, *arguments, command=("sleep", "1000"), image="busybox"):
        name = self.name()
        self.engine.ok("run", "-d", "--name", name, *arguments, image, *command)
        return name


def main(why_none_runs=why_not):
    """Runs the calling file's tests. Exit code 77 when every test was skipped; each skip is printed with its reason. `why_none_runs`: the reason
    why nothing of the file can run here, or None."""
    reason = why_none_runs()
    if reason:
        print(f"SKIPPED: {os.path.basename(sys.argv[0])}: {reason}")
        sys.exit(77)
    program = unittest.main(exit=False, module="__main__")
    result = program.result
    if not result.wasSuccessful():
        sys.exit(1)
    # A class that is skipped as a whole stands in `skipped` without having counted as run.
    really_run = result.testsRun - sum(isinstance(test, unittest.TestCase) for test, _ in result.skipped)
    sys.exit(77 if result.skipped and really_run == 0 else 0)

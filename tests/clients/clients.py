"""What the client suites stand on: an engine to try clients on (ours, or dockerd beside), the clients' programs, and images without a network.

`CAISSON_CLIENTS_ON=dockerd` runs the same suites on Debian's dockerd, so that a check which Docker itself does not pass is known as such.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import caisson  # noqa: E402
import peers  # noqa: E402

ON_DOCKERD = os.environ.get("CAISSON_CLIENTS_ON", "") == "dockerd"
# Programs that Debian 12 does not have: tools/client-programs puts them here.
PROGRAMS = os.environ.get("CAISSON_CLIENT_PROGRAMS") or os.path.join(caisson.TREE, "build", "clients")


def busybox_layer(tar):
    """What alpine and hello-world stand-ins need beyond busybox itself."""
    caisson.add_file(tar, "etc/alpine-release", b"3.0\n")


class CaissonTarget:
    """Our engine, with the clients' view of it."""

    name = "Caisson"

    def __init__(self, *options):
        self.engine = caisson.Engine(options=options)
        self.folder = self.engine.folder
        self.host = self.engine.host

    @staticmethod
    def why_not():
        return caisson.why_not()

    def open(self):
        self.engine.start()
        return self

    def environment(self):
        return self.engine.environment()

    def inside(self, command):
        """The command line that sees the engine's published ports."""
        return command

    def by_owner(self, command):
        """The same, of whoever the engine belongs to."""
        return self.engine.as_user(command)

    def give(self, path):
        """Makes a file of the test's the owner's."""
        self.engine.give(path)

    def log_text(self):
        return self.engine.log_text()

    def close(self):
        left = []
        with contextlib.suppress(Exception):
            self.engine.stop()
            left = self.engine.leftovers()
        self.engine.close()
        return left


class DockerdTarget:
    """dockerd in a network namespace of its own."""

    name = "dockerd"

    def __init__(self, *options):
        self.dockerd = peers.PrivateDockerd(*options)
        self.folder = self.dockerd.folder
        self.host = self.dockerd.host

    @staticmethod
    def why_not():
        return peers.PrivateDockerd.why_not() or caisson.why_not()

    def open(self):
        self.dockerd.__enter__()
        return self

    def environment(self):
        return self.dockerd.environment()

    def inside(self, command):
        return ["nsenter", f"--net=/run/netns/{self.dockerd.namespace}", *command]

    by_owner = inside

    def give(self, path):
        pass  # it is root's

    def log_text(self):
        with open(self.dockerd.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def close(self):
        self.dockerd.close()
        return []


Target = DockerdTarget if ON_DOCKERD else CaissonTarget


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Registry:
    """Debian's docker-registry on 127.0.0.1, in the target's network namespace, with its own folder."""

    def __init__(self, target):
        self.target = target
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.folder = os.path.join(target.folder, "registry")
        self.log_path = os.path.join(target.folder, "registry.log")
        self.process = None

    @staticmethod
    def why_not():
        return None if shutil.which("docker-registry") else "needs docker-registry: tools/dependencies clients"

    def open(self):
        os.makedirs(self.folder)
        config = os.path.join(self.target.folder, "registry.json")
        with open(config, "w", encoding="utf-8") as file:  # YAML holds JSON
            json.dump({"version": "0.1", "storage": {"filesystem": {"rootdirectory": self.folder}, "delete": {"enabled": True}},
                       "http": {"addr": self.address}}, file)
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(self.target.inside(["docker-registry", "serve", config]), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def answers():
            return subprocess.run(self.target.inside(["curl", "-sf", f"http://{self.address}/v2/"]), capture_output=True, check=False).returncode == 0

        caisson.wait_until(answers, "docker-registry answers", 30)
        return self

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait()


class ClientTest(unittest.TestCase):
    """A suite on one engine of its own. After the last test nothing of the engine may be left on the host."""

    target_options = ()
    target = None

    @classmethod
    def needs(cls):
        """The reason why this suite cannot run, or None. Subclasses add their client's."""
        return None

    @classmethod
    def setUpClass(cls):
        if reason := Target.why_not() or cls.needs():
            raise unittest.SkipTest(reason)
        cls.target = Target(*cls.target_options)
        try:
            cls.target.open()
            cls.load_images()
        except BaseException:
            cls.target.close()
            raise

    @classmethod
    def tearDownClass(cls):
        if cls.target:
            left = cls.target.close()
            cls.target = None
            if left:
                raise AssertionError("left behind:\n" + "\n".join(left))

    @classmethod
    def load_images(cls):
        """busybox, alpine and hello-world, without a network."""
        rootfs = caisson.busybox_rootfs(busybox_layer)
        environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        shell = caisson.docker_archive([rootfs], {"Cmd": ["/bin/sh"], "Env": environment}, ["busybox:latest", "alpine:latest"])
        hello = caisson.docker_archive([rootfs], {"Cmd": ["echo", "Hello from Docker!"], "Env": environment}, ["hello-world:latest"])
        for archive in (shell, hello):
            cls.command("docker", "load", "-q", stdin=archive, check=0)

    @classmethod
    def environment(cls):
        return {**cls.target.environment(), "HOME": cls.target.folder, "DOCKER_CONFIG": os.path.join(cls.target.folder, "client")}

    @classmethod
    def command(cls, *command, stdin=None, check=None, timeout=180, cwd=None, environment=None):
        """Runs a client. `check`: the exit code that must come back, a set of them, or None for any. Output is text."""
        if isinstance(stdin, str):
            stdin = stdin.encode()
        options = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        run = subprocess.run(cls.target.by_owner([str(word) for word in command]), capture_output=True, timeout=timeout, check=False, cwd=cwd or cls.target.folder,
                             env={**cls.environment(), **(environment or {})}, **options)
        run.stdout = run.stdout.decode(errors="replace")
        run.stderr = run.stderr.decode(errors="replace")
        allowed = {check} if isinstance(check, int) else check
        if allowed is not None and run.returncode not in allowed:
            raise AssertionError(f"{' '.join(map(str, command))}\nended with {run.returncode}, not {check}\nstdout: {run.stdout[-3000:]}\nstderr: {run.stderr[-3000:]}\n"
                                 f"{cls.target.name}: {cls.target.log_text()[-1500:]}")
        return run

    @classmethod
    def docker(cls, *arguments, check=0, **options):
        return cls.command("docker", *arguments, check=check, **options)

    @classmethod
    def scratch(cls):
        """A new folder that goes with the engine's."""
        folder = tempfile.mkdtemp(dir=cls.target.folder)
        cls.target.give(folder)
        return folder

    @classmethod
    def fetch(cls, port, path="/", timeout_s=30):
        """The body that a published port answers, as soon as it does."""
        def body():
            run = subprocess.run(cls.target.inside(["curl", "-sf", "--max-time", "5", f"http://127.0.0.1:{port}{path}"]), capture_output=True, text=True, check=False)
            return run.stdout if run.returncode == 0 else None

        return caisson.wait_until(body, f"port {port} answers", timeout_s)


def main():
    caisson.main()

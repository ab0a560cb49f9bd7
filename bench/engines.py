"""Throw-away engines for the benchmarks: ours (by the end-to-end tests' library), a private dockerd, and podman."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "e2e"))


def caisson(build):
    """Our engine with `busybox` in it, started; close() it."""
    os.environ["CAISSON_BIN"] = os.path.abspath(os.path.join(build, "bin"))
    import caisson as library  # pylint: disable=import-outside-toplevel

    reason = library.why_not()
    if reason:
        raise RuntimeError(reason)
    engine = library.Engine().start()
    engine.import_busybox()
    return engine


def busybox_tar():
    import caisson as library  # pylint: disable=import-outside-toplevel

    return library.busybox_rootfs()


class Dockerd:
    """dockerd in a network namespace of its own (a second dockerd on a host would fight over docker0). Needs docker.io."""

    def __init__(self):
        if shutil.which("dockerd") is None:
            raise RuntimeError("dockerd is not installed")
        self.folder = tempfile.mkdtemp(prefix="caisson-bench-docker-")
        self.netns = "cbd" + os.path.basename(self.folder)[-6:]
        self.socket = os.path.join(self.folder, "docker.sock")
        self.host = "unix://" + self.socket
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        subprocess.run(["ip", "-n", self.netns, "link", "set", "lo", "up"], check=True)
        with open(os.path.join(self.folder, "config.json"), "w", encoding="ascii") as config:
            config.write("{}")
        self.log = open(os.path.join(self.folder, "log"), "wb")  # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.netns}", "dockerd", "--data-root", self.folder + "/data", "--exec-root", self.folder + "/exec",
             "--pidfile", self.folder + "/pid", "-H", self.host, "--cgroup-parent", "/" + self.netns, "--config-file", self.folder + "/config.json"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        deadline = time.monotonic() + 60
        while self.docker("version").returncode != 0:
            if time.monotonic() > deadline or self.process.poll() is not None:
                with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as text:
                    tail = text.read()[-500:]
                self.close()
                raise RuntimeError("dockerd does not answer: " + tail)
            time.sleep(0.2)
        made = self.docker("import", "--change", 'CMD ["/bin/sh"]', "--change", "ENV PATH=/bin", "-", "busybox", stdin=busybox_tar())
        if made.returncode != 0:
            self.close()
            raise RuntimeError("docker import: " + made.stderr.decode())

    def environment(self):
        return {**os.environ, "DOCKER_HOST": self.host}

    def docker(self, *arguments, stdin=None):
        return subprocess.run(["docker", *arguments], input=stdin, stdin=None if stdin else subprocess.DEVNULL, capture_output=True,
                              env=self.environment(), check=False)

    def close(self):
        with contextlib.suppress(Exception):
            ids = self.docker("ps", "-aq").stdout.decode().split()
            if ids:
                self.docker("rm", "-f", *ids)
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            for line in reversed(mounts.readlines()):
                if self.folder in line:
                    subprocess.run(["umount", "-l", line.split()[1]], check=False)
        subprocess.run(["ip", "netns", "delete", self.netns], check=False)
        for folder, names, _ in os.walk("/sys/fs/cgroup", topdown=False):
            if self.netns in folder:
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        shutil.rmtree(self.folder, ignore_errors=True)


class Podman:
    """podman with its own storage. Its default limits need CAP_SYS_RESOURCE; they are set to what every host allows."""

    def __init__(self):
        if shutil.which("podman") is None:
            raise RuntimeError("podman is not installed")
        self.folder = tempfile.mkdtemp(prefix="caisson-bench-podman-")
        with open(os.path.join(self.folder, "containers.conf"), "w", encoding="ascii") as config:
            config.write('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n')
        made = self.podman("import", "--change", 'CMD ["/bin/sh"]', "--change", "ENV PATH=/bin", "-", "busybox", stdin=busybox_tar())
        if made.returncode != 0:
            self.close()
            raise RuntimeError("podman import: " + made.stderr.decode()[-300:])

    def argv(self, *arguments):
        runtime = shutil.which("runc") or "crun"
        return ["podman", "--root", self.folder + "/root", "--runroot", self.folder + "/run", "--runtime", runtime, *arguments]

    def environment(self):
        return {**os.environ, "CONTAINERS_CONF": os.path.join(self.folder, "containers.conf")}

    def podman(self, *arguments, stdin=None):
        return subprocess.run(self.argv(*arguments), input=stdin, stdin=None if stdin else subprocess.DEVNULL, capture_output=True,
                              env=self.environment(), check=False)

    def close(self):
        with contextlib.suppress(Exception):
            self.podman("rm", "-af")
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            for line in reversed(mounts.readlines()):
                if self.folder in line:
                    subprocess.run(["umount", "-l", line.split()[1]], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def all_of(build):
    """(ours, dockerd or None, podman or None), with the reasons for what is missing printed."""
    opened = []
    try:
        ours = caisson(build)
        opened.append(ours)
        peers = []
        for kind in (Dockerd, Podman):
            try:
                peers.append(kind())
                opened.append(peers[-1])
            except RuntimeError as reason:
                print(f"{kind.__name__.lower()} left out: {reason}")
                peers.append(None)
        yield ours, *peers
    finally:
        for engine in reversed(opened):
            engine.close()


def state_pid(engine, name):
    return json.loads(engine.cli("inspect", name, check=0).stdout)[0]["State"]["Pid"]

"""Other engines on this machine, private to a test or benchmark: a dockerd in a network namespace of its own, podman and skopeo with own stores."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile

import caisson
from caisson import wait_until


def clear_away(folder, namespace):
    """Ends what runs below `folder`, and removes the peer's mounts, network namespace, cgroups and files. Safe to repeat."""
    for pid in caisson.processes_mentioning(folder):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for line in reversed(caisson.mounts_mentioning(folder)):
        subprocess.run(["umount", "-l", line.split()[4]], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)
    for path in sorted(caisson.cgroups_named(namespace), key=len, reverse=True):
        for inner, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(inner)
    shutil.rmtree(folder, ignore_errors=True)


class PrivateDockerd:
    """dockerd with its own network namespace, folders, socket and cgroup parent (it would else delete the host's docker0)."""

    def __init__(self, *options):
        self.options = list(options)
        self.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "docker-")
        self.namespace = caisson.name_of_namespace("d")
        self.host = f"unix://{self.folder}/docker.sock"
        self.process = None

    @staticmethod
    def why_not():
        if not shutil.which("dockerd") or not shutil.which("docker"):
            return "needs docker.io: tools/dependencies peers"
        return None

    def __enter__(self):
        caisson.add_network_namespace(self.namespace)
        config = os.path.join(self.folder, "empty.json")
        with open(config, "w", encoding="utf-8") as file:
            file.write("{}")
        self.log_path = os.path.join(self.folder, "dockerd.log")
        # `ip netns exec` would remount /sys and hide the cgroups; nsenter does not.
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.namespace}", "dockerd", "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec",
                 "--pidfile", f"{self.folder}/pid", "-H", self.host, "--cgroup-parent", "/" + self.namespace, "--config-file", config, *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

        def answers():
            if self.process.poll() is not None:
                with open(self.log_path, encoding="utf-8", errors="replace") as file:
                    raise AssertionError("dockerd ended: " + file.read()[-2000:])
            return self.docker("version").returncode == 0

        try:
            wait_until(answers, "dockerd answers", 60)
        except BaseException:
            self.close()
            raise
        return self

    def environment(self):
        return {**os.environ, "DOCKER_HOST": self.host, "DOCKER_CONFIG": self.folder, "HOME": self.folder}

    def docker(self, *arguments, stdin=None, timeout=120, check=None):
        options = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        run = subprocess.run(["docker", *arguments], capture_output=True, timeout=timeout, env=self.environment(), check=False, **options)
        if check is not None and run.returncode != check:
            raise AssertionError(f"docker {' '.join(arguments)} ended with {run.returncode}: {run.stderr.decode(errors='replace')}")
        return run

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends it and everything it made. Safe to repeat."""
        with contextlib.suppress(Exception):
            ids = self.docker("ps", "-aq").stdout.decode().split()
            if ids:
                self.docker("rm", "-f", *ids)
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
            self.process.wait()
        clear_away(self.folder, self.namespace)


class PrivatePodman:
    """podman with its own store, runtime folder and configuration; cgroupfs and runc, which also work under hybrid cgroups."""

    def __init__(self, runtime=None):
        self.runtime = runtime or shutil.which("runc")
        self.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "podman-")
        # Its bridge and firewall rules go to a network namespace of its own, away from the host's.
        self.namespace = caisson.name_of_namespace("p")
        caisson.add_network_namespace(self.namespace)
        with open(os.path.join(self.folder, "containers.conf"), "w", encoding="utf-8") as file:
            # Without CAP_SYS_RESOURCE the hard limits cannot be raised; podman's defaults would fail.
            file.write('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n')

    @staticmethod
    def why_not():
        return None if shutil.which("podman") else "needs podman: tools/dependencies peers"

    def command(self, *arguments):
        runtime = ["--runtime", self.runtime] if self.runtime else []
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "podman", "--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run", "--tmpdir", f"{self.folder}/tmp", "--storage-driver", "overlay",
                "--network-config-dir", f"{self.folder}/networks", "--cgroup-manager", "cgroupfs", "--events-backend", "none", *runtime, *arguments]

    def environment(self):
        return {**os.environ, "CONTAINERS_CONF": os.path.join(self.folder, "containers.conf"), "HOME": self.folder}

    def podman(self, *arguments, stdin=None, timeout=120, check=None):
        options = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        # conmon leaves a file "oom" where it was started.
        run = subprocess.run(self.command(*arguments), capture_output=True, timeout=timeout, env=self.environment(), cwd=self.folder, check=False, **options)
        if check is not None and run.returncode != check:
            raise AssertionError(f"podman {' '.join(arguments)} ended with {run.returncode}: {run.stderr.decode(errors='replace')}")
        return run

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends its containers and removes its store. Safe to repeat."""
        with contextlib.suppress(Exception):
            self.podman("rm", "-af")
        clear_away(self.folder, self.namespace)


class PrivateContainerd:
    """containerd with its own folders and socket; `runtime` is what its shim calls, by the runtime entry's BinaryName."""

    def __init__(self, runtime=None):
        self.runtime = runtime
        self.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "containerd-")
        self.namespace = "cstc" + os.path.basename(self.folder)[-4:].replace("_", "x")
        self.address = f"{self.folder}/containerd.sock"
        self.process = None

    @staticmethod
    def why_not():
        return None if shutil.which("containerd") and shutil.which("ctr") else "needs containerd: tools/dependencies peers"

    def __enter__(self):
        config = os.path.join(self.folder, "config.toml")
        with open(config, "w", encoding="utf-8") as file:
            # Without cri: it would look for the host's CNI configuration.
            file.write(f'''version = 2
root = "{self.folder}/root"
state = "{self.folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{self.address}"
''')
        self.log_path = os.path.join(self.folder, "containerd.log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(["containerd", "--config", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

        def answers():
            if self.process.poll() is not None:
                with open(self.log_path, encoding="utf-8", errors="replace") as file:
                    raise AssertionError("containerd ended: " + file.read()[-2000:])
            return self.ctr("version").returncode == 0

        try:
            wait_until(answers, "containerd answers", 60)
        except BaseException:
            self.close()
            raise
        return self

    def command(self, *arguments):
        return ["ctr", "--address", self.address, "--namespace", self.namespace, *arguments]

    def ctr(self, *arguments, timeout=120, check=None):
        run = subprocess.run(self.command(*arguments), capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False)
        if check is not None and run.returncode != check:
            raise AssertionError(f"ctr {' '.join(arguments)} ended with {run.returncode}, not {check}: {run.stderr.decode(errors='replace')}")
        return run

    def run_command(self, *arguments):
        """`ctr run` with this peer's runtime and a cgroup below our own."""
        binary = ["--runc-binary", self.runtime] if self.runtime else []
        return self.command("run", "--runtime", "io.containerd.runc.v2", *binary, *arguments)

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends its containers, its shims and itself. Safe to repeat."""
        with contextlib.suppress(Exception):
            for name in self.ctr("containers", "list", "-q").stdout.decode().split():
                self.ctr("task", "delete", "--force", name)
                self.ctr("containers", "delete", name)
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
            self.process.wait()
        clear_away(self.folder, self.namespace)

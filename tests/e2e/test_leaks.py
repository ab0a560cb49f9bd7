#!/usr/bin/env python3
"""The leak count: after a broad mixture of everything an engine does, with clients that go away and daemons that are killed, nothing of it is
left on the host: no mount, cgroup, link, namespace, nft rule, process or file, and the daemon itself holds what it held before."""

import io
import json
import os
import random
import signal
import subprocess
import tarfile

import caisson
import leaks
from caisson import wait_until
from test_networks import NetworkTest

# What stays by design: the database and its lock, the engine's own folders, empty.
EMPTY_AT_THE_END = ("containers", "volumes", "layers", "partial", "builds", "content/blobs/sha256")


class Mixture(NetworkTest):
    ROUNDS = 12 if caisson.FULL else 2

    @classmethod
    def setUpClass(cls):
        cls.watch = leaks.Watch()
        super().setUpClass()
        cls.watch.also(cls.engine.tag, cls.engine.folder, cls.host.name)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()  # links and rules of the namespace that played the host, processes, mounts, cgroups, run folders
        cls.watch.check()

    def setUp(self):
        self.seed = int(os.environ.get("CAISSON_TEST_SEED", random.SystemRandom().randrange(2**32)))
        self.pick = random.Random(self.seed)

    def crash(self):
        self.engine.kill9()
        self.engine.start()

    def run_in_background(self, *arguments):
        client = subprocess.Popen(self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", self.engine.host, *arguments]), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, env=self.engine.environment())
        self.addCleanup(lambda: (client.kill(), client.wait()))
        return client

    # -- the parts of the mixture; each begins with nothing of its own and may be cut off by a crash behind it

    def networks(self):
        front, back, closed = (self.name("n") for _ in range(3))
        self.engine.ok("network", "create", "--ipv6", front)
        self.engine.ok("network", "create", back)
        self.engine.ok("network", "create", "--internal", closed)
        web = self.name("m")
        self.engine.ok("run", "-d", "--name", web, "--network", front, "--network-alias", "www", "-p", "18300:80", "-p", "18300:53/udp", "busybox", "httpd", "-f", "-p", "80")
        client = self.name("m")
        self.engine.ok("run", "-d", "--name", client, "--network", back, "busybox", "sleep", "1000")
        for network in (front, closed):
            self.engine.ok("network", "connect", network, client)
        self.engine.ok("exec", client, "nslookup", "-type=a", "www")
        self.fetch("::1", 18300)
        self.engine.ok("network", "disconnect", back, client)
        self.engine.ok("restart", "-t", "0", web)

    def links_and_ports(self):
        database, linked = self.name("m"), self.name("m")
        self.engine.ok("run", "-d", "--name", database, "--expose", "80", "busybox", "sleep", "1000")
        self.engine.ok("run", "-d", "--name", linked, "--link", f"{database}:db", "-p", "18302:80", "busybox", "sleep", "1000")
        self.engine.ok("rm", "--link", f"{linked}/db")
        refused = self.engine.cli("run", "--rm", "-p", "18302:80", "busybox", "true")
        self.assertNotEqual(refused.returncode, 0)

    def volumes(self):
        self.engine.ok("volume", "create", "kept")
        self.engine.ok("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory")
        self.engine.ok("run", "--rm", "-v", "kept:/etc", "-v", "memory:/m", "-v", "/anonymous", "--tmpfs", "/t", "busybox", "sh", "-c", "echo x >/m/x; mkdir /etc/deep; echo y >/etc/deep/y")
        self.engine.ok("run", "-d", "-v", "memory:/m", "-v", "/anonymous", "busybox", "sleep", "1000")
        self.engine.ok("run", "--rm", "--mount", "type=volume,src=kept,dst=/v,volume-subpath=deep", "busybox", "cat", "/v/y")

    def execs_and_streams(self):
        name = self.name("m")
        self.engine.ok("run", "-d", "-i", "--name", name, "--memory", "64m", "--cpus", "0.5", "busybox", "sh", "-c", "while :; do echo x; sleep 0.05; done")
        with_cgroups = () if caisson.ROOTLESS else (("stats", "--no-stream", name), ("pause", name), ("unpause", name), ("update", "--memory", "80m", "--memory-swap", "80m", name))
        for arguments in (("exec", name, "true"), ("exec", "-d", name, "sleep", "0.1"), ("top", name), *with_cgroups,
                          ("rename", name, name + "x"), ("rename", name + "x", name)):
            self.engine.ok(*arguments)
        gone = [self.run_in_background(*arguments) for arguments in (("logs", "-f", name), ("events",), ("wait", name), ("stats", name), ("exec", name, "sleep", "1000"), ("attach", name))]
        self.engine.ok("exec", name, "true")
        for client in gone:
            # An attach hands SIGTERM on to the program.
            client.send_signal(signal.SIGKILL if client is gone[-1] else self.pick.choice([signal.SIGKILL, signal.SIGTERM]))
        for client in gone:
            client.wait(30)

    def health_and_policies(self):
        healthy = self.name("m")
        self.engine.ok("run", "-d", "--name", healthy, "--health-cmd", "true", "--health-interval", "50ms", "busybox", "sleep", "1000")
        wait_until(lambda: self.engine.inspect(healthy)["State"]["Health"]["Status"] == "healthy", "it is healthy")
        again = self.name("m")
        self.engine.ok("run", "-d", "--name", again, "--restart", "on-failure:2", "busybox", "false")
        wait_until(lambda: self.engine.inspect(again)["RestartCount"] == 2 and not self.engine.inspect(again)["State"]["Restarting"], "it was restarted twice")
        for arguments in (("busybox", "/no/such/program"), ("--network", "none", "--read-only", "busybox", "true"), ("--memory", "8m", "busybox", "sh", "-c", "head -c 100000000 /dev/zero | tail"),
                          ("--init", "--pids-limit", "20", "busybox", "sh", "-c", "sleep 1000 & exit 3"), ("--log-opt", "max-size=10k", "--log-opt", "compress=true", "busybox", "seq", "1", "2000")):
            self.engine.cli("run", "--rm", *arguments)

    def files_and_images(self):
        name = self.name("m")
        self.engine.ok("create", "--name", name, "busybox", "sh", "-c", "echo new >/new; rm /etc/os-release; sleep 1000")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            caisson.add_file(tar, "copied", b"in")
        self.engine.ok("cp", "-", f"{name}:/tmp", stdin=archive.getvalue(), text=False)
        self.engine.ok("start", name)
        self.assertIn("in", self.engine.ok("exec", name, "cat", "/tmp/copied"))
        wait_until(lambda: "A /new" in self.engine.ok("diff", name), "its change is seen")
        self.engine.ok("cp", f"{name}:/new", "-", text=False)
        self.engine.ok("export", name, text=False)
        self.engine.ok("commit", name, "committed")
        self.engine.ok("run", "--rm", "committed", "cat", "/new")
        saved = self.engine.ok("save", "committed", text=False)
        self.engine.ok("rmi", "-f", "committed")
        self.engine.ok("load", stdin=saved, text=False)

    def builds(self):
        folder = os.path.join(self.engine.folder, "context")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "Dockerfile"), "w", encoding="utf-8") as file:
            file.write("FROM busybox AS one\nRUN echo 1 > /one && mkdir -p /cache\nFROM busybox\nCOPY --from=one /one /\nRUN cat /one && false || true\nVOLUME /data\n")
        self.engine.ok("build", "-t", "built", folder, timeout=120)
        self.engine.ok("run", "--rm", "built", "cat", "/one")
        with open(os.path.join(folder, "Dockerfile"), "w", encoding="utf-8") as file:
            file.write(f"FROM busybox\nRUN echo {self.name()}; false\n")
        self.assertNotEqual(self.engine.cli("build", folder, timeout=120).returncode, 0)

    def dead_monitor(self):
        name = self.name("m")
        self.engine.ok("run", "-d", "--name", name, "busybox", "sleep", "1000")
        os.kill(self.engine.monitor_of(name), signal.SIGKILL)
        wait_until(lambda: self.engine.inspect(name)["State"]["Status"] in ("running", "exited"), "the engine has noticed")

    def cut_off(self):
        """The daemon dies in the middle of something."""
        client = self.run_in_background(*self.pick.choice([("run", "--rm", "busybox", "true"), ("run", "-d", "-v", "/x", "-p", "18301:80", "busybox", "sleep", "1000"),
                                                           ("build", os.path.join(self.engine.folder, "context")), ("network", "create", self.name("n")),
                                                           ("rm", "-f", "-v", *self.engine.ok("ps", "-aq").split())]))
        wait_until(lambda: self.pick.random() < 0.02 or client.poll() is not None, "some moment of it")
        self.crash()
        # An attached run waits for the daemon that comes back, and goes on.
        client.wait(60)

    # -- the count

    def clear(self):
        ids = self.engine.ok("ps", "-aq").split()
        if ids:
            self.engine.ok("rm", "-f", "-v", *ids)
        self.engine.ok("network", "prune", "-f")
        self.engine.ok("volume", "prune", "-a", "-f")

    def held(self):
        """Descriptors by what they are, and threads."""
        pid = self.engine.own_pid
        return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))

    def test_after_everything_an_engine_does_nothing_is_left(self):
        parts = [self.networks, self.links_and_ports, self.volumes, self.execs_and_streams, self.health_and_policies, self.files_and_images, self.builds, self.dead_monitor, self.cut_off]
        for number in range(self.ROUNDS):
            self.pick.shuffle(parts)
            for part in parts:
                with self.subTest(seed=self.seed, round=number, part=part.__name__):
                    part()
                if self.pick.random() < 0.2:
                    self.crash()
            self.clear()
        # One daemon, the same work twice: the second time leaves no more than the first.
        self.crash()
        quiet = [part for part in parts if part != self.cut_off]
        for part in quiet:
            part()
        self.clear()
        wait_until(lambda: self.engine.ok("ps", "-aq") == "", "nothing is there any more")
        before = self.held()
        for part in quiet:
            part()
        self.clear()
        wait_until(lambda: self.held() <= (before[0] + 3, before[1] + 2), lambda: f"seed {self.seed}: descriptors and threads {self.held()}, before {before}", 60)
        self.engine.ok("builder", "prune", "-a", "-f")
        self.engine.ok("system", "prune", "-a", "-f")
        self.assertEqual(json.loads(self.engine.request("GET", "/images/json?all=1")[2]), [])

        def files():
            found = []
            for folder in EMPTY_AT_THE_END:
                path = os.path.join(self.engine.root, folder)
                if os.path.isdir(path):
                    found += [os.path.join(folder, name) for name in os.listdir(path) if name != "empty"]  # the layer of images that have none
            return found + [f"run: {name}" for name in os.listdir(os.path.join(self.engine.exec_root, "containers"))]

        wait_until(lambda: not files(), lambda: f"seed {self.seed}: files are left: {files()}")
        wait_until(lambda: not [line for line in caisson.mounts_mentioning(self.engine.folder)], lambda: f"mounts: {caisson.mounts_mentioning(self.engine.folder)}")
        links = {link for link in self.links() - self.links_before if link.startswith("veth")}
        pool = {link for link in links if link.startswith("veth")}
        self.assertLessEqual(len(pool), 4, "links of the namespaces kept ready, no more")


if __name__ == "__main__":
    caisson.main()

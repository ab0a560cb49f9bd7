#!/usr/bin/env python3
"""An engine of an ordinary user: what is its own way, beside the suites that run in both modes (ctest e2e_rootless/*)."""

import contextlib
import ipaddress
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import unittest

os.environ["CAISSON_TEST_ROOTLESS"] = "1"
import caisson  # noqa: E402: reads the variable
import registries  # noqa: E402
from caisson import wait_until  # noqa: E402
from dns_client import Client, Upstream  # noqa: E402
from test_networks import Host  # noqa: E402


def run(*command, check=True):
    return subprocess.run(command, capture_output=True, text=True, check=check)


class Outside:
    """A machine beside the host: a network namespace with an address of its own, one hop away."""

    def __init__(self):
        number = random.SystemRandom().randrange(1, 250)
        self.name = caisson.name_of_namespace("out")
        self.host_address, self.address = f"10.197.{number}.1", f"10.197.{number}.2"
        caisson.add_network_namespace(self.name)
        run("ip", "link", "add", f"cstv{number}", "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "address", "add", f"{self.host_address}/24", "dev", f"cstv{number}")
        run("ip", "link", "set", f"cstv{number}", "up")
        for command in (("address", "add", f"{self.address}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
            run("ip", "-n", self.name, *command)

    def close(self):
        run("ip", "netns", "delete", self.name, check=False)

    def python(self, code, *arguments, timeout=20):
        return subprocess.run(["ip", "netns", "exec", self.name, sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False)

    def ask_tcp(self, address, port):
        return self.python("import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); s.settimeout(5)\n"
                           "got = b''\nwhile data := s.recv(65536): got += data\nprint(got.decode())", address, port)

    def serve(self, port):
        """A server that says hello; ends with close()."""
        code = ("import socket, sys\ns = socket.create_server((sys.argv[1], int(sys.argv[2])))\nprint('ready', flush=True)\n"
                "while True:\n  c, peer = s.accept()\n  c.sendall(b'hello')\n  c.close()\n")
        server = subprocess.Popen(["ip", "netns", "exec", self.name, sys.executable, "-c", code, self.address, str(port)], stdout=subprocess.PIPE, text=True)
        server.stdout.readline()
        return server


# Every connection to port 80 is answered with the kernel's table of connections.
SHOWS_CLIENT = ("nc", "-ll", "-p", "80", "-e", "cat", "/proc/net/tcp", "/proc/net/tcp6")


def client_in(table, port=80):
    """The address of the client of an established connection to `port` in a text of /proc/net/tcp and tcp6."""
    for line in table.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[1].endswith(f":{port:04X}") and fields[3] == "01":
            return socket.inet_ntoa(bytes.fromhex(fields[2].split(":")[0][-8:])[::-1])  # of an IPv4-mapped address the end
    return None


def ask_tcp(address, port):
    with socket.create_connection((address, port), 5) as connection:
        connection.settimeout(5)
        got = b""
        while data := connection.recv(65536):
            got += data
        return got.decode()


class Own(caisson.EngineTest):
    """Without a network: what ids, files, processes and callers are."""

    engine_options = ("--rootless-network", "none")

    def test_root_inside_is_the_user_and_has_a_namespace_of_its_own(self):
        name = self.run_detached("-u", "0")
        pid = self.engine.inspect(name)["State"]["Pid"]
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            status = file.read()
        self.assertEqual(re.search(r"^Uid:\s+(\d+)", status, re.M).group(1), str(self.engine.user.uid))
        monitor = self.engine.monitor_of(name)
        for kind in ("user", "mnt", "pid", "net", "ipc", "uts"):
            with self.subTest(kind=kind):
                self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/{kind}"), os.readlink(f"/proc/{monitor}/ns/{kind}"))
                if kind in ("user", "mnt", "net"):
                    self.assertNotEqual(os.readlink(f"/proc/{monitor}/ns/{kind}"), os.readlink(f"/proc/self/ns/{kind}"))
        self.assertIn("rootless", self.engine.ok("info"))

    def test_owners_of_files_are_kept_in_layers_volumes_and_copies(self):
        name = self.run_detached("-v", "rootless-data:/data", command=("sh", "-c", "touch /data/a /b; chown 1000:1500 /data/a /b; sleep 1000"))
        self.addCleanup(lambda: self.engine.cli("volume", "rm", "-f", "rootless-data"))
        wait_until(lambda: self.engine.cli("exec", name, "stat", "-c", "%u:%g", "/b").stdout.strip() == "1000:1500", "the file's owner")
        self.assertEqual(self.engine.ok("exec", name, "stat", "-c", "%u:%g", "/data/a"), "1000:1500")
        self.assertEqual(self.engine.ok("run", "--rm", "-v", "rootless-data:/data", "busybox", "stat", "-c", "%u:%g", "/data/a"), "1000:1500")
        on_disk = os.stat(os.path.join(self.engine.root, "volumes", "rootless-data", "_data", "a"))
        self.assertNotIn(on_disk.st_uid, (0, 1000, self.engine.user.uid), "a subordinate id")
        self.assertEqual(self.engine.ok("run", "--rm", "-u", "user", "busybox", "stat", "-c", "%u", "/home/user"), "1000", "the image's owner")
        self.engine.ok("commit", name, "rootless-owned")
        self.addCleanup(lambda: self.engine.cli("rmi", "-f", "rootless-owned"))
        self.assertEqual(self.engine.ok("run", "--rm", "rootless-owned", "stat", "-c", "%u:%g", "/b"), "1000:1500")

    def test_host_network_is_the_engines_own(self):
        inside = self.engine.ok("run", "--rm", "--network", "host", "busybox", "cat", "/proc/net/dev")
        names = re.findall(r"^\s*(\S+):", inside, re.M)
        self.assertIn("lo", names)
        self.assertNotIn("eth0", names)

    def test_limits_are_warned_of_where_no_cgroups_are_delegated(self):
        if os.path.exists(f"/sys/fs/cgroup/user.slice/user-{self.engine.user.uid}.slice"):
            self.skipTest("this user has cgroups")
        run_ = self.engine.cli("run", "--rm", "-m", "64m", "--cpus", "1", "busybox", "echo", "ran", check=0)
        self.assertEqual(run_.stdout, "ran\n")
        self.assertIn("limits of memory, cpu cannot be kept", run_.stderr)
        name = self.run_detached()
        self.assertIn("no cgroup of its own", self.engine.cli("pause", name, check=1).stderr)
        self.assertIn("sleep", self.engine.ok("top", name))
        with caisson.Engine(options=("--rootless-network", "none", "--missing-limits", "refuse")) as strict:
            strict.import_busybox()
            refused = strict.cli("run", "--rm", "-m", "64m", "busybox", "true", check=125)
            self.assertIn("limits of memory cannot be kept", refused.stderr)
            strict.ok("run", "--rm", "busybox", "true")

    def test_a_killed_daemon_loses_nothing(self):
        with caisson.Engine(options=("--rootless-network", "none")) as engine:
            engine.import_busybox()
            engine.ok("run", "-d", "--name", "one", "busybox", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done")
            pid = engine.inspect("one")["State"]["Pid"]
            space = os.readlink(f"/proc/{engine.monitor_of('one')}/ns/user")
            engine.kill9()
            self.assertTrue(caisson.is_alive(pid))
            engine.start()
            self.assertEqual(engine.inspect("one")["State"]["Status"], "running")
            engine.ok("exec", "one", "true")
            engine.ok("run", "-d", "--name", "two", "busybox", "sleep", "1000")
            self.assertEqual(os.readlink(f"/proc/{engine.monitor_of('two')}/ns/user"), space, "the namespaces are the same")
            engine.stop()
            self.assertTrue(caisson.is_alive(pid), "a stop leaves containers alone")
            engine.start()
            engine.ok("stop", "one")
            self.assertEqual(engine.ok("wait", "one"), "7")
            engine.ok("rm", "-f", "one", "two")
            engine.stop()
            self.assertEqual(engine.leftovers(), [])

    def test_the_engine_ends_with_its_supervisor_and_the_supervisor_with_it(self):
        with caisson.Engine(options=("--rootless-network", "none")) as engine:
            engines = [pid for pid in engine.processes("caissond") if caisson.comm_of(pid) == "caissond" and caisson.parent_of(pid) == engine.process.pid]
            self.assertEqual(len(engines), 1, engines)
            os.kill(engines[0], signal.SIGKILL)
            self.assertEqual(engine.process.wait(10), 128 + signal.SIGKILL)
            wait_until(lambda: not engine.leftovers(), lambda: engine.leftovers())

    def test_other_users_are_nobody_and_a_container_with_the_socket_is_itself(self):
        engine = self.engine
        os.chmod(engine.socket, 0o666)
        self.addCleanup(lambda: os.chmod(engine.socket, 0o660))
        asked = subprocess.run([os.path.join(caisson.BIN, "caisson"), "-H", engine.host, "run", "--rm", "-v", "/:/host", "busybox", "true"],
                               capture_output=True, text=True, env=engine.environment(), check=False)
        self.assertNotEqual(asked.returncode, 0, "root of the host is nobody here")
        self.assertIn("does not allow", asked.stderr)
        self.assertEqual(engine.request("GET", "/containers/json")[0], 200)
        program = os.path.join(caisson.BIN, "caisson")
        probe = engine.cli("run", "--rm", "-v", f"{engine.socket}:/run/caisson.sock", "-v", f"{program}:/caisson:ro", "busybox",
                           "/caisson", "-H", "unix:///run/caisson.sock", "run", "--rm", "-v", "/:/host", "busybox", "true")
        self.assertNotEqual(probe.returncode, 0)
        self.assertIn("does not allow", probe.stderr)

    def test_what_is_missing_is_said(self):
        user = self.engine.user
        environment = {"PATH": os.environ["PATH"], "HOME": self.engine.folder}
        daemon = os.path.join(caisson.BIN, "caissond")
        no_session = subprocess.run([*user.command(), daemon], capture_output=True, text=True, env=environment, check=False)
        self.assertEqual(no_session.returncode, 1)
        self.assertIn("XDG_RUNTIME_DIR is not set", no_session.stderr)
        # The same user under another group's id: no line of /etc/subuid is for uid 65000.
        folder = os.path.join(self.engine.folder, "stranger")
        os.makedirs(folder)
        os.chown(folder, 65000, 65000)
        stranger = subprocess.run(["setpriv", "--reuid", "65000", "--regid", "65000", "--clear-groups", "--", daemon, "--root", folder + "/root", "--exec-root", folder + "/run",
                                   "-H", f"unix://{folder}/s", "--config", os.devnull], capture_output=True, text=True, env=environment, timeout=30, check=False)
        self.assertEqual(stranger.returncode, 1)
        self.assertIn("/etc/subuid: no range of ids for", stranger.stderr)
        self.assertIn("usermod --add-subuids", stranger.stderr)

    def test_doctor_speaks_to_the_user(self):
        text = self.engine.cli("doctor", "--verbose").stdout
        for check in ("id-maps", "rootless-network", "runtime-dir", "delegation"):
            self.assertIn(check, text)
        self.assertIn("newuidmap, newgidmap and subordinate ids are there", text)
        self.assertNotIn("idmapped-mounts", text)


class Networks(caisson.EngineTest):
    """With an uplink: ports, names, the way out."""

    uplink = "pasta"

    @classmethod
    def setUpClass(cls):
        if not shutil.which(cls.uplink):
            raise unittest.SkipTest(f"{cls.uplink} is not installed: tools/dependencies test")
        if not os.path.exists("/dev/net/tun") or "default" not in run("ip", "route").stdout:
            raise unittest.SkipTest("needs /dev/net/tun and a default route")
        cls.engine_options = ("--rootless-network", cls.uplink)
        cls.outside = Outside()
        try:
            super().setUpClass()
        except BaseException:
            cls.outside.close()
            raise

    @classmethod
    def tearDownClass(cls):
        try:
            super().tearDownClass()
        finally:
            cls.outside.close()

    def publish(self, spec, *command):
        name = self.run_detached("-p", spec, command=command)
        return name, int(self.engine.ok("port", name).splitlines()[0].rsplit(":", 1)[1])

    def until_answers(self, ask):
        def answered():
            with contextlib.suppress(OSError):
                return ask()
            return None

        return wait_until(answered, "an answer at the published port")

    def test_a_published_port_shows_the_clients_address(self):
        name, port = self.publish("80", *SHOWS_CLIENT)
        here = self.until_answers(lambda: ask_tcp("127.0.0.1", port))
        self.assertEqual(client_in(here), self.engine.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["Gateway"], here)
        there = self.outside.ask_tcp(self.outside.host_address, port)
        self.assertEqual(there.returncode, 0, there.stderr)
        self.assertEqual(client_in(there.stdout), self.outside.address, there.stdout)
        self.assertTrue(client_in(ask_tcp("::1", port)))

    def test_a_megabyte_passes_through_a_published_port(self):
        _, port = self.publish("80", "nc", "-ll", "-p", "80", "-e", "cat")
        self.until_answers(lambda: socket.create_connection(("127.0.0.1", port), 2).close() or True)
        code = ("import socket, sys, hashlib\ns = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)\nimport threading\n"
                "data = bytes(range(256)) * 4096\nt = threading.Thread(target=lambda: s.sendall(data)); t.start()\ngot = b''\n"
                "while len(got) < len(data): got += s.recv(65536)\nprint(got == data)\n")
        said = self.outside.python(code, self.outside.host_address, port, timeout=60)
        self.assertEqual(said.stdout, "True\n", said.stderr)

    def test_udp_shows_the_clients_address_too(self):
        name, port = self.publish("5000/udp", "sleep", "1000")
        code = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('', 5000))\nprint('ready', flush=True)\nwhile True:\n  _, peer = s.recvfrom(99)\n  s.sendto(peer[0].encode(), peer)\n"
        server = subprocess.Popen(["nsenter", "-t", str(self.engine.inspect(name)["State"]["Pid"]), "-n", sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (server.kill(), server.wait(), server.stdout.close()))
        server.stdout.readline()
        ask = ("import socket, sys\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(1)\ns.connect((sys.argv[1], int(sys.argv[2])))\n"
               "for _ in range(10):\n  try:\n    s.send(b'x'); print(s.recv(100).decode()); break\n  except OSError: pass\n")
        said = self.outside.python(ask, self.outside.host_address, port, timeout=30)
        self.assertEqual(said.stdout.strip(), self.outside.address, said.stderr)

    def test_ports_that_cannot_be_had_are_refused_with_the_reason(self):
        with socket.create_server(("0.0.0.0", 0)) as taken:
            port = taken.getsockname()[1]
            refused = self.engine.cli("run", "--rm", "-p", f"{port}:80", "busybox", "true")
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("address already in use", refused.stderr)
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="utf-8") as file:
            first_of_everybody = int(file.read())
        if first_of_everybody > 81:
            low = self.engine.cli("run", "--rm", "-p", "81:80", "busybox", "true")
            self.assertNotEqual(low.returncode, 0)
            self.assertIn("ip_unprivileged_port_start", low.stderr)
        name, port = self.publish("80", "sleep", "1000")
        again = self.engine.cli("run", "--rm", "-p", f"{port}:80", "busybox", "true")
        self.assertIn("port is already allocated", again.stderr)
        self.engine.ok("rm", "-f", name)
        with socket.create_server(("0.0.0.0", port)):
            pass  # free again

    def test_names_and_several_networks(self):
        for network in ("rootless-a", "rootless-b"):
            self.engine.ok("network", "create", network)
            self.addCleanup(lambda network=network: self.engine.cli("network", "rm", network))
        server = self.run_detached("--network", "rootless-a", "--network-alias", "web", command=("nc", "-ll", "-p", "80", "-e", "echo", "hello"))
        asked = self.engine.ok("run", "--rm", "--network", "rootless-a", "busybox", "sh", "-c", "nc -w 3 web 80 </dev/null")
        self.assertEqual(asked, "hello")
        address = self.engine.inspect(server)["NetworkSettings"]["Networks"]["rootless-a"]["IPAddress"]
        other = self.engine.cli("run", "--rm", "--network", "rootless-b", "busybox", "nc", "-w", "1", address, "80", stdin="")
        self.assertNotEqual(other.stdout, "hello\n", "networks are apart")
        self.engine.ok("network", "connect", "rootless-b", server)
        self.assertEqual(self.engine.ok("run", "--rm", "--network", "rootless-b", "busybox", "sh", "-c", f"nc -w 3 {server} 80 </dev/null"), "hello")

    def test_the_world_is_reached_and_the_hosts_loopback_is_not(self):
        server = self.outside.serve(8000)
        self.addCleanup(lambda: (server.kill(), server.wait(), server.stdout.close()))
        self.assertEqual(self.engine.ok("run", "--rm", "busybox", "sh", "-c", f"sleep 3 | timeout 20 nc -w 5 {self.outside.address} 8000"), "hello")
        with socket.create_server(("127.0.0.1", 0)) as closed:
            closed.listen()
            port = closed.getsockname()[1]
            gateway = re.search(r"default via (\S+)", run("ip", "route").stdout).group(1)
            for address in (gateway, "10.0.2.2", "127.0.0.1"):
                for network in ("bridge", "host"):
                    got = self.engine.cli("run", "--rm", "--network", network, "busybox", "nc", "-w", "1", address, str(port), stdin="", timeout=30)
                    self.assertNotEqual(got.returncode, 0, f"{address} from {network}")

    def test_ports_come_back_with_a_new_daemon_and_the_uplink_when_it_dies(self):
        name, port = self.publish("80", *SHOWS_CLIENT)
        self.until_answers(lambda: ask_tcp("127.0.0.1", port))
        self.engine.kill9()
        self.engine.start()
        self.until_answers(lambda: ask_tcp("127.0.0.1", port))
        self.assertEqual(client_in(self.until_answers(lambda: self.outside.ask_tcp(self.outside.host_address, port).stdout)), self.outside.address)
        for pid, arguments in caisson.processes_mentioning(self.uplink).items():
            if "uplink" in arguments and os.stat(f"/proc/{pid}").st_uid == self.engine.user.uid:
                os.kill(pid, signal.SIGKILL)
        server = self.outside.serve(8001)
        self.addCleanup(lambda: (server.kill(), server.wait(), server.stdout.close()))
        wait_until(lambda: self.engine.cli("exec", name, "sh", "-c", f"sleep 1 | timeout 5 nc -w 2 {self.outside.address} 8001").stdout == "hello", "the uplink comes back", 40)


class RegistriesOfTheHost(registries.CaissonRegistryTest):
    """A registry on the host's own loopback, which no container reaches; what fetches is started by the supervisor."""

    @classmethod
    def open(cls):
        cls.registry = cls.kept(registries.CaissonRegistry(cls.namespace))
        cls.engine = cls.new_engine()
        cls.engine.import_busybox()
        cls.name = f"{cls.registry.address}/there/busybox:1"
        cls.engine.ok("tag", "busybox", cls.name)
        cls.engine.ok("push", cls.name)

    def hold_blobs(self):
        """A server before the registry that keeps whoever asks for a blob waiting: (server, somebody waits, let go)."""
        between = registries.BetweenServer(self.namespace, self.registry.port)
        self.addCleanup(between.close)
        waits, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)

        def hold(*_):
            waits.set()
            go.wait(60)
            return False

        between.on("/blobs/", hold, "GET")
        return between, waits, go

    def pull_in_background(self, engine, name):
        client = subprocess.Popen(engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", engine.host, "pull", name]), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                  env=engine.environment())
        self.addCleanup(client.stderr.close)
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        return client

    def test_images_come_from_and_go_to_127_0_0_1_and_its_other_names(self):
        sixth = registries.BetweenServer(self.namespace, self.registry.port, "::1")
        self.addCleanup(sixth.close)
        for name in (self.name, f"localhost:{self.registry.port}/there/busybox:1", f"{sixth.address}/there/busybox:1"):
            with self.subTest(name=name):
                other = self.new_engine()
                other.ok("pull", name)
                self.assertEqual(other.ok("run", "--rm", name, "echo", "here"), "here")
        self.assertTrue(sixth.seen)
        lazily = self.new_engine().cli("pull", "--lazy", self.name, check=0)
        self.assertIn("Layers come as a whole", lazily.stderr)  # layers are directories without root

    def test_containers_reach_it_no_more_than_before(self):
        told = self.engine.cli("run", "--rm", "--network", "host", "busybox", "nc", "-w", "1", "127.0.0.1", str(self.registry.port), stdin="")
        self.assertNotEqual(told.returncode, 0)

    def test_whoever_is_killed_in_the_middle_the_next_pull_goes_on(self):
        for victim in ("fetch process", "engine", "supervisor"):
            with self.subTest(victim=victim):
                other = self.new_engine()
                between, waits, go = self.hold_blobs()
                client = self.pull_in_background(other, f"{between.address}/there/busybox:1")
                self.assertTrue(waits.wait(30))
                (fetch,) = other.processes("caisson-fetch")
                self.assertEqual(caisson.parent_of(fetch), other.process.pid)
                os.kill({"fetch process": fetch, "engine": other.own_pid, "supervisor": other.process.pid}[victim], signal.SIGKILL)
                self.assertNotEqual(client.wait(30), 0)
                wait_until(lambda: not caisson.is_alive(fetch), "what fetches has ended")
                if victim == "fetch process":
                    self.assertIn("the fetch process ended before it was done", client.stderr.read())
                else:
                    other.process.wait(30)
                    other.start()
                go.set()
                other.ok("pull", f"{between.address}/there/busybox:1")
                self.assertEqual(other.ok("run", "--rm", f"{between.address}/there/busybox:1", "echo", "here"), "here")
                wait_until(lambda: not other.processes("caisson-fetch"), "no process that fetches is left")
                with open(f"/proc/{other.process.pid}/task/{other.process.pid}/children", encoding="utf-8") as file:
                    children = file.read().split()
                self.assertFalse([pid for pid in children if not caisson.is_alive(int(pid))], "the supervisor reaps")

    def test_one_that_does_not_listen_is_killed(self):
        between, waits, _ = self.hold_blobs()
        client = self.pull_in_background(self.engine, f"{between.address}/there/busybox:1")
        self.engine.cli("rmi", "-f", "busybox", self.name)
        self.assertTrue(waits.wait(30))
        (fetch,) = self.engine.processes("caisson-fetch")
        os.kill(fetch, signal.SIGSTOP)
        client.kill()
        wait_until(lambda: not caisson.is_alive(fetch), "the process that fetches has been killed")
        self.assertEqual(self.engine.request("GET", "/_ping")[0], 200)

    def test_the_engine_has_no_rights_over_what_fetches(self):
        between, waits, go = self.hold_blobs()
        other = self.new_engine()
        client = self.pull_in_background(other, f"{between.address}/there/busybox:1")
        self.assertTrue(waits.wait(30))
        (fetch,) = other.processes("caisson-fetch")
        self.assertNotEqual(os.stat(f"/proc/{fetch}").st_uid, other.user.uid)
        # As root of the engine's namespaces, with every right that there is.
        def as_the_engine(*command):
            return subprocess.run(["nsenter", "-t", str(other.own_pid), "-U", "-n", *command], capture_output=True, text=True, check=False)

        self.assertEqual(as_the_engine("cat", f"/proc/{other.own_pid}/fd/0").returncode, 0, "it has them over itself")
        for command in (("cat", f"/proc/{fetch}/environ"), ("cat", f"/proc/{fetch}/fd/0"), ("nsenter", "-t", str(fetch), "-n", "true"), ("kill", "-9", str(fetch))):
            with self.subTest(command=command):
                tried = as_the_engine(*command)
                self.assertNotEqual(tried.returncode, 0, tried.stdout)
                self.assertRegex(tried.stderr, "(?i)permission denied|not permitted")
        go.set()
        self.assertEqual(client.wait(60), 0, "it has gone on")


class Subnets(registries.NamespaceTest):
    """Subnets that are chosen, on a host that has routes of its own, as to a VPN."""

    @classmethod
    def open(cls):
        for words in ("link add vpn type veth peer name far", "link set far up", "link set vpn up"):
            run("ip", "-n", cls.namespace.name, *words.split())
        cls.engine = cls.new_engine()

    def chosen(self):
        self.engine.ok("network", "create", "chosen")
        subnet = json.loads(self.engine.ok("network", "inspect", "chosen"))[0]["IPAM"]["Config"][0]["Subnet"]
        self.engine.ok("network", "rm", "chosen")
        return subnet

    def test_they_avoid_what_the_host_routes_to(self):
        first = self.chosen()
        run("ip", "-n", self.namespace.name, "route", "add", first, "dev", "vpn")
        second = self.chosen()
        self.assertNotEqual(second, first)
        inside = str(ipaddress.ip_network(second)[9])
        run("ip", "-n", self.namespace.name, "route", "add", f"{inside}/32", "dev", "vpn")
        third = self.chosen()
        self.assertNotIn(third, (first, second), "a route to a single address in it counts")


class NetworksBySlirp(Networks):
    uplink = "slirp4netns"


class Resolvers(unittest.TestCase):
    """A host of its own, whose resolver listens on loopback or is another machine: containers get its answers, on every kind of network."""

    uplink = "pasta"

    def open(self, nameserver):
        if not shutil.which(self.uplink) or not os.path.exists("/dev/net/tun"):
            self.skipTest(f"needs {self.uplink} (tools/dependencies test) and /dev/net/tun")
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        host = stack.enter_context(Host())
        engine = caisson.Engine(options=("--rootless-network", self.uplink))
        stack.callback(engine.close)
        resolv_conf = os.path.join(engine.folder, "resolv.conf")
        with open(resolv_conf, "w", encoding="utf-8") as file:
            file.write(f"nameserver {nameserver}\nsearch example.net\n")
        engine.prefix_command = [*host.enter(), "unshare", "-m", "sh", "-c", f'mount --bind {resolv_conf} /etc/resolv.conf && exec "$@"', "sh"]
        engine.start()
        engine.import_busybox()
        return stack, engine, host

    def ask_everywhere(self, engine, upstream):
        engine.ok("network", "create", "apart")
        for network in ("bridge", "apart", "host"):
            with self.subTest(network=network):
                engine.ok("run", "-d", "--name", network, "--network", network, "busybox", "sleep", "1000")
                said = engine.cli("exec", network, "nslookup", "-type=a", f"{network}.example.org", timeout=60)
                self.assertIn("192.0.2.7", said.stdout, said.stderr)
                self.assertIn(f"{network}.example.org", upstream.asked)
                resolv_conf = engine.ok("exec", network, "cat", "/etc/resolv.conf")
                self.assertIn("search example.net", resolv_conf)
                server = re.search(r"^nameserver (\S+)", resolv_conf, re.M).group(1)
                # As libc does it: one socket for both questions, which takes answers of the server alone.
                with Client(engine.inspect(network)["State"]["Pid"], server=server) as client:
                    self.assertEqual(client.ask(f"again.{network}.example.org")[1], ["192.0.2.7"])
        engine.ok("rm", "-f", "bridge", "apart", "host")
        self.assertEqual(engine.stop(), 0)
        self.assertEqual(engine.leftovers(), [])

    def test_a_resolver_on_the_hosts_loopback_is_asked(self):
        stack, engine, host = self.open("127.0.0.53")
        upstream = stack.enter_context(Upstream(f"/run/netns/{host.name}", "192.0.2.7", "127.0.0.53"))
        self.ask_everywhere(engine, upstream)

    def test_a_resolver_on_another_machine_is_asked(self):
        stack, engine, host = self.open("198.51.100.2")
        upstream = stack.enter_context(Upstream(f"/run/netns/{host.outside}", "192.0.2.7", "198.51.100.2"))
        self.ask_everywhere(engine, upstream)


class ResolversBySlirp(Resolvers):
    uplink = "slirp4netns"


if __name__ == "__main__":
    caisson.main()

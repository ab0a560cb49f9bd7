#!/usr/bin/env python3
"""The daemon itself: every flag and key has its effect, service managers are spoken to, and its end is quick."""

import contextlib
import grp
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import tempfile
import time
import unittest

import caisson


class Configured(caisson.Engine):
    """An engine whose settings all come from a caisson.toml, but for the flags in `options`."""

    def __init__(self, options=(), **keys):
        super().__init__(options=options)
        self.config = os.path.join(self.folder, "caisson.toml")
        self.keys = {"root": self.root, "exec-root": self.exec_root, "hosts": [self.host], "cgroup-parent": "/" + self.tag,
                     "network.bridge": self.tag, "network.nft-table": self.tag, "network.subnet": self.subnet, **keys}

    def start(self, timeout_s=20.0):
        plain = [f"{key} = {json.dumps(value)}" for key, value in self.keys.items() if "." not in key]
        tables = {}
        for key, value in self.keys.items():
            if "." in key:
                tables.setdefault(key.split(".")[0], []).append(f"{key.split('.')[1]} = {json.dumps(value)}")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write("\n".join(plain + [line for name, lines in tables.items() for line in (f"[{name}]", *lines)]) + "\n")
        return super().start(timeout_s)

    def daemon_command(self):
        return [*self.prefix_command, *self.as_user([]), os.path.join(caisson.BIN, "caissond"), "--config", self.config, *self.options]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def over_tcp(port, method, path):
    import http.client
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()


class Settings(unittest.TestCase):
    """Each setting by its flag and by its key; what it does is the same."""

    def both_ways(self, check, flags, keys):
        for engine in (caisson.Engine(options=flags), Configured(**keys)):
            with self.subTest(way="key" if isinstance(engine, Configured) else "flag"), engine:
                check(engine)
                ids = engine.ok("ps", "-aq").split()
                if ids:
                    engine.ok("rm", "-f", *ids)
                self.assertEqual(engine.stop(), 0, engine.log_text()[-2000:])
                self.assertEqual(engine.leftovers(), [])

    def test_places_logs_and_limits(self):
        with tempfile.TemporaryDirectory(prefix=caisson.PREFIX) as folder:
            os.chmod(folder, 0o777)  # the daemon may be an ordinary user's
            pidfile = os.path.join(folder, "pid")

            def check(engine):
                with open(pidfile, encoding="utf-8") as file:
                    self.assertEqual(int(file.read()), engine.process.pid)
                engine.import_busybox()
                self.assertTrue(os.path.isdir(os.path.join(engine.root, "layers")) and os.path.isdir(os.path.join(engine.exec_root, "containers")))
                self.assertEqual(stat.S_IMODE(os.stat(engine.root).st_mode), 0o700)
                self.assertEqual(stat.S_IMODE(os.stat(engine.socket).st_mode), 0o660)
                self.assertEqual(os.stat(engine.socket).st_gid, engine.user.gid if engine.user else grp.getgrnam("daemon").gr_gid)
                engine.ok("run", "-d", "--name", "held", "busybox", "sleep", "1000")
                pid = engine.inspect("held")["State"]["Pid"]
                if not engine.user:  # who has no cgroups here
                    self.assertEqual(caisson.read_limit(pid, "pids/pids.max", "pids.max"), "77")
                    self.assertIn("/" + engine.tag, caisson.cgroup_files(pid)["pids"] if "pids" in caisson.cgroup_files(pid) else caisson.cgroup_files(pid)[""])
                self.assertIn("1234", engine.ok("exec", "held", "ip", "link", "show", "eth0"))
                self.assertEqual(engine.inspect("held")["NetworkSettings"]["Gateway"].rpartition(".")[0], engine.subnet.rpartition(".")[0])
                self.assertEqual(caisson.links_named(engine.tag, engine.network_command)[:1], [engine.tag])
                self.assertTrue(caisson.nft_tables_named(engine.tag, engine.network_command))
                engine.ok("run", "--name", "noisy", "--network", "none", "busybox", "sh", "-c", "yes 0123456789 | head -n 30000")
                files = [name for name in os.listdir(os.path.join(engine.root, "containers", engine.inspect("noisy")["Id"])) if "log" in name]
                self.assertEqual(len(files), 2, files)
                for line in engine.log_text().splitlines():
                    self.assertTrue(json.loads(line), line)
                self.assertIn('"info"', engine.log_text())

            self.both_ways(check, ["--pidfile", pidfile, "--group", "daemon", "--default-pids-limit", "77", "--mtu", "1234", "--log-max-size", "100k", "--log-max-file", "2",
                                   "--log-level", "debug", "--log-format", "json"],
                           {"pidfile": pidfile, "group": "daemon", "containers.pids-limit": 77, "network.mtu": 1234, "logs.max-size": "100k", "logs.max-file": 2,
                            "log-level": "debug", "log-format": "json"})

    def test_tcp_and_what_its_callers_may(self):
        for role, may_look, may_start in (("none", 403, 403), ("viewer", 200, 403), ("operator", 200, 204), ("admin", 200, 204)):
            port = free_port()

            def check(engine, port=port, look=may_look, begin=may_start):
                self.assertEqual(over_tcp(port, "GET", "/containers/json"), look)
                engine.import_busybox()
                engine.ok("create", "--name", "idle", "--network", "none", "busybox", "true")
                self.assertEqual(over_tcp(port, "POST", "/containers/idle/start"), begin)
                self.assertEqual(engine.request("GET", "/_ping")[0], 200)

            with self.subTest(role=role):
                engine = Configured(**{"tcp-role": role})
                engine.keys["hosts"] = [engine.host, f"tcp://127.0.0.1:{port}"]
                with engine:
                    check(engine)
                with caisson.Engine(options=["-H", f"tcp://127.0.0.1:{port}", "--tcp-role", role]) as engine:
                    check(engine)

    def test_a_higher_log_level_is_quieter(self):
        def check(engine):
            self.assertEqual(engine.request("GET", "/_ping")[0], 200)
            self.assertEqual(engine.log_text(), "")

        self.both_ways(check, ["--log-level", "error"], {"log-level": "error"})

    def test_without_a_bridge(self):
        def check(engine):
            engine.import_busybox()
            self.assertEqual(engine.ok("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net"), "lo")
            self.assertEqual(caisson.links_named(engine.tag, engine.network_command), [])

        self.both_ways(check, ["--network", "false"], {"network.enabled": False})

    def test_other_helper_programs(self):
        with caisson.Engine() as folder_holder:
            copies = os.path.join(folder_holder.folder, "bin")
            os.makedirs(copies)
            for name in ("caisson-runtime", "caisson-worker"):
                subprocess.run(["cp", os.path.join(caisson.BIN, name), copies], check=True)

            def check(engine):
                engine.import_busybox()
                self.assertEqual(engine.ok("run", "--rm", "busybox", "echo", "x"), "x")

            self.both_ways(check, ["--runtime", f"{copies}/caisson-runtime", "--worker", f"{copies}/caisson-worker"],
                           {"runtime": f"{copies}/caisson-runtime", "worker": f"{copies}/caisson-worker"})
            engine = caisson.Engine(options=["--runtime", "/no/such/runtime"])
            self.addCleanup(engine.close)
            with self.assertRaisesRegex(AssertionError, "/no/such/runtime"):
                engine.start()
            with caisson.Engine(options=["--worker", "/no/such/worker"]) as engine:
                run = engine.cli("import", "-", "x:1", stdin=caisson.busybox_rootfs(), text=False, timeout=60)
                self.assertNotEqual(run.returncode, 0)
                self.assertIn(b"/no/such/worker", run.stderr)

    def test_a_flag_wins_over_its_key_and_bip_is_subnet(self):
        engine = Configured(options=["--log-format", "text", "--default-pids-limit", "0"], **{"log-format": "json", "containers.pids-limit": 50})
        with engine:
            self.assertNotIn('{"', engine.log_text())
            engine.import_busybox()
            engine.ok("run", "-d", "--name", "free", "--network", "none", "busybox", "sleep", "1000")
            if not engine.user:
                self.assertEqual(caisson.read_limit(engine.inspect("free")["State"]["Pid"], "pids/pids.max", "pids.max"), "max")
        engine = caisson.Engine()
        engine.options = ["--bip", engine.subnet]
        with engine:
            self.assertEqual(json.loads(engine.ok("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]["Subnet"], engine.subnet)

    def test_wrong_settings_are_named_and_nothing_starts(self):
        engine = Configured()
        self.addCleanup(engine.close)
        for text, names in (("nosuch = 1", "nosuch"), ("[network]\nnosuch = 1", "network.nosuch"), ("root = []", "root"), ("log-level = \"loud\"", "loud"), ("hosts = [5]", "hosts"),
                            ("[network]\nmtu = 5", "mtu"), ("[network]\nmtu = \"many\"", "many"), ("[network]\nenabled = 3", "enabled"), ("[logs]\nmax-size = \"much\"", "much"),
                            ("[containers]\npids-limit = \"x\"", "pids-limit"), ("root = \"relative\"", "relative"), ("tcp-role = \"king\"", "king"), ("log-format = \"xml\"", "xml"),
                            ("root = \"/a\"\nroot = \"/b\"", "line 2"), ("hosts = [\"tcp://0.0.0.0:1\"]", "0.0.0.0"), ("hosts = [\"ftp://x\"]", "ftp://x"), ("group = \"no-such-group\"", "no-such-group")):
            with self.subTest(text=text):
                with open(engine.config, "w", encoding="utf-8") as file:
                    file.write(text + "\n")
                places = [] if "root" in text else ["--root", engine.root]
                hosts = [] if "hosts" in text else ["-H", engine.host]
                run = subprocess.run([*engine.daemon_command(), *places, *hosts, "--exec-root", engine.exec_root], capture_output=True, text=True, timeout=30, check=False,
                                     env=engine.daemon_environment(), cwd="/")
                self.assertEqual(run.returncode, 1, run.stderr)
                self.assertIn(names, run.stderr)
                self.assertFalse(os.path.exists(engine.socket))


class ServiceManager(unittest.TestCase):
    """systemd's two protocols, played by the test."""

    def test_ready_and_stopping_are_told(self):
        engine = caisson.Engine()
        self.addCleanup(engine.close)
        path = os.path.join(engine.folder, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(path)
            os.chmod(path, 0o777)
            notified.settimeout(20)
            engine.prefix_command = ["env", f"NOTIFY_SOCKET={path}"]
            engine.start()
            self.assertEqual(notified.recv(100), b"READY=1")
            self.assertEqual(engine.stop(), 0)
            self.assertEqual(notified.recv(100), b"STOPPING=1")

    def test_a_manager_that_does_not_listen_is_no_reason_to_end(self):
        engine = caisson.Engine()
        engine.prefix_command = ["env", f"NOTIFY_SOCKET={engine.folder}/nobody"]
        with engine:
            self.assertEqual(engine.request("GET", "/_ping")[0], 200)
            self.assertIn("notify", engine.log_text())

    def test_a_socket_that_is_handed_over_is_served_and_outlives_the_daemon(self):
        engine = caisson.Engine()
        self.addCleanup(engine.close)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(engine.socket)
            engine.give(engine.socket)
            listener.listen(16)
            inode = os.stat(engine.socket).st_ino
            # A client may come before the daemon: its request waits in the socket, as with systemd's socket units.
            early = subprocess.Popen(engine.as_user([f"{caisson.BIN}/caisson", "-H", engine.host, "version"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            engine.prefix_command = ["python3", "-c", "import os, sys; fd = int(sys.argv[1]); os.dup2(fd, 3); os.set_inheritable(3, True); "
                                     "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); os.execvp(sys.argv[2], sys.argv[2:])", str(listener.fileno())]
            listener.set_inheritable(True)
            with open(engine.log_path, "ab") as log:
                engine.process = subprocess.Popen(engine.daemon_command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[listener.fileno()], start_new_session=True,
                                                  env=engine.daemon_environment(), cwd="/")
            out, err = early.communicate(timeout=30)
            self.assertEqual(early.returncode, 0, err)
            self.assertIn("Server", out)
            engine.import_busybox()
            self.assertEqual(engine.ok("run", "--rm", "--network", "none", "busybox", "env").count("LISTEN_"), 0)
            self.assertEqual(engine.stop(), 0)
            self.assertEqual(os.stat(engine.socket).st_ino, inode, "the socket is the manager's, not the daemon's")


@caisson.differs_without_root("the units are those of the user's systemd")
class StartedByTheCommandLine(unittest.TestCase):
    """Where systemd runs, the daemon is its child; the test plays systemd, in a mount namespace with a /run of its own."""

    def setUp(self):
        self.engine = caisson.Engine()
        self.addCleanup(self.engine.close)
        self.fake = os.path.join(self.engine.folder, "fake")
        os.makedirs(self.fake)
        self.calls = os.path.join(self.engine.folder, "calls")

    def systemctl(self, script):
        with open(os.path.join(self.fake, "systemctl"), "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\necho \"$@\" >>{self.calls}\n{script}\n")
        os.chmod(os.path.join(self.fake, "systemctl"), 0o755)

    def run_there(self, *arguments, booted=True, units=("caissond.socket", "caissond.service")):
        """`caisson ARGUMENTS` where /run is empty but for what systemd has there."""
        script = f"mount -t tmpfs none /run && mount -t overlay -o lowerdir={self.fake}:/usr/sbin none /usr/sbin && mount -t overlay -o lowerdir={self.fake}:/usr/bin none /usr/bin\n"
        if booted:
            script += "mkdir -p /run/systemd/system\n" + "".join(f": >/run/systemd/system/{unit}\n" for unit in units)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "CAISSON_"))}
        return subprocess.run(["unshare", "-m", "sh", "-ec", script + 'exec "$@"', "sh", f"{caisson.BIN}/caisson", *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60, env=environment, check=False)

    def called(self):
        with contextlib.suppress(FileNotFoundError):
            with open(self.calls, encoding="utf-8") as file:
                return file.read().splitlines()
        return []

    def serve(self):
        command = " ".join(self.engine.daemon_command()).replace(self.engine.host, "unix:///run/caisson.sock")
        # As a socket unit does: when systemctl comes back, the socket is there.
        return f"{command} >{self.engine.log_path} 2>&1 </dev/null &\nuntil [ -S /run/caisson.sock ]; do kill -0 $! || exit 1; done"

    def test_the_socket_unit_is_started_before_the_service_unit(self):
        self.systemctl(self.serve())
        run = self.run_there("version")
        self.assertEqual(run.returncode, 0, run.stderr + self.engine.log_text())
        self.assertIn("Server", run.stdout)
        self.assertEqual(self.called(), ["start caissond.socket"])

    def test_without_a_socket_unit_it_is_the_service(self):
        self.systemctl(self.serve())
        run = self.run_there("version", units=("caissond.service",))
        self.assertEqual(run.returncode, 0, run.stderr + self.engine.log_text())
        self.assertEqual(self.called(), ["start caissond.service"])

    def test_a_unit_that_fails_is_an_error_that_says_where_to_look(self):
        self.systemctl("echo 'Unit caissond.socket is masked.' >&2\nexit 1")
        run = self.run_there("ps")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("caissond.socket is masked", run.stderr)
        self.assertIn("systemctl status caissond.socket", run.stderr)

    def test_an_engine_of_ones_own_and_a_host_without_systemd_need_no_unit(self):
        self.systemctl("exit 1")
        for options in ({"booted": True}, {"booted": False}, {"units": ()}):
            with self.subTest(options=options):
                run = self.run_there("--root", self.engine.root, "--exec-root", self.engine.exec_root, "version", **options)
                self.assertEqual(run.returncode, 0, run.stderr)
                self.assertIn("Server", run.stdout)
                daemons = [pid for pid, text in caisson.processes_mentioning(self.engine.folder).items() if "caissond" in text.split()[0]]
                self.assertEqual(len(daemons), 1, daemons)
                self.assertEqual(os.getsid(daemons[0]), daemons[0], "not in the user's session")
                os.kill(daemons[0], signal.SIGTERM)
                caisson.wait_until(lambda pid=daemons[0]: not caisson.is_alive(pid), "it ends")
        self.assertEqual(self.called(), [])


class OlderState(unittest.TestCase):
    """What earlier builds wrote is taken over: tests/data/state holds a state file of every released format."""

    FORMATS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "state")

    def test_an_engine_goes_on_with_the_state_of_every_released_format(self):
        names = sorted(os.listdir(self.FORMATS))
        self.assertTrue(names)
        for name in names:
            with self.subTest(format=name), caisson.Engine() as engine:
                engine.stop()
                with open(os.path.join(self.FORMATS, name), encoding="utf-8") as file:
                    text = file.read().replace("csta013fb", engine.tag)  # the bridge and the cgroup of the engine that wrote it
                os.unlink(os.path.join(engine.root, "state.db"))
                with contextlib.closing(sqlite3.connect(os.path.join(engine.root, "state.db"))) as database:
                    database.executescript(text)
                engine.give(os.path.join(engine.root, "state.db"))
                engine.start()
                self.assertEqual(sorted(engine.ok("ps", "-a", "--format", "{{.Names}}").split()), ["kept", "ran"])
                kept = engine.inspect("kept")
                self.assertEqual((kept["State"]["Status"], kept["Config"]["Env"][-1], kept["HostConfig"]["Memory"], kept["HostConfig"]["RestartPolicy"]["Name"]),
                                 ("created", "A=1", 64 << 20, "on-failure"))
                self.assertEqual(engine.inspect("ran")["State"]["ExitCode"], 0)
                self.assertEqual(engine.ok("volume", "ls", "-q"), "kept-volume")
                self.assertEqual(engine.ok("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "kept-net"), "10.199.7.0/24")
                engine.ok("rm", "kept", "ran")
                engine.ok("network", "rm", "kept-net")


class TheEnd(caisson.EngineTest):
    def test_sigterm_ends_it_at_once_whoever_listens_and_the_containers_go_on(self):
        name = self.run_detached(command=("sh", "-c", "echo up; sleep 1000"))
        pid = self.engine.inspect(name)["State"]["Pid"]
        command = self.engine.as_user([f"{caisson.BIN}/caisson", "-H", self.engine.host])
        clients = []
        for arguments in (("logs", "-f", name), ("attach", name), ("events",), ("wait", name), ("stats", name), ("exec", name, "sleep", "1000")):
            clients.append(subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
            self.addCleanup(clients[-1].stdout.close)
            self.addCleanup(clients[-1].wait)
            self.addCleanup(clients[-1].kill)
        self.assertEqual(clients[0].stdout.readline(), b"up\n")
        idle = socket.socket(socket.AF_UNIX)
        self.addCleanup(idle.close)
        idle.connect(self.engine.socket)
        begin = time.monotonic()
        self.assertEqual(self.engine.stop(), 0)
        self.assertLess(time.monotonic() - begin, 1.5, "the grace of 2 s is for requests that are being answered")
        self.assertTrue(caisson.is_alive(pid))
        self.engine.start()
        self.assertEqual(self.engine.inspect(name)["State"]["Pid"], pid)

    def test_sighup_changes_nothing(self):
        self.engine.process.send_signal(signal.SIGHUP)
        self.assertEqual(self.engine.request("GET", "/_ping")[0], 200)
        self.assertIsNone(self.engine.process.poll())

    def test_a_second_daemon_on_the_same_state_is_refused(self):
        second = subprocess.run(self.engine.daemon_command() + ["-H", f"unix://{self.engine.folder}/second.sock"], capture_output=True, text=True, timeout=30, check=False)
        self.assertNotEqual(second.returncode, 0)
        self.assertRegex(second.stderr, re.escape(self.engine.folder))
        self.assertEqual(self.engine.request("GET", "/_ping")[0], 200)

    def test_sigterm_of_a_fresh_daemon_is_quick(self):
        with caisson.Engine() as engine:
            begin = time.monotonic()
            self.assertEqual(engine.stop(), 0)
            self.assertLess(time.monotonic() - begin, 1.5)


if __name__ == "__main__":
    caisson.main()

#!/usr/bin/env python3
"""Log drivers: what a syslog server receives over each transport, what happens when it is away, and what `logs` can read."""

import contextlib
import gzip
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import unittest

import caisson
import peers
from caisson import wait_until
from test_tls import Authority


class Server:
    """A syslog server that collects bytes. `kind`: udp, tcp, tls, unixgram, unix."""

    def __init__(self, kind, folder, host="127.0.0.1", port=0, keys=None):
        self.host, self.kind, self.received, self.connections, self.open = host, kind, b"", 0, True
        self.path = os.path.join(folder, f"log-{kind}")
        self.context = None
        if keys:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*keys)
        if kind.startswith("unix"):
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "unixgram" else socket.SOCK_STREAM)
            self.socket.bind(self.path)
            os.chmod(self.path, 0o666)  # as a syslog daemon has it
        else:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind((host, port))
        if self.socket.type == socket.SOCK_STREAM:
            self.socket.listen(64)
        self.clients = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    @property
    def port(self):
        return self.socket.getsockname()[1]

    @property
    def address(self):
        if self.kind.startswith("unix"):
            return f"{self.kind}://{self.path}"
        return f"{'tcp+tls' if self.kind == 'tls' else self.kind}://{self.host}:{self.port}"

    def serve(self):
        with contextlib.suppress(OSError):
            while self.open:
                if self.socket.type == socket.SOCK_DGRAM:
                    self.received += self.socket.recv(65536)
                    continue
                client, _ = self.socket.accept()
                self.connections += 1
                threading.Thread(target=self.read, args=(client,), daemon=True).start()

    def read(self, client):
        with contextlib.suppress(OSError):
            if self.context:
                client = self.context.wrap_socket(client, server_side=True)
            self.clients.append(client)
            while True:
                piece = client.recv(65536)
                if not piece:
                    return
                self.received += piece

    def wait_for(self, words, timeout_s=20):
        wait_until(lambda: words in self.received, lambda: f"{words} arrives; so far {self.received[-400:]}", timeout_s)

    def close(self):
        self.open = False
        for client in self.clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Drivers(caisson.EngineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        host = caisson.HostAddress()
        cls.addClassCleanup(host.close)
        cls.host = host.text

    def server(self, kind, **options):
        server = Server(kind, self.engine.folder, self.host, **options)
        self.addCleanup(server.close)
        return server

    def run_logged(self, server, *options, command):
        name = self.name()
        words = [word for option in options for word in ("--log-opt", option)]
        self.engine.ok("run", "-d", "--name", name, "--log-driver", "syslog", "--log-opt", f"syslog-address={server.address}", *words, "busybox", "sh", "-c", command)
        return name

    def test_each_transport_brings_the_records(self):
        for kind in ("udp", "tcp", "unixgram", "unix"):
            with self.subTest(kind=kind):
                server = self.server(kind)
                name = self.run_logged(server, command="echo one; echo two >&2")
                server.wait_for(b": two\n")
                container = self.engine.inspect(name)["Id"]
                lines = dict(reversed(line.split(": ", 1)) for line in server.received.decode().splitlines())
                self.assertRegex(lines["one"], rf"^<30>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d {container[:12]}\[{self.engine.own_pid}\]$")
                self.assertTrue(lines["two"].startswith("<27>"))
                self.assertEqual(self.engine.ok("logs", name), "one")
                self.assertEqual(self.engine.inspect(name)["LogPath"], "")

    def test_formats_facilities_and_tags(self):
        stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
        host = re.escape(os.uname().nodename)
        for form, pattern in (("rfc3164", rf"<190>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d {host} TAG\[\d+\]: hello\n"), ("rfc5424", rf"<190>1 {stamp}Z {host} TAG \d+ TAG - hello\n"),
                              ("rfc5424micro", rf"<190>1 {stamp}\.\d{{6}}Z {host} TAG \d+ TAG - hello\n")):
            with self.subTest(form=form):
                server = self.server("tcp")
                name = self.run_logged(server, f"syslog-format={form}", "syslog-facility=local7", "tag={{.ImageName}}/{{.Name}}", command="echo hello")
                server.wait_for(b"hello\n")
                self.assertRegex(server.received.decode(), "^" + pattern.replace("TAG", f"busybox/{name}") + "$")

    def test_tls_with_and_without_trust(self):
        authority = Authority(self.engine.folder, "logs")
        server = self.server("tls", keys=authority.sign("logserver", f"IP:{self.host}"))
        self.run_logged(server, f"syslog-tls-ca-cert={authority.ca}", "syslog-format=rfc5424", command="echo secret")
        server.wait_for(b"secret\n")
        length, _, message = server.received.partition(b" ")
        self.assertEqual(int(length), len(message))
        run = self.engine.cli("run", "--rm", "--log-driver", "syslog", "--log-opt", f"syslog-address={server.address}", "busybox", "true", check=125)
        self.assertIn("failed to initialize logging driver", run.stderr)
        other = self.server("tls", keys=authority.sign("logserver2", f"IP:{self.host}"))
        self.run_logged(other, "syslog-tls-skip-verify=true", command="echo unchecked")
        other.wait_for(b"unchecked\n")

    def test_a_server_that_is_absent_at_the_start_refuses_it_as_docker_does(self):
        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        run = self.engine.cli("run", "--rm", "--log-driver", "syslog", "--log-opt", f"syslog-address=tcp://127.0.0.1:{port}", "busybox", "true", check=125)
        self.assertIn(f"failed to initialize logging driver: dial tcp 127.0.0.1:{port}", run.stderr)
        self.assertIn("Connection refused", run.stderr)

    def test_a_server_that_dies_holds_nobody_up_and_gets_everything_when_it_is_back(self):
        server = self.server("tcp")
        name = self.run_logged(server, command="for i in 1 2 3 4 5; do echo line $i; done; while [ ! -e /go ]; do sleep 0.05; done; i=5; while [ $i -lt 4000 ]; do i=$((i+1)); echo line $i; done; sleep 1000")
        server.wait_for(b": line 5\n")
        port = server.port
        server.close()
        self.engine.ok("exec", name, "touch", "/go")
        wait_until(lambda: "line 4000" in self.engine.ok("logs", "--tail", "1", name), "the container has written all of it, without a server")
        again = self.server("tcp", port=port)
        again.wait_for(b": line 4000\n", 60)
        numbers = [int(number) for number in re.findall(rb": line (\d+)\n", server.received + again.received)]
        self.assertEqual(sorted(set(numbers)), list(range(1, 4001)), "every line has arrived, some perhaps twice")

    def test_a_crash_of_the_daemon_loses_no_record(self):
        server = self.server("tcp")
        name = self.run_logged(server, command="i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; sleep 0.01; done")
        server.wait_for(b": line 30\n")
        self.engine.kill9()
        time_of_death = time.monotonic()
        wait_until(lambda: time.monotonic() > time_of_death + 0.5, "records come while no daemon is there")
        self.engine.start()
        server.wait_for(b": line 300\n", 60)
        numbers = {int(number) for number in re.findall(rb": line (\d+)\n", server.received)}
        self.assertEqual(numbers, set(range(1, 301)))
        self.assertEqual(self.engine.ok("wait", name), "0")

    def test_what_rotation_takes_is_counted_not_waited_for(self):
        server = self.server("tcp")
        name = self.run_logged(server, "cache-max-size=64k", "cache-max-file=2", command="echo first; while [ ! -e /go ]; do sleep 0.05; done; seq 1 40000; echo last; sleep 1000")
        server.wait_for(b": first\n")
        port = server.port
        server.close()
        self.engine.ok("exec", name, "touch", "/go")
        wait_until(lambda: self.engine.ok("logs", "--tail", "1", name) == "last", "the container was not held up", 60)
        again = self.server("tcp", port=port)
        again.wait_for(b": last\n", 60)
        # What is said when the server is back may come before rotation has outrun the reader: the count at the end is what matters.
        wait_until(lambda: any(int(lost) > 0 for lost in re.findall(r"lost so far: (\d+)", self.engine.log_text())), "the loss is said")

    def test_removal_after_the_end_still_sends_the_last_words(self):
        server = self.server("tcp")
        self.engine.ok("run", "--rm", "--log-driver", "syslog", "--log-opt", f"syslog-address={server.address}", "busybox", "echo", "famous last words")
        server.wait_for(b": famous last words\n")

    def test_rotated_files_are_compressed_and_read_like_the_others(self):
        name = self.name()
        self.engine.ok("run", "-d", "--name", name, "--log-opt", "max-size=40k", "--log-opt", "max-file=20", "--log-opt", "compress=true", "busybox", "sh", "-c",
                       "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo line $i; [ $((i % 200)) = 0 ] && sleep 0.02; done; sleep 1000")
        folder, base = os.path.split(self.engine.inspect(name)["LogPath"])
        archives = lambda: sorted(entry for entry in os.listdir(folder) if entry.startswith(base) and entry.endswith(".gz"))
        wait_until(archives, "a rotated file is compressed")
        follower = subprocess.Popen(self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", self.engine.host, "logs", "-f", name]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.engine.environment())
        self.engine.kill9()  # in the middle of one, perhaps
        self.engine.start()
        wait_until(lambda: self.engine.ok("logs", "--tail", "1", name) == "line 4000", "everything is written", 60)
        follower.kill()
        follower.wait()
        wait_until(lambda: not [entry for entry in os.listdir(folder) if re.fullmatch(re.escape(base) + r"\.\d+|.*tmp", entry)], "no rotated file is plain any more")
        self.assertGreaterEqual(len(archives()), 5)
        expected = [f"line {number}" for number in range(1, 4001)]
        self.assertEqual(self.engine.ok("logs", name).splitlines(), expected)
        self.assertEqual(self.engine.ok("logs", "--tail", "1500", name).splitlines(), expected[-1500:])
        with gzip.open(os.path.join(folder, archives()[0]), "rt", encoding="utf-8") as file:
            self.assertTrue(json.loads(file.readline())["log"].startswith("line "))

    def test_the_local_driver_compresses_unless_told_not_to(self):
        for options, compressed in (((), True), (("--log-opt", "compress=false"), False)):
            name = self.name()
            self.engine.ok("run", "--name", name, "--log-driver", "local", "--log-opt", "max-size=40k", "--log-opt", "max-file=5", *options, "busybox", "seq", "1", "1000")
            folder = os.path.join(self.engine.root, "containers", self.engine.inspect(name)["Id"])
            rotated = lambda: [entry for entry in os.listdir(folder) if "-json.log." in entry and not entry.endswith("tmp")]
            wait_until(lambda: bool(rotated()) and all(entry.endswith(".gz") == compressed for entry in rotated()), lambda: f"{rotated()}")
            self.assertEqual(self.engine.ok("logs", name).split(), [str(number) for number in range(1, 1001)])

    def test_attributes_are_chosen_and_shown_with_details(self):
        name = self.name()
        self.engine.ok("run", "--name", name, "--label", "tier=front", "--label", "com.x/y=1", "-e", "SHARD=7", "-e", "SECRET=no", "--log-opt", "labels=tier", "--log-opt", "labels-regex=^com[.]",
                       "--log-opt", "env=SHARD", "--log-opt", "tag={{.Name}}", "busybox", "echo", "hi")
        with open(self.engine.inspect(name)["LogPath"], encoding="utf-8") as file:
            record = json.loads(file.readline())
        self.assertEqual(record["attrs"], {"tier": "front", "com.x/y": "1", "SHARD": "7", "tag": name})
        self.assertEqual(list(record), ["log", "stream", "attrs", "time"])
        out = self.engine.docker("logs", "--details", name, check=0).stdout
        self.assertEqual(sorted(out.split()[0].split(",")), sorted([f"tag={name}", "tier=front", "com.x/y=1", "SHARD=7"]))

    def test_local_none_and_caches_that_are_off(self):
        name = self.name()
        self.engine.ok("run", "--name", name, "--log-driver", "local", "busybox", "echo", "kept")
        self.assertEqual(self.engine.ok("logs", name), "kept")
        self.assertEqual(self.engine.inspect(name)["LogPath"], "")
        silent = self.name()
        self.engine.ok("run", "--name", silent, "--log-driver", "none", "busybox", "echo", "gone")
        self.assertIn("configured logging driver does not support reading", self.engine.cli("logs", silent, check=1).stderr)
        server = self.server("udp")
        name = self.run_logged(server, "cache-disabled=true", command="echo away")
        server.wait_for(b"away")
        self.assertIn("configured logging driver does not support reading", self.engine.cli("logs", name, check=1).stderr)

    def test_wrong_drivers_and_options_are_refused(self):
        for options, words in ((["--log-driver", "bogus"], "logger: no log driver named 'bogus' is registered"), (["--log-opt", "bogus=1"], "unknown log opt 'bogus' for json-file log driver"),
                               (["--log-driver", "syslog", "--log-opt", "max-size=1m"], "unknown log opt 'max-size' for syslog log driver"),
                               (["--log-driver", "syslog", "--log-opt", "syslog-address=ftp://x"], "unsupported scheme: 'ftp'"), (["--log-driver", "syslog", "--log-opt", "syslog-facility=x"], "invalid syslog facility"),
                               (["--log-driver", "syslog", "--log-opt", "syslog-format=x"], "Invalid syslog format"), (["--log-opt", "mode=sometimes"], "logger: logging mode not supported: sometimes"),
                               (["--log-opt", "max-buffer-size=1m"], "max-buffer-size option is only supported with 'mode=non-blocking'"), (["--log-opt", "tag={{.Bogus}}"], "{{.Bogus}}"),
                               (["--log-opt", "labels-regex=("], "no regular expression"), (["--log-opt", "max-file=0"], "max-file")):
            with self.subTest(options=options):
                self.assertIn(words, self.engine.cli("create", *options, "busybox", "true", check=1).stderr)
        if not os.path.exists("/run/systemd/journal/socket"):
            run = self.engine.cli("run", "--rm", "--log-driver", "journald", "busybox", "true", check=125)
            self.assertIn("failed to initialize logging driver: journald is not enabled on this host", run.stderr)


@unittest.skipIf(peers.PrivateDockerd.why_not(), peers.PrivateDockerd.why_not())
class BesideDockerd(caisson.EngineTest):
    def test_messages_look_the_same(self):
        servers = []
        with peers.PrivateDockerd() as dockerd:
            dockerd.docker("import", "--change", 'CMD ["sh"]', "--change", "ENV PATH=/bin:/usr/bin", "-", "busybox:latest", stdin=caisson.busybox_rootfs(), check=0)
            for form in ("", "rfc3164", "rfc5424", "rfc5424micro"):
                seen = []
                for run in (lambda *words: self.engine.docker(*words, check=0), lambda *words: dockerd.docker(*words, check=0)):
                    server = Server("unixgram", self.engine.folder)
                    servers.append(server)
                    run("run", "--network", "none", "--name", "talker", "--log-driver", "syslog", "--log-opt", f"syslog-address={server.address}", "--log-opt", f"syslog-format={form}",
                        "--log-opt", "tag=t/{{.Name}}", "busybox", "sh", "-c", "echo out; echo err >&2")
                    server.wait_for(b"err\n")
                    run("rm", "talker")
                    seen.append(sorted(re.sub(r"\d+", "N", re.sub(r"(Z|[+-]\d\d:\d\d) ", "Z ", line)) for line in server.received.decode().splitlines()))
                    server.close()
                with self.subTest(form=form):
                    # The order of the two streams is not promised, numbers and zones differ.
                    self.assertEqual(seen[0], seen[1])


if __name__ == "__main__":
    caisson.main()

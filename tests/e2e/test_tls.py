#!/usr/bin/env python3
"""TCP with client certificates: docker's and our own command line, hijacked streams, who is refused, and sockets handed over."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest

import caisson
from caisson import wait_until
from terminal import Terminal


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def openssl(*arguments, stdin=None):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True, input=stdin).stdout


class Authority:
    """A CA of our own, and what it signs, in a folder."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.key, self.ca = os.path.join(folder, name + "-ca-key.pem"), os.path.join(folder, name + "-ca.pem")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", self.key, "-out", self.ca, "-subj", f"/CN={name} CA",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def sign(self, who, alternative="", folder=None):
        """(certificate, key) of `who`; with `folder`, beside the CA under docker's names."""
        base = os.path.join(self.folder, f"{self.name}-{who}")
        key, request, certificate, extensions = base + "-key.pem", base + ".csr", base + "-cert.pem", base + ".ext"
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={who}")
        with open(extensions, "w", encoding="utf-8") as file:
            file.write(f"subjectAltName={alternative}\n" if alternative else "extendedKeyUsage=clientAuth\n")
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.key, "-CAcreateserial", "-days", "2", "-out", certificate, "-extfile", extensions)
        if folder:
            os.makedirs(folder, exist_ok=True)
            for source, name in ((self.ca, "ca.pem"), (certificate, "cert.pem"), (key, "key.pem")):
                shutil.copy(source, os.path.join(folder, name))
        return certificate, key


@unittest.skipUnless(shutil.which("openssl"), "needs openssl(1)")
class TlsTest(unittest.TestCase):
    options = ("--tlsverify",)

    @classmethod
    def setUpClass(cls):
        reason = caisson.why_not()
        if reason:
            raise unittest.SkipTest(reason)
        cls.keys = tempfile.mkdtemp(prefix=caisson.PREFIX + "tls-")
        cls.addClassCleanup(shutil.rmtree, cls.keys, True)
        cls.authority = Authority(cls.keys, "good")
        cls.stranger = Authority(cls.keys, "bad")
        certificate, key = cls.authority.sign("daemon", "IP:127.0.0.1,DNS:localhost")
        cls.client = os.path.join(cls.keys, "client")
        cls.authority.sign("user", folder=cls.client)
        for path in (cls.keys, key):
            caisson.own(path)
        cls.port = free_port()
        cls.address = f"tcp://127.0.0.1:{cls.port}"
        cls.engine = caisson.Engine(options=["-H", cls.address, *cls.options, "--tlscacert", cls.authority.ca, "--tlscert", certificate, "--tlskey", key])
        cls.addClassCleanup(cls.engine.close)
        cls.engine.start()
        cls.engine.import_busybox()

    def environment(self, **more):
        environment = {key: value for key, value in self.engine.environment().items() if key not in ("DOCKER_HOST", "CAISSON_HOST")}
        return {**environment, **more}

    def run_client(self, program, *arguments, check=0, stdin=None, **variables):
        command = [shutil.which("docker")] if program == "docker" else [os.path.join(caisson.BIN, "caisson")]
        options = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        run = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, env=self.environment(**variables), check=False, **options)
        if check is not None:
            self.assertEqual(run.returncode, check, f"{program} {arguments}: {run.stdout}{run.stderr}{self.engine.log_text()[-800:]}")
        return run

    def context(self, ca=None, folder=None):
        context = ssl.create_default_context(cafile=ca or self.authority.ca)
        if folder:
            context.load_cert_chain(os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem"))
        return context

    def ask(self, method, path, folder=None):
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context(folder=folder), timeout=20)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        finally:
            connection.close()


class Verified(TlsTest):
    def both(self):
        for program in ("docker", "caisson"):
            if program == "docker" and not shutil.which("docker"):
                continue
            host = "DOCKER_HOST" if program == "docker" else "CAISSON_HOST"
            yield program, {host: self.address, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": self.client}

    def test_both_command_lines_run_containers_over_it(self):
        for program, variables in self.both():
            with self.subTest(program=program):
                run = self.run_client(program, "run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo err >&2; exit 7", stdin="through\n", check=7, **variables)
                self.assertEqual((run.stdout, run.stderr), ("through\n", "err\n"))
                data = os.urandom(1 << 19).hex()
                run = self.run_client(program, "run", "--rm", "-i", "busybox", "cat", stdin=data, **variables)
                self.assertEqual(run.stdout, data)

    def folder_with(self, dockerfile):
        folder = tempfile.mkdtemp(dir=self.keys)
        with open(os.path.join(folder, "Dockerfile"), "w", encoding="utf-8") as file:
            file.write(dockerfile)
        return folder

    @property
    def ours(self):
        return {"CAISSON_HOST": self.address, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": self.client}

    @unittest.skipUnless(all(shutil.which(name) for name in ("ssh-agent", "ssh-add", "ssh-keygen")), "needs OpenSSH's client: tools/dependencies test")
    def test_a_builds_step_uses_the_clients_ssh_agent_over_it(self):
        key = os.path.join(tempfile.mkdtemp(dir=self.keys), "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "key-here", "-f", key], check=True)
        program = shutil.which("ssh-add")
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout

        def add(tar):
            for path in {program, *re.findall(r"(/\S+) \(0x", linked)}:
                with open(path, "rb") as file:
                    caisson.add_file(tar, path.lstrip("/"), file.read(), mode=0o755)
        self.engine.import_image(caisson.busybox_rootfs(add), "with-ssh:latest", ["CMD sh"])
        folder = self.folder_with("FROM with-ssh\nRUN --mount=type=ssh ssh-add -l > /keys && for i in 1 2 3 4; do ssh-add -l & done >> /keys; wait\n")
        self.run_client("caisson", "build", "-t", "by-tls", "--ssh", f"default={key}", folder, **self.ours)
        self.assertEqual(self.engine.ok("run", "--rm", "by-tls", "grep", "-c", "key-here", "/keys"), "5")
        self.assertIn("ssh agent default: not given", self.run_client("caisson", "build", self.folder_with("FROM with-ssh\nRUN --mount=type=ssh,required true\n"), check=1, **self.ours).stderr)

    def test_a_failed_steps_shell_is_entered_over_it(self):
        folder = self.folder_with("FROM busybox\nRUN echo kept > /f; exit 5\n")
        run = self.run_client("caisson", "build", "--debug-shell", folder, stdin="cat /f; head -c 300000 /dev/zero | wc -c\n", check=1, **self.ours)
        self.assertEqual(run.stdout.splitlines()[-2:], ["kept", "300000"])
        self.assertIn("returned a non-zero code: 5", run.stderr)
        terminal = Terminal([os.path.join(caisson.BIN, "caisson"), "build", "--debug-shell", folder], self.environment(TERM="xterm", **self.ours))
        terminal.read_until(b"# ")
        terminal.type(b"stty size; cat /f; exit\n")
        terminal.read_until(b"kept\r\n")
        self.assertEqual(terminal.wait()[1], 1)
        wait_until(lambda: os.listdir(os.path.join(self.engine.root, "builds")) == [] and self.engine.ok("ps", "-aq") == "", "nothing of the builds is left")

    def test_a_terminal_works_over_it(self):
        name = f"tls-{os.getpid()}"
        self.engine.ok("run", "-d", "--name", name, "busybox", "sleep", "1000")
        self.addCleanup(self.engine.cli, "rm", "-f", name)
        for program, variables in self.both():
            with self.subTest(program=program):
                binary = shutil.which("docker") if program == "docker" else os.path.join(caisson.BIN, "caisson")
                terminal = Terminal([binary, "exec", "-it", name, "sh"], self.environment(**variables))
                terminal.type(b"echo $((40+2))-$(tty)\n")
                terminal.read_until(b"42-/dev/pts/")
                terminal.type(b"exit 5\n")
                self.assertEqual(terminal.wait()[1], 5)

    def test_flags_name_the_keys_as_well(self):
        names = ["--tlsverify", "--tlscacert", f"{self.client}/ca.pem", "--tlscert", f"{self.client}/cert.pem", "--tlskey", f"{self.client}/key.pem"]
        for program in ("docker", "caisson"):
            if program == "docker" and not shutil.which("docker"):
                continue
            self.run_client(program, "-H", self.address, *names, "ps")

    def test_a_context_names_host_and_keys(self):
        config = os.path.join(self.keys, "config")
        name = "far away"
        identity = hashlib.sha256(name.encode()).hexdigest()
        meta, keys = os.path.join(config, "contexts/meta", identity), os.path.join(config, "contexts/tls", identity, "docker")
        os.makedirs(meta, exist_ok=True)
        shutil.copytree(self.client, keys, dirs_exist_ok=True)
        with open(os.path.join(meta, "meta.json"), "w", encoding="utf-8") as file:
            json.dump({"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": self.address, "SkipTLSVerify": False}}}, file)
        self.run_client("caisson", "--context", name, "info", DOCKER_CONFIG=config)
        self.run_client("caisson", "info", DOCKER_CONFIG=config, DOCKER_CONTEXT=name)
        run = self.run_client("caisson", "--context", "nosuch", "info", DOCKER_CONFIG=config, check=1)
        self.assertIn("context not found", run.stderr)

    def test_strangers_are_refused_on_both_sides(self):
        with self.assertRaises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            self.ask("GET", "/_ping")
        foreign = os.path.join(self.keys, "foreign")
        self.stranger.sign("intruder", folder=foreign)
        with self.assertRaises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            self.ask("GET", "/_ping", foreign)
        run = self.run_client("caisson", "-H", self.address, "--tlsverify", "info", check=1, DOCKER_CERT_PATH=foreign)
        self.assertIn("self-signed certificate", run.stderr + run.stdout)
        self.assertEqual(self.ask("GET", "/_ping", self.client), 200)
        run = self.run_client("caisson", "-H", self.address, "info", check=1)
        self.assertTrue(run.stderr)

    def test_a_certificate_makes_an_admin(self):
        self.assertEqual(self.ask("POST", "/containers/prune", self.client), 200)

    def test_clients_that_say_nothing_or_nonsense_hold_nobody_up(self):
        silent = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(50)]
        with contextlib.closing(socket.create_connection(("127.0.0.1", self.port))) as plain:
            plain.settimeout(20)
            plain.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertNotIn(b"200", plain.recv(4096))
        self.assertEqual(self.ask("GET", "/_ping", self.client), 200)
        for client in silent:
            client.close()
        fds = lambda: len(os.listdir(f"/proc/{self.engine.own_pid}/fd"))
        wait_until(lambda: fds() < 100, lambda: f"{fds()} descriptors are left")

    def test_many_at_once_and_half_closes(self):
        failures = []

        def one():
            try:
                if self.ask("GET", "/containers/json", self.client) != 200:
                    failures.append("status")
            except OSError as error:
                failures.append(error)

        threads = [threading.Thread(target=one) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])


class Unverified(TlsTest):
    options = ("--tls", "--tcp-role", "viewer")

    def test_encrypted_but_nobody(self):
        self.assertEqual(self.ask("GET", "/containers/json"), 200)
        self.assertEqual(self.ask("POST", "/containers/prune"), 403)
        self.run_client("caisson", "-H", self.address, "--tls", "ps")


class PlainTcp(unittest.TestCase):
    def test_beyond_loopback_needs_tls_or_a_flag(self):
        reason = caisson.why_not()
        if reason:
            self.skipTest(reason)
        port = free_port()
        engine = caisson.Engine(options=["-H", f"tcp://0.0.0.0:{port}"])
        self.addCleanup(engine.close)
        run = subprocess.run(engine.daemon_command(), capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(run.returncode, 1)
        self.assertIn("--allow-plain-tcp", run.stderr)
        engine.options.append("--allow-plain-tcp")
        engine.start()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
            client.request("GET", "/_ping")
            self.assertEqual(client.getresponse().status, 200)
        engine.stop()

    def test_keys_that_are_wrong_are_named(self):
        reason = caisson.why_not()
        if reason:
            self.skipTest(reason)
        folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "tls-")
        self.addCleanup(shutil.rmtree, folder, True)
        authority = Authority(folder, "one")
        certificate, key = authority.sign("daemon", "IP:127.0.0.1")
        _, other_key = authority.sign("other", "IP:127.0.0.1")
        rubbish = os.path.join(folder, "rubbish.pem")
        with open(rubbish, "w", encoding="utf-8") as file:
            file.write("no pem\n")
        for path in (folder, key, other_key):
            caisson.own(path)
        engine = caisson.Engine()
        self.addCleanup(engine.close)
        for files, words in (((authority.ca, certificate, "/no/such/key"), "/no/such/key"), ((rubbish, certificate, key), "rubbish.pem"), ((authority.ca, rubbish, key), "rubbish.pem"),
                             ((authority.ca, certificate, other_key), "does not belong")):
            options = ["--tlsverify", "--tlscacert", files[0], "--tlscert", files[1], "--tlskey", files[2]]
            run = subprocess.run([*engine.daemon_command(), "-H", f"tcp://127.0.0.1:{free_port()}", *options], capture_output=True, text=True, timeout=30, check=False)
            self.assertEqual(run.returncode, 1)
            self.assertIn(words, run.stderr)


if __name__ == "__main__":
    caisson.main()

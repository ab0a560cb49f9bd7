#!/usr/bin/env python3
"""An engine on another machine, reached by a real sshd: with own keys, configuration and port, in a folder of the test's."""

import contextlib
import os
import shutil
import socket
import subprocess
import unittest

import caisson
from caisson import wait_until

CAISSON = os.path.join(caisson.BIN, "caisson")
SSHD = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/local/sbin") or ""
SEPARATION_FOLDER = "/run/sshd"  # compiled in; the service makes it


def why_not():
    if not SSHD or not shutil.which("ssh") or not shutil.which("ssh-keygen"):
        return "needs ssh, ssh-keygen and sshd: tools/dependencies test sshd (Debian's sshd starts when it is installed)"
    return caisson.why_not()


class Sshd:
    """An sshd that lets one key in, on whose side the engine is at hand."""

    def __init__(self, folder, engine, address="127.0.0.1", port=0, prefix=(), connect=None):
        """`prefix`: words before the command, to run it elsewhere; `connect`: reaches it there."""
        self.folder = os.path.join(folder, "ssh")
        os.mkdir(self.folder, 0o755)  # who logs in looks here for the keys that let him in
        self.made_separation_folder = not os.path.isdir(SEPARATION_FOLDER)
        if self.made_separation_folder:
            os.mkdir(SEPARATION_FOLDER, 0o755)
        for name in ("host", "user", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.path(name)], check=True)
        far = self.path("far")
        os.mkdir(far)
        for name in ("caisson", "docker"):
            os.symlink(CAISSON, os.path.join(far, name))
        self.port = port or self.free_port()
        self.connect = connect or (lambda: socket.create_connection((address, self.port), timeout=5))
        self.write("sshd_config", f"""Port {self.port}
ListenAddress {address}
HostKey {self.path("host")}
PidFile none
AuthorizedKeysFile {self.path("user.pub")}
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv PATH={far}:/usr/bin:/bin CAISSON_HOST={engine.host}
""")
        with open(self.path("host.pub"), encoding="utf-8") as key:
            self.write("known_hosts", f"[{address}]:{self.port} {key.read()}")
        self.write("empty", "")
        # ssh looks for its files in the home folder of the password database, whatever HOME says: so a word in front of it names others.
        os.mkdir(self.path("bin"))
        self.write("bin/ssh", f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.path("ssh_config")} "$@"\n', 0o755)
        self.configure()
        self.log = open(self.path("log"), "wb")  # pylint: disable=consider-using-with
        self.process = subprocess.Popen([*prefix, SSHD, "-D", "-e", "-f", self.path("sshd_config")], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        wait_until(self.answers, lambda: "sshd answers: " + self.said(), 30)

    @staticmethod
    def free_port():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text, mode=0o600):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)

    def configure(self, key="user", known_hosts="known_hosts"):
        self.write("ssh_config", f"IdentityFile {self.path(key)}\nIdentitiesOnly yes\nUserKnownHostsFile {self.path(known_hosts)}\n"
                                 "GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\nBatchMode yes\nLogLevel ERROR\n")

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError("sshd ended: " + self.said())
        with contextlib.suppress(OSError), self.connect() as connection:
            return connection.recv(4) == b"SSH-"
        return False

    def said(self):
        with open(self.path("log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def sessions(self):
        """The processes that serve connections: who is not root is served by a child of another one."""
        found, asked = [], [self.process.pid]
        while asked:
            pid = asked.pop()
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
                children = [int(child) for child in file.read().split()]
                children = [child for child in children if caisson.comm_of(child).startswith("sshd")]
                found += children
                asked += children
        return found

    def close(self):
        for pid in [*self.sessions(), self.process.pid] if self.process.poll() is None else []:
            with contextlib.suppress(OSError):
                os.kill(pid, 15)
        self.process.wait(20)
        self.log.close()
        if self.made_separation_folder:
            with contextlib.suppress(OSError):
                os.rmdir(SEPARATION_FOLDER)


class Ssh(caisson.EngineTest):
    @classmethod
    def setUpClass(cls):
        if caisson.ROOTLESS:  # the engine's user logs in, before he has a process
            subprocess.run(["usermod", "--shell", "/bin/sh", "--home", "/", "--password", "*", caisson.User.get().name], check=True, capture_output=True)
        super().setUpClass()
        cls.sshd = Sshd(cls.engine.folder, cls.engine)
        cls.host = f"ssh://{caisson.User.get().name if caisson.ROOTLESS else 'root'}@127.0.0.1:{cls.sshd.port}"
        cls.clients = {"caisson": CAISSON, **({"docker": shutil.which("docker")} if shutil.which("docker") else {})}

    @classmethod
    def tearDownClass(cls):
        cls.sshd.close()
        super().tearDownClass()

    def setUp(self):
        self.sshd.configure()

    def environment(self):
        environment = {key: value for key, value in self.engine.environment().items() if key not in ("DOCKER_HOST", "CAISSON_HOST")}
        return {**environment, "PATH": self.sshd.path("bin") + ":" + os.environ["PATH"]}

    def ask(self, client, *words, host=None, check=0, **options):
        run = subprocess.run([client, "-H", host or self.host, *words], env=self.environment(), capture_output=True, timeout=120, check=False, **options)
        if check is not None:
            self.assertEqual(run.returncode, check, f"{words}: {run.stdout[-500:]}{run.stderr}\n{self.sshd.said()[-1000:]}")
        return run

    def each(self):
        for name, client in self.clients.items():
            with self.subTest(client=name):
                yield name, client

    def test_commands_input_output_and_exit_codes_pass(self):
        for _, client in self.each():
            self.assertIn(b"busybox", self.ask(client, "images").stdout)
            run = self.ask(client, "run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo wrong >&2; exit 7", input=b"through\n", check=7)
            self.assertEqual((run.stdout, run.stderr), (b"through\n", b"wrong\n"))

    def test_megabytes_pass_both_ways(self):
        for name, client in self.each():
            archive = self.ask(client, "save", "busybox").stdout
            self.assertGreater(len(archive), 1_000_000)
            self.assertIn(b"Loaded image", self.ask(client, "load", input=archive).stdout)
            data = os.urandom(3 << 20)
            self.assertEqual(self.ask(client, "run", "--rm", "-i", "--network", "none", "busybox", "cat", input=data).stdout, data, name)

    def test_a_step_that_failed_there_has_a_shell_here(self):
        folder = self.sshd.path("context")
        os.makedirs(folder, exist_ok=True)
        self.sshd.write("context/Dockerfile", "FROM busybox\nRUN echo far > /f; exit 5\n")
        run = self.ask(CAISSON, "build", "--debug-shell", folder, input=b"cat /f; echo wrong >&2\n", check=1)
        self.assertTrue(run.stdout.endswith(b"far\n"), run.stdout)
        self.assertIn(b"wrong\n", run.stderr)
        self.assertIn(b"returned a non-zero code: 5", run.stderr)
        self.assertEqual(self.engine.ok("ps", "-aq"), "")

    def test_a_socket_of_the_far_machine_can_be_named(self):
        self.assertIn(b"busybox", self.ask(CAISSON, "images", host=self.host + self.engine.socket).stdout)
        self.assertNotEqual(self.ask(CAISSON, "images", host=self.host + "/no/such.sock", check=None).returncode, 0)

    def test_contexts_lead_there(self):
        for name, client in self.each():
            environment = {**self.environment(), "DOCKER_CONFIG": self.sshd.path("config-" + name)}
            for words in (["context", "create", "far", "--docker", f"host={self.host}"], ["--context", "far", "images"]):
                run = subprocess.run([client, *words], env=environment, capture_output=True, text=True, timeout=60, check=False)
                self.assertEqual(run.returncode, 0, run.stderr)
            self.assertIn("busybox", run.stdout)

    def test_a_key_that_is_not_let_in_is_said_in_sshs_words(self):
        self.sshd.configure(key="stranger")
        self.assertIn(b"Permission denied (publickey)", self.ask(CAISSON, "ps", check=1).stderr)

    def test_a_host_that_is_not_known_is_not_trusted(self):
        self.sshd.configure(known_hosts="empty")
        self.assertIn(b"Host key verification failed", self.ask(CAISSON, "ps", check=1).stderr)

    def test_a_connection_that_breaks_ends_the_client_and_not_the_container(self):
        name = self.name()
        self.engine.ok("run", "-d", "--name", name, "busybox", "sh", "-c", "echo begun; sleep 1000")
        follower = subprocess.Popen([CAISSON, "-H", self.host, "logs", "-f", name], env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(follower.kill)
        self.assertEqual(follower.stdout.readline(), b"begun\n")
        for pid in self.sshd.sessions():
            os.kill(pid, 9)
        follower.communicate(timeout=60)
        self.assertEqual(self.engine.inspect(name)["State"]["Status"], "running")
        self.assertIn(name.encode(), self.ask(CAISSON, "ps").stdout)

    def test_what_carried_a_connection_ends_with_it(self):
        self.ask(CAISSON, "ps")
        wait_until(lambda: not self.sshd.sessions(), "no session is left at sshd")
        wait_until(lambda: not self.carriers(), "no dial-stdio is left")

    def carriers(self):
        """The far machine's side of connections to this engine."""
        found = []
        for pid in caisson.processes_mentioning("system dial-stdio"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
                if self.engine.host.encode() in file.read():
                    found.append(pid)
        return found


if __name__ == "__main__":
    caisson.main(why_not)

#!/usr/bin/env python3
"""RUN --mount=type=ssh: agents of the client's side, used by steps without becoming part of anything that is built."""

import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import caisson
from caisson import wait_until


def why_not():
    if not all(shutil.which(name) for name in ("ssh-agent", "ssh-add", "ssh-keygen")):
        return "needs OpenSSH's client: tools/dependencies test"
    return caisson.why_not()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class SshMountTest(caisson.EngineTest):
    @classmethod
    def setUpClass(cls):
        cls.address = f"tcp://127.0.0.1:{free_port()}"
        cls.engine_options = ("-H", cls.address, "--tcp-role", "admin")
        super().setUpClass()
        cls.keys = os.path.join(cls.engine.folder, "keys")
        os.mkdir(cls.keys, 0o700)
        cls.engine.give(cls.keys)
        cls.agent_socket = os.path.join(cls.keys, "agent")
        cls.agent = subprocess.Popen(cls.engine.as_user(["ssh-agent", "-D", "-a", cls.agent_socket]), stdout=subprocess.PIPE, text=True)
        cls.agent.stdout.readline()  # it listens by then
        subprocess.run(cls.engine.as_user(["ssh-add", "-q", cls.make_key("key-of-the-agent")]), env={**os.environ, "SSH_AUTH_SOCK": cls.agent_socket}, check=True)
        cls.make_base()

    @classmethod
    def tearDownClass(cls):
        cls.agent.terminate()
        cls.agent.wait()
        cls.agent.stdout.close()
        super().tearDownClass()

    @classmethod
    def make_key(cls, name, passphrase=""):
        path = os.path.join(cls.keys, name)
        subprocess.run(cls.engine.as_user(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f", path]), check=True)
        return path

    @classmethod
    def make_base(cls):
        """The image `client`: busybox, and the host's ssh-add with what it is linked to."""
        def add(tar):
            program = shutil.which("ssh-add")
            linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
            for path in {program, *re.findall(r"(/\S+) \(0x", linked)}:
                with open(path, "rb") as file:
                    caisson.add_file(tar, path.lstrip("/"), file.read(), mode=0o755)
        cls.engine.import_image(caisson.busybox_rootfs(add), "client:latest", ["CMD sh"])

    def folder(self, dockerfile):
        folder = tempfile.mkdtemp(dir=self.engine.folder)
        self.engine.give(folder)
        return caisson.write_files(folder, {"Dockerfile": "FROM client\n" + dockerfile})

    def build(self, dockerfile, *arguments, agent=True, check=0):
        return self.engine.cli("build", "-t", self._testMethodName, *arguments, self.folder(dockerfile), check=check, timeout=120, env={"SSH_AUTH_SOCK": self.agent_socket if agent else ""})

    def shell(self, script):
        return self.engine.ok("run", "--rm", "--entrypoint", "sh", self._testMethodName, "-c", script)

    def test_a_step_lists_the_keys_of_the_clients_agent_and_keeps_nothing_of_it(self):
        dockerfile = "RUN --mount=type=ssh ssh-add -l > /keys && echo $SSH_AUTH_SOCK > /place && stat -c '%a %u %F' $SSH_AUTH_SOCK >> /place\n"
        self.build(dockerfile, "--ssh", "default")
        self.assertEqual(self.shell("cut -d' ' -f3- /keys; cat /place; env | grep -c SSH_; ls -A /run"), "key-of-the-agent (ED25519)\n/run/buildkit/ssh_agent.0\n600 0 socket\n0")
        history = self.engine.ok("history", "--no-trunc", self._testMethodName)
        inspected = self.engine.ok("image", "inspect", self._testMethodName)
        for text in (history, inspected):
            self.assertNotIn("SSH_AUTH_SOCK=", text)
            self.assertNotIn(self.agent_socket, text)
        layers = subprocess.run(["find", self.engine.root, "-name", "ssh_agent*"], capture_output=True, text=True, check=True).stdout
        self.assertEqual(layers, "")
        again = self.build(dockerfile, agent=False)  # neither agent nor flag is in the key
        self.assertIn("Using cache", again.stdout)
        self.assertEqual(os.listdir(os.path.join(self.engine.exec_root, "builds")), [])

    def test_a_daemon_across_the_network_gets_signatures_and_no_socket(self):
        self.engine.cli("-H", self.address, "build", "-t", self._testMethodName, "--ssh", f"default={self.agent_socket}", self.folder("RUN --mount=type=ssh ssh-add -l > /keys && for i in 1 2 3 4; do ssh-add -l & done > /more; wait\n"),
                        program=os.path.join(caisson.BIN, "caisson"), timeout=120, check=0)
        self.assertEqual(self.shell("cat /keys /more | grep -c key-of-the-agent"), "5")

    def test_steps_and_programs_use_it_side_by_side_and_again_and_again(self):
        many = "for i in $(seq 40); do ssh-add -l > /k$i & done; wait; cat /k* | grep -c key-of-the-agent"
        self.build(f"FROM client AS a\nRUN --mount=type=ssh {many} > /n\nFROM client AS b\nRUN --mount=type=ssh {many} > /n\nFROM client\nCOPY --from=a /n /a\nCOPY --from=b /n /b\n"
                   "RUN --mount=type=ssh for i in $(seq 100); do ssh-add -l; done | grep -c key-of-the-agent > /c\n", "--ssh", "default")
        self.assertEqual(self.shell("cat /a /b /c"), "40\n40\n100")

    def test_a_context_that_has_to_be_sent_once_more_still_comes_with_the_agent(self):
        folder = self.folder("COPY large /large\nRUN --mount=type=ssh ssh-add -l > /keys\n")
        caisson.write_files(folder, {"large": os.urandom(2 << 20)})
        build = ["build", "-t", self._testMethodName, "--no-cache", "--ssh", f"default={self.agent_socket}", folder]
        self.engine.ok(*build, timeout=120)
        (kept,) = (path for path in glob.glob(os.path.join(self.engine.root, "build-contexts", "*", "*")) if os.path.getsize(path) == 2 << 20)
        with open(kept, "r+b") as file:
            file.write(b"damaged")
        self.engine.ok(*build, timeout=120)
        self.assertEqual(self.shell("grep -c key-of-the-agent /keys"), "1")

    def test_sockets_and_key_files_have_ids_of_their_own(self):
        self.build("RUN --mount=type=ssh,id=sock,target=/s --mount=type=ssh,id=files ssh-add -l > /one && echo $SSH_AUTH_SOCK >> /one && SSH_AUTH_SOCK=/run/buildkit/ssh_agent.1 ssh-add -l > /two\n",
                   "--ssh", f"sock={self.agent_socket}", "--ssh", f"files={self.make_key('first')},{self.make_key('second')}", agent=False)
        self.assertEqual(self.shell("grep -c key-of-the-agent /one; tail -1 /one; cut -d' ' -f3- /two"), "1\n/s\nfirst (ED25519)\nsecond (ED25519)")
        self.assertEqual(self.agents_of_clients(), [])

    def agents_of_clients(self):
        """pids of the agents that command lines of this test have started."""
        found = []
        for pid in subprocess.run(["pgrep", "-x", "ssh-agent"], capture_output=True, text=True, check=False).stdout.split():
            try:
                with open(f"/proc/{pid}/environ", encoding="utf-8", errors="replace") as file:
                    found += [pid] if self.engine.folder in file.read() else []
            except OSError:
                pass  # it has ended meanwhile
        return found

    def test_an_agent_that_is_required_and_not_given_is_named(self):
        out = self.build("RUN --mount=type=ssh,id=git,required ssh-add -l\n", check=1)
        self.assertIn("ssh agent git: not given", out.stderr)
        self.build("RUN --mount=type=ssh,id=git test ! -e /run/buildkit/ssh_agent.0 && echo $SSH_AUTH_SOCK > /place\n")
        self.assertEqual(self.shell("cat /place"), "/run/buildkit/ssh_agent.0")

    def test_another_user_needs_the_socket_to_be_his(self):
        self.build("USER 1000:1001\nRUN --mount=type=ssh,uid=1000,gid=1001,mode=0660,target=/tmp/mine sh -c 'ssh-add -l > /tmp/keys; stat -c \"%a %u %g\" /tmp/mine >> /tmp/keys'\n"
                   "RUN --mount=type=ssh,id=default,target=/tmp/roots ssh-add -l 2> /tmp/refused; test $? = 2\n", "--ssh", "default")
        self.assertEqual(self.shell("cut -d' ' -f3- /tmp/keys | head -1; tail -1 /tmp/keys; cat /tmp/refused"), "key-of-the-agent (ED25519)\n660 1000 1001\nError connecting to agent: Permission denied")

    def test_a_step_cannot_change_the_agent(self):
        self.build("RUN --mount=type=ssh ! ssh-add -D && ! ssh-add -x < /dev/null && ssh-add -l > /keys\n", "--ssh", "default")
        self.assertIn("key-of-the-agent", self.shell("cat /keys"))

    def test_bake_and_compose_files_lend_agents(self):
        folder = tempfile.mkdtemp(dir=self.engine.folder)
        self.engine.give(folder)
        key = self.make_key("key-of-bake")
        with open(os.path.join(folder, "docker-bake.hcl"), "w", encoding="utf-8") as file:
            file.write(f'target "default" {{\n dockerfile-inline = "FROM client\\nRUN --mount=type=ssh ssh-add -l | grep -q key-of-bake\\n"\n ssh = ["default={key}"]\n}}\n')
        self.engine.ok("bake", cwd=folder, timeout=120)
        with open(os.path.join(folder, "compose.yaml"), "w", encoding="utf-8") as file:
            file.write(f"services:\n  web:\n    build:\n      context: .\n      dockerfile_inline: \"FROM client\\nRUN --mount=type=ssh,id=k,required ssh-add -l\"\n      ssh:\n        k: {key}\n")
        self.engine.ok("bake", "-f", "compose.yaml", cwd=folder, timeout=120)

    def test_keys_that_cannot_be_used_end_the_build_before_it_begins(self):
        locked = self.make_key("locked", "a passphrase")
        out = self.engine.cli("-w", os.path.join(caisson.BIN, "caisson"), "build", "--ssh", f"default={locked}", self.folder("RUN true\n"), program="setsid", check=1)
        self.assertIn(f"--ssh default: key {locked}: it has a passphrase, and there is no terminal to ask for it", out.stderr)
        out = self.build("RUN true\n", "--ssh", "default", agent=False, check=1)
        self.assertIn("--ssh default: SSH_AUTH_SOCK is not set", out.stderr)

    def test_a_client_that_is_killed_takes_its_agent_along(self):
        folder = self.folder("RUN --mount=type=ssh ssh-add -l && sleep 1000\n")
        client = subprocess.Popen(self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "build", "--ssh", f"default={self.make_key('short-lived')}", folder]), env=self.engine.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(client.stdout.close)
        self.addCleanup(client.wait)
        for line in client.stdout:
            if "short-lived" in line:
                break
        self.assertEqual(len(self.agents_of_clients()), 1)
        os.kill(client.pid, signal.SIGKILL)
        wait_until(lambda: self.agents_of_clients() == [], "the agent ends")
        wait_until(lambda: os.listdir(os.path.join(self.engine.exec_root, "builds")) == [], "the build ends")


if __name__ == "__main__":
    caisson.main(why_not)

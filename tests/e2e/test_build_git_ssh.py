#!/usr/bin/env python3
"""Repositories by ssh, as contexts and for ADD: a real sshd, the client's agent, and hosts whose keys are known or not."""

import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile

import caisson
import registries
import repositories
from test_ssh import Sshd
from test_ssh import why_not as why_no_sshd


def why_not():
    return why_no_sshd() or (None if shutil.which("git") and shutil.which("ssh-agent") else "needs git and ssh-agent: tools/dependencies test")


class GitBySsh(repositories.GitRepositories, registries.NamespaceTest):
    """An engine, an sshd on port 22 that lets one key in, and that key in an agent: alone in a network namespace."""

    for_engines_network = True

    @classmethod
    def why_not(cls):
        return super().why_not() or why_not()

    @classmethod
    def open(cls):
        cls.engine = cls.new_engine()
        cls.engine.import_busybox()
        cls.sshd = cls.kept(Sshd(cls.engine.folder, cls.engine, address=cls.namespace.address, port=22, prefix=cls.namespace.command, connect=lambda: cls.namespace.connect(22)))
        cls.home = os.path.join(cls.engine.folder, "home")
        os.makedirs(os.path.join(cls.home, ".ssh"))
        for path in (cls.sshd.path("user"), cls.sshd.path("stranger")):
            caisson.own(path)
        cls.agent_socket = os.path.join(cls.engine.folder, "agent")
        cls.agent = subprocess.Popen(cls.engine.as_user(["ssh-agent", "-D", "-a", cls.agent_socket]), stdout=subprocess.PIPE, text=True)
        cls.cleanups.callback(cls.end_agent)
        cls.agent.stdout.readline()  # it listens by then
        subprocess.run(cls.engine.as_user(["ssh-add", "-q", cls.sshd.path("user")]), env={**os.environ, "SSH_AUTH_SOCK": cls.agent_socket}, check=True)
        cls.repositories = tempfile.mkdtemp(prefix=caisson.PREFIX)
        cls.cleanups.callback(shutil.rmtree, cls.repositories, True)
        cls.works, cls.bares, cls.git_home = os.path.join(cls.repositories, "work"), cls.repositories, cls.home
        part = cls.repository("part", {"inner": "of the submodule\n"})
        cls.work = cls.repository("app", {"Dockerfile": "FROM busybox\nCOPY . /all\n", "sub/Dockerfile": "FROM busybox\nCOPY f /f\n", "sub/f": "one\n"})
        cls.git(cls.work, "-c", "protocol.file.allow=always", "submodule", "add", "-q", part, "lib")
        cls.git(cls.work, "config", "-f", ".gitmodules", "submodule.lib.url", "../part.git")
        cls.commit(cls.work)
        cls.git(cls.work, "tag", "v1")
        with open(os.path.join(cls.work, "sub/f"), "w", encoding="utf-8") as file:
            file.write("two\n")
        cls.commit(cls.work)
        cls.publish("app")
        cls.head = cls.git(cls.work, "rev-parse", "HEAD")
        cls.brief = f"root@{cls.namespace.address}:{cls.repositories}/app.git"
        cls.whole = f"ssh://root@{cls.namespace.address}{cls.repositories}/app.git"

    @classmethod
    def end_agent(cls):
        cls.agent.terminate()
        cls.agent.wait()
        cls.agent.stdout.close()

    def setUp(self):
        self.know("host")

    def tearDown(self):
        self.assertEqual(glob.glob("/var/tmp/caisson-git-*"), [])
        for folder in (self.engine.root, self.engine.exec_root):
            self.assertEqual(os.listdir(os.path.join(folder, "builds")), [])

    def know(self, *keys):
        """Only these keys are known for the host, to the client's user."""
        with open(os.path.join(self.home, ".ssh/known_hosts"), "w", encoding="utf-8") as file:
            for key in keys:
                with open(self.sshd.path(key + ".pub"), encoding="utf-8") as text:
                    file.write(f"{self.namespace.address} {text.read()}")

    def build(self, context, *arguments, check=0, agent=True, **options):
        environment = {"HOME": self.home, "SSH_AUTH_SOCK": self.agent_socket if agent else ""}
        return self.engine.cli("build", "-t", "made", *arguments, context, check=check, timeout=120, env=environment, **options)

    def shell(self, script):
        return self.engine.ok("run", "--rm", "--entrypoint", "sh", "made", "-c", script)

    # -- what works

    def test_both_forms_are_contexts_with_ref_and_folder(self):
        self.build(self.brief)  # the agent that is there is lent without a flag, as buildx has it
        self.assertEqual(self.shell("cat /all/sub/f /all/lib/inner; stat -c '%a %u' /all/sub/f; ls -a /all | grep -c .git$ || true"), "two\nof the submodule\n644 0\n0")
        for context in (f"{self.brief}#v1:sub", f"{self.whole}#v1:sub", f"{self.whole}?tag=v1&subdir=sub"):
            self.build(context, "--ssh", "default")
            self.assertEqual(self.shell("cat /f"), "one", context)

    def test_a_key_file_will_do_where_no_agent_is(self):
        self.build(f"{self.brief}#:sub", "--ssh", f"default={self.sshd.path('user')}", agent=False)
        self.assertEqual(self.shell("cat /f"), "two")

    def test_add_and_named_contexts_take_one(self):
        metadata = os.path.join(self.engine.folder, "metadata")
        self.build("-", "--ssh", "default", "--build-context", f"named={self.whole}#v1:sub", "--metadata-file", metadata,
                   stdin=f"FROM busybox\nADD --checksum={self.head[:10]} {self.brief} /there\nADD --keep-git-dir {self.whole}#v1 /kept\nCOPY --from=named f /named\n")
        self.assertEqual(self.shell("cat /there/sub/f /kept/sub/f /named; ls -d /kept/.git; ls -d /there/.git 2>&1 | grep -c 'No such'"), "two\none\none\n/kept/.git\n1")
        self.assertNotIn("GIT_SSH", self.shell("cat /kept/.git/config"))
        with open(metadata, encoding="utf-8") as file:
            used = json.load(file)["caisson.build.provenance"]["buildDefinition"]["resolvedDependencies"]
        self.assertIn({"uri": f"git+ssh://root@{self.namespace.address}{self.repositories}/app.git", "digest": {"gitCommit": self.head}}, used)

    # -- whose host it is

    def test_a_host_that_is_not_known_or_has_another_key_is_not_talked_to(self):
        for keys in ((), ("stranger",)):
            self.know(*keys)
            out = self.build(self.brief, check=1)
            self.assertIn("Host key verification failed", out.stderr)
            self.assertIn(f"the key of {self.namespace.address} is not among the known ones", out.stderr)
        self.assertNotIn("Accepted", self.sshd.said().rpartition("Connection closed")[2])

    def test_a_secret_names_hosts_instead(self):
        self.know("host")
        wrong = os.path.join(self.engine.folder, "wrong")
        with open(wrong, "w", encoding="utf-8") as file:
            file.write("")
        self.assertIn("Host key verification failed", self.build(self.brief, "--secret", f"id=GIT_KNOWN_HOSTS,src={wrong}", check=1).stderr)
        right = os.path.join(self.engine.folder, "right")
        shutil.copy(os.path.join(self.home, ".ssh/known_hosts"), right)
        self.know()
        self.build(f"{self.brief}#:sub", "--secret", f"id=GIT_KNOWN_HOSTS,src={right}")

    def test_known_hosts_too_many_for_a_request_are_told_of(self):
        self.know(*["host"] * 400)
        out = self.build(self.brief, check=1)
        self.assertIn("GIT_KNOWN_HOSTS", out.stderr)
        self.assertIn("too large", out.stderr)

    # -- what goes wrong

    def test_without_an_agent_or_its_key_nothing_is_fetched(self):
        out = self.build(self.brief, agent=False, check=1)
        self.assertIn('lends none by the id "default"', out.stderr)
        self.assertIn("--ssh default", out.stderr)
        out = self.build(self.brief, "--ssh", f"other={self.agent_socket}", check=1)
        self.assertIn('lends none by the id "default"', out.stderr)
        out = self.build(self.brief, "--ssh", f"default={self.sshd.path('stranger')}", check=1)
        self.assertIn("Permission denied (publickey)", out.stderr)
        status, _, body = self.engine.request("POST", f"/v1.41/build?remote={self.brief}", b"", {})
        self.assertIn(b"lends none", body, status)

    def test_what_is_not_there_is_named(self):
        for context, words in ((f"{self.whole}x", "app.gitx"), (f"{self.whole}#nonesuch", "at nonesuch"), (f"{self.whole}#:nonesuch", "folder nonesuch"), ("ssh://root@127.0.0.1:1/x", "Connection refused"),
                               ("ssh://-oProxyCommand=touch@x/y", "is no user")):
            self.assertIn(words, self.build(context, check=1).stderr, context)

    def test_an_agent_is_used_by_the_fetch_alone_and_not_by_https(self):
        self.build("-", "--ssh", "default", stdin=f"FROM busybox\nADD {self.brief}#:sub /s\nRUN ls -a /run /tmp /var/tmp > /seen 2>&1; env >> /seen\n")
        seen = self.shell("cat /seen")
        for word in ("agent", "caisson-git", "SSH_AUTH_SOCK"):
            self.assertNotIn(word, seen)

    def test_a_client_that_leaves_ends_it(self):
        os.kill(self.sshd.process.pid, signal.SIGSTOP)  # connections wait
        self.addCleanup(os.kill, self.sshd.process.pid, signal.SIGCONT)
        client = subprocess.Popen(self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", self.engine.host, "build", self.brief]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  env={**self.engine.environment(), "HOME": self.home, "SSH_AUTH_SOCK": self.agent_socket})
        caisson.wait_until(lambda: glob.glob("/var/tmp/caisson-git-*/agent"), "ssh waits for its host")
        client.kill()
        client.wait()
        caisson.wait_until(lambda: not glob.glob("/var/tmp/caisson-git-*") and not os.listdir(os.path.join(self.engine.root, "builds")), "the build's folders are gone")


if __name__ == "__main__":
    caisson.main()

#!/usr/bin/env python3
"""build --debug-shell: a terminal or a pipe in what a failing step left, over every way to a daemon, and nothing of it afterwards."""

import base64
import json
import os
import signal
import socket
import subprocess

import caisson
from caisson import wait_until
from terminal import Terminal
from test_build import context_of, documents

CAISSON = os.path.join(caisson.BIN, "caisson")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class DebugShellTest(caisson.EngineTest):
    @classmethod
    def setUpClass(cls):
        cls.address = f"tcp://127.0.0.1:{free_port()}"
        cls.engine_options = ("-H", cls.address, "--tcp-role", "admin")
        super().setUpClass()

    def folder(self, dockerfile, files=None):
        return caisson.write_files(os.path.join(self.engine.folder, self._testMethodName), {"Dockerfile": dockerfile, **(files or {})})

    def piped(self, dockerfile, typed, *arguments, flag="--debug-shell", files=None, check=1, **options):
        return self.engine.cli("build", flag, *arguments, self.folder(dockerfile, files), stdin=typed, check=check, timeout=120, **options)

    def on_terminal(self, dockerfile, *words):
        terminal = Terminal(self.engine.as_user([CAISSON, "-H", self.engine.host, "build", "--debug-shell", *words, self.folder(dockerfile)]), {**self.engine.environment(), "TERM": "xterm"})
        self.addCleanup(self.end, terminal)
        return terminal

    @staticmethod
    def end(terminal):
        """Of a test that failed on the way."""
        try:
            os.kill(terminal.pid, signal.SIGKILL)
            terminal.wait()
        except OSError:
            pass

    def left(self):
        builds = [os.path.join(folder, "builds") for folder in (self.engine.root, self.engine.exec_root)]
        return [*(name for folder in builds for name in os.listdir(folder)), *self.engine.ok("ps", "-aq").split()]

    def assert_nothing_left(self):
        self.assertEqual(self.left(), [])

    # -- a step's files and surroundings

    def test_a_pipe_runs_commands_where_the_step_stood(self):
        dockerfile = ("FROM busybox\nARG WHO=world\nENV A=b\nRUN mkdir /srv/app && chown user /srv/app\nWORKDIR /srv/app\nUSER user\n"
                      "RUN echo $WHO > made; \\\n  mv made kept; exit 7\n")
        out = self.piped(dockerfile, "cat kept; id -un; pwd; echo $A $WHO; echo wrong >&2; exit 3\n")
        self.assertIn("world\nuser\n/srv/app\nb world\n", out.stdout)
        self.assertIn("Debug shell (/bin/sh) in line 7: RUN echo $WHO > made;", out.stderr)
        self.assertIn("ended with exit code 7. The files are as it left them.", out.stderr)
        self.assertIn("wrong\n", out.stderr)
        self.assertIn("returned a non-zero code: 7", out.stderr.splitlines()[-1])
        self.assert_nothing_left()

    def test_the_build_ends_as_it_would_have_without_a_shell(self):
        dockerfile = "FROM busybox\nRUN exit 7\n"
        before = len(self.engine.ok("build", "history", "ls", "-q").splitlines())
        plain = self.engine.cli("build", self.folder(dockerfile), check=1)
        with_shell = self.piped(dockerfile, "exit 0\n")
        self.assertEqual(plain.stderr.splitlines()[-1], with_shell.stderr.splitlines()[-1])
        self.assertEqual(len(self.engine.ok("build", "history", "ls", "-q").splitlines()), before + 2)
        history = json.loads(self.engine.ok("build", "history", "inspect", "^0"))[0]
        self.assertIn("returned a non-zero code: 7", history["Error"])
        self.assertIn("---> Debug shell in ", self.engine.ok("build", "history", "logs", "^0"))
        self.assertNotIn("Debug shell", self.piped("FROM busybox\nRUN true\n", "", check=0).stderr)

    def test_what_the_shell_writes_is_in_no_image_and_no_cache(self):
        dockerfile = "FROM busybox\nRUN echo step > /step\nRUN test -e /fixed\nRUN echo last\n"
        self.piped(dockerfile, "touch /fixed; ls /step\n")
        images = self.engine.ok("images", "-aq")
        out = self.piped(dockerfile, "ls /fixed /step\n")
        self.assertIn("/step\n", out.stdout)
        self.assertIn("/fixed: No such file", out.stderr)
        self.assertEqual(self.engine.ok("images", "-aq"), images)
        self.assert_nothing_left()

    def test_mounts_are_there_as_the_step_had_them(self):
        secret = os.path.join(self.engine.folder, "secret")
        with open(secret, "w", encoding="utf-8") as file:
            file.write("hidden-word")
        dockerfile = ("FROM busybox\nRUN --mount=type=cache,target=/cache --mount=type=bind,target=/context,rw --mount=type=tmpfs,target=/quick "
                      "--mount=type=secret,id=one --mount=type=secret,id=one,env=WORD echo c > /cache/f; echo b > /context/new; echo t > /quick/f; exit 2\n")
        out = self.piped(dockerfile, "cat /cache/f /context/new /context/given /run/secrets/one; echo; echo $WORD; ls -A /quick; grep -c ' /quick tmpfs' /proc/mounts\n", "--secret", f"id=one,src={secret}", files={"given": "given\n"})
        self.assertIn("c\nb\ngiven\nhidden-word\nhidden-word\n1\n", out.stdout)
        self.assert_nothing_left()
        self.assertNotIn("hidden-word", self.engine.ok("build", "history", "logs", "^0"))

    def test_network_and_rights_are_those_of_the_step(self):
        links = "ls /sys/class/net | wc -l"
        self.assertIn("\n1\n", self.piped("FROM busybox\nRUN --network=none exit 1\n", links).stdout)
        self.assertIn("\n2\n", self.piped("FROM busybox\nRUN exit 1\n", links).stdout)
        capabilities = "grep CapEff /proc/self/status"
        few = self.piped("FROM busybox\nRUN exit 1\n", capabilities).stdout
        all_of_them = self.piped("FROM busybox\nRUN --security=insecure exit 1\n", capabilities, "--allow", "security.insecure").stdout
        self.assertNotEqual(few.splitlines()[-1], all_of_them.splitlines()[-1])

    def test_a_step_of_another_kind_has_the_files_from_before_it(self):
        out = self.piped("FROM busybox\nENV A=b\nRUN echo 1 > /f\nCOPY missing /\n", "cat /f; echo $A\n")
        self.assertIn("1\nb\n", out.stdout)
        self.assertIn("in line 4: COPY missing /", out.stderr)
        self.assertIn("The files are as they were before it.", out.stderr)
        self.assert_nothing_left()

    def test_a_program_that_cannot_be_started_leaves_its_files_too(self):
        out = self.piped("FROM busybox\nRUN echo 1 > /f\nRUN [\"/no/such/program\"]\n", "cat /f\n")
        self.assertIn("1\n", out.stdout)
        self.assertIn("The step failed: ", out.stderr)
        self.assertIn("/no/such/program", out.stderr)

    # -- which program

    def test_without_a_shell_the_text_says_so_and_another_program_can_be_named(self):
        dockerfile = "FROM busybox AS tools\nRUN cp /bin/busybox /bin/tool\nFROM scratch\nCOPY --from=tools /bin/tool /bin/sed /bin/\nENV PATH=/bin\nRUN [\"/bin/sed\", \"--wrong\"]\n"
        out = self.piped(dockerfile, "")
        self.assertIn("No debug shell: the step's files have no program /bin/sh; --debug-shell=PATH names another one", out.stderr)
        for program in ("/bin/sed", "sed"):
            out = self.piped(dockerfile, "", flag=f"--debug-shell={program}")
            self.assertIn("Debug shell (/bin/sed)", out.stderr)
            self.assertIn("Usage: sed", out.stderr)
        self.assertIn("no program ash", self.piped(dockerfile, "", flag="--debug-shell=ash").stderr)
        self.assertIn("No debug shell: the stage has no files yet", self.piped("FROM scratch\nCOPY missing /\n", "").stderr)
        self.assert_nothing_left()

    def test_the_stages_own_shell_comes_first(self):
        out = self.piped("FROM busybox\nSHELL [\"/bin/ash\", \"-c\"]\nRUN rm /bin/sh; exit 1\n", "echo $0\n")
        self.assertIn("Debug shell (/bin/ash)", out.stderr)
        self.assertIn("/bin/ash\n", out.stdout)

    def test_flags_that_need_standard_input_themselves_are_refused(self):
        folder = self.folder("FROM busybox\n")
        for words, text in {("-",): "standard input", ("-f", "-", folder): "standard input", ("--progress", "json", folder): "--progress json"}.items():
            self.assertIn(text, self.engine.cli("build", "--debug-shell", *words, stdin="FROM busybox\n", check=1).stderr)
        self.assertIn("name is missing", self.engine.cli("build", "--debug-shell=", folder, check=1).stderr)

    # -- terminals

    def test_a_terminal_is_handed_over_from_the_tree_and_back(self):
        terminal = self.on_terminal("FROM busybox AS other\nRUN sleep 1000\nFROM busybox AS bad\nRUN echo last-words; exit 5\nFROM busybox\nCOPY --from=other /f /\nCOPY --from=bad /f /\n")
        seen = terminal.read_until(b"Leave with")
        self.assertIn(b"[+] Failed after", seen)
        self.assertIn(b"last-words\r\n------\r\nDebug shell (/bin/sh) in line 4: RUN echo last-words; exit 5\r\n", seen)
        terminal.read_until(b"# ")
        self.assertEqual(len(self.engine.ok("ps", "-q").split()), 1, "the other stage's step has ended by then")
        terminal.type(b"tty; while read word; do stty size; done\n")
        terminal.read_until(b"/dev/pts/0")
        terminal.ask_size_until(b"33 99")
        terminal.resize(20, 70)
        terminal.ask_size_until(b"20 70")
        terminal.type(b"\x04")
        terminal.read_until(b"# ")
        terminal.type(b"\x04")
        seen, code = terminal.wait()
        self.assertEqual(code, 1)
        self.assertIn(b"returned a non-zero code: 5", seen)
        self.assertNotIn(b"[+] Building", seen)
        self.assert_nothing_left()

    def test_lines_leave_the_terminal_to_the_shell_too(self):
        terminal = self.on_terminal("FROM busybox\nRUN echo x > /f; exit 5\n", "--progress", "plain")
        terminal.read_until(b"Leave with")
        terminal.type(b"cat /f; exit\n")
        terminal.read_until(b"x\r\n")
        self.assertEqual(terminal.wait()[1], 1)
        self.assert_nothing_left()

    def test_detaching_is_leaving(self):
        terminal = self.on_terminal("FROM busybox\nRUN exit 5\n")
        terminal.read_until(b"# ")
        terminal.type(b"\x10\x11")
        seen, code = terminal.wait()
        self.assertEqual(code, 1)
        self.assertIn(b"returned a non-zero code: 5", seen)
        self.assert_nothing_left()

    # -- ways to the daemon, and who goes away

    def test_a_daemon_is_reached_by_tcp_too(self):
        out = self.piped("FROM busybox\nRUN echo over > /f; exit 5\n", "cat /f\n", program=CAISSON, env={"CAISSON_HOST": self.address})
        self.assertIn("over\n", out.stdout)

    def test_the_bare_api_offers_a_shell_to_whoever_asks(self):
        context = context_of({"Dockerfile": "FROM busybox\nRUN exit 5\n"})
        status, _, body = self.engine.request("POST", "/build", context, {"Content-Type": "application/x-tar"})
        self.assertEqual(status, 200)
        self.assertFalse(any("DebugShell" in document.get("aux", {}) for document in documents(body)))
        wish = base64.b64encode(json.dumps({"debug_shell": {"program": "no-such"}}).encode()).decode()
        status, _, body = self.engine.request("POST", "/build", context, {"Content-Type": "application/x-tar", "X-Caisson-Build": wish})
        offers = [document["aux"]["DebugShell"] for document in documents(body) if "DebugShell" in document.get("aux", {})]
        self.assertEqual(len(offers), 1, body)
        self.assertEqual((offers[0]["ID"], offers[0]["Line"], offers[0]["ExitCode"]), ("", 2, 5))
        self.assertIn("no program no-such", offers[0]["Problem"])
        self.assertEqual(documents(body)[-1]["errorDetail"]["code"], 5)

    def shell_that_waits(self):
        """A client whose shell has begun, and the shell's container."""
        client = subprocess.Popen(self.engine.as_user([CAISSON, "-H", self.engine.host, "build", "--debug-shell", self.folder("FROM busybox\nRUN exit 5\n")]), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, env=self.engine.environment())
        self.addCleanup(client.stdout.close)
        self.addCleanup(client.stdin.close)
        client.stdin.write(b"echo the-shell-runs\n")
        client.stdin.flush()
        for line in client.stdout:
            if b"the-shell-runs" in line:
                break
        return client, self.engine.ok("ps", "-q")

    def test_a_client_that_vanishes_leaves_nothing(self):
        client, container = self.shell_that_waits()
        self.assertNotEqual(container, "")
        client.kill()
        client.wait()
        wait_until(lambda: self.left() == [], lambda: f"left: {self.left()}")

    def test_whoever_removes_the_shell_ends_it(self):
        client, container = self.shell_that_waits()
        self.engine.ok("rm", "-f", container)
        self.assertEqual(client.wait(30), 1)
        self.assertNotIn("No debug shell", self.engine.ok("build", "history", "logs", "^0"))
        self.assert_nothing_left()

    def test_a_daemon_killed_meanwhile_leaves_nothing(self):
        client, _ = self.shell_that_waits()
        self.engine.kill9()
        self.engine.start()
        self.assertEqual(client.wait(60), 1)
        self.assert_nothing_left()

    def test_steps_of_other_builds_get_an_exclusive_cache_mount_when_the_shell_has_ended(self):
        dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/c,sharing=locked,id=one exit 5\n"
        terminal = self.on_terminal(dockerfile)
        terminal.read_until(b"# ")
        terminal.type(b"exit\n")
        self.assertEqual(terminal.wait()[1], 1)
        self.engine.ok("build", self.folder(dockerfile.replace("exit 5", "echo free > /c/f")))

    # -- targets of a build file

    def bake_file(self, targets):
        """A folder with a build file of `targets`: {name: Dockerfile}."""
        folder = self.folder("FROM busybox\n", {f"{name}/Dockerfile": text for name, text in targets.items()})
        with open(os.path.join(folder, "docker-bake.hcl"), "w", encoding="utf-8") as file:
            file.write("".join(f'target "{name}" {{ context = "{folder}/{name}" }}\n' for name in targets))
        return os.path.join(folder, "docker-bake.hcl")

    def test_one_targets_failure_opens_a_shell_beside_targets_that_go_on(self):
        file = self.bake_file({"good": "FROM busybox\nRUN for i in $(seq 30); do echo good-$i; sleep 0.1; done\n", "bad": "FROM busybox\nRUN echo before-it; echo x > /f; exit 5\n"})
        out = self.engine.cli("bake", "--debug-shell", "-f", file, "good", "bad", stdin="cat /f; sleep 1; echo end-of-shell\n", check=1, timeout=120)
        self.assertIn("x\nend-of-shell\n", out.stdout)
        self.assertIn("[bad] before-it\n", out.stdout)
        self.assertLess(out.stdout.index("[bad] before-it"), out.stdout.index("x\nend-of-shell"))
        self.assertIn("[good] good-30", out.stdout)
        self.assertIn("Debug shell (/bin/sh) in line 2: RUN echo before-it;", out.stderr)
        self.assertIn("target bad: ", out.stderr.splitlines()[-1])
        self.assertIn("returned a non-zero code: 5", out.stderr.splitlines()[-1])
        self.assert_nothing_left()

    def test_of_targets_that_fail_side_by_side_the_first_has_the_shell(self):
        file = self.bake_file({"first": "FROM busybox\nRUN echo first > /f; exit 5\n", "second": "FROM busybox\nRUN echo second > /f; sleep 2; exit 6\n", "third": "FROM busybox\nRUN echo third > /f; sleep 2; exit 7\n"})
        out = self.engine.cli("bake", "--debug-shell=/bin/sh", "-f", file, "second", "first", "third", stdin="cat /f; sleep 4\n", check=1, timeout=120)
        self.assertIn("first\n", out.stdout)
        self.assertNotIn("second\n", out.stdout.replace("[second]", ""))
        for name in ("second", "third"):
            self.assertIn(f"[{name}] No debug shell: target first failed first and has it", out.stderr)
        self.assertIn("target first: ", out.stderr.splitlines()[-1])
        self.assert_nothing_left()

    def test_a_terminal_is_a_targets_shell_and_a_signal_ends_it_all(self):
        file = self.bake_file({"only": "FROM busybox\nRUN exit 5\n", "other": "FROM busybox\nRUN while sleep 0.1; do echo tick; done\n"})
        terminal = Terminal(self.engine.as_user([CAISSON, "-H", self.engine.host, "bake", "--debug-shell", "-f", file, "only", "other"]), {**self.engine.environment(), "TERM": "xterm"})
        self.addCleanup(self.end, terminal)
        terminal.read_until(b"Leave with")
        terminal.read_until(b"# ")
        terminal.type(b"tty; sleep 1; echo the-$((1 + 1))nd\n")
        self.assertNotIn(b"tick", terminal.read_until(b"the-2nd"), "the terminal is the shell's")
        terminal.read_until(b"# ")
        terminal.type(b"exit\n")
        terminal.read_until(b"[other] tick")
        os.kill(terminal.pid, signal.SIGINT)
        terminal.wait()
        wait_until(lambda: self.left() == [], lambda: f"left: {self.left()}")

    def test_a_build_file_on_standard_input_leaves_none_for_a_shell(self):
        self.assertIn("standard input", self.engine.cli("bake", "--debug-shell", "-f", "-", stdin="", check=1).stderr)


if __name__ == "__main__":
    caisson.main()

#!/usr/bin/env python3
"""Our own command line beyond single verbs: real shells that complete it, its manual, formats, filters and colours."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

import caisson
from caisson import wait_until
from terminal import Terminal

CAISSON = os.path.join(caisson.BIN, "caisson")


class Completions(caisson.EngineTest):
    """Each shell runs our script and asks a living engine for names."""

    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "shell-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.environment = {**self.engine.environment(), "PATH": caisson.BIN + ":" + os.environ["PATH"], "TERM": "dumb", "HOME": self.folder}
        for shell in ("bash", "zsh", "fish"):
            with open(self.script(shell), "w", encoding="utf-8") as file:
                file.write(self.engine.ok("completion", shell) + "\n")
        self.engine.give(self.folder)

    def script(self, shell):
        return os.path.join(self.folder, {"zsh": "_caisson"}.get(shell, "caisson." + shell))

    def container(self, name, *arguments):
        self.engine.ok("run", "-d", "--name", name, *arguments, "busybox", "sleep", "1000")
        self.addCleanup(self.engine.cli, "rm", "-f", name)

    def in_bash(self, line):
        """Types `line` and a tab into an interactive bash; the words that the completed line consists of."""
        terminal = Terminal(self.engine.as_user(["bash", "--norc", "--noprofile", "-i"]), {**self.environment, "PS1": "$ "})
        terminal.type(b"bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; source " + self.script("bash").encode() + b"; echo rea''dy\n")
        terminal.read_until(b"ready\r\n")
        terminal.type(line.encode() + b"\t" + b"\x01printf '<%s>' \x05; echo don''e; exit\n")
        seen, _ = terminal.wait()
        # What was typed is echoed once or twice, as the terminal was quick or slow; "%s" stands there only.
        return [word for word in re.findall(r"<([^<>]*)>", seen.decode()) if word != "%s"]

    def test_bash_completes_commands_flags_and_values(self):
        for typed, words in (("caisson vers", ["caisson", "version"]), ("caisson volume cr", ["caisson", "volume", "create"]),
                             ("caisson run --restart unl", ["caisson", "run", "--restart", "unless-stopped"]),
                             ("caisson run --restart=unl", ["caisson", "run", "--restart=unless-stopped"]),
                             ("caisson ps --no-t", ["caisson", "ps", "--no-trunc"])):
            with self.subTest(typed=typed):
                self.assertEqual(self.in_bash(typed), words)

    def test_bash_completes_living_names(self):
        self.container("website")
        self.engine.ok("volume", "create", "webdata")
        self.addCleanup(self.engine.cli, "volume", "rm", "webdata")
        for typed, words in (("caisson stop webs", ["caisson", "stop", "website"]), ("caisson volume rm webd", ["caisson", "volume", "rm", "webdata"]),
                             ("caisson history busyb", ["caisson", "history", "busybox:latest"]),
                             ("caisson run --network container:webs", ["caisson", "run", "--network", "container:website"]),
                             ("caisson ps --filter volume=webd", ["caisson", "ps", "--filter", "volume=webdata"]),
                             ("caisson ps --filter=status=run", ["caisson", "ps", "--filter=status=running"])):
            with self.subTest(typed=typed):
                self.assertEqual(self.in_bash(typed), words)

    @caisson.needs_cgroups
    def test_only_containers_in_a_fitting_state_are_offered(self):
        self.container("going")
        self.container("resting")
        self.engine.ok("pause", "resting")
        self.engine.ok("create", "--name", "waiting", "busybox", "true")
        self.addCleanup(self.engine.cli, "rm", "waiting")
        self.assertEqual(self.engine.ok("__complete", "unpause", "").splitlines(), ["resting\tbusybox", ":4"])
        self.assertEqual(self.engine.ok("__complete", "start", "").splitlines(), ["waiting\tbusybox", ":4"])

    def test_bash_completes_files_where_a_file_is_wanted(self):
        with open(os.path.join(self.folder, "environment"), "w", encoding="utf-8"):
            pass
        typed = f"caisson run --env-file {self.folder}/envi"
        self.assertEqual(self.in_bash(typed)[-1], f"{self.folder}/environment")

    @unittest.skipUnless(shutil.which("zsh"), "needs zsh: tools/dependencies test")
    def test_zsh_completes_names_and_values(self):
        self.container("website")
        for typed, tail, wanted in (("caisson stop webs", b"ite", b"<caisson><stop><website>"), ("caisson run --restart=unl", b"ess-stopped", b"<caisson><run><--restart=unless-stopped>"),
                                    ("caisson volume cr", b"eate", b"<caisson><volume><create>")):
            with self.subTest(typed=typed):
                terminal = Terminal(self.engine.as_user(["zsh", "-f", "-i"]), {**self.environment, "PS1": "$ "})
                terminal.type(f"bindkey -e; fpath=({self.folder} $fpath); autoload -U compinit; compinit -u -D; unsetopt zle_bracketed_paste; echo rea''dy\n".encode())
                terminal.read_until(b"ready\r\n")
                terminal.type(typed.encode() + b"\t")
                terminal.read_until(tail)  # what is typed while zsh asks may be lost
                terminal.type(b"\x01printf '<%s>' \x05; exit\n")
                seen, _ = terminal.wait()
                self.assertIn(wanted, seen)

    @unittest.skipUnless(shutil.which("fish"), "needs fish: tools/dependencies test")
    def test_fish_completes_names_and_values(self):
        self.container("website")
        for typed, wanted in (("caisson stop webs", "website\tbusybox"), ("caisson run --restart=unl", "--restart=unless-stopped"),
                              ("caisson volume cr", "create\tMake a volume")):
            with self.subTest(typed=typed):
                run = subprocess.run(self.engine.as_user(["fish", "--no-config", "-c", f"source {self.script('fish')}; complete -C '{typed}'"]), env=self.environment,
                                     capture_output=True, text=True, timeout=60, check=False)
                self.assertIn(wanted, run.stdout.splitlines(), run.stderr)

    def test_an_unknown_shell_is_refused(self):
        self.assertIn("bash, zsh and fish", self.engine.cli("completion", "tcsh", check=1).stderr)


class Manual(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "man-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.pages = os.path.join(cls.folder, "man1")
        subprocess.run([CAISSON, "__man", cls.pages], check=True, capture_output=True, timeout=60)

    def test_every_command_of_the_overview_has_a_page(self):
        overview = subprocess.run([CAISSON, "--help"], check=True, capture_output=True, text=True, timeout=60).stdout
        names = re.findall(r"^  ([a-z][a-z-]*) {2,}\S", overview, re.M)
        self.assertGreater(len(names), 30)
        for name in names:
            self.assertTrue(os.path.exists(f"{self.pages}/caisson-{name}.1"), name)

    def test_a_page_names_every_flag_of_help(self):
        with open(f"{self.pages}/caisson-run.1", encoding="utf-8") as file:
            page = file.read().replace("\\-", "-")
        help_text = subprocess.run([CAISSON, "run", "--help"], check=True, capture_output=True, text=True, timeout=60).stdout
        flags = re.findall(r"^ {2,6}(?:-\w, )?(--[a-z0-9-]+)", help_text, re.M)
        self.assertGreater(len(flags), 90)
        self.assertEqual([flag for flag in flags if flag not in page], [])

    @unittest.skipUnless(shutil.which("groff"), "needs groff: tools/dependencies test")
    def test_troff_reads_all_pages_without_a_warning(self):
        for name in sorted(os.listdir(self.pages)):
            run = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", f"{self.pages}/{name}"], cwd=self.folder, capture_output=True, text=True, timeout=60, check=False) \
                if not self.is_link(name) else None
            if run is not None:
                self.assertEqual((run.returncode, run.stderr), (0, ""), name)

    @unittest.skipUnless(shutil.which("mandoc"), "needs mandoc: tools/dependencies test")
    def test_mandoc_finds_no_error(self):
        pages = [f"{self.pages}/{name}" for name in sorted(os.listdir(self.pages)) if not self.is_link(name)]
        run = subprocess.run(["mandoc", "-man", "-Tlint", "-Wwarning", *pages], capture_output=True, text=True, timeout=120, check=False)
        problems = [line for line in run.stdout.splitlines() if "missing date" not in line]  # none, so that every build gives the same pages
        self.assertEqual(problems, [])

    def is_link(self, name):
        with open(f"{self.pages}/{name}", encoding="utf-8") as file:
            return file.read(4) == ".so "

    def test_a_second_spelling_leads_to_the_command(self):
        with open(f"{self.pages}/caisson-container-run.1", encoding="utf-8") as file:
            self.assertEqual(file.read(), ".so man1/caisson-run.1\n")


class Formats(caisson.EngineTest):
    """Docker's documented examples of --format (docs: "Format command and log output"), and the list commands' three ways."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.engine.ok("run", "-d", "--name", "shown", "--label", "tier=web", "--label", "com.example.owner-name=me", "-e", "A=1", "busybox", "sleep", "1000")
        cls.engine.ok("volume", "create", "--label", "tier=data", "kept")

    def test_functions_of_dockers_documentation(self):
        for template, wanted in (
                ('{{join .Args " , "}}', "1000"), ("{{json .State.Running}}", "true"), ('{{lower "BUSY"}}', "busy"), ("{{upper .State.Status}}", "RUNNING"),
                ('{{title "busy box"}}', "Busy Box"), ('{{split .Config.Image ":"}}', "[busybox]"), ('{{truncate .State.Status 3}}', "run"),
                ('{{println .State.Status}}', "running\n"), ('{{printf "%s/%d/%t" .State.Status (len .Args) .State.Running}}', "running/1/true"),
                ('{{index .Config.Labels "com.example.owner-name"}}', "me"), ('{{len .Config.Labels}}', "2"),
                ('{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}', "com.example.owner-name=me;tier=web;"),
                ('{{with .Config.Labels}}{{.tier}}{{else}}none{{end}}', "web"), ('{{if and .State.Running (not .State.Paused)}}up{{else}}down{{end}}', "up"),
                ('{{upper (truncate (lower .Name) 4)}}', "/SHO"), ("{{.Name | upper | printf \"%q\"}}", '"/SHOWN"'), ('{{pad "a" 1 2}}', " a  "),
                ('{{if eq .State.Status "running" "paused"}}one of{{end}}', "one of"), ('{{slice "abcdef" 1 3}}', "bc"), ("{{/* nothing */}}x", "x")):
            with self.subTest(template=template):
                self.assertEqual(self.engine.cli("inspect", "--format", template, "shown", check=0).stdout, wanted + "\n")

    def test_list_commands_print_tables_templates_and_json(self):
        for command, field, wanted in ((["ps"], "Names", "shown"), (["images"], "Repository", "busybox"), (["volume", "ls"], "Name", "kept"),
                                       (["network", "ls"], "Name", "bridge"), (["history", "busybox"], "Size", None), (["system", "df"], "Type", "Images"),
                                       *(((["stats", "--no-stream"], "Name", "shown"),) if not caisson.ROOTLESS else ())):  # statistics need cgroups
            with self.subTest(command=command):
                lines = [json.loads(line) for line in self.engine.ok(*command, "--format", "json").splitlines()]
                values = [line[field] for line in lines]
                if wanted:
                    self.assertIn(wanted, values)
                dotted = [json.loads(line)[field] for line in self.engine.ok(*command, "--format", "{{json .}}").splitlines()]
                self.assertEqual(dotted if command[0] != "stats" else len(dotted), values if command[0] != "stats" else len(values))
                table = self.engine.ok(*command, "--format", "table {{.%s}}" % field).splitlines()
                self.assertEqual(len(table), len(values) + 1)
                self.assertEqual(table[0], table[0].upper())
                titles = [self.engine.ok(*command, *words).splitlines()[0].split() for words in (("--format", "table"), ())]  # widths follow the cells' ages
                self.assertEqual(titles[0], titles[1])

    def test_info_and_version_take_templates(self):
        self.assertEqual(self.engine.ok("info", "--format", "{{.OSType}}/{{len .Plugins.Log}}").split("/")[0], "linux")
        self.assertEqual(json.loads(self.engine.ok("version", "--format", "json"))["Server"]["Os"], "linux")
        self.assertRegex(self.engine.ok("version", "--format", "{{.Client.Version}}-{{.Server.ApiVersion}}"), r"^\d.*-1\.\d+$")

    def test_events_of_the_past_are_filtered_and_formatted(self):
        since = self.engine.ok("inspect", "-f", "{{.Created}}", "shown")
        out = self.engine.ok("events", "--since", since, "--until", "0s", "--filter", "container=shown", "--filter", "event=start", "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}")
        self.assertEqual(out, "container start shown")
        as_json = self.engine.ok("events", "--since", since, "--until", "0s", "--filter", "label=tier=web", "--format", "json")
        self.assertTrue(all(json.loads(line)["Actor"]["Attributes"]["tier"] == "web" for line in as_json.splitlines()))

    def test_system_df_tells_objects_apart(self):
        out = self.engine.ok("system", "df", "-v")
        for title in ("Images space usage:", "Containers space usage:", "Local Volumes space usage:"):
            self.assertIn(title, out)
        self.assertRegex(out, r"kept +0 +0B")

    def test_system_prune_takes_filters(self):
        self.engine.ok("create", "--name", "stale", "--label", "temporary", "busybox", "true")
        self.engine.ok("create", "--name", "fresh", "busybox", "true")
        self.addCleanup(self.engine.cli, "rm", "fresh")
        self.engine.ok("system", "prune", "-f", "--filter", "label=temporary")
        self.assertEqual(self.engine.ok("ps", "-a", "--filter", "name=stale", "--filter", "name=fresh", "--format", "{{.Names}}"), "fresh")
        self.engine.ok("system", "prune", "-f", "--filter", "until=1h")
        self.assertEqual(self.engine.ok("ps", "-aq", "--filter", "name=fresh", "--format", "{{.Names}}"), "fresh")

    def test_near_names_are_offered(self):
        for words, hint in ((["imagse"], "images"), (["run", "--detch", "busybox"], "--detach"), (["volume", "creat"], "create"), (["inspect", "-f", "{{.Stat}}", "shown"], ".State"),
                            (["inspect", "-f", "{{uper .Name}}", "shown"], "upper")):
            with self.subTest(words=words):
                run = self.engine.cli(*words)
                self.assertNotEqual(run.returncode, 0)
                self.assertIn(hint, run.stderr)


class Contexts(caisson.EngineTest):
    """Contexts are shared with docker's client, in its own folder, and both reach an engine through ssh."""

    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "contexts-")
        self.engine.give(self.folder)
        self.addCleanup(shutil.rmtree, self.folder)
        self.environment = {key: value for key, value in self.engine.environment().items() if key not in ("DOCKER_HOST", "CAISSON_HOST")}
        self.environment["DOCKER_CONFIG"] = os.path.join(self.folder, "config")

    def run_client(self, *command, check=0, **more):
        if command[0] == "docker":
            caisson.docker_program()
        run = subprocess.run(self.engine.as_user(command), env={**self.environment, **more.pop("environment", {})}, capture_output=True, text=True, timeout=60, check=False, **more)
        self.assertEqual(run.returncode, check, f"{command}: {run.stdout}{run.stderr}")
        return run.stdout

    def test_what_one_client_made_serves_the_other(self):
        self.run_client(CAISSON, "context", "create", "ours", "--description", "by us", "--docker", "host=" + self.engine.host)
        self.assertIn("Caisson", self.run_client("docker", "--context", "ours", "version"))
        self.run_client("docker", "context", "create", "theirs", "--docker", "host=" + self.engine.host)
        self.assertIn("busybox", self.run_client(CAISSON, "--context", "theirs", "images"))
        self.assertIn("busybox", self.run_client(CAISSON, "images", environment={"DOCKER_CONTEXT": "theirs"}))
        for command in ("docker", CAISSON):
            self.assertEqual(self.run_client(command, "context", "ls", "-q").split(), ["default", "ours", "theirs"])
        self.assertEqual(json.loads(self.run_client(CAISSON, "context", "inspect", "theirs")), json.loads(self.run_client("docker", "context", "inspect", "theirs")))
        self.assertEqual(json.loads(self.run_client(CAISSON, "context", "inspect", "ours")), json.loads(self.run_client("docker", "context", "inspect", "ours")))

    def test_archives_go_both_ways(self):
        certificate = os.path.join(self.folder, "ca.pem")
        with open(certificate, "w", encoding="utf-8") as file:
            file.write("CA")
        self.run_client(CAISSON, "context", "create", "one", "--docker", f"host=tcp://127.0.0.1:9,ca={certificate}")
        ours, theirs = os.path.join(self.folder, "ours.tar"), os.path.join(self.folder, "theirs.tar")
        self.run_client(CAISSON, "context", "export", "one", ours)
        self.run_client("docker", "context", "export", "one", theirs)
        self.run_client("docker", "context", "import", "two", ours)
        self.run_client(CAISSON, "context", "import", "three", theirs)
        for name in ("two", "three"):
            context = json.loads(self.run_client("docker", "context", "inspect", name))[0]
            self.assertEqual((context["Endpoints"]["docker"]["Host"], context["TLSMaterial"]), ("tcp://127.0.0.1:9", {"docker": ["ca.pem"]}))

    def far_machine(self):
        """A folder for PATH with an `ssh` that runs what it is asked here, as a far machine whose engine is ours."""
        path = os.path.join(self.folder, "bin")
        os.mkdir(path)
        far = os.path.join(self.folder, "far")
        os.mkdir(far)
        for name in ("caisson", "docker"):
            os.symlink(CAISSON, os.path.join(far, name))
        with open(os.path.join(path, "ssh"), "w", encoding="utf-8") as file:
            file.write(f"""#!/bin/sh
echo "$*" >> {self.folder}/asked
while [ "$1" != -- ]; do shift; done
shift 2
export CAISSON_HOST={self.engine.host} PATH={far}:/usr/bin:/bin
exec /bin/sh -c "$*"
""")
        os.chmod(os.path.join(path, "ssh"), 0o755)
        return {"PATH": path + ":" + os.environ["PATH"]}

    def test_both_clients_reach_an_engine_through_ssh(self):
        environment = self.far_machine()
        self.assertIn("busybox", self.run_client("docker", "-H", "ssh://me@far:2222", "images", environment=environment))
        self.assertIn("busybox", self.run_client(CAISSON, "-H", "ssh://me@far:2222", "images", environment=environment))
        with open(os.path.join(self.folder, "asked"), encoding="utf-8") as file:
            self.assertIn("-l me -p 2222 -- far", file.read())
        self.run_client(CAISSON, "context", "create", "far", "--docker", f"host=ssh://far{self.engine.socket}")
        for client in ("docker", CAISSON):
            said = self.run_client(client, "--context", "far", "run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 7", input="through\n", environment=environment, check=7)
            self.assertEqual(said, "through\n")

    def test_a_far_machine_that_does_not_answer_is_said(self):
        run = subprocess.run([CAISSON, "-H", "ssh://far", "ps"], env={**self.environment, "PATH": self.folder}, capture_output=True, text=True, timeout=60, check=False)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("ssh", run.stderr)


class Screens(caisson.EngineTest):
    @caisson.needs_cgroups
    def test_stats_is_drawn_anew_and_ends_with_ctrl_c(self):
        self.engine.ok("run", "-d", "--name", "busy", "busybox", "sleep", "1000")
        terminal = Terminal([CAISSON, "stats"], self.engine.environment())
        for _ in range(2):  # the second drawing shows that it lives
            terminal.read_until(b"\x1b[H")
            terminal.read_until(b"busy")
        self.engine.ok("run", "-d", "--name", "late", "busybox", "sleep", "1000")
        terminal.read_until(b"late")  # what starts meanwhile appears
        self.engine.ok("rm", "-f", "late")
        terminal.type(b"\x03")
        seen, code = terminal.wait()
        self.assertEqual(code, 130)
        self.assertIn(b"\x1b[?1049l", seen)  # the screen is given back, and the last reading stays on it
        self.assertIn(b"busy", seen[seen.index(b"\x1b[?1049l"):])

    @caisson.needs_cgroups
    def test_a_signal_gives_the_screen_back_too(self):
        self.engine.ok("run", "-d", "--name", "steady", "busybox", "sleep", "1000")
        terminal = Terminal([CAISSON, "stats", "steady"], self.engine.environment())
        terminal.read_until(b"steady")
        os.kill(terminal.pid, signal.SIGTERM)
        seen, code = terminal.wait()
        self.assertEqual(code, 143)
        self.assertIn(b"\x1b[?25h\x1b[?1049l", seen)

    def test_top_is_live_on_a_terminal_until_q_or_the_containers_end(self):
        self.engine.ok("run", "-d", "--name", "living", "busybox", "sh", "-c", "sleep 1111; sleep 2222")
        environment = {**self.engine.environment(), "TERM": "xterm"}
        terminal = Terminal(self.engine.as_user([CAISSON, "top", "living"]), environment, columns=200)  # the command is ps' last column
        terminal.read_until(b"sleep 1111\x1b")
        self.engine.ok("exec", "living", "killall", "sleep")
        terminal.read_until(b"  sleep 2222\x1b")  # a later picture: the shell's own line has it behind one space
        terminal.type(b"q")
        self.assertEqual(terminal.wait()[1], 0)
        once, code = Terminal(self.engine.as_user([CAISSON, "top", "--no-stream", "living"]), environment).wait()
        self.assertEqual(code, 0)
        self.assertNotIn(b"\x1b[?1049h", once)
        terminal = Terminal(self.engine.as_user([CAISSON, "top", "living"]), environment, columns=200)
        terminal.read_until(b"sleep 2222")
        self.assertIn("did you mean 'living'?", self.engine.cli("top", "livng", check=1).stderr)
        self.engine.ok("rm", "-f", "living")
        terminal.wait()  # it ends by itself

    def test_colours_are_for_terminals_without_NO_COLOR(self):
        command = self.engine.as_user([CAISSON, "doctor", "--verbose"])
        environment = {**self.engine.environment(), "TERM": "xterm"}
        environment.pop("NO_COLOR", None)
        coloured, _ = Terminal(command, environment).wait()
        self.assertIn(b"\x1b[32m", coloured)
        self.assertIn(b"\x1b[1mCONTAINER ID", Terminal(self.engine.as_user([CAISSON, "ps"]), environment).wait()[0])
        self.assertNotIn("\x1b", self.engine.ok("ps"))
        plain, _ = Terminal(command, {**environment, "NO_COLOR": "1"}).wait()
        self.assertNotIn(b"\x1b", plain)
        self.assertNotIn("\x1b", subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False).stdout)

    def test_top_shows_the_processes_that_run_now(self):
        self.engine.ok("run", "-d", "--name", "tops", "busybox", "sleep", "4321")
        wait_until(lambda: "sleep 4321" in self.engine.ok("top", "tops"), "the process is listed")
        self.assertIn("4321", self.engine.ok("top", "tops", "-o", "pid,args"))


if __name__ == "__main__":
    caisson.main()

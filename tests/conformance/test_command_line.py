#!/usr/bin/env python3
"""Every command, flag, exit code and error word of the OCI command line that callers depend on; beside Debian's runtimes where those can run here."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

import oci
from oci import wait_until

SLEEP = ("sleep", "1000")


def receive_fd(listener):
    """The payload and the one descriptor that somebody sends over a connection to `listener`."""
    listener.settimeout(20)
    connection, _ = listener.accept()
    with connection:
        payload, fds, _, _ = socket.recv_fds(connection, 4096, 1)
    return payload, fds[0]


class ErrorWords(oci.OciTest):
    """The same scenario on every runtime: what holds for ours must hold for Debian's, else the test is wrong."""

    with_peers = True

    def refused(self, runtime, *arguments, words, code=1):
        run = runtime(*arguments)
        if runtime.is_ours:
            self.assertEqual(run.returncode, code, run.stderr)
            self.assertIn(words, run.stderr)
        else:
            self.assertNotEqual(run.returncode, 0, f"{runtime.name} accepts {arguments}")
            if runtime.name == "runc":
                self.assertIn(words, run.stderr.replace('\\"', '"'))

    def test_an_unknown_container_does_not_exist(self):
        for runtime in self.each():
            for command in ("state", "start", "kill", "delete", "pause", "resume"):
                self.refused(runtime, command, "nobody", words="container does not exist")
            self.refused(runtime, "exec", "nobody", "true", words="container does not exist", code=255)
            runtime("delete", "--force", "nobody", check=0)

    def test_an_id_is_taken_once(self):
        for runtime in self.each():
            identifier = runtime.create(self.playground.bundle(*SLEEP))
            self.refused(runtime, "create", "--bundle", self.playground.bundle(*SLEEP), identifier, words="container with given ID already exists")

    def test_start_is_for_created_containers(self):
        for runtime in self.each():
            identifier = runtime.start(self.playground.bundle(*SLEEP))
            self.refused(runtime, "start", identifier, words="cannot start an already running container")
            runtime("kill", identifier, "KILL", check=0)
            runtime.wait_stopped(identifier)
            self.refused(runtime, "start", identifier, words="cannot start a container that has stopped")

    def test_a_running_container_is_not_deleted_without_force(self):
        for runtime in self.each():
            identifier = runtime.start(self.playground.bundle(*SLEEP))
            self.refused(runtime, "delete", identifier, words="that is not stopped: running")
            runtime("delete", "-f", identifier, check=0)
            self.refused(runtime, "state", identifier, words="container does not exist")

    def test_a_created_container_is_deleted_without_force(self):
        for runtime in self.each():
            identifier = runtime.create(self.playground.bundle(*SLEEP))
            runtime("delete", identifier, check=0)
            self.refused(runtime, "state", identifier, words="container does not exist")

    def test_a_stopped_container_takes_no_signal_no_program_and_no_pause(self):
        for runtime in self.each():
            identifier = runtime.start(self.playground.bundle("true"))
            runtime.wait_stopped(identifier)
            self.refused(runtime, "kill", identifier, "TERM", words="container not running")
            self.refused(runtime, "exec", identifier, "true", words="cannot exec in a stopped container", code=255)
            self.refused(runtime, "pause", identifier, words="container not running")
            runtime("kill", "--all", identifier, "KILL", check=0)

    def test_pause_and_resume_go_by_turns(self):
        for runtime in self.each():
            identifier = runtime.start(self.playground.bundle(*SLEEP))
            self.refused(runtime, "resume", identifier, words="container not paused")
            runtime.pause(identifier)
            self.assertEqual(runtime.state(identifier)["status"], "paused")
            self.refused(runtime, "exec", identifier, "true", words="cannot exec in a paused container", code=255)
            runtime("resume", identifier, check=0)
            self.assertEqual(runtime.state(identifier)["status"], "running")

    def test_a_paused_container_dies_of_kill(self):
        for runtime in self.each():
            identifier = runtime.start(self.playground.bundle(*SLEEP))
            runtime.pause(identifier)
            runtime("kill", identifier, "KILL", check=0)
            runtime.wait_stopped(identifier)

    def test_a_program_that_cannot_be_run_is_told_in_the_callers_words(self):
        with open(os.path.join(self.playground.rootfs, "plain"), "w", encoding="utf-8"):
            pass
        for runtime in self.each():
            for program, words in (("nosuchprogram", 'exec: "nosuchprogram": executable file not found in $PATH'),
                                   ("/no/such", 'exec: "/no/such": stat /no/such: no such file or directory'), ("/plain", "permission denied"),
                                   ("/etc", "is a directory" if runtime.is_ours else "")):
                run = runtime("create", "--bundle", self.playground.bundle(program), runtime.new_id())
                self.assertEqual(run.returncode, 1, run.stderr)
                if runtime.name != "crun":
                    self.assertIn(words, run.stderr.replace('\\"', '"'), runtime.name)
            identifier = runtime.start(self.playground.bundle(*SLEEP))
            run = runtime("exec", identifier, "nosuchprogram")
            self.assertEqual(run.returncode, 1 if runtime.name == "crun" else 255)
            self.assertIn("executable file", run.stderr)

    def test_exit_codes_are_the_programs_own(self):
        for runtime in self.each():
            for script, code in (("exit 0", 0), ("exit 37", 37), ("kill -TERM $$", 143)):
                # A shell that is pid 1 does not die of its own SIGTERM, so it is a child's.
                run = runtime("run", "--bundle", self.playground.bundle("sh", "-c", f"sh -c '{script}'; exit $?"), runtime.new_id())
                self.assertEqual(run.returncode, code, run.stderr)
            identifier = runtime.start(self.playground.bundle(*SLEEP))
            for script, code in (("exit 0", 0), ("exit 37", 37), ("kill -TERM $$", 143)):
                self.assertEqual(runtime("exec", identifier, "sh", "-c", script).returncode, code)

    def test_wrong_command_lines_are_refused(self):
        for runtime in self.each():
            for arguments in (["nosuchcommand"], ["state"], ["create", "--nosuchflag", "x"], ["start"], ["create", "--bundle", "/no/such", "x"],
                              ["create", "--bundle", self.playground.bundle("true"), ".."], ["create", "--bundle", self.playground.bundle("true"), "a/b"],
                              ["kill", "nobody", "NOSUCHSIGNAL"], ["update", "--memory", "lots", "nobody"]):
                if runtime.name == "crun" and ".." in arguments:
                    continue  # crun before 1.28 takes it
                self.assertNotEqual(runtime(*arguments).returncode, 0, f"{runtime.name} accepts {arguments}")
            if runtime.is_ours:
                self.assertIn("unknown command", runtime("nosuchcommand").stderr)
                self.assertIn("flag provided but not defined", runtime("state", "--nosuchflag", "x").stderr)
                self.assertIn("flag needs an argument", runtime("create", "--bundle").stderr)
                self.assertEqual(runtime("exec").returncode, 255)

    def test_a_cgroup_in_use_is_refused_and_left_alone(self):
        # runc 1.1 only warns.
        def change(config):
            config["linux"]["cgroupsPath"] = f"/{self.playground.name}/shared"

        identifier = self.runtime.start(self.playground.bundle(*SLEEP, change=change))
        pid = self.runtime.state(identifier)["pid"]
        other = self.runtime.new_id()
        self.refused(self.runtime, "create", "--bundle", self.playground.bundle(*SLEEP, change=change), other,
                     words="container's cgroup is not empty: 1 process(es) found")
        self.runtime("delete", "--force", other, check=0)
        self.assertTrue(oci.caisson.is_alive(pid), "the cgroup's owner was killed with the container that could not have it")

    def test_a_terminal_needs_somebody_who_takes_it(self):
        for runtime in self.each():
            bundle = self.playground.bundle(*SLEEP, terminal=True)
            self.refused(runtime, "create", "--bundle", bundle, runtime.new_id(), words="cannot allocate tty if runc will detach without setting console socket")
            self.refused(runtime, "create", "--bundle", self.playground.bundle("true"), "--console-socket", "/no/such", runtime.new_id(),
                         words="cannot use console socket if runc will not detach or allocate tty")


class Answers(oci.OciTest):
    """What is printed."""

    with_peers = True

    def test_state_has_the_specifications_members(self):
        def change(config):
            config["annotations"] = {"some.key": "value"}

        for runtime in self.each():
            bundle = self.playground.bundle(*SLEEP, change=change)
            identifier = runtime.create(bundle)
            state = runtime.state(identifier)
            self.assertEqual((state["id"], state["status"], state["bundle"]), (identifier, "created", bundle))
            self.assertEqual(state["annotations"], {"some.key": "value"})
            self.assertTrue(os.path.exists(f"/proc/{state['pid']}"))
            self.assertRegex(state["created"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
            runtime("start", identifier, check=0)
            self.assertEqual(runtime.state(identifier)["status"], "running")
            runtime("kill", identifier, "9", check=0)
            runtime.wait_stopped(identifier)
            self.assertEqual(runtime.state(identifier)["pid"], 0)

    def test_list_is_a_table_json_or_names(self):
        for runtime in self.each():
            ids = sorted(runtime.create(self.playground.bundle(*SLEEP)) for _ in range(2))
            self.assertEqual(runtime("list", "--quiet", check=0).stdout.split(), ids)
            self.assertEqual(runtime("list", "-q", check=0).stdout.split(), ids)
            states = json.loads(runtime("list", "--format", "json", check=0).stdout)
            self.assertEqual(sorted(state["id"] for state in states), ids)
            lines = runtime("list", check=0).stdout.splitlines()
            self.assertEqual(lines[0].split(), ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"])
            self.assertEqual(lines[1].split()[0], ids[0])
            self.assertEqual(lines[1].split()[2], "created")
            self.assertEqual(lines[0].index("STATUS"), lines[1].index("created"), "columns stand below their heads")
            self.assertNotEqual(runtime("list", "--format=yaml").returncode, 0)

    def test_ps_shows_the_containers_processes(self):
        for runtime in self.each():
            identifier = runtime.start(self.playground.bundle("sh", "-c", "sleep 1000 & sleep 1000; true"))
            wait_until(lambda r=runtime, i=identifier: len(json.loads(r("ps", "--format", "json", i, check=0).stdout)) == 3, "three processes")
            pids = json.loads(runtime("ps", "-f", "json", identifier, check=0).stdout)
            self.assertIn(runtime.state(identifier)["pid"], pids)
            table = runtime("ps", identifier, check=0).stdout
            for pid in pids:
                self.assertRegex(table, rf"\b{pid}\b")
            if runtime.name != "crun":
                lines = runtime("ps", identifier, "-o", "pid,comm", check=0).stdout.splitlines()
                self.assertEqual(lines[0].split(), ["PID", "COMMAND"])
                self.assertEqual(len(lines), 4)
                self.assertNotEqual(runtime("ps", identifier, "-o", "comm").returncode, 0, "without a PID column nothing can be chosen")

    def test_version_is_three_lines(self):
        for flag in ("--version", "-v", "-V"):
            lines = self.runtime(flag, check=0).stdout.splitlines()
            self.assertEqual(len(lines), 3)
            self.assertRegex(lines[0], r"^caisson-runtime version \S+$")
            self.assertTrue(lines[1].startswith("commit: "))
            self.assertEqual(lines[2], "spec: 1.3.0")

    def test_help_is_on_standard_output(self):
        for arguments in (["--help"], ["-h"], ["-?"], ["--usage"]):
            self.assertIn("checkpoint ID", self.runtime(*arguments, check=0).stdout)
        self.assertIn("--pidfd-socket VALUE", self.runtime("exec", "--help", check=0).stdout)
        self.assertEqual(self.runtime().returncode, 1)

    def test_features_are_complete(self):
        features = json.loads(self.runtime("features", check=0).stdout)
        self.assertEqual((features["ociVersionMin"], features["ociVersionMax"]), ("1.0.0", "1.3.0"))
        self.assertEqual(features["hooks"], ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"])
        self.assertEqual(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"], "true")
        self.assertIsInstance(features["potentiallyUnsafeConfigAnnotations"], list)
        for name in ("namespaces", "capabilities", "cgroup", "seccomp", "apparmor", "selinux", "intelRdt", "memoryPolicy", "netDevices", "mountExtensions"):
            self.assertIn(name, features["linux"])
        for runtime in self.runtimes[1:]:
            theirs = runtime("features")
            if theirs.returncode == 0:
                for name in json.loads(theirs.stdout)["linux"]:
                    self.assertIn(name, features["linux"])

    def test_spec_writes_a_configuration_that_runs(self):
        bundle = self.playground.path("spec-bundle")
        os.makedirs(bundle)
        os.symlink(self.playground.rootfs, os.path.join(bundle, "rootfs"))
        self.runtime("spec", "--bundle", bundle, check=0)
        again = self.runtime("spec", "-b", bundle)
        self.assertEqual(again.returncode, 1)
        self.assertIn("exists", again.stderr)
        with open(os.path.join(bundle, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        config["process"].update(terminal=False, args=["echo", "made by spec"])
        config["linux"]["cgroupsPath"] = f"/{self.playground.name}/spec"
        with open(os.path.join(bundle, "other.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        run = self.runtime("run", "--bundle", bundle, "--config", "other.json", self.runtime.new_id(), check=0)
        self.assertEqual(run.stdout, "made by spec\n")
        self.runtime("spec", "-b", bundle, "--rootless", "--file", "rootless.json", check=0)
        with open(os.path.join(bundle, "rootless.json"), encoding="utf-8") as file:
            self.assertIn({"type": "user"}, json.load(file)["linux"]["namespaces"])

    def test_errors_go_to_the_log_in_the_form_that_containerds_shim_reads(self):
        for runtime in self.each():
            log = self.playground.path("log-" + runtime.name)
            runtime("state", "nobody", flags=["--log", log, "--log-format", "json"])
            with open(log, encoding="utf-8") as file:
                entries = [json.loads(line) for line in file]
            errors = [entry for entry in entries if entry["level"] == "error"]
            self.assertIn("does not exist", errors[-1]["msg"])
            self.assertRegex(errors[-1]["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
        log = self.playground.path("log-text")
        self.runtime("state", "nobody", flags=["--log=file:" + log])
        with open(log, encoding="utf-8") as file:
            self.assertRegex(file.read(), r'^time="\S+" level=error msg="container does not exist"\n$')
        self.assertIn("want text or json", self.runtime("list", flags=["--log-format", "xml"]).stderr)
        self.assertIn("want error", self.runtime("list", flags=["--log-level", "loud"]).stderr)

    def log_socket(self, path, destination):
        """What arrives at a log daemon's socket, which stands at `path` in a mount namespace of the runtime's own."""
        ours = self.playground.path("log.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(ours)
            receiver.settimeout(20)
            top = "/" + path.split("/")[1]
            script = f"mount -t tmpfs none {top} && mkdir -p {os.path.dirname(path)} && ln -s {ours} {path} && exec \"$@\""
            subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", script, "_",
                            *self.runtime.command("state", "nobody", flags=["--log", destination])], capture_output=True, check=False)
            message = receiver.recv(65536).decode()
        os.unlink(ours)
        return message

    def test_errors_go_to_journald_and_syslog(self):
        message = self.log_socket("/run/systemd/journal/socket", "journald:me")
        self.assertIn("MESSAGE=container does not exist\n", message)
        self.assertIn("PRIORITY=3\n", message)
        self.assertIn("SYSLOG_IDENTIFIER=me\n", message)
        self.assertRegex(self.log_socket("/dev/log", "syslog:me"), r"^<11>me\[\d+\]: container does not exist$")

    def test_the_state_folder_is_never_the_root(self):
        for root in ("/", "//"):
            run = subprocess.run([oci.RUNTIME, "--root", root, "list"], capture_output=True, text=True, check=False)
            self.assertEqual(run.returncode, 1)
            self.assertIn("is not a state folder", run.stderr)

    def test_unknown_cgroup_managers_are_refused_and_disabled_leaves_the_container_where_its_maker_is(self):
        self.assertIn("want cgroupfs", self.runtime("list", flags=["--cgroup-manager", "magic"]).stderr)
        runtime = oci.Runtime(self.playground, oci.RUNTIME, "caisson", ["--cgroup-manager", "disabled"])
        identifier = runtime.start(self.playground.bundle(*SLEEP))
        self.addCleanup(runtime.remove_all)
        with open(f"/proc/{runtime.state(identifier)['pid']}/cgroup", encoding="utf-8") as theirs, open("/proc/self/cgroup", encoding="utf-8") as ours:
            self.assertEqual(theirs.read(), ours.read())
        self.assertIn("no cgroup of its own", runtime("pause", identifier).stderr)


class Signals(oci.OciTest):
    with_peers = True

    def test_signals_have_names_and_numbers(self):
        for runtime in self.each():
            for name in ("TERM", "SIGTERM", "15", "sigterm" if runtime.is_ours else "TERM", None):
                # pid 1 gets only what it has a handler for.
                identifier = runtime.start(self.playground.bundle("sh", "-c", "trap 'exit 3' TERM; touch /ready; while :; do sleep 0.05; done"))
                ready = os.path.join(self.playground.rootfs, "ready")
                wait_until(lambda path=ready: os.path.exists(path), "the trap is set")
                os.unlink(ready)
                runtime("kill", identifier, *([name] if name else []), check=0)
                runtime.wait_stopped(identifier)

    def test_realtime_signals_have_names(self):
        identifier = self.runtime.start(self.playground.bundle(*SLEEP))
        for name in ("RTMIN", "SIGRTMIN+3", "RTMAX-1", "IOT", "CLD", "POLL", "winch", "0"):
            self.runtime("kill", identifier, name, check=0)
        for name in ("RTMIN-1", "RTMAX+1", "RTMIN+99", "SIG", "", "-9", "65", "TERM "):
            self.assertIn("unknown signal", self.runtime("kill", identifier, name).stderr, name)

    def test_all_reaches_every_process(self):
        def change(config):
            config["linux"]["namespaces"] = [entry for entry in config["linux"]["namespaces"] if entry["type"] != "pid"]

        for runtime in self.each():
            identifier = runtime.start(self.playground.bundle("sh", "-c", "sleep 1000 & sleep 1000; true", change=change))
            wait_until(lambda r=runtime, i=identifier: len(json.loads(r("ps", "-f", "json", i).stdout)) == 3, "three processes")
            pids = json.loads(runtime("ps", "-f", "json", identifier).stdout)
            runtime("kill", "--all", identifier, "KILL", check=0)
            wait_until(lambda p=pids: not any(oci.caisson.is_alive(pid) for pid in p), "all are dead")

    def test_a_regular_expression_names_many(self):
        ids = [self.runtime.start(self.playground.bundle(*SLEEP)) for _ in range(2)]
        other = self.runtime.start(self.playground.bundle(*SLEEP))
        expression = "^(" + "|".join(ids) + ")$"
        self.runtime("kill", "--regex", expression, "KILL", check=0)
        for identifier in ids:
            self.runtime.wait_stopped(identifier)
        self.assertEqual(self.runtime.state(other)["status"], "running")
        self.runtime("delete", "-r", expression, check=0)
        self.assertEqual(self.runtime("list", "-q").stdout.split(), [other])
        refused = self.runtime("delete", "--regex", ".*")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("that is not stopped: running", refused.stderr)
        self.assertIn("invalid regular expression", self.runtime("kill", "-r", "(").stderr)
        self.runtime("delete", "-f", "-r", ".*", check=0)
        self.assertEqual(self.runtime("list", "-q").stdout, "")


class Foreground(oci.OciTest):
    with_peers = True

    def test_signals_to_the_runtime_reach_the_program(self):
        for runtime in self.each():
            ready = os.path.join(self.playground.rootfs, "ready")
            script = "trap 'exit 9' TERM; trap 'touch /got-usr1' USR1; touch /ready; while :; do sleep 0.05; done"
            command = runtime.command("run", "--bundle", self.playground.bundle("sh", "-c", script), runtime.new_id())
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            wait_until(lambda path=ready: os.path.exists(path), "the traps are set")
            os.unlink(ready)
            process.send_signal(signal.SIGUSR1)
            got = os.path.join(self.playground.rootfs, "got-usr1")
            wait_until(lambda path=got: os.path.exists(path), "USR1 arrived")
            os.unlink(got)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(20), 9)
            self.assertNotEqual(runtime("state", runtime.ids[-1]).returncode, 0, "it is deleted at its end")

    def test_keep_leaves_the_container_for_a_look(self):
        identifier = self.runtime.new_id()
        self.assertEqual(self.runtime("run", "--keep", "--bundle", self.playground.bundle("sh", "-c", "exit 4"), identifier).returncode, 4)
        self.assertEqual(self.runtime.state(identifier)["status"], "stopped")

    def test_what_the_program_orphans_is_reaped_by_the_runtime(self):
        def change(config):
            config["linux"]["namespaces"] = [entry for entry in config["linux"]["namespaces"] if entry["type"] != "pid"]

        script = "(sh -c 'echo $PPID; sleep 0.3' &) ; sleep 0.1; (sh -c 'sleep 0.15; cut -d\" \" -f4 /proc/self/stat' &); sleep 1"
        process = subprocess.Popen(self.runtime.command("run", "--bundle", self.playground.bundle("sh", "-c", script, change=change), self.runtime.new_id()),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        output, _ = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 0, output)

    def test_a_terminal_in_the_foreground_follows_our_size(self):
        import fcntl
        import pty
        import struct
        import termios
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 91, 0, 0))
        script = "stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"
        process = subprocess.Popen(self.runtime.command("run", "--bundle", self.playground.bundle("sh", "-c", script, terminal=True), self.runtime.new_id()),
                                   stdin=slave, stdout=slave, stderr=slave)
        output = b""

        def read_until(text):
            nonlocal output
            deadline = time.monotonic() + 30
            while text not in output and time.monotonic() < deadline:
                if select.select([master], [], [], 0.2)[0]:
                    output += os.read(master, 4096)
            self.assertIn(text, output)

        read_until(b"ready")
        self.assertIn(b"31 91", output)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        process.send_signal(signal.SIGWINCH)
        read_until(b"40 120")
        self.assertEqual(process.wait(20), 0)
        os.close(master)
        os.close(slave)


class Handed(oci.OciTest):
    """What the caller gives and gets besides words: pid files, sockets, descriptors."""

    with_peers = True

    def test_the_pid_file_is_the_number_alone(self):
        for runtime in self.each():
            path = self.playground.path("pid-" + runtime.name)
            identifier = runtime.create(self.playground.bundle(*SLEEP), "--pid-file", path)
            with open(path, encoding="utf-8") as file:
                self.assertEqual(file.read(), str(runtime.state(identifier)["pid"]))
        with self.subTest("a relative path starts where the caller stands"):
            bundle = self.playground.bundle(*SLEEP)
            self.runtime.launch("create", "-b", os.path.relpath(bundle, self.playground.folder), "--pid-file=rel", self.runtime.new_id(), cwd=self.playground.folder)
            self.assertTrue(os.path.exists(self.playground.path("rel")))

    def test_the_console_socket_may_have_a_long_path(self):
        folder = os.path.join(self.playground.folder, "x" * 120)
        os.mkdir(folder)
        path = os.path.join(folder, "console.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            fd = os.open(folder, os.O_PATH)
            listener.bind(f"/proc/self/fd/{fd}/console.sock")
            os.close(fd)
            listener.listen()
            received = []
            taker = threading.Thread(target=lambda: received.append(receive_fd(listener)))
            taker.start()
            identifier = self.runtime.create(self.playground.bundle("sh", "-c", "tty; sleep 1000", terminal=True), "--console-socket", path)
            taker.join(20)
        payload, master = received[0]
        self.assertTrue(payload)
        self.runtime("start", identifier, check=0)
        text = b""
        while b"/dev/" not in text:
            self.assertTrue(select.select([master], [], [], 20)[0], text)
            text += os.read(master, 4096)
        os.close(master)

    def test_a_pidfd_is_sent_for_create_and_exec(self):
        identifier = None
        for command in ("create", "exec"):
            path = self.playground.path(f"pidfd-{command}.sock")
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
                listener.listen()
                received = []
                taker = threading.Thread(target=lambda to=received, by=listener: to.append(receive_fd(by)))
                taker.start()
                if command == "create":
                    identifier = self.runtime.create(self.playground.bundle(*SLEEP), "--pidfd-socket", path)
                    expected = self.runtime.state(identifier)["pid"]
                    self.runtime("start", identifier, check=0)
                else:
                    pid_file = self.playground.path("pidfd-exec-pid")
                    self.runtime.launch("exec", "-d", "--pid-file", pid_file, "--pidfd-socket", path, identifier, *SLEEP)
                    with open(pid_file, encoding="utf-8") as file:
                        expected = int(file.read())
                taker.join(20)
            fd = received[0][1]
            with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8") as file:
                self.assertIn(f"Pid:\t{expected}\n", file.read())
            os.close(fd)

    def test_descriptors_are_passed_when_asked_for(self):
        read_end, write_end = os.pipe()
        os.write(write_end, b"through 3\n")
        os.close(write_end)

        def run(runtime, *flags, environment=None):
            bundle = self.playground.bundle("sh", "-c", "echo fds $LISTEN_FDS pid $LISTEN_PID; ls /proc/self/fd")
            command = " ".join(["exec", *runtime.command("run", "--bundle", bundle, *flags, runtime.new_id()), f"3<&{read_end}", f"4<&{read_end}"])
            return subprocess.run(["bash", "-c", command], pass_fds=[read_end], capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL,
                                  env={**os.environ, **(environment or {})}).stdout.split()

        for runtime in self.each():
            self.assertNotIn("4", run(runtime)[6:], "nothing is passed unasked")
            self.assertIn("4", run(runtime, "--preserve-fds", "2"))
        output = run(self.runtime, environment={"LISTEN_FDS": "1"})
        self.assertEqual(output[:4], ["fds", "1", "pid", "1"])
        output = run(self.runtime, "--preserve-fds=1", environment={"LISTEN_FDS": "1"})
        self.assertIn("4", output[4:])
        self.assertEqual(run(self.runtime, environment={"LISTEN_FDS": "1", "LISTEN_PID": "1"})[:3], ["fds", "pid", "0", "1"][:2] + ["0"],
                         "descriptors that are meant for another process")
        os.close(read_end)

    def test_a_descriptor_to_be_passed_that_is_not_open_is_named(self):
        """Its number would be given to a descriptor of the runtime, and with that to the container."""
        words = "unable to stat preserved-fd 0 (of 2)"
        identifier = self.runtime.start(self.playground.bundle(*SLEEP))
        self.assertIn(words, self.runtime("exec", "--preserve-fds", "2", identifier, "true", check=255).stderr)
        # runc's words, which it says only when none of its own descriptors has the number.
        run = self.runtime("run", "--preserve-fds", "2", "--bundle", self.playground.bundle("true"), self.runtime.new_id(), check=1)
        self.assertIn(words, run.stderr)

    def notify_socket(self):
        path = self.playground.path("notify.sock")
        with contextlib.suppress(OSError):
            os.unlink(path)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(path)
        receiver.settimeout(20)
        return receiver, {**os.environ, "NOTIFY_SOCKET": path}

    def notifying_program(self):
        """A static program that says READY=1 to $NOTIFY_SOCKET; busybox has none."""
        binary = os.path.join(self.playground.rootfs, "bin", "ready")
        if not os.path.exists(binary):
            source = self.playground.path("ready.c")
            with open(source, "w", encoding="utf-8") as file:
                file.write("""#include <sys/socket.h>
#include <sys/un.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>
int main(void) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  strncpy(a.sun_path, getenv("NOTIFY_SOCKET"), sizeof a.sun_path - 1);
  int s = socket(AF_UNIX, SOCK_DGRAM, 0);
  const char text[] = "STATUS=x\\nREADY=1\\nMAINPID=77";
  if (sendto(s, text, sizeof text - 1, 0, (void*)&a, sizeof a) < 0) return 1;
  for (;;) pause();
}
""")
            subprocess.run(["cc", "-static", "-o", binary, source], check=True)
        return "ready"

    def test_readiness_is_handed_to_the_service_manager(self):
        if not shutil.which("cc"):
            self.skipTest("needs a C compiler: tools/dependencies build")
        for way in ("start", "run"):
            receiver, environment = self.notify_socket()
            with receiver:
                identifier = self.runtime.new_id()
                bundle = self.playground.bundle(self.notifying_program())
                if way == "start":
                    self.runtime.launch("create", "--bundle", bundle, identifier, env=environment)
                    self.runtime("start", identifier, check=0, env=environment)
                else:
                    self.runtime.launch("run", "-d", "--bundle", bundle, identifier, env=environment)
                # Nothing else of a container is believed.
                self.assertEqual(receiver.recv(4096).decode(), f"READY=1\nMAINPID={self.runtime.state(identifier)['pid']}")

    def test_a_service_in_the_foreground_is_the_runtime_itself(self):
        if not shutil.which("cc"):
            self.skipTest("needs a C compiler: tools/dependencies build")
        receiver, environment = self.notify_socket()
        with receiver:
            process = subprocess.Popen(self.runtime.command("run", "--bundle", self.playground.bundle(self.notifying_program()), self.runtime.new_id()),
                                       env=environment, stdin=subprocess.DEVNULL)
            self.assertEqual(receiver.recv(4096).decode(), f"READY=1\nMAINPID={process.pid}")
        self.runtime("kill", self.runtime.ids[-1], "KILL", check=0)
        self.assertEqual(process.wait(20), 137)


class Exec(oci.OciTest):
    with_peers = True

    def test_flags_change_the_process(self):
        for runtime in self.each():
            identifier = runtime.start(self.playground.bundle(*SLEEP))

            def text(*arguments, runtime=runtime, identifier=identifier):
                flags, command = arguments[:-1], arguments[-1]
                return runtime("exec", *flags, identifier, "sh", "-c", command, check=0).stdout.strip()

            self.assertEqual(text("--cwd", "/etc", "pwd"), "/etc")
            self.assertEqual(text("--env", "A=1", "--env=B=2", "echo $A$B"), "12")
            self.assertEqual(text("-e", "A=1", "-e", "B=2", "echo $A$B"), "12")
            self.assertEqual(text("--user", "1000:100", "echo $(id -u):$(id -g)"), "1000:100")
            self.assertEqual(text("-u=7", "id -u"), "7")
            self.assertIn("00000000", text("--user", "1000", "grep CapAmb /proc/self/status"))
            with_capability = int(text("--cap", "CAP_SYS_PTRACE", "grep CapEff /proc/self/status").split()[1], 16)
            self.assertTrue(with_capability & 1 << 19)
            if runtime.name != "crun":
                self.assertIn("55", text("-g", "55", "-g", "66", "id -G").split())
            self.assertEqual(text("--no-new-privs", "grep NoNewPrivs /proc/self/status").split()[1], "1")

    def test_users_are_whole_numbers(self):
        identifier = self.runtime.start(self.playground.bundle(*SLEEP))
        for user in ("", "1:", "0x1", "-1", "4294967296", "1 ", ":1", "root"):
            run = self.runtime("exec", "--user", user, identifier, "true")
            self.assertEqual(run.returncode, 255, user)
            self.assertIn("--user", run.stderr)

    def test_the_process_comes_from_a_file(self):
        process = {"terminal": False, "cwd": "/tmp", "args": ["sh", "-c", "pwd; echo $X"], "env": ["PATH=/bin", "X=from file"], "user": {"uid": 0, "gid": 0}}
        path = self.playground.path("process.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(process, file)
        for runtime in self.each():
            identifier = runtime.start(self.playground.bundle(*SLEEP))
            self.assertEqual(runtime("exec", "--process", path, identifier, check=0).stdout, "/tmp\nfrom file\n")

    def test_detached_programs_leave_their_pid(self):
        for runtime in self.each():
            identifier = runtime.start(self.playground.bundle(*SLEEP))
            path = self.playground.path("exec-pid-" + runtime.name)
            runtime.launch("exec", "--detach", "--pid-file", path, identifier, *SLEEP)
            with open(path, encoding="utf-8") as file:
                self.assertIn(int(file.read()), json.loads(runtime("ps", "-f", "json", identifier).stdout))

    def test_a_paused_container_is_entered_on_demand(self):
        identifier = self.runtime.start(self.playground.bundle(*SLEEP))
        self.runtime.pause(identifier)
        process = subprocess.Popen(self.runtime.command("exec", "--ignore-paused", identifier, "echo", "thawed"), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, text=True)
        wait_until(lambda: len(json.loads(self.runtime("ps", "-f", "json", identifier).stdout)) == 2, "the program is inside")
        self.runtime("resume", identifier, check=0)
        self.assertEqual(process.communicate(timeout=20)[0], "thawed\n")

    def test_a_program_can_go_to_a_cgroup_below_the_containers(self):
        identifier = self.runtime.start(self.playground.bundle(*SLEEP))
        parents = [path for path in self.playground.cgroups() if os.path.basename(path)[0] == "c"]
        for parent in parents:
            sub = os.path.join(parent, "sub")
            os.mkdir(sub)
            for name in ("cpuset.cpus", "cpuset.mems"):  # a new cpuset of v1 is empty and takes nobody
                if os.path.exists(os.path.join(sub, name)) and os.path.exists(os.path.join(parent, "tasks")):
                    with open(os.path.join(parent, name), encoding="utf-8") as theirs, open(os.path.join(sub, name), "w", encoding="utf-8") as file:
                        file.write(theirs.read())
        output = self.runtime("exec", "--cgroup", "sub", identifier, "cat", "/proc/self/cgroup", check=0).stdout
        self.assertIn("/sub\n", output)
        lines = [line for line in output.splitlines() if self.playground.name in line]
        self.assertTrue(all(line.endswith("/sub") for line in lines), output)
        if any(os.path.basename(os.path.dirname(os.path.dirname(path))) == "memory" for path in parents):
            output = self.runtime("exec", "--cgroup", "memory:sub", identifier, "cat", "/proc/self/cgroup", check=0).stdout
            self.assertEqual([line.split(":")[1] for line in output.splitlines() if line.endswith("/sub")], ["memory"])
        for path, words in (("../x", "not allowed"), ("nosuch", "no cgroup nosuch"), ("nosuch:sub", "nosuch controller is not available")):
            run = self.runtime("exec", "--cgroup", path, identifier, "true")
            self.assertEqual(run.returncode, 255)
            self.assertIn(words, run.stderr)

    def test_labels_without_their_module_are_errors(self):
        identifier = self.runtime.start(self.playground.bundle(*SLEEP))
        if not os.path.isdir("/sys/kernel/security/apparmor"):
            self.assertIn("apparmor", self.runtime("exec", "--apparmor", "profile", identifier, "true").stderr.lower())
        if not os.path.isdir("/sys/fs/selinux"):
            self.assertIn("selinux", self.runtime("exec", "--process-label", "system_u:x:y:z", identifier, "true").stderr.lower())


class Limits(oci.OciTest):
    with_peers = True

    def limit(self, runtime, identifier, v1, v2):
        return oci.caisson.read_limit(runtime.state(identifier)["pid"], v1, v2)

    def test_update_takes_flags_and_files(self):
        for runtime in self.each():
            identifier = runtime.start(self.playground.bundle(*SLEEP))
            runtime("update", "--memory", "67108864", "--pids-limit", "50", identifier, check=0)
            self.assertEqual(self.limit(runtime, identifier, "memory/memory.limit_in_bytes", "memory.max"), "67108864")
            self.assertEqual(self.limit(runtime, identifier, "pids/pids.max", "pids.max"), "50")
            runtime("update", "-r", "-", identifier, stdin=json.dumps({"pids": {"limit": 60}, "cpu": {"shares": 512}}), check=0)
            self.assertEqual(self.limit(runtime, identifier, "pids/pids.max", "pids.max"), "60")
            path = self.playground.path("resources.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"memory": {"limit": 134217728}}, file)
            runtime("update", "--resources", path, identifier, check=0)
            self.assertEqual(self.limit(runtime, identifier, "memory/memory.limit_in_bytes", "memory.max"), "134217728")
            runtime("update", "--cpu-period=50000", "--cpu-quota", "25000", "--cpu-share", "256", identifier, check=0)
            runtime("update", "--cpuset-cpus", "0", "--cpuset-mems", "0", identifier, check=0)

    def test_flags_without_effect_or_support_say_so(self):
        identifier = self.runtime.start(self.playground.bundle(*SLEEP))
        self.runtime("update", "--kernel-memory", "1048576", identifier, check=0)
        self.assertIn("no such limit any more", self.runtime("update", "--kernel-memory-tcp", "1048576", identifier, flags=["--debug"], check=0).stderr)
        self.assertIn("resctrl", self.runtime("update", "--l3-cache-schema", "L3:0=f", identifier).stderr)
        for flag in ("--memory", "--cpu-share", "--cpu-quota", "--pids-limit", "--blkio-weight", "--cpu-idle", "--cpu-burst", "--cpu-rt-period"):
            run = self.runtime("update", flag, "x", identifier)
            self.assertEqual(run.returncode, 1)
            self.assertIn(flag, run.stderr)

    def test_events_give_one_object_of_statistics(self):
        for runtime in self.each():
            if runtime.name == "crun":
                continue  # has no events
            identifier = runtime.start(self.playground.bundle("sh", "-c", "dd if=/dev/zero of=/dev/null bs=1M count=50 2>/dev/null; sleep 1000"))
            event = json.loads(runtime("events", "--stats", identifier, check=0).stdout)
            self.assertEqual((event["type"], event["id"]), ("stats", identifier))
            data = event["data"]
            self.assertGreater(data["cpu"]["usage"]["total"], 0)
            self.assertGreater(data["memory"]["usage"]["usage"], 0)
            self.assertIn("limit", data["memory"]["usage"])
            self.assertGreaterEqual(data["pids"]["current"], 1)
            for name in ("cpuset", "blkio", "hugetlb", "intel_rdt", "network_interfaces"):
                self.assertIn(name, data)
            self.assertIn("throttling", data["cpu"])
        self.assertIn("is not running", self.runtime("events", "--stats", self.stopped()).stderr)
        running = self.runtime.start(self.playground.bundle(*SLEEP))
        for interval in ("often", "0s", "-1s"):
            self.assertIn("--interval", self.runtime("events", "--interval", interval, running).stderr)

    def stopped(self):
        identifier = self.runtime.start(self.playground.bundle("true"))
        self.runtime.wait_stopped(identifier)
        return identifier

    def test_events_go_on_until_the_container_ends(self):
        identifier = self.runtime.start(self.playground.bundle(*SLEEP))
        process = subprocess.Popen(self.runtime.command("events", "--interval", "20ms", identifier), stdout=subprocess.PIPE, text=True)
        for _ in range(3):
            self.assertEqual(json.loads(process.stdout.readline())["type"], "stats")
        self.runtime("kill", identifier, "KILL", check=0)
        process.stdout.read()
        self.assertEqual(process.wait(20), 0)
        process.stdout.close()

    def test_events_tell_of_a_kill_for_lack_of_memory(self):
        def change(config):
            config["linux"]["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}

        script = "while [ ! -e /go ]; do sleep 0.05; done; sh -c 'x=x; while :; do x=$x$x; done'; sleep 1000"
        identifier = self.runtime.start(self.playground.bundle("sh", "-c", script, change=change))
        process = subprocess.Popen(self.runtime.command("events", "--interval", "1h", identifier), stdout=subprocess.PIPE, text=True)
        self.assertEqual(json.loads(process.stdout.readline())["type"], "stats")
        go = os.path.join(self.playground.rootfs, "go")
        with open(go, "w", encoding="utf-8"):
            pass
        self.assertTrue(select.select([process.stdout], [], [], 30)[0], "no event came")
        self.assertEqual(json.loads(process.stdout.readline()), {"type": "oom", "id": identifier})
        os.unlink(go)
        self.runtime("kill", identifier, "KILL", check=0)
        process.stdout.read()
        process.wait(20)
        process.stdout.close()


class Mounts(oci.OciTest):
    def mounts_file(self, *mounts):
        self.playground.count += 1
        path = self.playground.path(f"mounts{self.playground.count}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(mounts, file)
        return path

    def test_mounts_are_added_to_a_running_container_and_taken_away(self):
        source = self.playground.path("volume")
        os.makedirs(source, exist_ok=True)
        with open(os.path.join(source, "file"), "w", encoding="utf-8") as file:
            file.write("content")
        before = oci.caisson.mounts_mentioning("")

        def with_user_namespace(config):
            config["linux"]["namespaces"].append({"type": "user"})
            mapping = [{"containerID": 0, "hostID": 0, "size": 65536}]
            config["linux"].update(uidMappings=mapping, gidMappings=mapping)

        for change in (None, with_user_namespace):
            identifier = self.runtime.start(self.playground.bundle(*SLEEP, change=change))
            file = self.mounts_file({"destination": "/added", "type": "bind", "source": source, "options": ["rbind", "ro"]},
                                    {"destination": "/fresh", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]})
            self.runtime("mounts", "add", identifier, file, check=0)
            self.assertEqual(self.runtime("exec", identifier, "cat", "/added/file", check=0).stdout, "content")
            self.assertNotEqual(self.runtime("exec", identifier, "touch", "/added/new").returncode, 0)
            self.runtime("exec", identifier, "touch", "/fresh/new", check=0)
            self.runtime("mounts", "remove", identifier, file, check=0)
            self.assertNotEqual(self.runtime("exec", identifier, "cat", "/added/file").returncode, 0)
            gone = self.runtime("mounts", "remove", identifier, file)
            self.assertEqual(gone.returncode, 1)
            self.assertIn("nothing is mounted there", gone.stderr)
        self.assertEqual(oci.caisson.mounts_mentioning(self.playground.folder), [])
        self.assertEqual(len(oci.caisson.mounts_mentioning("")), len(before))

    def test_bad_mounts_are_refused(self):
        identifier = self.runtime.start(self.playground.bundle(*SLEEP))
        for arguments, words in ((["add", identifier], "mounts needs"), (["change", identifier, "x"], "mounts needs"), (["add", identifier, "/no/such"], "mounts"),
                                 (["add", identifier, self.mounts_file({"destination": "/x", "type": "bind", "source": "/no/such"})], "does not exist"),
                                 (["add", "nobody", self.mounts_file()], "does not exist")):
            run = self.runtime("mounts", *arguments)
            self.assertEqual(run.returncode, 1)
            self.assertIn(words, run.stderr)


if __name__ == "__main__":
    oci.main()

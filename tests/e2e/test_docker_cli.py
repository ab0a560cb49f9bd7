#!/usr/bin/env python3
"""Docker's own command line against our API: what it sends, prints and exits with must be what it does with Docker."""

import contextlib
import http.client
import io
import json
import os
import shutil
import socket
import tarfile
import time
import unittest

import caisson
from caisson import wait_until
from terminal import Terminal


class DockerTest(caisson.EngineTest):
    def docker(self, *arguments, check=0, **options):
        return self.engine.docker(*arguments, check=check, **options)

    def out(self, *arguments, **options):
        out = self.docker(*arguments, **options).stdout
        return (out if isinstance(out, str) else out.decode()).rstrip("\n")

    def detached(self, *arguments, command=("sleep", "1000")):
        name = self.name()
        self.docker("run", "-d", "--name", name, *arguments, "busybox", *command)
        return name

    def terminal(self, *arguments):
        return Terminal(self.engine.as_user([shutil.which("docker"), *arguments]), self.engine.environment())


class Run(DockerTest):
    def test_streams_and_exit_code(self):
        run = self.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", check=7)
        self.assertEqual((run.stdout, run.stderr), ("out\n", "err\n"))
        self.assertEqual(self.out("ps", "-aq"), "")

    def test_start_errors_give_dockers_exit_codes(self):
        for command, code in ((["/no/such"], 127), (["nosuch"], 127), (["/etc/not-executable"], 126), (["/etc"], 126)):
            with self.subTest(command=command):
                run = self.docker("run", "--rm", "busybox", *command, check=code)
                self.assertIn("Error response from daemon", run.stderr)
        self.assertEqual(self.out("ps", "-aq"), "")

    def test_a_missing_image_is_said(self):
        run = self.docker("run", "--rm", "nosuch:1", "true", check=125)
        self.assertIn("nosuch:1", run.stderr)

    def test_stdin_arrives_whole_and_output_goes_on_after_it(self):
        data = os.urandom(2 << 20)
        run = self.docker("run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 3", stdin=data, text=False, check=3)
        self.assertEqual(run.stdout, data)
        run = self.docker("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo eof; sleep 0.2; echo later", stdin="x\n")
        self.assertEqual(run.stdout, "x\neof\nlater\n")

    def test_many_short_runs_lose_no_byte_and_no_code(self):
        for number in range(10):
            run = self.docker("run", "--rm", "busybox", "sh", "-c", f"echo {number}; exit {number}", check=number)
            self.assertEqual(run.stdout, f"{number}\n")

    def test_terminal_with_size_and_resize(self):
        terminal = self.terminal("run", "--rm", "-it", "busybox", "sh", "-c",
                                 "echo ready; while read word; do case $word in size) stty size;; end) exit 5;; esac; done")
        terminal.read_until(b"ready")
        terminal.ask_size_until(b"33 99")
        terminal.resize(20, 50)
        # docker 28 begins to watch the window only after its first resize; a signal before that it forwards to the program (kill?signal=WINCH)
        # and sends no new size.
        terminal.ask_size_until(b"20 50", signal_again=True)
        terminal.type(b"end\n")
        _, code = terminal.wait()
        self.assertEqual(code, 5)

    def test_detach_keys_leave_the_container_running(self):
        name = self.name()
        terminal = self.terminal("run", "-it", "--name", name, "busybox", "sh", "-c", "echo ready; cat")
        terminal.read_until(b"ready")
        terminal.type(b"\x10\x11")
        _, code = terminal.wait()
        self.assertEqual(code, 0)
        self.assertEqual(self.out("inspect", "-f", "{{.State.Running}}", name), "true")

    def test_options_reach_the_container(self):
        out = self.out("run", "--rm", "-e", "A=b c", "-w", "/tmp", "-u", "1000:1000", "--hostname", "box", "-l", "x=y", "--tmpfs", "/t:size=1m",
                       "--read-only", "--memory", "64m", "--pids-limit", "50", "--cap-drop", "ALL", "busybox", "sh", "-c",
                       'echo "$A" $PWD $(id -u) $(hostname); touch /no 2>/dev/null || echo read-only; touch /t/x && echo tmpfs')
        self.assertEqual(out, "b c /tmp 1000 box\nread-only\ntmpfs")

    def test_wrong_options_are_refused_by_name(self):
        for options, text in ((["--memory", "1"], "memory"), (["--link", "nosuch:b"], "nosuch"), (["--gpus", "all"], "could not select device driver \"\" with capabilities: [[gpu]]"),
                              (["--network", "nosuch"], "nosuch"), (["--runtime", "kata"], "kata"), (["--security-opt", "bogus=1"], "bogus"),
                              (["--log-driver", "syslog"], "syslog"), (["-v", "/x:relative"], "relative"), (["--cap-add", "NOSUCH"], "NOSUCH")):
            with self.subTest(options=options):
                run = self.docker("run", "--rm", *options, "busybox", "true", check=125)
                self.assertIn(text.lower(), run.stderr.lower())
        self.assertEqual(self.out("ps", "-aq"), "")


class Life(DockerTest):
    def test_a_start_that_fails_is_said_once(self):
        run = self.engine.docker("run", "--rm", "--network", "no-such", "busybox", "true", check=125)
        self.assertIn("network no-such not found", run.stderr)
        self.assertNotIn("Error waiting for container", run.stderr)

    def test_create_start_stop_wait_rm(self):
        name = self.name()
        container = self.out("create", "--name", name, "busybox", "sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done")
        self.assertRegex(container, "^[0-9a-f]{64}$")
        self.assertIn("Created", self.out("ps", "-a", "--filter", f"name={name}"))
        self.docker("start", name)
        wait_until(lambda: "up" in self.out("logs", name), "the program runs")
        self.docker("stop", name)
        self.assertEqual(self.out("wait", name), "3")
        self.assertIn("Exited (3)", self.out("ps", "-a", "--filter", f"name={name}"))
        self.docker("restart", name)
        self.assertEqual(self.out("inspect", "-f", "{{.State.Status}}", name), "running")
        self.assertIn("running", self.docker("rm", name, check=1).stderr)
        self.docker("rm", "-f", name)
        self.assertIn("No such container", self.docker("rm", name, check=1).stderr)
        self.docker("rm", "-f", name)

    def test_start_attached_gives_output_and_code(self):
        name = self.name()
        self.docker("create", "--name", name, "busybox", "sh", "-c", "echo once more; exit 4")
        for _ in range(2):
            run = self.docker("start", "-a", name, check=4)
            self.assertEqual(run.stdout, "once more\n")

    @caisson.needs_cgroups
    def test_kill_pause_unpause(self):
        name = self.detached()
        self.docker("pause", name)
        self.assertIn("(Paused)", self.out("ps", "--filter", f"name={name}"))
        self.assertIn("paused", self.docker("exec", name, "true", check=1).stderr)
        self.docker("unpause", name)
        self.docker("unpause", name, check=1)
        self.docker("kill", name)
        self.assertEqual(self.out("wait", name), "137")
        self.assertIn("not running", self.docker("kill", name, check=1).stderr)

    def test_names_rename_and_conflict(self):
        name = self.detached()
        new = self.name()
        self.docker("rename", name, new)
        self.assertEqual(self.out("inspect", "-f", "{{.Name}}", new), "/" + new)
        self.assertIn("Conflict", self.docker("create", "--name", new, "busybox", check=1).stderr)

    @caisson.needs_cgroups
    def test_update_and_top_and_stats(self):
        name = self.detached("--memory", "64m")
        self.docker("update", "--memory", "32m", "--memory-swap", "64m", name)
        self.assertEqual(self.out("inspect", "-f", "{{.HostConfig.Memory}}", name), str(32 << 20))
        self.assertIn("sleep 1000", self.out("top", name))
        stats = self.out("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", name)
        self.assertRegex(stats, rf"^{name} .*iB / 32MiB \d+$")
        self.assertIn(name, self.out("stats", "--no-stream"))

    def test_prune(self):
        name = self.name()
        self.docker("create", "--name", name, "-l", "prune=me", "busybox")
        out = self.out("container", "prune", "-f", "--filter", "label=prune=me")
        self.assertIn("Deleted Containers", out)
        self.assertEqual(self.out("ps", "-aq", "--filter", "label=prune=me"), "")


class Streams(DockerTest):
    def test_logs_since_tail_timestamps(self):
        name = self.name()
        self.docker("run", "--name", name, "busybox", "sh", "-c", "echo one; echo two; echo three >&2")
        logs = self.docker("logs", name)
        self.assertEqual((logs.stdout, logs.stderr), ("one\ntwo\n", "three\n"))
        self.assertEqual(self.docker("logs", "--tail", "1", name).stderr, "three\n")
        self.assertRegex(self.out("logs", "-t", name).splitlines()[0], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z one$")
        self.assertEqual(self.out("logs", "--since", "2100-01-01T00:00:00Z", name), "")

    def test_logs_follow_ends_with_the_container(self):
        name = self.detached(command=("sh", "-c", "echo first; sleep 0.3; echo last"))
        self.assertEqual(self.out("logs", "-f", name), "first\nlast")

    def test_attach_sees_output_and_the_exit_code(self):
        name = self.detached("-i", command=("sh", "-c", "read x; echo got $x; exit 9"))
        run = self.docker("attach", name, stdin="word\n", check=9)
        self.assertEqual(run.stdout, "got word\n")

    def test_exec_streams_codes_and_options(self):
        name = self.detached()
        run = self.docker("exec", name, "sh", "-c", "echo out; echo err >&2; exit 5", check=5)
        self.assertEqual((run.stdout, run.stderr), ("out\n", "err\n"))
        self.assertEqual(self.out("exec", "-i", name, "cat", stdin="through\n"), "through")
        self.assertEqual(self.out("exec", "-e", "A=1", "-w", "/tmp", "-u", "1000", name, "sh", "-c", "echo $A $PWD $(id -u)"), "1 /tmp 1000")
        self.docker("exec", "-d", name, "touch", "/made")
        wait_until(lambda: self.docker("exec", name, "test", "-e", "/made", check=None).returncode == 0, "exec -d ran")
        self.docker("exec", name, "nosuch", check=127)
        self.docker("exec", name, "/etc/not-executable", check=126)

    def test_exec_on_a_terminal(self):
        name = self.detached()
        terminal = self.terminal("exec", "-it", name, "sh")
        terminal.type(b"tty; stty size; exit 8\n")
        terminal.read_until(b"33 99")
        _, code = terminal.wait()
        self.assertEqual(code, 8)

    def test_events_of_a_run(self):
        since = str(time.time() - 1)
        name = self.name()
        self.docker("run", "--rm", "--name", name, "busybox", "true")
        out = self.out("events", "--since", since, "--until", str(time.time() + 0.5), "--filter", f"container={name}", "--format", "{{.Action}}")
        actions = out.splitlines()
        order = [actions.index(action) for action in ("create", "attach", "start", "die", "destroy")]
        self.assertEqual(order, sorted(order), actions)


class Objects(DockerTest):
    def test_images_tag_rm_history_inspect(self):
        self.docker("tag", "busybox", "localhost:5000/t/bb:1")
        self.assertIn("localhost:5000/t/bb", self.out("images"))
        self.assertEqual(self.out("inspect", "-f", "{{.Os}}", "localhost:5000/t/bb:1"), "linux")
        self.assertEqual(self.out("images", "-q", "--filter", "reference=localhost:5000/*/bb"), self.out("images", "-q", "busybox"))
        self.out("history", "busybox")
        self.assertIn("Untagged: localhost:5000/t/bb:1", self.out("rmi", "localhost:5000/t/bb:1"))
        self.assertIn("No such", self.docker("inspect", "nosuch", check=1).stderr)
        name = self.detached()
        self.docker("rmi", "busybox", check=1)
        self.docker("rm", "-f", name)

    def test_save_load_and_import(self):
        archive = self.docker("save", "busybox", text=False).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            self.assertIn("manifest.json", tar.getnames())
        self.assertIn("Loaded image: busybox:latest", self.out("load", stdin=archive, text=False))
        image = self.out("import", "-c", 'CMD ["echo","imported"]', "-c", "ENV PATH=/bin", "-", "imported:1", stdin=caisson.busybox_rootfs(), text=False)
        self.assertRegex(image, "^sha256:[0-9a-f]{64}$")
        self.assertEqual(self.out("run", "--rm", "imported:1"), "imported")
        self.docker("rmi", "imported:1")
        self.assertIn("rror", self.docker("load", stdin=b"no tar at all" * 1000, text=False, check=1).stderr.decode())

    def test_volumes(self):
        self.docker("volume", "create", "--label", "a=b", "data")
        self.assertEqual(self.out("volume", "ls", "-q", "--filter", "label=a=b"), "data")
        self.docker("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/f")
        self.assertEqual(self.out("run", "--rm", "-v", "data:/d:ro", "busybox", "cat", "/d/f"), "kept")
        name = self.detached("-v", "data:/d")
        self.assertIn("in use", self.docker("volume", "rm", "data", check=1).stderr)
        self.assertEqual(self.out("inspect", "-f", "{{(index .Mounts 0).Name}}", name), "data")
        self.docker("rm", "-f", name)
        self.docker("volume", "rm", "data")
        self.assertIn("no such volume", self.docker("volume", "inspect", "data", check=1).stderr.lower())
        self.docker("volume", "prune", "-f")

    def test_networks_and_ports(self):
        names = self.out("network", "ls", "--format", "{{.Name}}").splitlines()
        self.assertEqual(sorted(names), ["bridge", "host", "none"])
        name = self.detached("-p", "127.0.0.1:0:80", command=("httpd", "-f", "-p", "80", "-h", "/etc"))
        port = self.out("port", name, "80/tcp").rpartition(":")[2]
        self.assertIn(f"{port}->80/tcp", self.out("ps", "--filter", f"name={name}"))

        def fetched():
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=5)
                connection.request("GET", "/os-release")
                return connection.getresponse().read() == b"ID=busybox\nPRETTY_NAME=busybox\n"
            return False

        wait_until(fetched, "the published port answers")
        address = self.out("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name)
        self.assertIn(address, self.out("network", "inspect", "bridge"))
        self.docker("network", "inspect", "nosuch", check=1)
        self.assertIn("not found", self.docker("network", "create", "-d", "nosuch", "n1", check=1).stderr)

    def test_system(self):
        self.assertIn("Caisson", self.out("version"))
        info = self.out("info")
        self.assertIn("Storage Driver: overlay2", info)
        self.assertIn("Images", self.out("system", "df"))
        self.out("system", "df", "-v")
        self.out("system", "prune", "-f")
        self.assertIn("swarm manager", self.docker("node", "ls", check=1).stderr)
        self.assertTrue(self.out("commit", self.detached()).startswith("sha256:"))

    def test_inspect_gives_back_what_was_asked(self):
        name = self.name()
        self.docker("create", "--name", name, "-v", "/tmp:/host:ro", "--restart", "on-failure:3", "-e", "A=b", "--shm-size", "32m", "--ulimit", "nofile=10:20",
                    "--security-opt", "no-new-privileges", "--label", "k=v", "--stop-signal", "INT", "--init", "--dns", "9.9.9.9", "busybox")
        shown = json.loads(self.out("inspect", name))[0]
        host = shown["HostConfig"]
        self.assertEqual(host["Binds"], ["/tmp:/host:ro"])
        self.assertEqual(host["RestartPolicy"], {"Name": "on-failure", "MaximumRetryCount": 3})
        self.assertEqual((host["ShmSize"], host["Init"], host["Dns"]), (32 << 20, True, ["9.9.9.9"]))
        self.assertEqual(host["Ulimits"], [{"Name": "nofile", "Hard": 20, "Soft": 10}])
        self.assertEqual(host["SecurityOpt"], ["no-new-privileges"])
        self.assertEqual(shown["Config"]["Labels"], {"k": "v"})
        self.assertIn("A=b", shown["Config"]["Env"])
        self.assertEqual(shown["Config"]["StopSignal"], "INT")
        mount = shown["Mounts"][0]
        self.assertEqual((mount["Type"], mount["Source"], mount["Destination"], mount["RW"]), ("bind", "/tmp", "/host", False))


class Wire(DockerTest):
    """What libraries rely on and the command line hides."""

    def raw(self, request):
        connection = self.engine.connect()
        self.addCleanup(connection.close)
        connection.sendall(request)
        return connection

    def test_the_head_of_wait_comes_before_the_end(self):
        name = self.detached()
        connection = self.raw(f"POST /containers/{name}/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        self.assertIn(b"200 OK", connection.recv(4096))
        self.docker("kill", name)
        rest = b""
        while b"0\r\n\r\n" not in rest:
            rest += connection.recv(4096)
        self.assertIn(b'{"StatusCode":137}', rest)

    def test_wait_tells_the_code_of_a_container_that_removes_itself(self):
        name = self.detached("--rm")
        connection = self.raw(f"POST /containers/{name}/wait?condition=removed HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        text = connection.recv(4096)
        self.assertIn(b"200 OK", text)
        self.docker("kill", name)
        while b"0\r\n\r\n" not in text:
            text += connection.recv(4096)
        self.assertIn(b'{"StatusCode":137}', text)
        self.assertEqual(self.out("ps", "-aq", "--filter", f"name={name}"), "")

    def test_attach_without_upgrade_is_a_200_and_raw_frames(self):
        name = self.detached(command=("sh", "-c", "while :; do echo tick; sleep 0.05; done"))
        connection = self.raw(f"POST /containers/{name}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        seen = b""
        while b"tick" not in seen:
            seen += connection.recv(4096)
        self.assertTrue(seen.startswith(b"HTTP/1.1 200 OK\r\n"), seen)
        self.assertIn(b"\x01\0\0\0\0\0\0\x05tick\n", seen)

    def test_a_hundred_waiters_and_their_clients_that_leave(self):
        name = self.detached()
        connections = [self.raw(f"POST /containers/{name}/wait HTTP/1.1\r\nHost: x\r\n\r\n".encode()) for _ in range(100)]
        for connection in connections:
            self.assertIn(b"200 OK", connection.recv(4096))
        for connection in connections[:50]:
            connection.close()
        self.docker("kill", name)
        for connection in connections[50:]:
            text = b""
            while b"StatusCode" not in text:
                text += connection.recv(4096)

    def test_unknown_things_are_clean_json(self):
        for method, path, status in (("GET", "/nonsense", 404), ("GET", "/v1.10/info", 400), ("GET", "/v9.9/info", 400), ("PUT", "/containers/json", 404),
                                     ("GET", "/containers/json?filters=x", 400), ("POST", "/containers/create", 400), ("GET", "/secrets", 503)):
            with self.subTest(path=path):
                code, headers, body = self.engine.request(method, path)
                self.assertEqual(code, status)
                self.assertEqual(headers["Content-Type"], "application/json")
                self.assertIn("message", json.loads(body))


if __name__ == "__main__":
    if not shutil.which("docker"):
        print("SKIPPED: test_docker_cli.py: docker's command line is not installed: tools/dependencies test")
        raise SystemExit(77)
    caisson.main()

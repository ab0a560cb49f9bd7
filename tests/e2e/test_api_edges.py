#!/usr/bin/env python3
"""The edges of the API: websockets, plugins, swarm, events' filters, disk usage by type, devices by name, and clients that go away."""

import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import threading
import time
import unittest
import urllib.parse

import caisson
from caisson import wait_until


class WebSocket:
    """A client of RFC 6455 on a connection, by hand."""

    def __init__(self, connection, target):
        self.socket = connection
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.socket.recv(4096)
            if not piece:
                break
            head += piece
        self.head, _, self.buffer = head.partition(b"\r\n\r\n")
        self.accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())

    def send(self, payload, code=2, final=True, masked=True):
        mask = os.urandom(4)
        size = len(payload)
        head = bytes([(0x80 if final else 0) | code])
        bit = 0x80 if masked else 0
        head += bytes([bit | size]) if size < 126 else bytes([bit | 126]) + struct.pack(">H", size) if size < 65536 else bytes([bit | 127]) + struct.pack(">Q", size)
        self.socket.sendall(head + (mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)) if masked else payload))

    def take(self, count):
        while len(self.buffer) < count:
            piece = self.socket.recv(65536)
            if not piece:
                return None
            self.buffer += piece
        out, self.buffer = self.buffer[:count], self.buffer[count:]
        return out

    def frame(self):
        """(code, payload), or None at the end."""
        head = self.take(2)
        if not head:
            return None
        size = head[1] & 0x7F
        if size == 126:
            size = struct.unpack(">H", self.take(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.take(8))[0]
        return head[0] & 0x0F, self.take(size)

    def read_until(self, words):
        out = b""
        while words not in out:
            frame = self.frame()
            if frame is None:
                raise AssertionError(f"ended before {words}: {out}")
            if frame[0] in (1, 2):
                out += frame[1]
        return out

    def close(self):
        self.socket.close()


class WebSockets(caisson.EngineTest):
    def attach(self, container, query="stream=1&stdin=1&stdout=1&stderr=1"):
        return contextlib.closing(WebSocket(self.engine.connect(), f"/v1.45/containers/{container}/attach/ws?{query}"))

    def test_bytes_pass_in_both_directions_unframed(self):
        name = self.run_detached("-i", command=("cat",))
        with self.attach(name) as client:
            self.assertTrue(client.head.startswith(b"HTTP/1.1 101"), client.head)
            self.assertIn(b"Sec-WebSocket-Accept: " + client.accept, client.head)
            client.send(b"one\n")
            self.assertEqual(client.read_until(b"one\n"), b"one\n")
            client.send(b"two", final=False)
            client.send(b"?", code=9)
            client.send(b" three\n", code=0)
            seen = [client.frame()]
            while b"".join(payload for code, payload in seen if code == 2) != b"two three\n":
                seen.append(client.frame())
            self.assertIn((10, b"?"), seen)
            big = os.urandom(300_000).hex().encode() + b"\n"
            sender = threading.Thread(target=client.send, args=(big,))
            sender.start()
            self.assertEqual(client.read_until(b"\n"), big)
            sender.join()

    def test_the_end_of_the_container_closes_it_and_a_close_is_answered(self):
        name = self.run_detached("-i", command=("sh", "-c", "read line; echo bye"))
        with self.attach(name) as client:
            client.send(b"go\n")
            client.read_until(b"bye\n")
            self.assertEqual(client.frame(), (8, b"\x03\xe8"))
            self.assertIsNone(client.frame())
        name = self.run_detached("-i", command=("cat",))
        with self.attach(name) as client:
            client.send(struct.pack(">H", 1000) + b"done", code=8)
            self.assertEqual(client.frame(), (8, b"\x03\xe8"))
            self.assertIsNone(client.frame())
        self.assertTrue(self.engine.inspect(name)["State"]["Running"])

    def test_what_breaks_the_protocol_ends_the_connection(self):
        name = self.run_detached("-i", command=("cat",))
        with self.attach(name) as client:
            client.send(b"x", masked=False)
            self.assertEqual(client.frame(), (8, b"\x03\xea"))
        for headers in ({}, {"Upgrade": "websocket", "Connection": "Upgrade"}, {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"}):
            status, _, body = self.engine.request("GET", f"/containers/{name}/attach/ws?stream=1", headers=headers)
            self.assertEqual(status, 400, body)
        self.assertEqual(self.engine.request("GET", "/containers/nosuch/attach/ws")[0], 404)

    def test_detach_keys_work_on_a_terminal(self):
        name = self.run_detached("-it", command=("sh",))
        with self.attach(name, "stream=1&stdin=1&stdout=1&detachKeys=ctrl-x,y") as client:
            client.send(b"echo a$((1+1))b\n")
            client.read_until(b"a2b")
            client.send(b"\x18y")
            while client.frame() is not None:
                pass
        self.assertTrue(self.engine.inspect(name)["State"]["Running"])


class Answers(caisson.EngineTest):
    def ask(self, method, path, body=None, **filters):
        if filters:
            path += ("&" if "?" in path else "?") + "filters=" + urllib.parse.quote(json.dumps({key.replace("_not", "!"): value for key, value in filters.items()}))
        status, _, text = self.engine.request(method, path, body)
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def test_plugins_are_honestly_absent(self):
        self.assertEqual(self.ask("GET", "/plugins"), (200, []))
        for method, path in (("GET", "/plugins/x/json"), ("POST", "/plugins/x/enable?timeout=0"), ("POST", "/plugins/x/disable"), ("DELETE", "/plugins/x"), ("POST", "/plugins/a/b:1/push")):
            name = path.split("/plugins/")[1].split("?")[0]
            for word in ("/json", "/enable", "/disable", "/push"):
                name = name.removesuffix(word)
            self.assertEqual(self.ask(method, path), (404, {"message": f'plugin "{name}" not found'}))
        self.assertEqual(self.ask("POST", "/plugins/pull?remote=x", [])[0], 501)

    def test_swarm_answers_as_a_node_outside_one(self):
        words = "This node is not a swarm manager."
        for method, path in (("GET", "/swarm"), ("GET", "/swarm/unlockkey"), ("POST", "/swarm/update?version=1"), ("GET", "/nodes"), ("GET", "/nodes/x"), ("DELETE", "/nodes/x"),
                             ("GET", "/services"), ("POST", "/services/create"), ("GET", "/services/x/logs?stdout=1"), ("GET", "/tasks"), ("GET", "/tasks/x/logs?stdout=1"),
                             ("GET", "/secrets"), ("POST", "/secrets/create"), ("GET", "/configs/x"), ("DELETE", "/configs/x")):
            status, answer = self.ask(method, path, {} if method == "POST" else None)
            self.assertEqual(status, 503, path)
            self.assertTrue(answer["message"].startswith(words), answer)
        self.assertEqual(self.ask("POST", "/swarm/leave", {}), (503, {"message": "This node is not part of a swarm"}))

    def test_disk_usage_by_type(self):
        self.run_detached()
        whole = self.ask("GET", "/v1.45/system/df")[1]
        self.assertTrue(whole["Images"] and whole["Containers"])
        images = self.ask("GET", "/v1.45/system/df?type=image")[1]
        self.assertTrue(images["Images"])
        self.assertIsNone(images["Containers"])
        self.assertIsNone(images["Volumes"])
        two = self.ask("GET", "/v1.45/system/df?type=volume&type=container")[1]
        self.assertIsNone(two["Images"])
        self.assertIsInstance(two["Volumes"], list)
        self.assertEqual(self.ask("GET", "/v1.45/system/df?type=bogus"), (400, {"message": "unknown object type: bogus"}))
        self.assertTrue(self.ask("GET", "/v1.41/system/df?type=bogus")[1]["Images"])

    def events(self, begin, **filters):
        status, _, body = self.engine.request("GET", f"/events?since={begin}&until={time.time() + 1:.3f}&filters=" + urllib.parse.quote(json.dumps(filters)))
        self.assertEqual(status, 200, body)
        return [json.loads(line) for line in body.splitlines()]

    def test_events_by_every_filter(self):
        begin = f"{time.time():.6f}"
        volume = self.name()
        self.engine.ok("volume", "create", volume)
        name = self.name()
        container = self.engine.ok("run", "-d", "--name", name, "--label", "colour=red", "busybox", "sleep", "1000")
        self.engine.ok("exec", name, "true")
        self.engine.ok("rm", "-f", name)
        self.engine.ok("volume", "rm", volume)
        actions = lambda **filters: [event["Action"] for event in self.events(begin, **filters)]
        for identity in (name, name[:-1], container, container[:12]):
            self.assertIn("start", actions(container=[identity]), identity)
        self.assertEqual(actions(container=["nosuch"]), [])
        self.assertEqual(set(actions(volume=[volume])), {"create", "destroy"})
        self.assertEqual(actions(container=[name], event=["start"]), ["start"])
        self.assertEqual(actions(container=[name], event=["exec_start"]), ["exec_start: true"])
        self.assertEqual(actions(container=[name], event=["exec_start: true"]), ["exec_start: true"])
        self.assertIn("die", actions(label=["colour=red"]))
        self.assertEqual(actions(label=["colour=blue"]), [])
        self.assertIn("die", actions(image=["busybox"]))
        self.assertEqual({event["Type"] for event in self.events(begin, type=["volume"])}, {"volume"})
        self.assertEqual(actions(scope=["swarm"]), [])
        self.assertIn("start", actions(scope=["local"]))
        self.assertEqual(actions(daemon=["x"]), [])
        self.assertIn("kill", actions(container=[name]))
        self.assertEqual(self.engine.request("GET", "/events?filters=%7B%22bogus%22%3A%5B%22x%22%5D%7D")[0], 400)
        relative = self.engine.request("GET", "/events?since=10m&until=1s")
        self.assertEqual(relative[0], 200)
        self.assertEqual(self.engine.request("GET", "/events?since=yesterday")[0], 400)

    def test_prune_by_label_and_age(self):
        old, kept = self.name(), self.name()
        self.engine.ok("create", "--name", old, "--label", "prune=yes", "busybox", "true")
        self.engine.ok("create", "--name", kept, "--label", "prune=yes", "--label", "keep=1", "busybox", "true")
        status, answer = self.ask("POST", "/containers/prune", None, label=["prune=yes"], label_not=["keep=1"], until=["1h"])
        self.assertEqual((status, answer["ContainersDeleted"]), (200, None))
        status, answer = self.ask("POST", "/containers/prune", None, label=["prune=yes"], label_not=["keep=1"])
        self.assertEqual(len(answer["ContainersDeleted"]), 1)
        self.assertEqual(self.engine.cli("inspect", old).returncode, 1)
        self.engine.ok("inspect", kept)
        self.assertEqual(self.ask("POST", "/containers/prune", None, until=["bogus"])[0], 400)

    def test_bodies_that_are_not_what_they_should_be(self):
        for body, headers in ((b"{}", {"Content-Type": "text/plain"}), (b"", {}), (b"[]", {}), (b"{", {}), (b"null", {})):
            status, _, answer = self.engine.request("POST", "/containers/create", body, headers)
            self.assertEqual(status, 400, (body, answer))
            self.assertIn("message", json.loads(answer))
        status, _, answer = self.engine.request("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Memory": "much"}})
        self.assertEqual(status, 400)
        status, answer = self.ask("POST", "/containers/create", {"Image": "busybox", "Bogus": 1, "HostConfig": {"Bogus": {"a": [1]}}})
        self.assertEqual(status, 201, answer)

    @caisson.needs_cgroups
    def test_stats_top_and_wait_edges(self):
        name = self.run_detached()
        status, answer = self.ask("GET", f"/containers/{name}/stats?stream=0&one-shot=1")
        self.assertEqual((status, answer["precpu_stats"]["cpu_usage"]["total_usage"]), (200, 0))
        self.assertEqual(self.ask("GET", f"/containers/{name}/stats?stream=1&one-shot=1")[0], 400)
        self.assertEqual(self.ask("GET", f"/containers/{name}/top?ps_args=-o%20pid,args")[1]["Titles"], ["PID", "COMMAND"])
        self.assertEqual(self.ask("GET", f"/containers/{name}/top?ps_args=-o%20nosuch")[0], 400)
        self.assertEqual(self.ask("POST", f"/containers/{name}/wait?condition=bogus")[0], 400)
        self.assertEqual(self.ask("POST", f"/containers/{name}/resize?h=x&w=1")[0], 400)

    def test_info_and_version_have_dockers_fields(self):
        info = self.ask("GET", "/info")[1]
        for field in ("ID", "Containers", "Driver", "DriverStatus", "Plugins", "MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit", "IPv4Forwarding",
                      "Debug", "NFd", "OomKillDisable", "NGoroutines", "SystemTime", "LoggingDriver", "CgroupDriver", "CgroupVersion", "NEventsListener", "KernelVersion", "OperatingSystem",
                      "OSVersion", "OSType", "Architecture", "IndexServerAddress", "RegistryConfig", "NCPU", "MemTotal", "GenericResources", "DockerRootDir", "HttpProxy", "Name", "Labels",
                      "ExperimentalBuild", "ServerVersion", "Runtimes", "DefaultRuntime", "Swarm", "LiveRestoreEnabled", "InitBinary", "ContainerdCommit", "RuncCommit", "InitCommit",
                      "SecurityOptions", "CDISpecDirs", "Warnings"):
            self.assertIn(field, info)
        self.assertEqual(info["Plugins"]["Log"], ["journald", "json-file", "local", "none", "syslog"])
        version = self.ask("GET", "/version")[1]
        for field in ("Platform", "Components", "Version", "ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch", "KernelVersion", "BuildTime"):
            self.assertIn(field, version)


class Hijacks(caisson.EngineTest):
    def first_reads(self, user_agent):
        """What the first read after a while gives, and the second, to a client that starts an exec."""
        name = self.run_detached()
        made = json.loads(self.engine.request("POST", f"/containers/{name}/exec", {"Cmd": ["echo", "said"], "AttachStdout": True})[2])
        body = b'{"Detach":false,"Tty":false}'
        with contextlib.closing(self.engine.connect()) as client:
            client.sendall(f"POST /v1.41/exec/{made['Id']}/start HTTP/1.1\r\nHost: x\r\nUser-Agent: {user_agent}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            time.sleep(0.4)
            first = client.recv(65536)
            return first, client.recv(65536)

    def test_clients_that_read_past_the_head_get_nothing_together_with_it(self):
        for user_agent in ("docker-sdk-python/5.0.3", "docker-compose/1.29.2 docker-py/4.1.0 Linux/6.1"):
            first, second = self.first_reads(user_agent)
            self.assertTrue(first.startswith(b"HTTP/1.1 101 ") and first.endswith(b"\r\n\r\n"), first)
            self.assertEqual(second, b"\x01\0\0\0\0\0\0\x05said\n")
        first, second = self.first_reads("Docker-Client/28.2.2 (linux)")
        self.assertIn(b"said", first, "nobody else waits")
        self.assertEqual(second, b"")


class Devices(unittest.TestCase):
    def test_devices_by_their_cdi_names(self):
        reason = caisson.why_not()
        if reason:
            self.skipTest(reason)
        engine = caisson.Engine()
        self.addCleanup(engine.close)
        specs = os.path.join(engine.folder, "cdi")
        os.mkdir(specs)
        with open(os.path.join(specs, "data"), "w", encoding="utf-8") as file:
            file.write("library")
        os.chmod(os.path.join(specs, "data"), 0o644)
        edits = {"env": ["CARD=zero"], "deviceNodes": [{"path": "/dev/card0", "hostPath": "/dev/fuse" if os.path.exists("/dev/fuse") else "/dev/full"}],
                 "mounts": [{"hostPath": os.path.join(specs, "data"), "containerPath": "/lib/card.so", "options": ["ro", "bind"]}]}
        for kind, file_name in (("example.com/card", "card.json"), ("nvidia.com/gpu", "gpu.json")):
            with open(os.path.join(specs, file_name), "w", encoding="utf-8") as file:
                json.dump({"cdiVersion": "0.6.0", "kind": kind, "devices": [{"name": "0", "containerEdits": edits}, {"name": "all", "containerEdits": edits}],
                           "containerEdits": {"env": ["KIND=" + kind]}}, file)
        # The same in the layout of nvidia-ctk, which is what /etc/cdi holds on most hosts.
        with open(os.path.join(specs, "yaml.yaml"), "w", encoding="utf-8") as file:
            file.write("---\ncdiVersion: 0.5.0\ncontainerEdits:\n  env:\n  - KIND=yaml\ndevices:\n- containerEdits:\n    deviceNodes:\n    - path: /dev/card0\n"
                       f"      hostPath: {edits['deviceNodes'][0]['hostPath']}\n    env:\n    - CARD=one\n    mounts:\n    - containerPath: /lib/card.so\n"
                       f"      hostPath: {specs}/data\n      options:\n      - ro\n      - bind\n  name: \"1\"\nkind: example.com/yaml\n")
        with open(os.path.join(specs, "broken.yaml"), "w", encoding="utf-8") as file:
            file.write("cdiVersion: 0.5.0\nkind: |\n  x\n")
        engine.options += ["--cdi-spec-dir", specs]
        engine.start()
        engine.import_busybox()

        def run(requests):
            status, _, body = engine.request("POST", "/containers/create", {"Image": "busybox", "Cmd": ["sh", "-c", "echo $KIND $CARD; ls /dev/card0; cat /lib/card.so"],
                                                                           "HostConfig": {"DeviceRequests": requests}})
            self.assertEqual(status, 201, body)
            container = json.loads(body)["Id"]
            status, _, body = engine.request("POST", f"/containers/{container}/start")
            if status != 204:
                answer = json.loads(body)
                return answer["message"] + answer.get("hint", "")
            engine.ok("wait", container)
            return engine.ok("logs", container)

        self.assertEqual(run([{"Driver": "cdi", "DeviceIDs": ["example.com/card=0"]}]), "example.com/card zero\n/dev/card0\nlibrary")
        self.assertEqual(run([{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]), "nvidia.com/gpu zero\n/dev/card0\nlibrary")
        self.assertEqual(run([{"Driver": "cdi", "DeviceIDs": ["example.com/yaml=1"]}]), "yaml one\n/dev/card0\nlibrary")
        self.assertIn(f"{specs}/broken.yaml: CDI specification: line 2: block scalars are not read", run([{"Driver": "cdi", "DeviceIDs": ["example.com/none=0"]}]))
        self.assertIn("unresolvable CDI devices example.com/card=9", run([{"Driver": "cdi", "DeviceIDs": ["example.com/card=9"]}]))
        self.assertIn('could not select device driver "" with capabilities: [[tpu]]', run([{"Driver": "", "Count": 1, "Capabilities": [["tpu"]]}]))
        out = engine.docker("run", "--rm", "--gpus", "all", "busybox", "sh", "-c", "echo $CARD", check=0).stdout
        self.assertEqual(out, "zero\n")
        engine.ok("rm", "-f", *engine.ok("ps", "-aq").split())
        engine.stop()
        self.assertEqual(engine.leftovers(), [])


class Reload(caisson.EngineTest):
    def test_sighup_takes_new_defaults_labels_and_debug_and_names_the_rest(self):
        config = os.path.join(self.engine.folder, "caisson.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write("")
        self.engine.stop()
        command = self.engine.daemon_command()
        command[command.index(os.devnull)] = config
        self.engine.daemon_command = lambda: command
        self.engine.start()
        begin = f"{time.time():.6f}"
        with open(config, "w", encoding="utf-8") as file:
            file.write('labels = ["rack=7"]\ndebug = true\n[logs]\ndriver = "local"\noptions = ["max-size=1m"]\n[start]\npool = 2\n')
        self.engine.process.send_signal(signal.SIGHUP)
        info = lambda: json.loads(self.engine.request("GET", "/info")[2])
        wait_until(lambda: info()["Labels"] == ["rack=7"], "the label is shown")
        self.assertEqual((info()["Debug"], info()["LoggingDriver"]), (True, "local"))
        wait_until(lambda: "--start-pool" in self.engine.log_text(), "what needs a restart is said")
        name = self.name()
        self.engine.ok("create", "--name", name, "busybox", "true")
        self.assertEqual(self.engine.inspect(name)["HostConfig"]["LogConfig"], {"Type": "local", "Config": {"max-size": "1m"}})
        status, _, body = self.engine.request("GET", f"/events?since={begin}&until={time.time() + 1:.3f}&filters=" + urllib.parse.quote('{"type":["daemon"]}'))
        self.assertEqual([json.loads(line)["Action"] for line in body.splitlines()], ["reload"], (status, body))
        with open(config, "w", encoding="utf-8") as file:
            file.write('[logs]\ndriver = "nosuch"\n')
        self.engine.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "nosuch" in self.engine.log_text(), "what is wrong is said")
        self.assertEqual(info()["LoggingDriver"], "local")


class ClientsThatLeave(caisson.EngineTest):
    engine_options = ("--start-pool", "0")  # what it keeps open would change the count

    def threads(self):
        return len(os.listdir(f"/proc/{self.engine.own_pid}/task"))

    def usage(self):
        return len(os.listdir(f"/proc/{self.engine.own_pid}/fd"))

    def monitor_usage(self, name):
        return len(os.listdir(f"/proc/{self.engine.monitor_of(name)}/fd"))

    def test_everything_is_freed_when_clients_go_away(self):
        name = self.run_detached("-i", command=("sh", "-c", "while :; do echo x; sleep 0.05; done"))
        exec_id = lambda: json.loads(self.engine.request("POST", f"/containers/{name}/exec", {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True})[2])["Id"]
        hijack = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
        websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        kinds = {
            "logs": lambda: (f"GET /containers/{name}/logs?follow=1&stdout=1", "", ""),
            "events": lambda: ("GET /events", "", ""),
            "wait": lambda: (f"POST /containers/{name}/wait", "", ""),
            "stats": lambda: (f"GET /containers/{name}/stats", "", ""),
            "attach": lambda: (f"POST /containers/{name}/attach?stream=1&stdout=1&stdin=1", hijack, ""),
            "attach over a websocket": lambda: (f"GET /containers/{name}/attach/ws?stream=1&stdout=1&stdin=1", websocket, ""),
            "exec": lambda: (f"POST /exec/{exec_id()}/start", hijack + "Content-Type: application/json\r\n", "{}"),
        }

        def come_and_go(request):
            clients = []
            for client in self.engine.connections(10):
                line, headers, body = request()
                client.sendall(f"{line} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode())
                self.assertTrue(client.recv(1), "the head of the answer has come")
                clients.append(client)
            for client in clients:
                client.close()

        # The first round makes what all later ones share; what waited for the container's end is forgotten when the next one comes to wait.
        for request in kinds.values():
            come_and_go(request)
        most_waiters = 11
        before, monitor_before, threads_before = self.usage(), self.monitor_usage(name), self.threads()
        for _ in range(3):
            for kind, request in kinds.items():
                with self.subTest(kind=kind):
                    come_and_go(request)
                    wait_until(lambda: self.usage() <= before + most_waiters, lambda: f"{kind}: {self.usage()} descriptors, {before} before", 30)
                    wait_until(lambda: self.monitor_usage(name) <= monitor_before + 1, lambda: f"{kind}: the monitor has {self.monitor_usage(name)}, {monitor_before} before", 30)
        wait_until(lambda: self.threads() <= threads_before + 1, lambda: f"{self.threads()} threads, {threads_before} before", 40)

    def test_a_thousand_connections_at_once(self):
        clients = self.engine.connections(1000, 60)
        try:
            for client in clients:
                client.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
            for client in clients:
                self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 200"))
            # Slow ones beside them hold nobody up.
            for client in clients[:200]:
                client.sendall(b"GET /_ping HTTP/1.1\r\nHo")
            self.assertEqual(self.engine.request("GET", "/_ping")[0], 200)
            for client in clients[200:]:
                client.sendall(b"GET /containers/json HTTP/1.1\r\nHost: x\r\n\r\n")
            for client in clients[200:]:
                self.assertTrue(client.recv(65536).startswith(b"HTTP/1.1 200"))
        finally:
            for client in clients:
                client.close()
        wait_until(lambda: self.usage() < 200, lambda: f"{self.usage()} descriptors are left")

    def test_half_closed_clients_are_answered_or_let_go(self):
        def exchange(data):
            """Everything that comes back once this side has said its last word."""
            with next(connections) as client:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                answer = b""
                while piece := client.recv(65536):
                    answer += piece
                return answer

        self.engine.request("GET", "/_ping")
        before = self.usage()
        connections = iter(self.engine.connections(105, 30))
        for _ in range(50):
            self.assertTrue(exchange(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200"), "a whole request")
            self.assertTrue(exchange(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n" * 3).count(b"HTTP/1.1 200") == 3, "several on one connection")
        for cut in (b"", b"G", b"GET /_ping HTTP/1.1\r\nHo", b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"Image\":",
                    b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{\"Image\":"):
            self.assertNotIn(b"HTTP/1.1 2", exchange(cut), f"{cut}")
        self.assertEqual(self.engine.ok("ps", "-aq", "--filter", "status=created"), "")
        wait_until(lambda: self.usage() <= before + 2, lambda: f"{self.usage()} descriptors, {before} before")


if __name__ == "__main__":
    caisson.main()

#!/usr/bin/env python3
"""What docker refuses we refuse, with its HTTP status: a table of wrong requests, asked of caissond and, where installed, of dockerd."""

import json
import unittest

import caisson
import peers

V = "/v1.41"  # what Debian 12's dockerd speaks

# Where the statuses differ on purpose; a row of the table names one of these.
EARLY = "docker creates it and refuses the start (or ignores the value); we say it while nothing exists yet"
LENIENT = "docker refuses what works here"


def create_rows():
    """(name, body of POST /containers/create or of its HostConfig, status, reason of a difference)."""
    bodies = [
        ("empty", b"", 400, None), ("half", b"{", 400, None), ("list", b"[]", 400, None), ("number", b"5", 400, None),
        ("two documents", b'{"Image":"busybox"}{"Image":"busybox"}', 400, EARLY), ("no image", {}, 400, None), ("Image number", {"Image": 5}, 400, None),
        ("missing image", {"Image": "no-such-image"}, 404, None), ("bad reference", {"Image": "UPPER"}, 400, None),
    ]
    fields = [
        ("Cmd", {"a": 1}, 400, None), ("Cmd", [1], 400, None), ("Env", {"a": "b"}, 400, None), ("Env", ["=x"], 400, None), ("Env", [""], 400, None),
        ("Labels", ["a"], 400, None), ("WorkingDir", "relative", 400, None), ("StopSignal", "SIGNOSUCH", 400, None), ("ExposedPorts", {"x/tcp": {}}, 400, EARLY),
        ("Volumes", {"relative": {}}, 400, EARLY),
    ]
    host = [
        ("Memory", "x", 400, None), ("Memory", -5, 400, None), ("Memory", 1024, 400, None), ("Memory", 4 << 20, 201, LENIENT), ("MemorySwap", 64 << 20, 400, None),
        ("MemorySwappiness", 200, 400, None), ("NanoCpus", -1, 400, None), ("NanoCpus", 10**13, 400, None), ("CpuPeriod", 5, 400, None), ("CpuQuota", 5, 400, None),
        ("CpusetCpus", "zero", 400, None), ("CpuShares", -1, 400, EARLY), ("OomScoreAdj", 5000, 400, None), ("ShmSize", -1, 400, None),
        ("PidsLimit", "x", 400, None), ("PortBindings", {"x/tcp": [{}]}, 400, None), ("PortBindings", {"80/tcp": [{"HostPort": "99999"}]}, 400, None),
        ("PortBindings", {"80/xyz": [{}]}, 400, EARLY), ("Binds", ["/tmp:relative"], 400, None), ("Binds", ["/tmp:/y:nonsense"], 400, None),
        ("Binds", ["/tmp:/"], 400, None), ("Binds", [""], 400, None), ("Binds", ["/tmp:/y", "/srv:/y"], 400, None), ("Mounts", [{"Type": "nonsense", "Target": "/x"}], 400, None),
        ("Mounts", [{"Type": "volume"}], 400, None), ("Mounts", [{"Type": "bind", "Target": "/x"}], 400, None),
        ("Mounts", [{"Type": "bind", "Source": "/no/such", "Target": "/x"}], 400, None), ("Mounts", [{"Type": "tmpfs", "Source": "/x", "Target": "/x"}], 400, None),
        ("Tmpfs", {"relative": ""}, 400, None), ("Tmpfs", {"/x": "nonsense"}, 400, EARLY), ("RestartPolicy", {"Name": "sometimes"}, 400, None),
        ("RestartPolicy", {"Name": "always", "MaximumRetryCount": 3}, 400, None), ("CapAdd", ["NO_SUCH"], 400, None), ("CapDrop", ["NO_SUCH"], 400, None),
        ("SecurityOpt", ["nonsense=1"], 400, None), ("SecurityOpt", ["seccomp={"], 400, EARLY), ("Ulimits", [{"Name": "nosuch", "Soft": 1, "Hard": 1}], 400, EARLY),
        ("Ulimits", [{"Name": "nofile", "Soft": 20, "Hard": 10}], 400, EARLY), ("IpcMode", "nonsense", 400, EARLY), ("PidMode", "nonsense", 400, EARLY),
        ("UTSMode", "nonsense", 400, EARLY), ("UsernsMode", "nonsense", 400, EARLY), ("CgroupnsMode", "nonsense", 400, None), ("Dns", ["nonsense"], 400, EARLY),
        ("ExtraHosts", ["nocolon"], 400, None), ("VolumesFrom", ["nosuch"], 400, None), ("Isolation", "hyperv", 400, None), ("Runtime", "nosuch", 400, None),
        ("GroupAdd", [5], 400, None), ("Links", ["nosuch:a"], 400, None),
    ]
    rows = [(f"create: {name}", body, status, reason) for name, body, status, reason in bodies]
    rows += [(f"create: {key}={value}", {"Image": "busybox", "Cmd": ["true"], key: value}, status, reason) for key, value, status, reason in fields]
    rows += [(f"create: HostConfig.{key}={value}", {"Image": "busybox", "Cmd": ["true"], "HostConfig": {key: value}}, status, reason)
             for key, value, status, reason in host]
    return [(name, "POST", "/containers/create", body, status, reason) for name, body, status, reason in rows]


def verb_rows():
    create = "/containers/create"
    good = {"Image": "busybox", "Cmd": ["true"]}
    rows = [("POST", f"{create}?name=bad%20name", good, 400, None), ("POST", f"{create}?name=x", good, 400, None), ("POST", f"{create}?name=idle", good, 409, None),
            ("POST", f"{create}?platform=a/b/c/d", good, 400, None)]
    rows += [("POST", f"/containers/missing/{verb}", {"Cmd": ["true"]} if verb in ("exec", "update") else None, 404, None)
             for verb in ("start", "stop", "kill", "pause", "unpause", "restart", "wait", "resize?h=1&w=1", "rename?name=ab", "update", "exec", "attach")]
    rows += [("GET", f"/containers/missing/{verb}", None, 404, None) for verb in ("json", "top", "logs?stdout=1", "stats?stream=0")]
    rows += [("DELETE", "/containers/missing", None, 404, None)]
    rows += [("POST", f"/containers/idle/{verb}", body, status, reason) for verb, body, status, reason in (
        ("kill", None, 409, None), ("pause", None, 409, None), ("unpause", None, 500, None), ("stop", None, 304, None), ("exec", {"Cmd": ["true"]}, 409, None),
        ("resize?h=1&w=1", None, 409, None), ("resize?h=x&w=1", None, 400, None), ("rename?name=a%20b", None, 400, None), ("update", {"Memory": "x"}, 400, None),
        ("update", {"Memory": 5}, 400, None), ("update", {"RestartPolicy": {"Name": "sometimes"}}, 400, None), ("wait?condition=nonsense", None, 400, EARLY))]
    rows += [("GET", path, None, 400, None) for path in (
        "/containers/idle/logs", "/containers/idle/logs?stdout=1&since=x", "/containers/json?filters=x", '/containers/json?filters={"nosuch":["1"]}',
        "/containers/json?limit=x", "/images/json?filters=x", "/events?since=x", "/events?filters=x")]
    rows += [("GET", "/images/missing/json", None, 404, None), ("DELETE", "/images/missing", None, 404, None), ("DELETE", "/images/busybox", None, 409, None),
             ("POST", "/images/missing/tag?repo=a", None, 404, None), ("POST", "/images/busybox/tag?repo=UPPER", None, 400, None),
             ("GET", "/exec/missing/json", None, 404, None), ("POST", "/exec/missing/start", {}, 404, None), ("GET", "/volumes/missing", None, 404, None),
             ("DELETE", "/volumes/missing", None, 404, None), ("POST", "/volumes/create", {"Name": "a/b"}, 400, None), ("POST", "/volumes/create", {"Name": 5}, 400, None),
             ("GET", "/networks/missing", None, 404, None), ("GET", "/no/such/route", None, 404, None), ("PATCH", "/containers/json", None, 404, None)]
    return [(f"{method} {path} {body or ''}", method, path, body, status, reason) for method, path, body, status, reason in rows]


TABLE = create_rows() + verb_rows()


def target(path):
    return V + path.replace('"', "%22").replace("{", "%7B").replace("}", "%7D")


def ask(socket_path, method, path, body):
    connection = caisson.UnixConnection(socket_path, 30)
    try:
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        connection.request(method, target(path), body=data, headers={"Content-Type": "application/json"} if body is not None else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def archive():
    return caisson.docker_archive([caisson.busybox_rootfs()], config={"Cmd": ["sh"], "Env": ["PATH=/bin"]}, tags=("busybox:latest",))


class Refusals(caisson.EngineTest):
    def ask(self, method, path, body):
        status, _, data = self.engine.request(method, target(path), body.encode() if isinstance(body, str) else body)
        return status, data

    def setUp(self):
        status, data = self.ask("POST", "/containers/create?name=idle", {"Image": "busybox", "Cmd": ["true"]})
        self.assertEqual(status, 201, data)
        self.addCleanup(self.engine.ok, "rm", "idle")

    def test_every_wrong_request_has_its_status_and_words_and_leaves_nothing(self):
        for name, method, path, body, status, _ in TABLE:
            with self.subTest(row=name):
                got, data = self.ask(method, path, body)
                self.assertEqual(got, status, data)
                if got >= 400:
                    # attach answers in plain text, as docker's does: its client expects a raw stream
                    self.assertTrue(data.strip() if "/attach" in path else json.loads(data)["message"])
                elif got == 201:
                    self.engine.ok("rm", json.loads(data)["Id"])
                self.assertEqual(len(self.engine.ok("ps", "-aq").split()), 1, "half-created")
        self.assertEqual(self.engine.ok("volume", "ls", "-q"), "")

    def test_dockerd_answers_the_same(self):
        reason = peers.PrivateDockerd.why_not()
        if reason:
            self.skipTest(reason)
        with peers.PrivateDockerd() as docker:
            docker.docker("load", stdin=archive(), check=0)
            socket_path = docker.host.removeprefix("unix://")
            self.assertEqual(ask(socket_path, "POST", "/containers/create?name=idle", {"Image": "busybox", "Cmd": ["true"]})[0], 201)
            for name, method, path, body, status, difference in TABLE:
                with self.subTest(row=name):
                    theirs, data = ask(socket_path, method, path, body)
                    if difference:
                        self.assertNotEqual(theirs, status, f"no difference any more: {difference}")
                    elif (theirs, status) != (500, 400):  # docker before 23 blames itself for the client's malformed values
                        self.assertEqual(theirs, status, data)


if __name__ == "__main__":
    caisson.main()

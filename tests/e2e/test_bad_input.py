#!/usr/bin/env python3
"""Malformed input of every kind: the error names what is wrong, the codes are Docker's, nothing is half-created."""

import gzip
import io
import json
import os
import socket
import tarfile
import unittest

import caisson


def tar_of(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data, fields in members:
            caisson.add_file(tar, name, data, **fields)
    return out.getvalue()


class CommandLine(caisson.EngineTest):
    def refused(self, *arguments, code=125, names, **options):
        run = self.engine.cli(*arguments, check=code, **options)
        text = run.stderr if isinstance(run.stderr, str) else run.stderr.decode()
        self.assertIn(names, text)
        return text

    def test_bad_values_of_run_name_the_value_and_make_nothing(self):
        for arguments, names in (
            (["-m", "lots"], "lots"), (["-m", "1k"], "memory"), (["--cpus", "many"], "many"), (["--cpus", "-1"], "-1"), (["-p", "99999:80"], "99999"),
            (["-p", "80:80:80:80"], "80:80"), (["-p", "1.2.3.4.5:80:80"], "1.2.3.4.5"), (["-v", "relative:x"], "x"), (["-v", "a:b:c:d"], "a:b:c:d"),
            (["--mount", "type=nonsense,target=/x"], "nonsense"), (["--mount", "type=bind,target=/x"], "source"), (["--ulimit", "nofile"], "nofile"),
            (["--ulimit", "nosuch=1"], "nosuch"), (["--network", "no-such-network"], "no-such-network"), (["--name", "bad name"], "bad name"),
            (["--name", "/"], "name"), (["--cap-add", "NO_SUCH_CAP"], "NO_SUCH_CAP"),
            (["--security-opt", "seccomp=/no/such/file"], "/no/such/file"), (["--security-opt", "nonsense=1"], "nonsense"), (["--add-host", "nocolon"], "nocolon"),
            (["--tmpfs", "relative"], "relative"), (["-w", "relative"], "relative"),
            (["--pids-limit", "x"], "x"), (["--user", "1000:nosuchgroup"], "nosuchgroup"), (["--network", "container:nosuch"], "nosuch"),
            (["--network", "host", "--ip", "1.2.3.4"], "user defined networks only"), (["--pid", "container:nosuch"], "No such container: nosuch"),
            (["--log-driver", "nosuch"], "nosuch"), (["--log-opt", "max-size=often"], "often"), (["--sysctl", "kernel.panic=1"], "kernel.panic"),
            (["--stop-signal", "SIGNOSUCH"], "SIGNOSUCH"),
        ):
            with self.subTest(arguments=arguments):
                self.refused("run", "--rm", *arguments, "busybox", "true", names=names)
                self.assertEqual(self.engine.ok("ps", "-aq"), "")
        self.assertEqual(self.engine.ok("volume", "ls", "-q"), "")

    def test_a_missing_device_is_127_as_dockers_client_reads_the_words(self):
        self.refused("run", "--rm", "--device", "/no/such/device", "busybox", "true", code=127, names="/no/such/device")
        self.refused("run", "--restart", "sometimes", "busybox", "true", names="sometimes")
        self.assertEqual(self.engine.ok("ps", "-aq"), "")

    def test_bad_references_are_docker_worded(self):
        for reference in ("UPPER", "a//b", "a:b:c", "-x/y", "a@sha256:123", "x" * 300):
            with self.subTest(reference=reference):
                names = "invalid reference format" if len(reference) < 255 else "must not be more than 255 characters"
                self.refused("run", "--rm", "--", reference, "true", names=names)

    def test_unknown_commands_and_flags_suggest(self):
        run = self.engine.cli("rnu")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("run", run.stderr)
        self.assertIn("--no-such", self.engine.cli("ps", "--no-such").stderr)
        for verb in ("start", "stop", "kill", "rm", "logs", "inspect", "wait", "pause", "unpause", "restart", "top", "port"):
            with self.subTest(verb=verb):
                run = self.engine.cli(verb, "no-such-container", check=1)
                self.assertIn("no-such-container", run.stderr)

    def test_a_broken_seccomp_profile_names_the_field(self):
        for text, names in (("{", "seccomp"), ('{"defaultAction": "SCMP_ACT_NOSUCH"}', "SCMP_ACT_NOSUCH"), ('{"defaultAction": 5}', "defaultAction"),
                            ('{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":9,"op":"SCMP_CMP_EQ"}]}]}', "index")):
            path = os.path.join(self.engine.folder, "profile.json")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            with self.subTest(profile=text):
                self.refused("run", "--rm", "--security-opt", f"seccomp={path}", "busybox", "true", names=names)


class Archives(caisson.EngineTest):
    def setUp(self):
        self.before = (self.engine.ok("images", "-q"), self.blobs())

    def blobs(self):
        return sorted(name for folder, _, files in os.walk(os.path.join(self.engine.root, "content")) for name in files)

    def refused(self, verb, data, *words):
        arguments = ["import", "-", "bad:latest"] if verb == "import" else ["load"]
        run = self.engine.cli(*arguments, stdin=data, text=False, timeout=60)
        self.assertNotEqual(run.returncode, 0, run.stdout)
        text = run.stderr.decode(errors="replace")
        for word in words:
            self.assertIn(word, text)
        self.assertTrue(text.strip(), "an error without words")
        self.assertEqual((self.engine.ok("images", "-q"), self.blobs()), self.before, "something was half-created")

    def test_things_that_are_no_tar(self):
        self.refused("import", b"this is no tar at all" * 100)
        self.refused("import", b"")
        self.refused("load", b"this is no tar at all" * 100)
        self.refused("load", b"")

    def test_truncated_archives(self):
        whole = caisson.busybox_rootfs()
        self.refused("import", whole[: len(whole) // 2 + 100])
        self.refused("import", gzip.compress(whole, 1)[:100_000])
        archive = caisson.docker_archive([caisson.busybox_rootfs(lambda tar: caisson.add_file(tar, "x", b"1"))])
        self.refused("load", archive[: len(archive) // 2])

    def test_corrupt_compression(self):
        packed = bytearray(gzip.compress(caisson.busybox_rootfs(), 1))
        for at in range(50_000, 50_100):
            packed[at] ^= 0xFF
        self.refused("import", bytes(packed))

    def test_manifests_of_every_wrong_shape(self):
        layer = tar_of(("a", b"1", {}))
        for manifest in (b"{", b"null", b"[]", b"{}", b"[5]", [{"Config": 5, "Layers": []}], [{"Config": "missing.json", "Layers": []}],
                         [{"Config": "../../../etc/passwd", "Layers": []}], [{"Layers": ["layer0.tar"]}], [{"Config": "x", "RepoTags": "notalist", "Layers": []}]):
            with self.subTest(manifest=manifest):
                self.refused("load", caisson.docker_archive([layer], manifest=manifest))

    def test_an_archive_without_a_manifest(self):
        self.refused("load", tar_of(("unrelated", b"x", {})), "manifest.json")

    def test_a_layer_that_is_not_what_the_config_says(self):
        layer = tar_of(("a", b"1", {}))
        other = tar_of(("a", b"2", {}))
        archive = io.BytesIO(caisson.docker_archive([layer], tags=("liar:latest",)))
        out = io.BytesIO()
        with tarfile.open(fileobj=archive) as source, tarfile.open(fileobj=out, mode="w") as target:
            for member in source:
                data = other if member.name == "layer0.tar" else source.extractfile(member).read()
                caisson.add_file(target, member.name, data)
        self.refused("load", out.getvalue(), "sha256:")

    def test_members_never_leave_the_target(self):
        victim = os.path.join(self.engine.folder, "victim")
        with open(victim, "w", encoding="utf-8") as file:
            file.write("untouched")
        up = "../" * 20
        attacks = {
            "parent": [(f"{up}{victim[1:]}", b"overwritten", {})],
            "absolute": [(victim, b"overwritten", {})],
            "symlink": [("link", b"", {"type": tarfile.SYMTYPE, "linkname": self.engine.folder}), ("link/victim", b"overwritten", {})],
            "symlink up": [("link", b"", {"type": tarfile.SYMTYPE, "linkname": up + self.engine.folder[1:]}), ("link/victim", b"overwritten", {})],
            "hard link": [("link", b"", {"type": tarfile.LNKTYPE, "linkname": victim}), ("link", b"overwritten", {})],
            "hard link up": [("link", b"", {"type": tarfile.LNKTYPE, "linkname": up + victim[1:]})],
            "whiteout": [(f"{up}{os.path.dirname(victim)[1:]}/.wh.victim", b"", {})],
        }
        for name, members in attacks.items():
            with self.subTest(attack=name):
                self.engine.cli("import", "-", "attack:latest", stdin=tar_of(*members), text=False)
                self.engine.cli("rmi", "-f", "attack:latest")
                with open(victim, encoding="utf-8") as file:
                    self.assertEqual(file.read(), "untouched")

    def test_device_nodes_and_odd_names_do_not_break_the_unpacking(self):
        rootfs = caisson.busybox_rootfs(lambda tar: (caisson.add_file(tar, "dev/sda", type=tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o666),
                                                     caisson.add_file(tar, "new\nline", b"x"), caisson.add_file(tar, "pipe", type=tarfile.FIFOTYPE)))
        run = self.engine.cli("import", "-", "odd:latest", stdin=rootfs, text=False)
        if run.returncode == 0:
            self.assertEqual(self.engine.cli("run", "--rm", "odd", "sh", "-c", "cat /dev/sda").returncode, 1)
            self.engine.ok("rmi", "odd")
        else:
            self.assertIn(b"dev/sda", run.stderr)


class Api(caisson.EngineTest):
    def refused(self, method, path, body=None, status=400, headers=None, names=""):
        got, _, data = self.engine.request(method, path, body, headers)
        self.assertEqual(got, status, data)
        message = json.loads(data)["message"]
        self.assertIn(names, message)

    def test_bodies_that_are_no_container(self):
        for body, names in ((b"", ""), (b"{", ""), (b"[]", ""), (b"5", ""), ({"Image": 5}, "Image"), ({"Image": "busybox", "Cmd": {"a": 1}}, "Cmd"), ({"Image": "busybox", "Cmd": [1]}, "Cmd"), ({"Image": "busybox", "HostConfig": {"Memory": "x"}}, "Memory"),
                            ({"Image": "busybox", "HostConfig": {"Memory": -5}}, ""), ({"Image": "busybox", "Env": {"a": "b"}}, "Env"),
                            ({"Image": "busybox", "HostConfig": {"PortBindings": {"x/tcp": [{}]}}}, "x")):
            with self.subTest(body=body):
                self.refused("POST", "/v1.41/containers/create", body, headers={"Content-Type": "application/json"}, names=names)
        self.refused("POST", "/v1.41/containers/create", b'{"Image":"busybox"}', headers={"Content-Type": "text/plain"})
        self.refused("POST", "/v1.41/containers/create", {"Image": "no-such-image"}, 404, names="no-such-image")
        self.assertEqual(json.loads(self.engine.request("GET", "/containers/json?all=1")[2]), [])

    def test_null_and_empty_mean_unset(self):
        status, _, data = self.engine.request("POST", "/v1.41/containers/create?name=nulls", {"Image": "busybox", "Cmd": None, "Env": None, "HostConfig": None, "Bogus": 1, "Entrypoint": []})
        self.assertEqual(status, 201, data)
        self.engine.ok("rm", "nulls")

    def test_unknown_routes_and_versions_are_json(self):
        self.refused("GET", "/v1.41/no/such/route", status=404)
        self.refused("PATCH", "/v1.41/containers/json", status=404)
        self.refused("GET", "/v1.99/containers/json", status=400, names="too new")
        self.refused("GET", "/v1.1/containers/json", status=400, names="too old")
        self.refused("GET", "/containers/json?filters=notjson", status=400, names="filter")
        self.refused("GET", "/containers/localhost:5000/t/al:1/json", status=404)
        self.refused("GET", "/containers/%2e%2e%2f%2e%2e/json", status=404)

    def test_verbs_on_missing_and_stopped_containers(self):
        for verb in ("start", "stop", "kill", "pause", "unpause", "restart", "wait", "resize?h=1&w=1"):
            self.refused("POST", f"/v1.41/containers/missing/{verb}", status=404, names="missing")
        status, _, data = self.engine.request("POST", "/v1.41/containers/create?name=idle", {"Image": "busybox", "Cmd": ["true"]})
        self.assertEqual(status, 201, data)
        for verb in ("kill", "pause", "exec"):
            self.refused("POST", f"/v1.41/containers/idle/{verb}", {"Cmd": ["true"]} if verb == "exec" else None, status=409, names="idle" if verb == "never" else "")
        self.assertEqual(self.engine.request("POST", "/v1.41/containers/idle/stop")[0], 304)
        self.refused("POST", "/v1.41/containers/create?name=idle", {"Image": "busybox"}, 409, names="idle")
        self.engine.ok("rm", "idle")

    def raw(self, data, wait_s=5):
        """Sends bytes as they are; returns what came back until the server closed or was silent."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(wait_s)
            connection.connect(self.engine.socket)
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                out = b""
                while piece := connection.recv(65536):
                    out += piece
                return out
            except (ConnectionError, socket.timeout):
                return b""

    def test_what_is_no_http_does_not_hurt_the_server(self):
        for data in (b"\0" * 1000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 200_000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
                     b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
                     b"POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n", b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
                     b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"GET /containers/json HTTP/1.1\nHost: x\r\n : y\r\n\r\n"):
            with self.subTest(data=data[:60]):
                answer = self.raw(data)
                if answer:
                    self.assertRegex(answer[:15], rb"^HTTP/1\.[01] (4\d\d|505|200)")
                self.assertEqual(self.engine.request("GET", "/_ping")[2], b"OK")

    def test_a_huge_body_is_refused(self):
        body = b'{"Image":"' + b"x" * (64 << 20) + b'"}'
        try:
            status, _, data = self.engine.request("POST", "/v1.41/containers/create", body, {"Content-Type": "application/json"}, timeout=60)
            self.assertIn(status, (400, 413), data[:200])
        except ConnectionError:
            pass  # answered and closed before all of it was sent
        self.assertEqual(self.engine.request("GET", "/_ping")[2], b"OK")

    def test_deep_json_is_refused(self):
        self.refused("POST", "/v1.41/containers/create", b"[" * 100_000, headers={"Content-Type": "application/json"})


class Configuration(unittest.TestCase):
    def test_bad_flags_and_configuration_of_the_daemon_end_it_with_a_reason(self):
        import subprocess
        import tempfile
        with tempfile.TemporaryDirectory(prefix=caisson.PREFIX) as folder:
            bad = os.path.join(folder, "caisson.toml")
            with open(bad, "w", encoding="utf-8") as file:
                file.write("[network\nbridge = 5\n")
            common = ["--root", f"{folder}/r", "--exec-root", f"{folder}/e", "-H", f"unix://{folder}/s"]
            for arguments, names in ((["--no-such-flag"], "--no-such-flag"), (["--config", bad], "caisson.toml"), (["--config", f"{folder}/missing.toml"], "missing.toml"),
                                     (["--subnet", "nonsense"], "nonsense")):
                with self.subTest(arguments=arguments):
                    run = subprocess.run([f"{caisson.BIN}/caissond", *common, *arguments], capture_output=True, text=True, timeout=20, check=False)
                    self.assertNotEqual(run.returncode, 0)
                    self.assertIn(names, run.stderr + run.stdout)


if __name__ == "__main__":
    caisson.main()

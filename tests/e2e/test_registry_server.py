#!/usr/bin/env python3
"""Our registry server with the clients people have: ours, docker, podman, skopeo, buildah, cosign and oras; and what happens when it is killed, full or crowded."""

import base64
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest
from http.client import HTTPException as http_error

import caisson
import peers
import registries
from caisson import wait_until

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest_of(data, algorithm="sha256"):
    return algorithm + ":" + hashlib.new(algorithm, data).hexdigest()


class ServerTest(registries.NamespaceTest):
    """A namespace with our registry in it."""

    config = ""
    options = ()

    @classmethod
    def why_not(cls):
        return registries.CaissonRegistry.why_not()

    @classmethod
    def open(cls):
        cls.registry = cls.new_registry(config=cls.config, options=cls.options)

    @classmethod
    def new_registry(cls, **options):
        return cls.kept(registries.CaissonRegistry(cls.namespace, **options))

    def push_blob(self, repository, data, registry=None):
        digest = digest_of(data)
        status, _, body = (registry or self.registry).request("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)
        self.assertEqual(status, 201, body)
        return digest

    def manifest_of(self, repository, layers, registry=None, **more):
        """The bytes of a manifest whose parts are pushed."""
        def described(data, kind):
            return {"mediaType": kind, "digest": self.push_blob(repository, data, registry), "size": len(data)}
        return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": described(b"{}", "application/vnd.oci.image.config.v1+json"),
                           "layers": [described(data, "application/vnd.oci.image.layer.v1.tar") for data in layers], **more}).encode()

    def push_manifest(self, repository, tag, layers, registry=None, **more):
        text = self.manifest_of(repository, layers, registry, **more)
        status, headers, body = (registry or self.registry).request("PUT", f"/v2/{repository}/manifests/{tag}", text, {"Content-Type": MANIFEST})
        self.assertEqual(status, 201, body)
        return headers["docker-content-digest"], text


class Confinement(ServerTest):
    def test_the_server_has_no_rights(self):
        pid = self.registry.process.pid
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        self.assertNotIn("0", status["Uid"].split())
        self.assertNotIn("0", status["Gid"].split())
        self.assertEqual(status["Groups"].strip(), "")
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0, name)
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertEqual(status["Seccomp"], "2")
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file:
                text = file.read()
            self.assertIn("Seccomp:\t2", text)
            self.assertNotRegex(text, r"Uid:.*\b0\b")
        self.assertEqual(os.stat(self.registry.root).st_mode & 0o777, 0o700)

    def test_plain_http_stays_on_loopback(self):
        done = subprocess.run(self.registry.command("serve", "--listen", "0.0.0.0:5999"), capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("HTTP without TLS is served on loopback only", done.stderr)

    def test_the_service_manager_is_told(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            path = os.path.join(self.registry.folder, "notify")
            manager.bind(path)  # reachable by root alone: told by a descriptor from before the rights went
            manager.settimeout(30)
            self.registry.stop()
            self.registry.start({"NOTIFY_SOCKET": path})
            self.assertEqual(manager.recv(100), b"READY=1")
            self.registry.stop()
            self.assertEqual(manager.recv(100), b"STOPPING=1")
        self.registry.start()

    def test_a_second_server_on_the_folder_is_refused(self):
        done = subprocess.run([*self.namespace.command, *self.registry.command("serve", "--listen", "127.0.0.1:5998")], capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "already|in use")


class Pushing(ServerTest):
    def test_an_upload_goes_on_where_a_cut_connection_left_it(self):
        data = os.urandom(3 << 20)
        _, headers, _ = self.registry.request("POST", "/v2/cut/blobs/uploads/")
        location = headers["location"]
        half = len(data) // 2
        connection = self.namespace.connect(self.registry.port)
        connection.sendall(f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data[:half])
        connection.close()

        def come():
            return self.registry.request("GET", location)[1].get("range") == f"0-{half - 1}"

        wait_until(come, "what was sent is kept")
        status, headers, _ = self.registry.request("PATCH", location, data[half:], {"Content-Range": f"{half}-{len(data) - 1}"})
        self.assertEqual((status, headers["range"]), (202, f"0-{len(data) - 1}"))
        status, _, body = self.registry.request("PUT", f"{location}?digest={digest_of(data)}")
        self.assertEqual(status, 201, body)
        self.assertEqual(self.registry.request("GET", f"/v2/cut/blobs/{digest_of(data)}")[2], data)

    def test_a_416_has_a_body_of_the_length_it_announces(self):
        digest = self.push_blob("range", b"0123456789")
        status, headers, body = self.registry.request("GET", f"/v2/range/blobs/{digest}", headers={"Range": "bytes=10-20"})
        self.assertEqual((status, headers["content-range"]), (416, "bytes */10"))
        self.assertEqual(json.loads(body)["errors"][0]["code"], "SIZE_INVALID")

    def test_broken_requests_are_answered_and_harm_nobody(self):
        for text in (b"GET /v2/ HTTP/1.1\r\n\r\n", b"\0\0\0", b"PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                     b"GET /v2/" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"):
            connection = self.namespace.connect(self.registry.port)
            connection.sendall(text)
            self.assertRegex(connection.recv(1000).decode(errors="replace"), r"^HTTP/1.1 4\d\d")
            connection.close()
        self.assertEqual(self.registry.request("GET", "/v2/")[0], 200)

    def test_fifty_clients_at_once_push_and_pull_while_it_cleans_up(self):
        failures = []
        stop = threading.Event()

        def clean():
            while not stop.wait(0.05):
                done = self.registry.admin("gc", "--untagged", check=None)
                if done.returncode != 0:
                    failures.append(done.stderr)

        def client(number):
            try:
                shared, own = b"shared" * 20_000, os.urandom(40_000) + number.to_bytes(4, "big")
                digest, text = self.push_manifest(f"crowd/{number % 7}", f"t{number}", [shared, own])
                for reference in (f"t{number}", digest):
                    status, _, body = self.registry.request("GET", f"/v2/crowd/{number % 7}/manifests/{reference}")
                    assert (status, body) == (200, text), f"{reference}: {status}"
                for data in (shared, own):
                    status, _, body = self.registry.request("GET", f"/v2/crowd/{number % 7}/blobs/{digest_of(data)}")
                    assert status == 200 and body == data, status
            except BaseException as error:  # told below
                failures.append(f"client {number}: {error}")

        cleaner = threading.Thread(target=clean)
        cleaner.start()
        clients = [threading.Thread(target=client, args=(number,)) for number in range(50)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        stop.set()
        cleaner.join()
        self.assertEqual(failures, [])


class Faults(ServerTest):
    def test_whatever_was_promised_outlives_kill_9(self):
        """Clients push without a pause; the server is killed in the midst of it, several times, with a clean-up running."""
        registry = self.new_registry(port=5006, config="[gc]\nevery = \"50ms\"\ngrace = \"10m\"\n")
        promised = {}
        lock = threading.Lock()
        for round_number in range(4):
            stop = threading.Event()

            def client(number, round_number=round_number, stop=stop):
                count = 0
                while not stop.is_set():
                    count += 1
                    data = f"{round_number} {number} {count} ".encode() * 5000
                    with contextlib.suppress(OSError, AssertionError, http_error):
                        digest, text = self.push_manifest(f"killed/{number}", f"t{round_number}-{count}", [data], registry=registry)
                        with lock:
                            promised[(f"killed/{number}", f"t{round_number}-{count}")] = (digest, text, data)

            before = len(promised)
            clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
            for thread in clients:
                thread.start()
            wait_until(lambda before=before: len(promised) >= before + 6, "pushes succeed", 60)
            registry.kill()
            stop.set()
            for thread in clients:
                thread.join()
            registry.start()
        registry.admin("gc", "--grace", "0s")
        for (repository, tag), (digest, text, data) in promised.items():
            status, headers, body = registry.request("GET", f"/v2/{repository}/manifests/{tag}")
            self.assertEqual((status, body, headers["docker-content-digest"]), (200, text, digest))
            self.assertEqual(registry.request("GET", f"/v2/{repository}/blobs/{digest_of(data)}")[2], data)
        self.assert_sound(registry)
        self.assertEqual(registry.stop(), 0)

    def test_a_command_may_come_while_the_server_starts(self):
        registry = self.new_registry(port=5009)
        registry.kill()
        for _ in range(10):
            commands = [threading.Thread(target=self.collect, args=(lambda: registry.admin("gc"),)) for _ in range(3)]
            for thread in commands:
                thread.start()
            registry.start()
            for thread in commands:
                thread.join()
            self.assertEqual(registry.request("GET", "/v2/")[0], 200)
            registry.kill()
        self.assertEqual(self.collected, [])

    def setUp(self):
        super().setUp()
        self.collected = []

    def collect(self, call):
        try:
            call()
        except BaseException as error:  # told by the test
            self.collected.append(error)

    def assert_sound(self, registry):
        """Every file has the content its name says; nothing is left half made."""
        for algorithm in ("sha256", "sha512"):
            folder = os.path.join(registry.root, "content", "blobs", algorithm)
            for name in os.listdir(folder):
                with open(os.path.join(folder, name), "rb") as file:
                    self.assertEqual(hashlib.new(algorithm, file.read()).hexdigest(), name)
        self.assertEqual(os.listdir(os.path.join(registry.root, "ingest")), [])

    def test_an_upload_goes_on_after_kill_9(self):
        registry = self.new_registry(port=5007)
        data = os.urandom(1 << 20)
        _, headers, _ = registry.request("POST", "/v2/resumed/blobs/uploads/")
        location = headers["location"]
        registry.request("PATCH", location, data[:600_000])
        registry.kill()
        registry.start()
        status, headers, _ = registry.request("GET", location)
        self.assertEqual((status, headers["range"]), (204, "0-599999"))
        self.assertEqual(registry.request("PATCH", location, data[600_000:], {"Content-Range": f"600000-{len(data) - 1}"})[0], 202)
        self.assertEqual(registry.request("PUT", f"{location}?digest={digest_of(data)}")[0], 201)
        self.assert_sound(registry)

    def test_a_full_disk_refuses_and_corrupts_nothing(self):
        folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "full-")
        self.addCleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m,mode=711", "full", folder], check=True)
        self.addCleanup(lambda: subprocess.run(["umount", "-l", folder], check=False))
        registry = self.new_registry(port=5008, folder=folder, config="[gc]\nevery = \"0s\"\n")
        kept, text = self.push_manifest("full", "kept", [b"kept" * 1000], registry=registry)
        refused = 0
        for number in range(12):  # until nothing fits, blobs and then manifests and records
            data = os.urandom(400_000)
            status, _, body = registry.request("POST", f"/v2/full/blobs/uploads/?digest={digest_of(data)}", data)
            self.assertIn(status, (201, 507, 429, 500), body)
            if status != 201:
                refused += 1
                self.assertEqual(status, 507, body)
                self.assertEqual(json.loads(body)["errors"][0]["code"], "DENIED")
        self.assertGreater(refused, 2)
        status, _, _ = registry.request("PUT", f"/v2/full/manifests/{kept}?tag=more", text, {"Content-Type": MANIFEST})
        self.assertIn(status, (201, 507))
        self.assertEqual(registry.request("GET", "/v2/full/manifests/kept")[2], text)
        registry.admin("gc", "--grace", "0s")
        self.push_manifest("full", "again", [b"again" * 1000], registry=registry)
        registry.kill()
        registry.start()
        self.assertEqual(registry.request("GET", "/v2/full/manifests/again")[0], 200)
        self.assert_sound(registry)
        registry.kill()


class Rights(ServerTest):
    config_text = """
[auth]
htpasswd = "{folder}/htpasswd"
[tls]
certificate = "{folder}/cert.pem"
key = "{folder}/key.pem"
[[access]]
users = ["user"]
repositories = ["own/*"]
rights = ["pull", "push", "delete"]
[[access]]
users = ["anonymous"]
repositories = ["public/*"]
rights = ["pull"]
"""

    @classmethod
    def setUpClass(cls):
        if not shutil.which("openssl") or not shutil.which("skopeo"):
            raise unittest.SkipTest("needs openssl and skopeo: tools/dependencies peers")
        cls.secrets = tempfile.mkdtemp(prefix=caisson.PREFIX + "secrets-")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=registry", "-addext",
                        "subjectAltName=IP:127.0.0.1", "-keyout", f"{cls.secrets}/key.pem", "-out", f"{cls.secrets}/cert.pem"], check=True, capture_output=True)
        with open(f"{cls.secrets}/htpasswd", "w", encoding="utf-8") as file:
            file.write(registries.HTPASSWD)
        cls.config = cls.config_text.format(folder=cls.secrets)
        try:
            super().setUpClass()
        except BaseException:
            shutil.rmtree(cls.secrets)
            raise
        cls.cleanups.callback(shutil.rmtree, cls.secrets)

    def curl(self, path, *options):
        done = subprocess.run([*self.namespace.command, "curl", "-s", "-o", "/dev/stdout", "-w", "\n%{http_code}", "--cacert", f"{self.secrets}/cert.pem", *options,
                               f"https://{self.registry.address}{path}"], capture_output=True, text=True, timeout=30, check=True)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def test_who_is_nobody_is_asked_who_they_are(self):
        status, body = self.curl("/v2/", "-D", "/dev/stderr")
        self.assertEqual((status, json.loads(body)["errors"][0]["code"]), (401, "UNAUTHORIZED"))
        self.assertEqual(self.curl("/v2/", "-u", "user:secret")[0], 200)
        self.assertEqual(self.curl("/v2/", "-u", "user:wrong")[0], 401)
        self.assertEqual(self.curl("/v2/", "-u", "nobody:secret")[0], 401)

    def test_rights_hold_per_repository(self):
        user = ("-u", "user:secret")
        self.assertEqual(self.curl("/v2/own/x/blobs/uploads/", "-X", "POST", *user)[0], 202)
        status, body = self.curl("/v2/other/x/blobs/uploads/", "-X", "POST", *user)
        self.assertEqual((status, json.loads(body)["errors"][0]["code"]), (403, "DENIED"))
        self.assertEqual(self.curl("/v2/public/x/tags/list")[0], 404)  # may ask; there is nothing
        self.assertEqual(self.curl("/v2/own/x/tags/list")[0], 401)
        self.assertEqual(self.curl("/v2/public/x/blobs/uploads/", "-X", "POST")[0], 401)
        self.assertEqual(self.curl("/v2/_catalog", *user)[0], 403)

    def test_skopeo_logs_in_over_tls(self):
        with tempfile.TemporaryDirectory() as folder:
            archive = os.path.join(folder, "image.tar")
            with open(archive, "wb") as file:
                file.write(caisson.docker_archive([caisson.busybox_rootfs()]))
            os.makedirs(os.path.join(folder, "certs"))
            shutil.copy(f"{self.secrets}/cert.pem", os.path.join(folder, "certs", "ca.crt"))
            command = [*self.namespace.command, "skopeo", "copy", "--insecure-policy", "--dest-cert-dir", os.path.join(folder, "certs")]
            done = subprocess.run([*command, "--dest-creds", "user:secret", f"docker-archive:{archive}", f"docker://{self.registry.address}/own/busybox:1"], capture_output=True, text=True,
                                  timeout=120, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            done = subprocess.run([*command, "--dest-creds", "user:wrong", f"docker-archive:{archive}", f"docker://{self.registry.address}/own/busybox:2"], capture_output=True, text=True,
                                  timeout=120, check=False)
            self.assertNotEqual(done.returncode, 0)


class Tokens(ServerTest):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("openssl"):
            raise unittest.SkipTest("needs openssl")
        cls.secrets = tempfile.mkdtemp(prefix=caisson.PREFIX + "secrets-")
        for name, options in (("ec", ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]), ("rsa", ["-algorithm", "RSA"]), ("other", ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])):
            subprocess.run(["openssl", "genpkey", *options, "-out", f"{cls.secrets}/{name}.key"], check=True, capture_output=True)
            subprocess.run(["openssl", "pkey", "-in", f"{cls.secrets}/{name}.key", "-pubout", "-out", f"{cls.secrets}/{name}.pub"], check=True, capture_output=True)
        cls.config = f"""
[auth.token]
realm = "http://127.0.0.1:1/token"
service = "here"
issuer = "there"
keys = ["{cls.secrets}/ec.pub", "{cls.secrets}/rsa.pub"]
"""
        try:
            super().setUpClass()
        except BaseException:
            shutil.rmtree(cls.secrets)
            raise
        cls.cleanups.callback(shutil.rmtree, cls.secrets)

    def token(self, key="ec", header=None, actions=("pull",), name="own/x", **claims):
        def encode(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=")
        header = header or {"alg": "RS256" if key == "rsa" else "ES256", "typ": "JWT"}
        claims = {"iss": "there", "aud": "here", "sub": "somebody", "exp": 4_000_000_000, "access": [{"type": "repository", "name": name, "actions": list(actions)}], **claims}
        message = encode(json.dumps(header).encode()) + b"." + encode(json.dumps(claims).encode())
        der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", f"{self.secrets}/{key}.key"], input=message, capture_output=True, check=True).stdout
        if key != "rsa":
            text = subprocess.run(["openssl", "asn1parse", "-inform", "DER"], input=der, capture_output=True, check=True).stdout.decode()
            numbers = [line.rpartition(":")[2] for line in text.splitlines() if "INTEGER" in line]
            der = b"".join(bytes.fromhex(number.zfill(64)) for number in numbers)
        return (message + b"." + encode(der)).decode()

    def status(self, token, path="/v2/own/x/tags/list", method="GET"):
        return self.registry.request(method, path, headers={"Authorization": "Bearer " + token})

    def test_tokens_of_known_keys_give_what_they_grant(self):
        for key in ("ec", "rsa"):
            self.assertEqual(self.status(self.token(key))[0], 404, key)  # may ask; there is nothing
            self.assertEqual(self.status(self.token(key, actions=("pull", "push")), "/v2/own/x/blobs/uploads/", "POST")[0], 202)
        status, headers, body = self.status(self.token(), "/v2/own/x/blobs/uploads/", "POST")
        self.assertEqual((status, json.loads(body)["errors"][0]["code"]), (401, "UNAUTHORIZED"))
        self.assertEqual(headers["www-authenticate"], 'Bearer realm="http://127.0.0.1:1/token",service="here",scope="repository:own/x:pull,push",error="insufficient_scope"')
        self.assertEqual(self.status(self.token(name="other"))[0], 401)

    def test_other_tokens_give_nothing(self):
        refused = {
            "another key": self.token("other"),
            "expired": self.token(exp=1_000_000_000),
            "never expiring": self.token(exp=None),
            "not yet valid": self.token(nbf=3_900_000_000),
            "another issuer": self.token(iss="elsewhere"),
            "another service": self.token(aud="elsewhere"),
            "no signature": self.token(header={"alg": "none"}).rpartition(".")[0] + ".",
            "alg none": self.token(header={"alg": "none"}),
            "algorithm mixed up": self.token(header={"alg": "HS256"}),
            "garbage": "a.b.c",
        }
        for why, token in refused.items():
            status, headers, _ = self.status(token)
            self.assertEqual(status, 401, why)
            self.assertIn('error="invalid_token"', headers["www-authenticate"], why)
        text = self.token()
        body = text.split(".")[1]
        self.assertEqual(self.status(text.replace(body, body[:-2] + ("AA" if body[-2:] != "AA" else "BB")))[0], 401)


class Around(ServerTest):
    """What surrounds pushes and pulls: administrators' commands, metrics, web-hooks, copies of other registries."""

    def test_administrators_list_remove_and_clean_up(self):
        registry = self.new_registry(port=5009, options=["--metrics", "127.0.0.1:5019"])
        digest, _ = self.push_manifest("adm/one", "v1", [b"one" * 100], registry=registry)
        self.push_manifest("adm/two", "v1", [b"two" * 100], registry=registry)
        self.push_blob("adm/two", b"orphan" * 1000, registry)
        self.assertRegex(registry.admin("ls").stdout, r"REPOSITORY +TAGS +SIZE\nadm/one +1 +\S+\nadm/two +1 ")
        self.assertIn(digest, registry.admin("ls", "adm/one").stdout)
        self.assertEqual(json.loads(registry.admin("ls", "--format", "json").stdout)[0]["name"], "adm/one")
        self.assertIn("on disk, shared blobs once", registry.admin("du").stdout)
        self.assertIn("blobs removed: 0", registry.admin("gc").stdout)
        self.assertIn("blobs removed: 1", registry.admin("gc", "--grace", "0s").stdout)
        registry.admin("rm", "adm/one:v1")
        self.assertIn("no tag v1", registry.admin("rm", "adm/one:v1", check=1).stderr)
        self.assertEqual(json.loads(registry.admin("gc", "--grace=0s", "--untagged", "--format=json").stdout)["manifests"], 1)
        self.assertNotIn("adm/one", registry.admin("ls").stdout)
        metrics = subprocess.run([*self.namespace.command, "curl", "-s", "http://127.0.0.1:5019/metrics"], capture_output=True, text=True, timeout=30, check=True).stdout
        self.assertRegex(metrics, r'caisson_registry_requests_total\{method="PUT",code="201"\} 2')
        self.assertRegex(metrics, r"caisson_registry_clean_ups_total 3")
        self.assertEqual(registry.stop(), 0)
        # Nobody serves: the commands open the folder themselves, and what they leave is the server's.
        self.assertIn("adm/two", registry.admin("ls").stdout)
        registry.admin("rm", "adm/two")
        registry.start()
        self.assertEqual(json.loads(registry.request("GET", "/v2/_catalog")[2]), {"repositories": []})

    def test_quotas_refuse_with_a_reason(self):
        registry = self.new_registry(port=5010, config='[quota]\nrepository = "100KB"\n[quota.of]\n"big/one" = "10MB"\n')
        data = b"x" * 200_000
        status, _, body = registry.request("POST", f"/v2/small/blobs/uploads/?digest={digest_of(data)}", data)
        self.assertEqual((status, json.loads(body)["errors"][0]["code"]), (413, "DENIED"))
        self.assertIn("repository small may hold at most", body.decode())
        self.push_blob("big/one", data, registry)

    def test_web_hooks_arrive_in_dockers_format_also_after_a_restart(self):
        if registries.why_not_fetch():
            self.skipTest(registries.why_not_fetch())
        got, broken = [], threading.Event()
        broken.set()
        hook = registries.BetweenServer(self.namespace)
        self.cleanups.callback(hook.close)

        def take(handler, body):
            if broken.is_set():
                handler.answer(500)
                return True
            got.append((handler.headers.get("Content-Type"), handler.headers.get("X-Secret"), json.loads(body)))
            handler.answer(200)
            return True

        hook.on("^/hook$", take, "POST")
        registry = self.new_registry(port=5011, config=f'[[events]]\nname = "ci"\nurl = "http://{hook.address}/hook"\nactions = ["push", "delete"]\nheaders = {{ X-Secret = "s" }}\n')
        digest, _ = self.push_manifest("hooked", "v1", [b"hooked"], registry=registry)
        wait_until(lambda: hook.seen, "an attempt is made")
        registry.kill()
        broken.clear()
        registry.start()
        wait_until(lambda: sum(len(envelope["events"]) for _, _, envelope in got) >= 3, "events arrive", 30)
        events = [event for _, _, envelope in got for event in envelope["events"]]
        self.assertEqual(got[0][:2], ("application/vnd.docker.distribution.events.v1+json", "s"))
        last = [event for event in events if event["target"]["digest"] == digest][0]
        self.assertEqual((last["action"], last["target"]["repository"], last["target"]["tag"], last["target"]["mediaType"]), ("push", "hooked", "v1", MANIFEST))
        self.assertEqual(last["request"]["method"], "PUT")
        registry.request("DELETE", "/v2/hooked/manifests/v1")
        wait_until(lambda: any(event["action"] == "delete" for _, _, envelope in got for event in envelope["events"]), "the deletion is told", 30)

    def test_repositories_of_another_registry_are_copied_as_they_are_asked_for(self):
        if registries.why_not_fetch():
            self.skipTest(registries.why_not_fetch())
        origin = self.new_registry(port=5012)
        digest, text = self.push_manifest("lib/app", "v1", [b"layer" * 10_000], registry=origin)
        copy = self.new_registry(port=5013, config=f'[[proxy]]\nprefix = "far/"\nupstream = "{origin.address}"\nfresh = "0s"\n')
        for _ in range(2):
            status, headers, body = copy.request("GET", "/v2/far/lib/app/manifests/v1")
            self.assertEqual((status, body, headers["docker-content-digest"]), (200, text, digest))
            self.assertEqual(copy.request("GET", f"/v2/far/lib/app/blobs/{digest_of(b'layer' * 10_000)}")[2], b"layer" * 10_000)
        self.assertEqual(origin.log_text().count("GET object=\"/v2/lib/app/blobs/"), 1)
        self.assertEqual(copy.request("GET", f"/v2/far/lib/app/blobs/{digest_of(b'unheard of')}")[0], 404)
        self.assertEqual(copy.request("GET", "/v2/far/lib/nothing/manifests/v1")[0], 404)
        self.assertEqual(copy.request("POST", "/v2/far/lib/app/blobs/uploads/")[0], 405)
        moved, _ = self.push_manifest("lib/app", "v1", [b"newer" * 10_000], registry=origin)
        self.assertEqual(copy.request("GET", "/v2/far/lib/app/manifests/v1")[1]["docker-content-digest"], moved)
        origin.kill()
        self.assertEqual(copy.request("GET", "/v2/far/lib/app/manifests/v1")[1]["docker-content-digest"], moved)  # what is here is served


CLIENT_PROGRAMS = os.path.join(os.environ.get("CAISSON_CLIENT_PROGRAMS") or os.path.join(caisson.TREE, "build", "clients"), "artifacts", "usr", "bin")


class Clients(ServerTest):
    """Round trips with what people have. Each pushes what another made, so that they also read each other."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.home = tempfile.mkdtemp(prefix=caisson.PREFIX + "home-")
        cls.cleanups.callback(shutil.rmtree, cls.home)
        cls.archive = os.path.join(cls.home, "image.tar")
        with open(cls.archive, "wb") as file:
            file.write(caisson.docker_archive([caisson.busybox_rootfs()], tags=("busybox:latest",)))
        cls.policy = os.path.join(cls.home, "policy.json")
        with open(cls.policy, "w", encoding="utf-8") as file:
            file.write('{"default": [{"type": "insecureAcceptAnything"}]}')

    def run_client(self, *command, check=0, **environment):
        done = subprocess.run([*self.namespace.command, *command], capture_output=True, text=True, timeout=300, check=False, cwd=self.home, stdin=subprocess.DEVNULL,
                              env={**os.environ, "HOME": self.home, "TMPDIR": self.home, **environment})
        self.assertEqual(done.returncode, check, f"{command}: {done.stderr}{done.stdout}")
        return done

    def need(self, program, folder=None):
        path = shutil.which(program, path=folder)
        if not path:
            self.skipTest(f"needs {program}: " + ("tools/client-programs" if folder else "tools/dependencies peers"))
        return path

    def seed(self, name, *options):
        """An image at the registry, by skopeo."""
        self.run_client(self.need("skopeo"), "copy", "--insecure-policy", "--dest-tls-verify=false", *options, f"docker-archive:{self.archive}", f"docker://{self.registry.address}/{name}")

    def digest_at(self, name):
        repository, _, tag = name.rpartition(":")
        status, headers, _ = self.registry.request("HEAD", f"/v2/{repository}/manifests/{tag}")
        self.assertEqual(status, 200)
        return headers["docker-content-digest"]

    def test_skopeo_copies_both_formats_and_all_platforms_and_deletes(self):
        skopeo = self.need("skopeo")
        self.seed("skopeo/docker:1", "--format", "v2s2")
        self.seed("skopeo/oci:1", "--format", "oci")
        for name in ("skopeo/docker:1", "skopeo/oci:1"):
            self.run_client(skopeo, "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{self.registry.address}/{name}", f"docker://{self.registry.address}/copied/{name}")
            self.assertEqual(self.digest_at("copied/" + name), self.digest_at(name))
        self.run_client(skopeo, "copy", "--insecure-policy", "--src-tls-verify=false", f"docker://{self.registry.address}/skopeo/oci:1", f"oci:{self.home}/layout:1")
        # One index over two platforms, as buildx leaves it.
        status, _, body = self.registry.request("GET", "/v2/skopeo/oci/manifests/1")
        entries = [{"mediaType": MANIFEST, "digest": digest_of(body), "size": len(body), "platform": {"os": "linux", "architecture": name}} for name in ("amd64", "arm64")]
        index = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}).encode()
        status, _, body = self.registry.request("PUT", "/v2/skopeo/oci/manifests/all", index, {"Content-Type": "application/vnd.oci.image.index.v1+json"})
        self.assertEqual(status, 201, body)
        self.run_client(skopeo, "copy", "--all", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{self.registry.address}/skopeo/oci:all",
                        f"docker://{self.registry.address}/skopeo/all:1")
        self.assertEqual(self.digest_at("skopeo/all:1"), digest_of(index))
        self.assertEqual(json.loads(self.run_client(skopeo, "list-tags", "--tls-verify=false", f"docker://{self.registry.address}/skopeo/oci").stdout)["Tags"], ["1", "all"])
        self.run_client(skopeo, "delete", "--tls-verify=false", f"docker://{self.registry.address}/skopeo/docker:1")
        self.assertEqual(self.registry.request("GET", "/v2/skopeo/docker/manifests/1")[0], 404)

    def test_podman_pulls_and_pushes(self):
        self.need("podman")
        self.seed("podman/in:1")
        podman = peers.PrivatePodman()
        self.addCleanup(podman.close)

        def run(*arguments):
            command = podman.command(*arguments)
            command[1] = self.namespace.command[1]  # in the registry's namespace
            return self.run_client(*command, **{"CONTAINERS_CONF": os.path.join(podman.folder, "containers.conf"), "HOME": podman.folder})

        run("pull", "--tls-verify=false", f"{self.registry.address}/podman/in:1")
        run("tag", f"{self.registry.address}/podman/in:1", f"{self.registry.address}/podman/out:1")
        run("push", "--tls-verify=false", f"{self.registry.address}/podman/out:1")
        run("rmi", "-f", f"{self.registry.address}/podman/in:1", f"{self.registry.address}/podman/out:1")
        run("pull", "--tls-verify=false", f"{self.registry.address}/podman/out:1")

    def test_buildah_builds_upon_it_and_pushes(self):
        buildah = [self.need("buildah"), "--root", f"{self.home}/buildah", "--runroot", f"{self.home}/buildah-run", "--storage-driver", "vfs"]
        self.seed("buildah/base:1")
        name = self.run_client(*buildah, "from", "--signature-policy", self.policy, "--tls-verify=false", f"{self.registry.address}/buildah/base:1").stdout.strip()
        self.run_client(*buildah, "config", "--label", "a=b", name)
        self.run_client(*buildah, "commit", "--signature-policy", self.policy, "--tls-verify=false", name, f"docker://{self.registry.address}/buildah/made:1")
        self.run_client(*buildah, "rm", name)
        self.assertTrue(self.digest_at("buildah/made:1"))

    def test_dockerd_pulls_and_pushes(self):
        reason = peers.PrivateDockerd.why_not()
        if reason:
            self.skipTest(reason)
        self.seed("docker/in:1")
        with peers.PrivateDockerd("--bridge", "none", "--iptables=false") as dockerd:
            inside = registries.Namespace.__new__(registries.Namespace)  # dockerd's own
            inside.name = dockerd.namespace
            registry = registries.CaissonRegistry(inside, port=5005)
            try:
                dockerd.docker("load", "-i", self.archive, check=0)
                dockerd.docker("tag", "busybox:latest", f"{registry.address}/docker/out:1", check=0)
                out = dockerd.docker("push", f"{registry.address}/docker/out:1", check=0).stdout.decode()
                self.assertIn("digest: sha256:", out)
                dockerd.docker("tag", "busybox:latest", f"{registry.address}/docker/mounted:1", check=0)
                self.assertIn("Mounted from docker/out", dockerd.docker("push", f"{registry.address}/docker/mounted:1", check=0).stdout.decode())
                dockerd.docker("rmi", "busybox:latest", f"{registry.address}/docker/out:1", f"{registry.address}/docker/mounted:1", check=0)
                dockerd.docker("pull", f"{registry.address}/docker/out:1", check=0)
            finally:
                registry.close()

    def test_our_engine_and_docker_28_on_it_push_and_pull(self):
        reason = caisson.why_not() or registries.why_not_fetch()
        if reason:
            self.skipTest(reason)
        engine = caisson.Engine()
        engine.prefix_command = self.namespace.command
        self.addCleanup(engine.close)
        engine.start()
        engine.import_busybox()
        name = f"{self.registry.address}/ours/busybox:1"
        engine.ok("tag", "busybox", name)
        engine.ok("push", name)
        engine.ok("rmi", "-f", "busybox", name)
        engine.ok("pull", name)
        self.assertEqual(engine.ok("run", "--rm", "--network", "none", name, "echo", "hello"), "hello")
        if shutil.which("docker"):
            other = f"{self.registry.address}/ours/docker:1"
            engine.docker("tag", name, other, check=0)
            engine.docker("push", other, check=0)
            engine.docker("rmi", other, check=0)
            engine.docker("pull", other, check=0)
            self.assertEqual(self.digest_at("ours/docker:1"), self.digest_at("ours/busybox:1"))

    def test_oras_pushes_attaches_discovers_and_copies(self):
        oras = self.need("oras", CLIENT_PROGRAMS)
        with open(os.path.join(self.home, "note.txt"), "w", encoding="utf-8") as file:
            file.write("a note")
        name = f"{self.registry.address}/oras/artifact:1"
        self.run_client(oras, "push", "--plain-http", name, "note.txt:text/plain")
        self.run_client(oras, "attach", "--plain-http", "--artifact-type", "application/x.note", name, "note.txt:text/plain")
        found = json.loads(self.run_client(oras, "discover", "--plain-http", "--format", "json", name).stdout)
        self.assertEqual([entry["artifactType"] for entry in found["manifests"]], ["application/x.note"])
        self.assertFalse([path for path in (line.split('object="')[1].split('"')[0] for line in self.registry.log_text().splitlines() if "oras/artifact/manifests/sha256-" in line)])  # no fallback tag
        self.run_client(oras, "copy", "-r", "--from-plain-http", "--to-plain-http", name, f"{self.registry.address}/oras/copied:1")
        self.run_client(oras, "pull", "--plain-http", "-o", os.path.join(self.home, "pulled"), f"{self.registry.address}/oras/copied:1")
        with open(os.path.join(self.home, "pulled", "note.txt"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "a note")
        self.assertIn("1", self.run_client(oras, "repo", "tags", "--plain-http", f"{self.registry.address}/oras/copied").stdout.split())
        self.run_client(oras, "manifest", "delete", "--plain-http", "--force", f"{self.registry.address}/oras/copied:1")

    def test_cosign_signs_and_verifies(self):
        cosign = self.need("cosign", CLIENT_PROGRAMS)
        self.seed("cosign/app:1")
        image = f"{self.registry.address}/cosign/app@{self.digest_at('cosign/app:1')}"
        self.run_client(cosign, "generate-key-pair", COSIGN_PASSWORD="")
        self.run_client(cosign, "sign", "--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry", "-y", image, COSIGN_PASSWORD="")
        self.run_client(cosign, "verify", "--key", "cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry", image)
        self.registry.admin("gc", "--untagged")
        self.run_client(cosign, "verify", "--key", "cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry", image)


if __name__ == "__main__":
    caisson.main(registries.CaissonRegistry.why_not)

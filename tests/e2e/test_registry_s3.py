#!/usr/bin/env python3
"""The registry server with its blobs in a bucket: the same clients, faults of the service, a lost folder, and that the server itself still has no rights."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import threading

import caisson
import registries
import s3_server
import test_registry_server
from caisson import wait_until
from test_registry_server import MANIFEST, digest_of

BIG = b"".join(hashlib.sha512(number.to_bytes(4, "big")).digest() for number in range((17 << 20) // 64))


class BucketTest(test_registry_server.ServerTest):
    settings = {}

    @classmethod
    def new_registry(cls, config="", **options):
        if not hasattr(cls, "s3"):
            cls.s3 = s3_server.S3(cls.namespace)
            cls.cleanups.callback(cls.s3.close)
        return super().new_registry(config=config + cls.s3.config(**cls.settings), **options)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        del cls.s3

    def setUp(self):
        reason = registries.why_not_fetch()
        if reason:
            self.skipTest(reason)
        self.s3.faults.clear()

    def tearDown(self):
        self.assertEqual(self.s3.refused, [])

    @staticmethod
    def object_of(digest):
        algorithm, _, hexadecimal = digest.partition(":")
        return f"registry/blobs/{algorithm}/{hexadecimal[:2]}/{hexadecimal}"

    def refusal(self, command):
        """What a server says that does not start."""
        done = subprocess.run([*self.namespace.command, *command], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr

    def lose_folder(self, registry=None):
        registry = registry or self.registry
        registry.kill()
        shutil.rmtree(registry.root)
        registry.start()


class Storing(BucketTest):
    def test_blobs_are_in_the_bucket_before_they_are_acknowledged(self):
        digest, _ = self.push_manifest("app", "1", [b"layer", BIG])
        for one in (digest, digest_of(b"layer"), digest_of(BIG)):
            self.assertIn(self.object_of(one), self.s3.objects)
        self.assertEqual(self.s3.objects[self.object_of(digest_of(BIG))], BIG)
        self.assertEqual(self.s3.multipart, 1)
        self.assertEqual(self.s3.uploads, {})
        status, headers, body = self.registry.request("GET", f"/v2/app/blobs/{digest_of(BIG)}")
        self.assertEqual((status, body), (200, BIG))
        status, headers, _ = self.registry.request("HEAD", f"/v2/app/blobs/{digest_of(BIG)}")
        self.assertEqual((status, headers["content-length"]), (200, str(len(BIG))))

    def test_the_server_itself_connects_to_nobody(self):
        self.push_blob("connected", b"over a connection that is kept")
        pid = self.registry.process.pid
        with open(f"/proc/{pid}/net/tcp", encoding="ascii") as file:
            rows = [line.split() for line in file.readlines()[1:]]
        connections = {row[9] for row in rows if row[2].endswith(f":{self.s3.port:04X}") and row[3] == "01"}
        self.assertTrue(connections)
        # Its seccomp list has no connect(2): the connections are caisson-fetch's, which never sees the keys.
        self.assertEqual(connections & sockets_of(pid), set())
        owners = [other for other in os.listdir("/proc") if other.isdigit() and connections & sockets_of(other)]
        self.assertTrue(owners)
        for owner in owners:
            with open(f"/proc/{owner}/comm", encoding="ascii") as file:
                self.assertEqual(file.read(), "caisson-fetch\n")

    def test_a_lost_folder_is_made_anew_from_the_bucket(self):
        digest, text = self.push_manifest("lost/app", "1", [b"of the lost", BIG[:9 << 20]])
        subject = {"mediaType": MANIFEST, "digest": digest, "size": len(text)}
        attached, _ = self.push_manifest("lost/app", "note", [b"note"], artifactType="application/x.note", subject=subject)
        self.push_manifest("lost/other", "gone", [b"gone"])
        self.assertEqual(self.registry.request("DELETE", "/v2/lost/other/manifests/gone")[0], 202)
        self.lose_folder()
        self.assertEqual(json.loads(self.registry.request("GET", "/v2/lost/app/tags/list")[2])["tags"], ["1", "note"])
        self.assertEqual(self.registry.request("GET", "/v2/lost/app/manifests/1")[2], text)
        self.assertEqual(json.loads(self.registry.request("GET", f"/v2/lost/app/referrers/{digest}")[2])["manifests"][0]["digest"], attached)
        whole = self.registry.request("GET", f"/v2/lost/app/blobs/{digest_of(b'of the lost')}")
        self.assertEqual(whole[2], b"of the lost")
        big = digest_of(BIG[:9 << 20])
        before = len(self.s3.seen)
        status, headers, body = self.registry.request("GET", f"/v2/lost/app/blobs/{big}", headers={"Range": "bytes=1000-1999"})
        self.assertEqual((status, body), (206, BIG[1000:2000]))
        self.assertEqual(headers["content-range"], f"bytes 1000-1999/{9 << 20}")
        self.assertEqual([path.split("/")[-1] for method, path in self.s3.seen[before:] if method == "GET"], [big.split(":")[1]])
        self.assertEqual(self.registry.request("GET", "/v2/lost/other/manifests/gone")[0], 404)
        self.registry.admin("gc", "--untagged", "--grace", "0s")
        self.assertEqual(self.registry.request("GET", "/v2/lost/app/manifests/1")[2], text)

    def test_a_clean_up_empties_the_bucket_while_pushes_run(self):
        loose = self.push_blob("loose", b"nothing leads here")
        with self.s3.lock:
            self.s3.uploads[("registry/blobs/sha256/00/00killed", "idx")] = {}
        pushes = 200  # not as many as a time allows: the tests after this one list what they have left
        pushed = []
        failures = []

        def push():
            for number in range(pushes):
                try:
                    digest, text = self.push_manifest("busy", f"t{number}", [f"layer {number}".encode()])
                    if self.registry.request("GET", f"/v2/busy/manifests/{digest}")[2] != text:
                        failures.append(digest)
                except (AssertionError, OSError) as error:
                    failures.append(error)
                pushed.append(number)
        pusher = threading.Thread(target=push)
        pusher.start()
        try:
            runs = 0
            while len(pushed) < pushes // 2 and pusher.is_alive():
                self.registry.admin("gc", "--grace", "2s")
                runs += 1
            self.assertGreater(runs, 2)
            self.assertEqual(failures, [])  # what is that young is nobody's to take
            while pusher.is_alive():
                self.registry.admin("gc", "--grace", "0s")
            wait_until(lambda: (self.registry.admin("gc", "--grace", "0s"), self.object_of(loose) not in self.s3.objects)[1], "the loose blob is gone from the bucket")
        finally:
            pusher.join()
        # Grace 0 may take a blob between its upload and its manifest: that push is refused, and never half there.
        for failure in failures:
            self.assertRegex(str(failure), "MANIFEST_BLOB_UNKNOWN")
        self.assertEqual(self.s3.uploads, {})
        self.assertEqual(self.registry.request("GET", f"/v2/loose/blobs/{loose}")[0], 404)

    def test_commands_work_without_a_server_too(self):
        self.push_manifest("alone", "1", [b"alone"])
        loose = self.push_blob("alone", b"loose")
        self.registry.stop()
        def run(*words):  # from where the service can be reached
            return subprocess.run([*self.namespace.command, *self.registry.command(*words)], capture_output=True, text=True, check=True, timeout=60).stdout
        self.assertIn("alone", run("ls"))
        run("gc", "--grace", "0s")
        self.assertNotIn(self.object_of(loose), self.s3.objects)
        self.registry.start()
        self.assertEqual(self.registry.request("GET", f"/v2/alone/blobs/{digest_of(b'alone')}")[2], b"alone")

    def test_another_folder_does_not_share_the_bucket(self):
        self.push_manifest("mine", "1", [b"mine"])
        other = self.new_registry(port=5017)
        self.assertEqual(other.request("GET", "/v2/mine/manifests/1")[0], 200)  # an empty folder takes over
        self.assertIn("belongs to another registry", self.registry.admin("gc", check=1).stderr)  # what it does not know it must not remove
        self.registry.kill()
        self.assertIn("belongs to another registry", self.refusal(self.registry.command("serve", "--listen", self.registry.address)))
        other.close()
        shutil.rmtree(self.registry.root)
        self.registry.start()


class Faults(BucketTest):
    def test_faults_that_pass_are_not_noticed(self):
        left = {"PUT": 2, "GET": 2}

        def ill(handler):
            with self.s3.lock:
                if "/blobs/" not in handler.path or left.get(handler.command, 0) == 0:
                    return False
                left[handler.command] -= 1
                number = left[handler.command]
            if number:
                handler.fault(503, "SlowDown", "please reduce your request rate")
            else:
                handler.close_connection = True  # cut without an answer
                handler.connection.close()
            return True
        self.s3.faults.append(ill)
        digest = self.push_blob("ill", b"in spite of it")
        self.assertEqual(left["PUT"], 0)
        self.registry.request("PUT", "/v2/ill/manifests/1", self.manifest_of("ill", [b"in spite of it"]), {"Content-Type": MANIFEST})
        self.lose_folder()
        self.assertEqual(self.registry.request("GET", f"/v2/ill/blobs/{digest}")[2], b"in spite of it")

    def test_an_answer_that_is_cut_or_something_else_is_not_passed_on(self):
        self.push_manifest("cut", "1", [BIG[:1 << 20]])
        digest = digest_of(BIG[:1 << 20])
        self.lose_folder()
        sent = []

        def cut(handler):
            if handler.command != "GET" or digest.split(":")[1] not in handler.path or sent:
                return False
            sent.append(handler.path)
            handler.send_response(200)
            handler.send_header("Content-Length", str(1 << 20))
            handler.end_headers()
            handler.wfile.write(BIG[:1000])
            handler.wfile.flush()
            handler.connection.close()
            handler.close_connection = True
            return True
        self.s3.faults.append(cut)
        self.assertEqual(self.registry.request("GET", f"/v2/cut/blobs/{digest}")[2], BIG[:1 << 20])
        self.assertTrue(sent)
        self.lose_folder()
        with self.s3.lock:
            self.s3.objects[self.object_of(digest)] = b"x" * (1 << 20)
        self.assertEqual(self.registry.request("GET", f"/v2/cut/blobs/{digest}")[0], 500)
        with self.s3.lock:
            self.s3.objects[self.object_of(digest)] = BIG[:1 << 20]
        self.assertEqual(self.registry.request("GET", f"/v2/cut/blobs/{digest}")[2], BIG[:1 << 20])

    def test_a_server_killed_in_the_middle_of_a_large_upload_goes_on(self):
        reached, release = threading.Event(), threading.Event()

        def hold(handler):
            if "partNumber=2" not in handler.path or release.is_set():
                return False
            reached.set()
            release.wait(60)
            return False
        self.s3.faults.append(hold)
        location = self.registry.request("POST", "/v2/killed/blobs/uploads/")[1]["location"]
        self.assertEqual(self.registry.request("PATCH", location, BIG)[0], 202)

        def finish():
            try:
                self.registry.request("PUT", f"{location}?digest={digest_of(BIG)}")
            except OSError:
                pass  # the server is killed under it
        client = threading.Thread(target=finish)
        client.start()
        self.assertTrue(reached.wait(60))
        self.registry.kill()
        release.set()
        client.join()
        self.s3.faults.clear()
        self.registry.start()
        self.assertNotIn(self.object_of(digest_of(BIG)), self.s3.objects)
        self.assertTrue(self.s3.uploads)
        self.registry.admin("gc")
        self.assertEqual(self.s3.uploads, {})
        self.assertEqual(self.registry.request("PUT", f"{location}?digest={digest_of(BIG)}")[0], 201)
        self.assertEqual(self.registry.request("GET", f"/v2/killed/blobs/{digest_of(BIG)}")[2], BIG)

    def test_wrong_keys_are_told_at_the_start(self):
        with open(os.path.join(self.s3.folder, "wrong"), "w", encoding="utf-8") as file:
            file.write("[default]\naws_access_key_id = TESTKEY\naws_secret_access_key = wrong-key\n")
        path = os.path.join(self.s3.folder, "registry.toml")
        with open(path, "w", encoding="utf-8") as settings:
            settings.write(self.s3.config(prefix="elsewhere/").replace(self.s3.credentials, file.name))
        root = os.path.join(self.registry.folder, "elsewhere")
        told = self.refusal([os.path.join(caisson.BIN, "caisson-registry"), "serve", "--config", path, "--root", root, "--listen", "127.0.0.1:5018"])
        self.assertIn("status 403 SignatureDoesNotMatch", told)
        self.assertIn("hint: check the keys", told)
        self.assertNotIn("wrong-key", told)
        self.assertTrue(self.s3.refused)
        self.s3.refused.clear()


class Hosts(BucketTest):
    """The bucket's name in the host's, as AWS wants it; curl takes *.localhost for this machine."""

    settings = {"host": "localhost", "addressing": "host", "redirect": True}

    def test_clients_are_sent_to_the_bucket(self):
        digest = self.push_blob("hosts", b"hello")
        self.assertGreater(self.s3.virtual_hosts, 0)
        status, headers, _ = self.registry.request("GET", f"/v2/hosts/blobs/{digest}")
        self.assertEqual(status, 307)
        address = f"http://{s3_server.BUCKET}.localhost:{self.s3.port}"
        self.assertTrue(headers["location"].startswith(address + "/registry/blobs/sha256/"), headers["location"])
        done = subprocess.run([*self.namespace.command, "curl", "-sf", "--noproxy", "*", headers["location"]], capture_output=True, check=False, timeout=30)
        self.assertEqual(done.stdout, b"hello")


def sockets_of(pid):
    """The inodes of a process's sockets."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found


class Clients(BucketTest):
    """skopeo, as one client for all: to the registry it makes no difference what its storage is."""

    def test_skopeo_copies_there_and_back(self):
        if not shutil.which("skopeo"):
            self.skipTest("needs skopeo")
        self.push_manifest("seed", "1", [b"one", BIG[:1 << 20]])
        run = lambda *words: subprocess.run([*self.namespace.command, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", *words],
                                                                 capture_output=True, check=True, timeout=60)
        run(f"docker://{self.registry.address}/seed:1", f"docker://{self.registry.address}/copied:1")
        target = os.path.join(self.s3.folder, "layout")
        run(f"docker://{self.registry.address}/copied:1", f"oci:{target}:1")


if __name__ == "__main__":
    caisson.main(registries.CaissonRegistry.why_not)

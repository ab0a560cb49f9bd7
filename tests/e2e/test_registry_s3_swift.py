#!/usr/bin/env python3
"""The registry server with its blobs in a bucket of OpenStack Swift, which reads S3's words in its own way: what test_registry_s3.py asks of our own service and can
be asked of any, and the rows of the distribution specification."""

import json
import os
import shutil
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "conformance"))

import caisson
import registries
import s3_server
import swift_server
import test_distribution
import test_registry_server
from caisson import wait_until
from test_registry_s3 import BIG
from test_registry_server import MANIFEST, digest_of

# Behind the largest part that the client sends: three of them.
LARGE = BIG * 2


def why_not():
    if not caisson.FULL:
        return "minutes more of what our own service has shown: make test-all, or CAISSON_TEST_FULL=1"
    return registries.CaissonRegistry.why_not() or registries.why_not_fetch() or swift_server.why_not()


class SwiftTest(test_registry_server.ServerTest):
    settings = {}

    @classmethod
    def why_not(cls):
        return why_not()

    @classmethod
    def new_registry(cls, config="", **options):
        if "swift" not in cls.__dict__:
            cls.swift = cls.kept(swift_server.Swift(cls.namespace))
        return super().new_registry(config=config + cls.swift.config(**cls.settings), **options)

    @staticmethod
    def object_of(digest):
        algorithm, _, hexadecimal = digest.partition(":")
        return f"registry/blobs/{algorithm}/{hexadecimal[:2]}/{hexadecimal}"

    def refusal(self, config):
        """What a server says that does not start with these settings."""
        path = os.path.join(self.swift.folder, "registry.toml")
        with open(path, "w", encoding="utf-8") as settings:
            settings.write(config)
        command = [os.path.join(caisson.BIN, "caisson-registry"), "serve", "--config", path, "--root", os.path.join(self.registry.folder, "elsewhere"), "--listen", "127.0.0.1:5018"]
        done = subprocess.run([*self.namespace.command, *command], capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr

    def lose_folder(self):
        self.registry.kill()
        shutil.rmtree(self.registry.root)
        self.registry.start()


class Storing(SwiftTest):
    def test_blobs_are_in_the_bucket_before_they_are_acknowledged(self):
        digest, _ = self.push_manifest("app", "1", [b"layer", LARGE])
        for one in (digest, digest_of(b"layer"), digest_of(LARGE)):
            self.assertIn(self.object_of(one), self.swift.objects)
        self.assertEqual(self.swift.objects[self.object_of(digest_of(LARGE))], LARGE)
        self.assertEqual(self.swift.uploads(), [])
        self.assertEqual(self.push_blob("again", LARGE), digest_of(LARGE))  # which is there already

    def test_an_upload_in_pieces_that_is_gone_on_with_arrives_whole(self):
        location = self.registry.request("POST", "/v2/pieces/blobs/uploads/")[1]["location"]
        third = len(LARGE) // 3
        for start in (0, third, 2 * third):
            piece = LARGE[start:] if start == 2 * third else LARGE[start:start + third]
            status, headers, body = self.registry.request("PATCH", location, piece, {"Content-Range": f"{start}-{start + len(piece) - 1}"})
            self.assertEqual(status, 202, body)
            location = headers["location"]
        data = LARGE
        self.assertEqual(self.registry.request("PUT", f"{location}?digest={digest_of(data)}")[0], 201)
        self.assertEqual(self.registry.request("GET", f"/v2/pieces/blobs/{digest_of(data)}")[2], data)

    def test_a_lost_folder_is_made_anew_from_the_bucket(self):
        digest, text = self.push_manifest("lost/app", "1", [b"of the lost", LARGE])
        subject = {"mediaType": MANIFEST, "digest": digest, "size": len(text)}
        attached, _ = self.push_manifest("lost/app", "note", [b"note"], artifactType="application/x.note", subject=subject)
        for number in range(2 * swift_server.PAGE):  # more than a page of them
            self.push_manifest("lost/app", f"t{number}", [b"%d" % number])
        self.push_manifest("lost/other", "gone", [b"gone"])
        self.assertEqual(self.registry.request("DELETE", "/v2/lost/other/manifests/gone")[0], 202)
        self.lose_folder()
        tags = json.loads(self.registry.request("GET", "/v2/lost/app/tags/list")[2])["tags"]
        self.assertEqual(tags, sorted(["1", "note", *(f"t{number}" for number in range(2 * swift_server.PAGE))]))
        self.assertEqual(self.registry.request("GET", "/v2/lost/app/manifests/1")[2], text)
        self.assertEqual(json.loads(self.registry.request("GET", f"/v2/lost/app/referrers/{digest}")[2])["manifests"][0]["digest"], attached)
        self.assertEqual(self.registry.request("GET", f"/v2/lost/app/blobs/{digest_of(b'of the lost')}")[2], b"of the lost")
        # A part of an object in parts, across their border, and only that.
        begin = (16 << 20) - 1000
        status, headers, body = self.registry.request("GET", f"/v2/lost/app/blobs/{digest_of(LARGE)}", headers={"Range": f"bytes={begin}-{begin + 1999}"})
        self.assertEqual((status, body), (206, LARGE[begin:begin + 2000]))
        self.assertEqual(headers["content-range"], f"bytes {begin}-{begin + 1999}/{len(LARGE)}")
        self.assertFalse(any(os.path.getsize(os.path.join(folder, name)) == len(LARGE) for folder, _, names in os.walk(self.registry.root) for name in names))
        self.assertEqual(self.registry.request("GET", f"/v2/lost/app/blobs/{digest_of(LARGE)}")[2], LARGE)
        self.assertEqual(self.registry.request("GET", "/v2/lost/other/manifests/gone")[0], 404)
        self.registry.admin("gc", "--untagged", "--grace", "0s")
        self.assertEqual(self.registry.request("GET", "/v2/lost/app/manifests/1")[2], text)

    def test_a_clean_up_takes_what_nobody_holds_and_uploads_that_nobody_completes(self):
        loose = [self.push_blob("loose", b"nothing leads here %d" % number) for number in range(2 * swift_server.PAGE)]
        loose.append(self.push_blob("loose", LARGE + b"."))
        kept, text = self.push_manifest("kept", "1", [b"kept"])
        for number in range(3):
            self.swift.begin_upload(f"registry/blobs/sha256/00/00killed{number}")
        elsewhere = self.swift.begin_upload("another/prefix")
        last_parts = lambda: [name for folder, _, names in os.walk(os.path.join(self.swift.folder, "devices", "disk", "objects")) for name in names
                              if name.endswith(".data") and os.path.getsize(os.path.join(folder, name)) == len(LARGE) + 1 - (32 << 20)]
        self.assertEqual(len(last_parts()), 1)
        self.registry.admin("gc", "--grace", "1h")  # what is that young is nobody's to take
        for digest in loose:
            self.assertIn(self.object_of(digest), self.swift.objects)
        self.registry.admin("gc", "--grace", "0s")
        for digest in loose:
            self.assertNotIn(self.object_of(digest), self.swift.objects)
            self.assertEqual(self.registry.request("GET", f"/v2/loose/blobs/{digest}")[0], 404)
        self.assertEqual(self.swift.uploads(), [("another/prefix", elsewhere)])
        self.assertEqual(self.registry.request("GET", f"/v2/kept/manifests/{kept}")[2], text)
        self.assertEqual(self.swift.request("DELETE", "another/prefix", query=[("uploadId", elsewhere)])[0], 204)
        self.assertEqual(last_parts(), [])  # of an object in parts the service keeps nothing either

    def test_commands_work_without_a_server_too(self):
        self.push_manifest("alone", "1", [b"alone"])
        loose = self.push_blob("alone", b"loose")
        self.registry.stop()
        def run(*words):  # from where the service can be reached
            return subprocess.run([*self.namespace.command, *self.registry.command(*words)], capture_output=True, text=True, check=True, timeout=120).stdout
        self.assertIn("alone", run("ls"))
        run("gc", "--grace", "0s")
        self.assertNotIn(self.object_of(loose), self.swift.objects)
        self.registry.start()
        self.assertEqual(self.registry.request("GET", f"/v2/alone/blobs/{digest_of(b'alone')}")[2], b"alone")

    def test_names_with_every_character_are_kept(self):
        repository, tag = "a.b-c_d/e__f/g--h", "T.a_g-" + "x" * 100
        _, text = self.push_manifest(repository, tag, [b"named"])
        self.lose_folder()
        self.assertEqual(self.registry.request("GET", f"/v2/{repository}/manifests/{tag}")[2], text)
        self.assertEqual(self.registry.request("DELETE", f"/v2/{repository}/manifests/{tag}")[0], 202)
        self.lose_folder()
        self.assertEqual(self.registry.request("GET", f"/v2/{repository}/manifests/{tag}")[0], 404)

    def test_docker_clients_copy_there_and_back(self):
        if not shutil.which("skopeo"):
            self.skipTest("needs skopeo: tools/dependencies peers")
        self.push_manifest("seed", "1", [b"one", LARGE])
        run = lambda *words: subprocess.run([*self.namespace.command, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", *words],
                                            capture_output=True, check=True, timeout=120)
        run(f"docker://{self.registry.address}/seed:1", f"docker://{self.registry.address}/copied:1")
        run(f"docker://{self.registry.address}/copied:1", f"oci:{os.path.join(self.swift.folder, 'layout')}:1")


class Faults(SwiftTest):
    def test_a_service_that_is_away_is_told_and_nothing_is_acknowledged(self):
        for kind in ("object", "proxy"):
            with self.subTest(kind=kind):
                data = f"while the {kind} server is away".encode()
                digest = digest_of(data)
                self.swift.kill(kind)
                status, _, body = self.registry.request("POST", f"/v2/away/blobs/uploads/?digest={digest}", data, timeout=120)
                self.assertEqual(status, 504, body)
                self.assertIn(f"bucket {s3_server.BUCKET} at http://127.0.0.1:{self.swift.port}", body.decode())
                self.swift.start(kind)
                self.assertEqual(self.registry.request("GET", f"/v2/away/blobs/{digest}")[0], 404)
                self.push_blob("away", data)
                self.assertEqual(self.swift.objects[self.object_of(digest)], data)

    def test_a_server_killed_in_the_middle_of_a_large_upload_goes_on(self):
        location = self.registry.request("POST", "/v2/killed/blobs/uploads/")[1]["location"]
        self.assertEqual(self.registry.request("PATCH", location, LARGE)[0], 202)

        def finish():
            try:
                self.registry.request("PUT", f"{location}?digest={digest_of(LARGE)}")
            except OSError:
                pass  # the server is killed under it
        client = threading.Thread(target=finish)
        client.start()
        wait_until(self.swift.uploads, "the upload in parts has begun")
        self.registry.kill()
        client.join()
        self.registry.start()
        if self.object_of(digest_of(LARGE)) not in self.swift.objects:  # else it was quicker
            self.assertTrue(self.swift.uploads())
            self.registry.admin("gc")
        self.assertEqual(self.swift.uploads(), [])
        self.assertEqual(self.registry.request("PUT", f"{location}?digest={digest_of(LARGE)}")[0], 201)
        self.assertEqual(self.registry.request("GET", f"/v2/killed/blobs/{digest_of(LARGE)}")[2], LARGE)

    def test_an_object_that_is_something_else_is_not_passed_on(self):
        self.push_manifest("bent", "1", [b"right" * 1000])
        digest = digest_of(b"right" * 1000)
        self.lose_folder()
        self.swift.objects[self.object_of(digest)] = b"wrong" * 1000
        self.assertEqual(self.registry.request("GET", f"/v2/bent/blobs/{digest}")[0], 500)
        self.swift.objects[self.object_of(digest)] = b"right" * 1000
        self.assertEqual(self.registry.request("GET", f"/v2/bent/blobs/{digest}")[2], b"right" * 1000)

    def test_wrong_keys_regions_and_buckets_are_told_at_the_start(self):
        wrong = os.path.join(self.swift.folder, "wrong")
        with open(wrong, "w", encoding="utf-8") as file:
            file.write(f"[default]\naws_access_key_id = {swift_server.ACCESS_KEY}\naws_secret_access_key = wrong-key\n")
        config = self.swift.config(prefix="elsewhere/")
        told = self.refusal(config.replace(self.swift.credentials, wrong))
        self.assertIn("status 403 SignatureDoesNotMatch", told)
        self.assertIn("hint: check the keys", told)
        self.assertNotIn("wrong-key", told)
        told = self.refusal(config.replace(f'"{s3_server.REGION}"', '"elsewhere"'))
        self.assertRegex(told, r"(?s)status 400 AuthorizationHeaderMalformed.*hint: check the keys and the region")
        self.assertIn("404 NoSuchBucket", self.refusal(config.replace(f'"{s3_server.BUCKET}"', '"nowhere"')))


class Hosts(SwiftTest):
    """The bucket's name in the host's, and clients that are sent to the bucket; curl takes *.localhost for this machine."""

    settings = {"host": "localhost", "addressing": "host", "redirect": True}

    def curl(self, *words):
        return subprocess.run([*self.namespace.command, "curl", "-s", "--noproxy", "*", "-w", "\n%{http_code}", *words], capture_output=True, check=False, timeout=60).stdout.rpartition(b"\n")

    def test_clients_are_sent_to_the_bucket(self):
        digest = self.push_blob("hosts", LARGE)
        status, headers, _ = self.registry.request("GET", f"/v2/hosts/blobs/{digest}")
        self.assertEqual(status, 307)
        url = headers["location"]
        self.assertTrue(url.startswith(f"http://{s3_server.BUCKET}.localhost:{self.swift.port}/registry/blobs/sha256/"), url)
        body, _, code = self.curl(url)
        self.assertEqual((code, body), (b"200", LARGE))
        body, _, code = self.curl("-r", "100-199", url)
        self.assertEqual((code, body), (b"206", LARGE[100:200]))
        other = digest_of(b"other").split(":")[1]
        self.assertEqual(self.curl(url.replace(digest.split(":")[1], other))[2], b"403")
        self.assertEqual(self.curl(url[:-1] + ("0" if url[-1] != "0" else "1"))[2], b"403")
        self.assertEqual(self.curl("-X", "DELETE", url)[2], b"403")
        self.assertIn(self.object_of(digest), self.swift.objects)


class InSwift:
    """For a class of rows of test_distribution.py."""

    @classmethod
    def setUpClass(cls):
        if reason := why_not():
            raise test_distribution.unittest.SkipTest(reason)
        super().setUpClass()

    @classmethod
    def new_registry(cls):
        cls.swift = swift_server.Swift(cls.namespace)
        try:
            return registries.CaissonRegistry(cls.namespace, config=cls.swift.config())
        except BaseException:
            cls.swift.close()
            raise

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.swift.close()


class SpecificationPull(InSwift, test_distribution.Pull):
    pass


class SpecificationPush(InSwift, test_distribution.Push):
    pass


class SpecificationDiscover(InSwift, test_distribution.Discover):
    pass


class SpecificationManage(InSwift, test_distribution.Manage):
    pass


if __name__ == "__main__":
    caisson.main(why_not)

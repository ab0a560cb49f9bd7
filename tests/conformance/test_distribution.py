#!/usr/bin/env python3
"""Every row of the distribution specification 1.1 against our registry server: endpoints, codes, headers, the optional parts too.

`CAISSON_REGISTRY_ON=docker-registry` runs the same rows on Debian's docker-registry, so that a row which that does not pass is known as such.
"""

import hashlib
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import caisson  # noqa: E402
import registries  # noqa: E402

ON_DOCKERS = os.environ.get("CAISSON_REGISTRY_ON", "") == "docker-registry"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
# The specification's table of error codes.
CODES = {"BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN",
         "SIZE_INVALID", "UNAUTHORIZED", "DENIED", "UNSUPPORTED", "TOOMANYREQUESTS"}


def digest_of(data, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def why_not():
    return registries.why_not() if ON_DOCKERS else registries.CaissonRegistry.why_not()


class DistributionTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        reason = why_not()
        if reason:
            raise unittest.SkipTest(reason)
        cls.namespace = registries.Namespace()
        try:
            cls.registry = cls.new_registry()
        except BaseException:
            cls.namespace.close()
            raise

    @classmethod
    def new_registry(cls):
        return registries.DockerRegistry(cls.namespace) if ON_DOCKERS else registries.CaissonRegistry(cls.namespace)

    @classmethod
    def tearDownClass(cls):
        cls.registry.close()
        cls.namespace.close()

    def setUp(self):
        self.name = "spec/" + self.id().rpartition(".")[2].replace("__", "_")[:60].rstrip("_").lower()

    def call(self, method, path, body=None, headers=None):
        return registries.CaissonRegistry.request(self.registry, method, path if path.startswith("/") else f"/v2/{self.name}/{path}", body, headers)

    def expect(self, statuses, method, path, body=None, headers=None):
        """The headers and the body of an answer with one of the statuses; a refusal's body must be the specification's."""
        status, answered, text = self.call(method, path, body, headers)
        self.assertIn(status, statuses if isinstance(statuses, tuple) else (statuses,), f"{method} {path}: {text[:300]!r}")
        if status >= 400 and method != "HEAD":
            errors = json.loads(text)["errors"]
            self.assertTrue(errors)
            for error in errors:
                self.assertIn(error["code"], CODES)
        return answered, text

    def code(self, status, method, path, body=None, headers=None):
        return json.loads(self.expect(status, method, path, body, headers)[1])["errors"][0]["code"]

    def begin(self):
        headers, _ = self.expect(202, "POST", "blobs/uploads/")
        return self.local(headers["location"])

    @staticmethod
    def local(location):
        """A Location is a path or a whole URL."""
        return "/" + location.split("/", 3)[3] if "://" in location else location

    @staticmethod
    def with_digest(location, digest):
        return location + ("&" if "?" in location else "?") + "digest=" + digest

    def push_blob(self, data, algorithm="sha256"):
        digest = digest_of(data, algorithm)
        self.expect(201, "PUT", self.with_digest(self.begin(), digest), data, {"Content-Type": "application/octet-stream"})
        return digest

    def descriptor(self, data, kind=EMPTY, push=True):
        if push:
            self.push_blob(data)
        return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}

    def manifest(self, layers=(b"layer",), config=b"{}", **more):
        return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": self.descriptor(config, "application/vnd.oci.image.config.v1+json"),
                           "layers": [self.descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers], **more}).encode()

    def put_manifest(self, reference, text, kind=MANIFEST, statuses=201):
        return self.expect(statuses, "PUT", f"manifests/{reference}", text, {"Content-Type": kind})[0]


class Pull(DistributionTest):
    def test_end_1_the_base_answers(self):
        self.expect(200, "GET", "/v2/")

    def test_end_2_blobs(self):
        data = b"0123456789"
        digest = self.push_blob(data)
        headers, body = self.expect(200, "GET", f"blobs/{digest}")
        self.assertEqual((body, headers["docker-content-digest"], headers["content-length"]), (data, digest, "10"))
        headers, body = self.expect(200, "HEAD", f"blobs/{digest}")
        self.assertEqual((body, headers["docker-content-digest"], headers["content-length"]), (b"", digest, "10"))
        self.assertEqual(self.code(404, "GET", f"blobs/{digest_of(b'nothing')}"), "BLOB_UNKNOWN")
        self.expect(404, "HEAD", f"blobs/{digest_of(b'nothing')}")
        self.expect((400, 404), "GET", "blobs/sha256:nothing")

    def test_end_2_ranges(self):
        digest = self.push_blob(b"0123456789")
        for text, wanted, range_ in (("bytes=0-0", b"0", "0-0"), ("bytes=2-5", b"2345", "2-5"), ("bytes=8-", b"89", "8-9"), ("bytes=-3", b"789", "7-9"), ("bytes=5-100", b"56789", "5-9")):
            headers, body = self.expect(206, "GET", f"blobs/{digest}", headers={"Range": text})
            self.assertEqual((body, headers["content-range"]), (wanted, f"bytes {range_}/10"))
        headers, _ = self.expect(416, "GET", f"blobs/{digest}", headers={"Range": "bytes=10-20"})
        self.assertEqual(headers["content-range"], "bytes */10")
        for ignored in ("bytes=5-2", "lines=1-2", "bytes=x-y"):
            self.expect(200, "GET", f"blobs/{digest}", headers={"Range": ignored})

    def test_end_3_manifests(self):
        text = self.manifest()
        self.put_manifest("v1", text)
        for reference in ("v1", digest_of(text)):
            headers, body = self.expect(200, "GET", f"manifests/{reference}", headers={"Accept": MANIFEST})
            self.assertEqual((body, headers["content-type"], headers["docker-content-digest"]), (text, MANIFEST, digest_of(text)))
            headers, body = self.expect(200, "HEAD", f"manifests/{reference}", headers={"Accept": MANIFEST})
            self.assertEqual((body, headers["content-length"]), (b"", str(len(text))))
        self.assertEqual(self.code(404, "GET", "manifests/nothing"), "MANIFEST_UNKNOWN")
        self.expect(404, "HEAD", "manifests/nothing")
        self.expect(404, "GET", f"manifests/{digest_of(b'nothing')}")
        self.expect((400, 404), "GET", "manifests/sha256:nothing")

    def test_conditional_requests(self):
        text = self.manifest()
        self.put_manifest("v1", text)
        headers, _ = self.expect(200, "GET", "manifests/v1", headers={"Accept": MANIFEST})
        self.expect(304, "GET", "manifests/v1", headers={"Accept": MANIFEST, "If-None-Match": headers["etag"]})
        headers, _ = self.expect(200, "GET", f"blobs/{digest_of(b'layer')}")
        self.expect(304, "GET", f"blobs/{digest_of(b'layer')}", headers={"If-None-Match": headers["etag"]})


class Push(DistributionTest):
    def test_end_4a_and_6_post_then_put(self):
        data = b"post then put"
        headers, _ = self.expect(201, "PUT", self.with_digest(self.begin(), digest_of(data)), data, {"Content-Type": "application/octet-stream"})
        self.assertEqual(self.expect(200, "GET", self.local(headers["location"]))[1], data)

    def test_end_4b_single_post(self):
        data = b"single post"
        headers, _ = self.expect((201, 202), "POST", f"blobs/uploads/?digest={digest_of(data)}", data, {"Content-Type": "application/octet-stream"})
        if not ON_DOCKERS:
            self.assertEqual(self.expect(200, "GET", self.local(headers["location"]))[1], data)

    def test_end_5_chunks(self):
        location = self.begin()
        headers, _ = self.expect(202, "PATCH", location, b"first ", {"Content-Range": "0-5", "Content-Type": "application/octet-stream"})
        self.assertEqual(headers["range"], "0-5")
        location = self.local(headers["location"])
        headers, _ = self.expect(204, "GET", location)
        self.assertEqual(headers["range"], "0-5")
        location = self.local(headers["location"])
        headers, _ = self.expect(202, "PATCH", location, b"second", {"Content-Range": "6-11", "Content-Type": "application/octet-stream"})
        self.assertEqual(headers["range"], "0-11")
        headers, _ = self.expect(201, "PUT", self.with_digest(self.local(headers["location"]), digest_of(b"first second")))
        self.assertEqual(self.expect(200, "GET", self.local(headers["location"]))[1], b"first second")

    def test_end_5_the_last_chunk_may_come_with_the_put(self):
        location = self.begin()
        headers, _ = self.expect(202, "PATCH", location, b"first ", {"Content-Range": "0-5"})
        self.expect(201, "PUT", self.with_digest(self.local(headers["location"]), digest_of(b"first last")), b"last", {"Content-Range": "6-9"})

    def test_end_5_a_stream_has_no_range(self):
        headers, _ = self.expect(202, "PATCH", self.begin(), b"stream")
        self.assertEqual(headers["range"], "0-5")

    def test_end_5_chunks_out_of_order_are_416(self):
        location = self.begin()
        self.expect(416, "PATCH", location, b"late", {"Content-Range": "5-8"})
        headers, _ = self.expect(202, "PATCH", location, b"first ", {"Content-Range": "0-5"})
        location = self.local(headers["location"])
        self.expect(416, "PATCH", location, b"first ", {"Content-Range": "0-5"})
        self.expect(416, "PUT", self.with_digest(location, digest_of(b"first late")), b"late", {"Content-Range": "7-10"})
        headers, _ = self.expect(204, "GET", location)
        self.assertEqual(headers["range"], "0-5")

    def test_a_new_upload_is_not_one_byte(self):
        headers, _ = self.expect(204, "GET", self.begin())
        self.assertNotEqual(headers.get("range"), "0-0")

    def test_end_11_mounts(self):
        digest = self.push_blob(b"mounted")
        headers, _ = self.expect(201, "POST", f"/v2/{self.name}/other/blobs/uploads/?mount={digest}&from={self.name}")
        self.assertEqual(self.expect(200, "GET", self.local(headers["location"]))[1], b"mounted")
        self.expect(202, "POST", f"/v2/{self.name}/other/blobs/uploads/?mount={digest}&from=no/where")
        self.expect((201, 202), "POST", f"/v2/{self.name}/third/blobs/uploads/?mount={digest}")
        self.expect(202, "POST", f"/v2/{self.name}/other/blobs/uploads/?mount={digest_of(b'nothing')}&from={self.name}")

    def test_an_upload_is_cancelled(self):
        location = self.begin()
        self.expect(204, "DELETE", location)
        self.assertEqual(self.code(404, "GET", location), "BLOB_UPLOAD_UNKNOWN")
        self.expect(404, "PATCH", location, b"x")
        self.expect(404, "PUT", self.with_digest(location, digest_of(b"x")), b"x")

    def test_digests_that_do_not_match_are_refused(self):
        self.assertEqual(self.code(400, "PUT", self.with_digest(self.begin(), digest_of(b"else")), b"this"), "DIGEST_INVALID")
        self.assertEqual(self.code(400, "PUT", self.with_digest(self.begin(), "sha256:x"), b"this"), "DIGEST_INVALID")
        self.assertEqual(self.code(400, "PUT", self.begin(), b"this"), "DIGEST_INVALID")

    def test_sha512(self):
        data = b"sha512"
        digest = digest_of(data, "sha512")
        headers, _ = self.expect(202, "POST", "blobs/uploads/?digest-algorithm=sha512")
        headers, _ = self.expect(201, "PUT", self.with_digest(self.local(headers["location"]), digest), data)
        self.assertEqual(headers["docker-content-digest"], digest)
        headers, body = self.expect(200, "GET", f"blobs/{digest}")
        self.assertEqual((body, headers["docker-content-digest"]), (data, digest))
        self.expect(201, "POST", f"/v2/{self.name}/other/blobs/uploads/?mount={digest}&from={self.name}")
        self.assertEqual(self.expect(200, "GET", f"/v2/{self.name}/other/blobs/{digest}")[1], data)
        text = self.manifest()
        headers = self.put_manifest(digest_of(text, "sha512"), text)
        self.assertEqual(headers["docker-content-digest"], digest_of(text, "sha512"))
        self.assertEqual(self.expect(200, "GET", f"manifests/{digest_of(text, 'sha512')}", headers={"Accept": MANIFEST})[1], text)

    def test_end_7_manifests(self):
        text = self.manifest()
        headers = self.put_manifest("v1", text)
        self.assertEqual(headers["docker-content-digest"], digest_of(text))
        self.assertEqual(self.expect(200, "GET", self.local(headers["location"]), headers={"Accept": MANIFEST})[1], text)
        self.put_manifest(digest_of(text), text)
        self.put_manifest(digest_of(b"else"), text, statuses=400)
        self.put_manifest("sha256:x", text, statuses=400)

    def test_end_7_a_manifest_may_have_4_MiB(self):
        text = self.manifest(annotations={"x": ""})
        text = text.replace(b'"x": ""', b'"x": "' + b"a" * ((4 << 20) - len(text)) + b'"')
        self.assertEqual(len(text), 4 << 20)
        self.put_manifest("large", text)
        self.put_manifest("larger", text + b" ", statuses=413)

    def test_end_7_missing_parts(self):
        text = self.manifest().replace(digest_of(b"layer").encode(), digest_of(b"nothing").encode())
        self.assertEqual(self.code((400, 404), "PUT", "manifests/v1", text, {"Content-Type": MANIFEST}), "MANIFEST_BLOB_UNKNOWN")
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"mediaType": MANIFEST, "digest": digest_of(b"nothing"), "size": 7}]}).encode()
        self.expect((201, 400, 404), "PUT", "manifests/v2", index, {"Content-Type": INDEX})

    def test_end_7_nondistributable_layers_may_be_elsewhere(self):
        layer = {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "digest": digest_of(b"elsewhere"), "size": 9, "urls": ["https://example.com/x"]}
        text = json.loads(self.manifest())
        text["layers"].append(layer)
        self.put_manifest("v1", json.dumps(text).encode())

    def test_end_7_broken_manifests(self):
        for text in (b"", b"{", b"[]", b"{}", b'{"schemaVersion": 2}', b'{"schemaVersion": 1, "name": "x"}'):
            self.assertEqual(self.code(400, "PUT", "manifests/v1", text, {"Content-Type": MANIFEST}), "MANIFEST_INVALID")

    def test_end_7_an_index(self):
        text = self.manifest()
        self.put_manifest(digest_of(text), text)
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"mediaType": MANIFEST, "digest": digest_of(text), "size": len(text)}]}).encode()
        self.put_manifest("all", index, INDEX)
        headers, body = self.expect(200, "GET", "manifests/all", headers={"Accept": INDEX})
        self.assertEqual((body, headers["content-type"]), (index, INDEX))

    def test_end_7_artifacts(self):
        blob = self.descriptor(b"{}")
        for config in (blob, {**blob, "mediaType": "application/x.config"}):
            self.put_manifest("artifact", json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x", "config": config, "layers": [blob]}).encode())

    def test_tags_beside_a_digest(self):
        text = self.manifest()
        tags = [f"t{number}" for number in range(10)]
        self.put_manifest(digest_of(text) + "?" + "&".join("tag=" + tag for tag in tags), text)
        for tag in tags:
            self.assertEqual(self.expect(200, "GET", f"manifests/{tag}", headers={"Accept": MANIFEST})[1], text)

    def test_names(self):
        for name in ("a", "a/b/c", "a.b-c_d", "a__b", "a---b", "0/1"):
            self.expect(202, "POST", f"/v2/{name}/blobs/uploads/")
        for name in ("A", "a//b", "-a", "a.", "a..b", "a___b", "a/" + "b" * 255):
            self.expect((400, 404), "POST", f"/v2/{name}/blobs/uploads/")


class Discover(DistributionTest):
    def test_end_8_tags(self):
        text = self.manifest()
        for tag in ("c", "a", "b", "A"):
            self.put_manifest(tag, text)
        headers, body = self.expect(200, "GET", "tags/list")
        self.assertEqual(json.loads(body)["name"], self.name)
        self.assertIn(json.loads(body)["tags"], (["A", "a", "b", "c"], ["a", "A", "b", "c"]))
        headers, body = self.expect(200, "GET", "tags/list?n=2")
        self.assertEqual(len(json.loads(body)["tags"]), 2)
        self.assertRegex(headers["link"], 'rel="next"')
        seen = json.loads(body)["tags"]
        while "link" in headers:
            headers, body = self.expect(200, "GET", self.local(headers["link"].split("<")[1].split(">")[0]))
            seen += json.loads(body)["tags"]
        self.assertEqual(sorted(seen), ["A", "a", "b", "c"])
        headers, body = self.expect(200, "GET", "tags/list?n=0")
        self.assertEqual((json.loads(body)["tags"] or [], headers.get("link")), ([], None))
        self.assertEqual(json.loads(self.expect(200, "GET", "tags/list?last=b&n=5")[1])["tags"], ["c"])
        self.assertEqual(self.code(404, "GET", "/v2/no/where/tags/list"), "NAME_UNKNOWN")

    def test_end_12_referrers(self):
        subject = self.manifest()
        self.put_manifest("subject", subject)
        described = {"mediaType": MANIFEST, "digest": digest_of(subject), "size": len(subject)}
        headers, body = self.expect(200, "GET", f"referrers/{digest_of(subject)}")
        self.assertEqual((headers["content-type"], json.loads(body)["manifests"]), (INDEX, []))
        attached = {}
        for kind, config in (("application/x.one", EMPTY), ("application/x.two", EMPTY), (None, "application/x.config")):
            text = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {**self.descriptor(b"{}"), "mediaType": config}, "layers": [self.descriptor(b"{}")], "subject": described,
                    "annotations": {"kind": str(kind)}}
            if kind:
                text["artifactType"] = kind
            text = json.dumps(text).encode()
            headers = self.put_manifest(digest_of(text), text)
            self.assertEqual(headers["oci-subject"], digest_of(subject))
            attached[digest_of(text)] = (kind or config, len(text), {"kind": str(kind)})
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": described}).encode()
        self.assertEqual(self.put_manifest(digest_of(index), index, INDEX)["oci-subject"], digest_of(subject))
        _, body = self.expect(200, "GET", f"referrers/{digest_of(subject)}")
        found = {entry["digest"]: entry for entry in json.loads(body)["manifests"]}
        self.assertEqual(set(found), set(attached) | {digest_of(index)})
        for digest, (kind, size, annotations) in attached.items():
            self.assertEqual((found[digest]["artifactType"], found[digest]["size"], found[digest]["annotations"], found[digest]["mediaType"]), (kind, size, annotations, MANIFEST))
        self.assertNotIn("artifactType", found[digest_of(index)])
        headers, body = self.expect(200, "GET", f"referrers/{digest_of(subject)}?artifactType=application/x.one")
        self.assertEqual(headers["oci-filters-applied"], "artifactType")
        self.assertEqual([entry["artifactType"] for entry in json.loads(body)["manifests"]], ["application/x.one"])
        self.expect(400, "GET", "referrers/sha256:x")
        self.expect(202, "DELETE", f"manifests/{digest_of(index)}")
        self.assertEqual(len(json.loads(self.expect(200, "GET", f"referrers/{digest_of(subject)}")[1])["manifests"]), 3)

    def test_end_12_a_subject_may_be_missing(self):
        text = self.manifest(subject={"mediaType": MANIFEST, "digest": digest_of(b"nothing"), "size": 7})
        self.assertEqual(self.put_manifest("early", text)["oci-subject"], digest_of(b"nothing"))
        self.assertEqual(len(json.loads(self.expect(200, "GET", f"referrers/{digest_of(b'nothing')}")[1])["manifests"]), 1)


class Manage(DistributionTest):
    def test_end_9_deleting_a_tag_leaves_the_manifest(self):
        text = self.manifest()
        self.put_manifest("v1", text)
        self.put_manifest("v2", text)
        self.expect(202, "DELETE", "manifests/v1")
        self.assertEqual(self.code(404, "GET", "manifests/v1"), "MANIFEST_UNKNOWN")
        self.expect(200, "GET", "manifests/v2", headers={"Accept": MANIFEST})
        self.expect(404, "DELETE", "manifests/v1")

    def test_end_9_deleting_a_manifest_takes_its_tags(self):
        text = self.manifest()
        self.put_manifest("v1", text)
        self.expect(202, "DELETE", f"manifests/{digest_of(text)}")
        self.expect(404, "GET", "manifests/v1")
        self.expect(404, "GET", f"manifests/{digest_of(text)}")
        self.expect(404, "DELETE", f"manifests/{digest_of(text)}")
        self.assertEqual(json.loads(self.expect(200, "GET", "tags/list")[1])["tags"] or [], [])

    def test_end_10_deleting_a_blob(self):
        digest = self.push_blob(b"deleted")
        self.expect(202, "DELETE", f"blobs/{digest}")
        self.assertEqual(self.code(404, "GET", f"blobs/{digest}"), "BLOB_UNKNOWN")
        self.expect(404, "DELETE", f"blobs/{digest}")
        self.push_blob(b"deleted")
        self.expect(200, "GET", f"blobs/{digest}")

    def test_methods_that_do_not_exist(self):
        for method, path in (("DELETE", "/v2/"), ("POST", "tags/list"), ("PATCH", "manifests/v1"), ("PUT", f"blobs/{digest_of(b'x')}"), ("PUT", "blobs/uploads/")):
            self.assertEqual(self.code(405, method, path), "UNSUPPORTED")


if __name__ == "__main__":
    caisson.main(why_not)

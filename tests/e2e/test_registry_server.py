#!/usr/bin/env python3
"""Our registry server with the clients people have: ours, docker, podman, skopeo, buildah, cosign and oras; and what happens when it is killed, full or crowded."""

import base64
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import unittest

import caisson
import registries
from caisson import wait_until

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest_of(data, algorithm="sha256"):
    return algorithm + ":" + hashlib.new(algorithm, data).hexdigest()


class ServerTest(unittest.TestCase):
    """A namespace with our registry in it."""

    config = ""
    options = ()

    @classmethod
    def setUpClass(cls):
        reason = caisson.why_not() or registries.CaissonRegistry.why_not()
        if reason:
            raise unittest.SkipTest(reason)
        cls.cleanups = contextlib.ExitStack()
        try:
            cls.namespace = registries.Namespace()
            cls.cleanups.callback(cls.namespace.close)
            cls.registry = cls.new_registry(config=cls.config, options=cls.options)
        except BaseException:
            cls.cleanups.close()
            raise

    @classmethod
    def new_registry(cls, **options):
        registry = registries.CaissonRegistry(cls.namespace, **options)
        cls.cleanups.callback(registry.close)
        return registry

    @classmethod
    def tearDownClass(cls):
        cls.cleanups.close()

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

    def test_a_second_server_on_the_folder_is_refused(self):
        done = subprocess.run([*self.namespace.command, *self.registry.command("serve", "--listen", "127.0.0.1:5998")], capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "already|in use")


if __name__ == "__main__":
    caisson.main()

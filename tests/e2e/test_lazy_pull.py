#!/usr/bin/env python3
"""pull --lazy: containers start while their layers still come, from layers of ours, of skopeo and of this file's own making, over a registry that is slow,
absent or lying; beside a disk that is full; and what is left when the daemon, a layer's server or what fetches for it is killed."""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
import unittest
import zlib

import caisson
import registries
from caisson import wait_until

BIG_BYTES = 24 << 20
NOISE = random.Random(7).randbytes(BIG_BYTES)


def application_layer(extra=()):
    """A layer of one large file that does not compress, and of small ones."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        caisson.add_file(tar, "srv", mode=0o755, type=tarfile.DIRTYPE)
        caisson.add_file(tar, "srv/first", b"read first\n")
        caisson.add_file(tar, "srv/big", NOISE)
        caisson.add_file(tar, "srv/owned", b"x", mode=0o640, uid=1000, gid=1000)
        caisson.add_file(tar, "srv/link", type=tarfile.SYMTYPE, linkname="first", mode=0o777)
        caisson.add_file(tar, "srv/hard", type=tarfile.LNKTYPE, linkname="srv/first")
        caisson.add_file(tar, "etc", mode=0o755, type=tarfile.DIRTYPE)
        caisson.add_file(tar, "etc/.wh.not-executable")
        for name, data in extra:
            caisson.add_file(tar, name, data)
    return out.getvalue()


def estargz(tar_bytes, lie=None):
    """(blob, diffID, digest of the table) of an eStargz layer: a gzip member per content and per what lies between, the table, and the footer."""
    blob, plain, entries = io.BytesIO(), io.BytesIO(), []

    def member(data):
        offset = blob.tell()
        blob.write(gzip.compress(data, 1, mtime=0))
        plain.write(data)
        return offset

    kinds = {tarfile.DIRTYPE: "dir", tarfile.REGTYPE: "reg", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink"}
    done = 0
    with tarfile.open(fileobj=io.BytesIO(tar_bytes)) as tar:
        for info in tar:
            entry = {"name": info.name, "type": kinds[info.type], "mode": info.mode, "uid": info.uid, "gid": info.gid,
                     "modtime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(info.mtime))}
            if info.linkname:
                entry["linkName"] = info.linkname
            entries.append(entry)
            if not info.isreg() or info.size == 0:
                continue
            member(tar_bytes[done:info.offset_data])
            done = info.offset_data
            entry["size"] = info.size
            for start in range(0, info.size, 4 << 20):
                piece = tar_bytes[done:done + min(4 << 20, info.size - start)]
                chunk = entry if start == 0 else {"name": info.name, "type": "chunk"}
                chunk.update(offset=member(piece), chunkOffset=start, chunkSize=len(piece), chunkDigest="sha256:" + hashlib.sha256(piece).hexdigest())
                if start:
                    entries.append(chunk)
                done += len(piece)
    end = len(tar_bytes.rstrip(b"\0"))
    end += -end % 512
    member(tar_bytes[done:end])
    if lie:
        lie(entries)
    table = json.dumps({"version": 1, "entries": entries}).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        caisson.add_file(tar, "stargz.index.json", table)
    at = member(packed.getvalue())
    extra = b"SG" + (22).to_bytes(2, "little") + b"%016x" % at + b"STARGZ"
    footer = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + len(extra).to_bytes(2, "little") + extra + b"\x01\0\0\xff\xff" + zlib.crc32(b"").to_bytes(4, "little") + b"\0\0\0\0"
    assert len(footer) == 51
    blob.write(footer)
    return blob.getvalue(), "sha256:" + hashlib.sha256(plain.getvalue()).hexdigest(), "sha256:" + hashlib.sha256(table).hexdigest()


def unpadded(tar_bytes):
    """Without what tar puts behind the two blocks of zeros: skopeo 1.9 drops it from layers that it makes zstd:chunked, and keeps the digest of the whole."""
    end = (len(tar_bytes.rstrip(b"\0")) + 511) // 512 * 512
    return tar_bytes[:end + 1024]


class LazyTest(registries.CaissonRegistryTest):
    """One engine has pushed images; a server between holds back whole blobs and lets ranges through, or does worse."""

    @classmethod
    def open(cls):
        cls.registry = cls.kept(registries.CaissonRegistry(cls.namespace))
        cls.maker = cls.new_engine()
        if dict(json.loads(cls.maker.ok("info", "--format", "{{json .DriverStatus}}")))["Snapshot form"] != "erofs":
            raise unittest.SkipTest("layers are directories here: nothing comes lazily")
        cls.maker.ok("load", stdin=caisson.docker_archive([caisson.busybox_rootfs(), application_layer()], {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, ("app:1",)), text=False)
        cls.maker.ok("tag", "app:1", f"{cls.registry.address}/app:1")
        cls.pushed = cls.maker.cli("push", "--compression-format", "zstd:chunked", f"{cls.registry.address}/app:1", check=0)
        cls.diff_ids = json.loads(cls.maker.ok("image", "inspect", "app:1"))[0]["RootFS"]["Layers"]

    def setUp(self):
        self.between = registries.BetweenServer(self.namespace, self.registry.port)
        self.addCleanup(self.between.close)
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)
        self.whole = []
        self.ranges = []
        self.between.on(r"/blobs/", self.hold_back, "GET")
        self.name = f"{self.between.address}/app:1"
        self.engine = self.archive = self.disk = None

    def hold_back(self, handler, _):
        """Whole blobs of some size wait for the gate; documents and ranges do not."""
        asked = handler.headers.get("Range", "")
        if re.fullmatch(r"bytes=\d+-\d+", asked):
            self.ranges.append(asked)
            return False
        head = self.registry.request("HEAD", handler.path)
        if int(head[1].get("content-length", 0)) < 65536:
            return False
        self.whole.append(handler.path)
        self.gate.wait()
        return False

    def start(self, *options):
        self.engine = self.new_engine("--registry-stall-timeout", "60", *options)
        self.archive = os.path.join(self.engine.folder, "saved.tar")
        return self.engine

    def pull(self, name=None, engine=None, **options):
        return (engine or self.engine).cli("pull", "--lazy", name or self.name, check=0, **options)

    def image(self, name=None):
        return json.loads(self.engine.ok("image", "inspect", name or self.name))[0]

    def trouble(self):
        return self.image().get("Coming", {}).get("Trouble", "")

    def wait_until_here(self, name=None, timeout_s=60):
        wait_until(lambda: "Coming" not in self.image(name), lambda: f"{name or self.name} is here: {self.image(name)}\n{self.engine.log_text()[-2000:]}", timeout_s)

    def servers(self):
        return [pid for pid, text in caisson.processes_mentioning("serve-layer").items() if self.engine.belongs(pid)]

    def fetchers(self):
        return self.engine.processes("caisson-fetch")

    def layer_digest(self, number):
        """Of an image's layer as it lies in the registry."""
        manifest = json.loads(self.registry.request("GET", "/v2/app/manifests/1", headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})[2])
        return manifest["layers"][number]["digest"]

    def sum_of_big(self, container):
        return self.engine.cli("exec", container, "sha256sum", "/srv/big", timeout=120)

    def expect_big(self, container):
        told = self.sum_of_big(container)
        self.assertEqual(told.stdout.split()[:1], [hashlib.sha256(NOISE).hexdigest()], told.stderr + self.engine.log_text()[-2000:])

    def finish(self):
        """Nothing is left of an engine whose images and containers are gone."""
        self.gate.set()
        ids = self.engine.ok("ps", "-aq").split()
        if ids:
            self.engine.ok("rm", "-f", *ids)
        images = self.engine.ok("images", "-aq").split()
        if images:
            self.engine.ok("rmi", "-f", *dict.fromkeys(images))
        folder = os.path.join(self.engine.root, "coming")
        self.assertEqual(os.listdir(folder) if os.path.isdir(folder) else [], [])
        wait_until(lambda: not self.servers(), "the servers of layers have ended")
        self.assertEqual(caisson.mounts_mentioning(folder), [])
        self.assertEqual(os.listdir(os.path.join(self.engine.root, "layers")), ["empty"])
        for kind in ("content/blobs/sha256", "ingest", "partial"):
            wait_until(lambda kind=kind: os.listdir(os.path.join(self.engine.root, kind)) == [], f"{kind} is empty")
        self.assertEqual(self.engine.stop(), 0, self.engine.log_text()[-2000:])
        if self.disk:
            subprocess.run(["umount", self.disk.path], check=True)  # which a descriptor or a mount that was forgotten would refuse
        self.assertEqual(self.engine.leftovers(), [])


class Comes(LazyTest):
    def test_a_container_starts_and_reads_before_its_layers_are_here(self):
        self.start()
        pulled = self.pull()
        self.assertIn("Can be used, while 2 layers are still coming", pulled.stderr)
        self.assertEqual(self.engine.ok("run", "--rm", self.name, "cat", "/srv/first"), "read first")
        self.assertEqual(self.engine.ok("run", "--rm", self.name, "stat", "-c", "%a %u %g", "/srv/owned"), "640 1000 1000")
        self.assertEqual(self.engine.ok("run", "--rm", self.name, "readlink", "/srv/link"), "first")
        self.assertEqual(self.engine.ok("run", "--rm", self.name, "sh", "-c", "test -e /etc/not-executable || echo hidden"), "hidden")
        self.assertEqual(self.engine.ok("run", "--rm", self.name, "sh", "-c", "echo more >> /srv/first && cat /srv/hard /srv/first"), "read first\nread first\nmore")
        self.assertEqual(self.engine.ok("run", "--rm", self.name, "sha256sum", "/srv/big").split()[0], hashlib.sha256(NOISE).hexdigest())
        coming = self.image()["Coming"]
        self.assertEqual((coming["Layers"], coming["LayersHere"], coming["Refused"]), (2, 0, False))
        self.assertIn("0/2 layers", self.engine.ok("images"))
        self.assertGreater(len(self.ranges), 4)
        self.assertEqual(self.image()["Id"], json.loads(self.maker.ok("image", "inspect", "app:1"))[0]["Id"])
        running = self.engine.ok("run", "-d", self.name, "sleep", "1000")
        self.gate.set()
        self.wait_until_here()
        self.assertNotIn("COMING", self.engine.ok("images"))
        self.assertEqual(self.engine.ok("exec", running, "sha256sum", "/srv/big").split()[0], hashlib.sha256(NOISE).hexdigest())
        self.assertIn("/layers/", self.engine.inspect(self.engine.ok("create", self.name))["GraphDriver"]["Data"]["LowerDir"])
        self.assertEqual(self.engine.ok("run", "--rm", self.name, "cat", "/srv/first"), "read first")
        self.engine.ok("save", "-o", self.archive, self.name)
        self.finish()

    def test_what_needs_a_whole_image_says_that_it_is_coming(self):
        self.start()
        self.pull()
        container = self.engine.ok("create", self.name)
        folder = os.path.join(self.engine.folder, "context")
        os.mkdir(folder)
        with open(os.path.join(folder, "Dockerfile"), "w", encoding="utf-8") as file:
            file.write(f"FROM {self.name}\nLABEL a=b\n")
        for words in (("save", "-o", self.archive, self.name), ("push", self.name), ("commit", container), ("build", folder)):
            told = self.engine.cli(*words)
            self.assertNotEqual(told.returncode, 0, words)
            self.assertIn("is still coming: 0 of its 2 layers are here", told.stderr + told.stdout, words)
        self.finish()

    def test_an_image_that_is_coming_can_be_removed(self):
        self.start()
        self.pull()
        wait_until(lambda: self.whole, "the rest is on its way", 30)
        self.engine.ok("rmi", self.name)
        self.finish()

    def test_a_pull_without_lazy_waits_for_what_is_coming(self):
        self.start()
        self.pull()
        threading.Timer(1.0, self.gate.set).start()
        self.engine.ok("pull", self.name)
        self.assertNotIn("Coming", self.image())
        self.assertEqual(self.engine.ok("run", "--rm", self.name, "cat", "/srv/first"), "read first")
        wait_until(lambda: "is complete" in self.engine.log_text(), "the thread behind it has ended", 30)
        self.finish()

    def test_layers_that_cannot_come_lazily_come_as_always(self):
        name = f"{self.between.address}/plain:1"
        self.maker.ok("tag", "app:1", f"{self.registry.address}/plain:1")
        self.maker.ok("push", f"{self.registry.address}/plain:1")
        self.gate.set()
        self.start()
        told = self.pull(name).stderr
        self.assertIn("Comes as a whole: it has no table of contents that the image's manifest names by a digest", told)
        self.assertNotIn("Coming", self.image(name))
        self.finish()

    def test_a_registry_without_ranges_sends_layers_as_always(self):
        def whole(handler, _):
            status, headers, data = self.between.fetch(handler, headers={"Range": "bytes=0-"})
            handler.answer(200, data, {"Content-Type": headers.get("Content-Type", "application/octet-stream")})
            self.assertIn(status, (200, 206))
            return True

        self.between.on(r"/blobs/", whole, "GET")
        self.start()
        self.assertIn("Comes as a whole: blob sha256:", self.pull().stderr)
        self.assertNotIn("Coming", self.image())
        self.finish()

    def test_the_form_of_a_push_is_checked(self):
        told = self.maker.cli("push", "--compression-format", "lz4", f"{self.registry.address}/app:1")
        self.assertNotEqual(told.returncode, 0)
        self.assertIn("zstd:chunked", told.stderr)


class Made(LazyTest):
    """Layers that others have made."""

    def put_image(self, repository, layers):
        """An image of [(blob, diffID, annotations)] at the registry."""
        def put(data, kind):
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            location = self.registry.request("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data, {"Content-Type": "application/octet-stream"})
            self.assertEqual(location[0], 201, location)
            return {"mediaType": kind, "digest": digest, "size": len(data)}

        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
                             "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id, _ in layers]}}).encode()
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": put(config, "application/vnd.oci.image.config.v1+json"),
                    "layers": [{**put(blob, "application/vnd.oci.image.layer.v1.tar+gzip"), "annotations": annotations} for blob, _, annotations in layers]}
        done = self.registry.request("PUT", f"/v2/{repository}/manifests/1", json.dumps(manifest).encode(), {"Content-Type": manifest["mediaType"]})
        self.assertEqual(done[0], 201, done)
        return f"{self.between.address}/{repository}:1"

    def estargz_image(self, repository, lie=None):
        layers = []
        for number, tar in enumerate((caisson.busybox_rootfs(), application_layer([("srv/of", repository.encode())]))):
            blob, diff_id, digest = estargz(tar, lie if number else None)
            layers.append((blob, diff_id, {"containerd.io/snapshot/stargz/toc.digest": digest}))
        return self.put_image(repository, layers)

    def test_estargz_layers_come_lazily(self):
        name = self.estargz_image("stargz")
        self.start()
        self.assertIn("while 2 layers are still coming", self.pull(name).stderr)
        self.assertEqual(self.engine.ok("run", "--rm", name, "sha256sum", "/srv/big").split()[0], hashlib.sha256(NOISE).hexdigest())
        self.gate.set()
        self.wait_until_here(name)
        self.assertEqual(self.engine.ok("run", "--rm", name, "cat", "/srv/first"), "read first")
        self.finish()

    def test_a_table_that_lies_is_found_out(self):
        def lie(entries):
            next(entry for entry in entries if entry["name"] == "srv/first")["mode"] = 0o4755

        name = self.estargz_image("liar", lie)
        self.start()
        self.pull(name)
        self.assertEqual(self.engine.ok("run", "--rm", name, "stat", "-c", "%a", "/srv/first"), "4755")
        self.gate.set()
        wait_until(lambda: self.image(name).get("Coming", {}).get("Refused"), lambda: f"the lie is found: {self.image(name)}", 60)
        trouble = self.image(name)["Coming"]["Trouble"]
        for word in ("sha256:", self.between.address, "srv/first", "mode"):
            self.assertIn(word, trouble)
        self.assertRegex(self.engine.log_text(), r"error compare a layer .* layer sha256:[0-9a-f]{64} of .*its mode is not what the table of contents promised")
        for words in (("run", "--rm", name, "true"), ("create", name), ("save", "-o", self.archive, name)):
            told = self.engine.cli(*words)
            self.assertNotEqual(told.returncode, 0)
            self.assertIn("is not what it was said to be", told.stderr)
        self.assertIn("refused", self.engine.ok("images"))
        self.engine.stop()
        self.engine.start()
        self.assertIn("is not what it was said to be", self.engine.cli("run", "--rm", name, "true").stderr)
        self.engine.ok("pull", name)
        self.assertEqual(self.engine.ok("run", "--rm", name, "stat", "-c", "%a", "/srv/first"), "644")
        self.finish()

    def test_a_layer_that_is_not_the_images_is_found_out(self):
        blob, _, digest = estargz(application_layer([("srv/of", b"other")]))
        wrong = "sha256:" + hashlib.sha256(b"another layer").hexdigest()
        name = self.put_image("wrong", [(blob, wrong, {"containerd.io/snapshot/stargz/toc.digest": digest})])
        self.start()
        self.pull(name)
        self.gate.set()
        wait_until(lambda: self.image(name).get("Coming", {}).get("Refused"), lambda: f"the wrong layer is found: {self.image(name)}", 60)
        self.assertIn("the archive's content has the digest", self.image(name)["Coming"]["Trouble"])
        self.assertIn("is not what it was said to be", self.engine.cli("create", name, "true").stderr)
        self.engine.ok("rmi", name)
        self.finish()

    def test_a_table_with_another_digest_is_not_used(self):
        layers = []
        for tar in (caisson.busybox_rootfs(), application_layer()):
            blob, diff_id, _ = estargz(tar)
            layers.append((blob, diff_id, {"containerd.io/snapshot/stargz/toc.digest": "sha256:" + "0" * 64}))
        name = self.put_image("other", layers)
        self.gate.set()
        self.start()
        self.assertIn("Comes as a whole: the table has the digest", self.pull(name).stderr)
        self.assertNotIn("Coming", self.image(name))
        self.finish()

    def test_layers_of_skopeo_come_lazily(self):
        if not shutil.which("skopeo"):
            self.skipTest("needs skopeo: tools/dependencies peers")
        archive = os.path.join(self.maker.folder, "app.tar")
        with open(archive, "wb") as file:
            file.write(caisson.docker_archive([unpadded(caisson.busybox_rootfs()), unpadded(application_layer())], {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, ("app:1",)))
        done = subprocess.run([*self.namespace.command, "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--dest-compress-format", "zstd:chunked",
                               f"docker-archive:{archive}", f"docker://{self.registry.address}/skopeo:1"], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            self.skipTest("this skopeo makes no zstd:chunked: " + done.stderr.strip()[-200:])
        manifest = json.loads(self.registry.request("GET", "/v2/skopeo/manifests/1", headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})[2])
        if not all(any("zstd-chunked.manifest-checksum" in key for key in layer.get("annotations", {})) for layer in manifest["layers"]):
            self.skipTest(f"this skopeo says nothing of a table: {manifest['layers']}")
        name = f"{self.between.address}/skopeo:1"
        self.start()
        self.assertIn("while 2 layers are still coming", self.pull(name).stderr)
        self.assertEqual(self.engine.ok("run", "--rm", name, "sha256sum", "/srv/big").split()[0], hashlib.sha256(NOISE).hexdigest())
        self.gate.set()
        self.wait_until_here(name)
        self.finish()

    def test_skopeo_takes_layers_of_ours(self):
        if not shutil.which("skopeo"):
            self.skipTest("needs skopeo: tools/dependencies peers")
        target = os.path.join(self.maker.folder, "layout")
        done = subprocess.run([*self.namespace.command, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", f"docker://{self.registry.address}/app:1",
                               f"oci:{target}:1"], capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)


class Faults(LazyTest):
    def test_a_registry_that_goes_away_is_an_error_and_not_a_wait(self):
        self.start()
        self.pull()
        running = self.engine.ok("run", "-d", self.name, "sleep", "1000")

        def refuse(handler, _):
            handler.answer(404, b"{}")
            return True

        # Of the layer with the large file only: what cannot read its own program ends by SIGBUS, and says nothing.
        self.between.on("/blobs/" + self.layer_digest(1), refuse, "GET")
        begun = time.monotonic()
        told = self.engine.cli("exec", running, "cat", "/srv/big", text=False)
        self.assertNotEqual(told.returncode, 0)
        self.assertIn(b"Input/output error", told.stderr)
        self.assertLess(time.monotonic() - begun, 45)
        wait_until(lambda: "serve a layer that is still coming" in self.engine.log_text(), "the log says so")
        self.assertRegex(self.engine.log_text(), r"layer sha256:[0-9a-f]{64} of " + re.escape(self.name))
        self.between.faults.pop(0)
        self.assertEqual(self.engine.ok("exec", running, "sha256sum", "/srv/big").split()[0], hashlib.sha256(NOISE).hexdigest())
        self.finish()

    def test_bytes_that_are_not_the_promised_ones_reach_nobody(self):
        self.start()
        self.pull()

        def bend(handler, _):
            if not re.fullmatch(r"bytes=\d+-\d+", handler.headers.get("Range", "")):
                return False
            status, headers, data = self.between.fetch(handler)
            bent = bytearray(data)
            bent[len(bent) // 2] ^= 0xFF
            handler.answer(status, bytes(bent), {key: value for key, value in headers.items() if key.lower() in ("content-range", "content-type")})
            return True

        self.between.on(r"/blobs/", bend, "GET")
        told = self.engine.cli("run", "--rm", self.name, "cat", "/srv/big", text=False)
        self.assertNotEqual(told.returncode, 0)
        self.assertNotIn(NOISE[:64], told.stdout)
        self.finish()

    def test_another_range_than_was_asked_for_is_refused(self):
        self.start()
        self.pull()

        def shift(handler, _):
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
            if not asked:
                return False
            status, _, data = self.between.fetch(handler)
            handler.answer(status, data, {"Content-Range": f"bytes {int(asked[1]) + 1}-{int(asked[2]) + 1}/*"})
            return True

        self.between.on(r"/blobs/", shift, "GET")
        self.assertNotEqual(self.engine.cli("run", "--rm", self.name, "cat", "/srv/big", text=False).returncode, 0)
        self.finish()

    def test_a_killed_server_fails_its_readers_and_is_started_again(self):
        self.start()
        self.pull()
        running = self.engine.ok("run", "-d", self.name, "sleep", "1000")
        victims = self.servers()
        self.assertGreaterEqual(len(victims), 2)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        told = self.engine.cli("exec", running, "cat", "/srv/big", text=False)
        self.assertNotEqual(told.returncode, 0)
        wait_until(lambda: "its server ended by signal 9" in self.engine.log_text(), "the log says so")
        self.assertEqual(self.engine.ok("run", "--rm", self.name, "sha256sum", "/srv/big").split()[0], hashlib.sha256(NOISE).hexdigest())
        self.engine.ok("restart", "-t", "0", running)
        self.assertEqual(self.engine.ok("exec", running, "sha256sum", "/srv/big").split()[0], hashlib.sha256(NOISE).hexdigest())
        self.finish()

    def test_a_killed_daemon_goes_on_where_it_was(self):
        self.start()
        self.pull()
        running = self.engine.ok("run", "-d", self.name, "sleep", "1000")
        self.engine.kill9()
        self.engine.start()
        # The container's own server has outlived the daemon.
        self.assertEqual(self.engine.ok("exec", running, "sha256sum", "/srv/big").split()[0], hashlib.sha256(NOISE).hexdigest())
        self.assertEqual(self.image()["Coming"]["LayersHere"], 0)
        self.assertEqual(self.engine.ok("run", "--rm", self.name, "cat", "/srv/first"), "read first")
        self.gate.set()
        self.wait_until_here()
        self.assertEqual(self.engine.ok("run", "--rm", self.name, "sha256sum", "/srv/big").split()[0], hashlib.sha256(NOISE).hexdigest())
        self.finish()

    def test_a_stopped_daemon_leaves_readers_alone(self):
        self.start()
        self.pull()
        running = self.engine.ok("run", "-d", self.name, "sh", "-c", "sleep 5; sha256sum /srv/big > /sum; sleep 1000")
        pid = self.engine.inspect(running)["State"]["Pid"]
        self.engine.stop()
        self.assertFalse(os.path.exists(f"/proc/{pid}/root/sum"))
        wait_until(lambda: os.path.exists(f"/proc/{pid}/root/sum") and os.path.getsize(f"/proc/{pid}/root/sum") > 0, "the container has read it all", 60)
        with open(f"/proc/{pid}/root/sum", encoding="utf-8") as file:
            self.assertEqual(file.read().split()[0], hashlib.sha256(NOISE).hexdigest())
        self.engine.start()
        self.finish()

    def test_a_registry_that_is_gone_and_comes_back_is_gone_on_with(self):
        self.start()
        self.pull()
        running = self.engine.ok("run", "-d", self.name, "sleep", "1000")
        self.engine.ok("exec", running, "cat", "/srv/first")
        is_gone = threading.Event()
        is_gone.set()

        def cut(handler, _):
            if not is_gone.is_set():
                return False
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return True

        self.between.on("", cut)
        self.gate.set()
        begun = time.monotonic()
        told = self.sum_of_big(running)
        self.assertNotEqual(told.returncode, 0)
        self.assertIn("Input/output error", told.stderr)
        self.assertLess(time.monotonic() - begun, 45)
        wait_until(self.trouble, "the image says that its registry does not answer", 90)
        self.assertFalse(self.image()["Coming"]["Refused"])
        self.assertRegex(self.engine.log_text(), r'warning serve a layer that is still coming object="layer sha256:[0-9a-f]{64} of ' + re.escape(self.name))
        self.assertRegex(self.engine.log_text(), r'error go on with a lazy pull object="image ')
        is_gone.clear()
        self.expect_big(running)
        self.wait_until_here(timeout_s=120)
        self.expect_big(self.engine.ok("run", "-d", self.name, "sleep", "1000"))
        self.finish()

    def test_a_killed_fetch_process_is_replaced(self):
        self.start()
        self.pull()
        wait_until(lambda: self.whole, "the rest is on its way", 30)
        running = self.engine.ok("run", "-d", self.name, "sleep", "1000")
        self.engine.ok("exec", running, "cat", "/srv/first")
        for _ in range(2):
            victims = self.fetchers()
            self.assertGreaterEqual(len(victims), 2)
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            told = self.sum_of_big(running)
            if told.returncode != 0:  # whoever reads at that moment may be told
                self.assertIn("Input/output error", told.stderr)
            wait_until(lambda: self.sum_of_big(running).returncode == 0, lambda: "it can be read again\n" + self.engine.log_text()[-2000:], 30)
            self.expect_big(running)
        self.expect_big(self.engine.ok("run", "-d", self.name, "sleep", "1000"))
        self.gate.set()
        self.wait_until_here()
        self.finish()

    def test_a_store_without_room_refuses_the_pull(self):
        self.start("--store-quota", "20m")
        told = self.engine.cli("pull", "--lazy", self.name)
        self.assertNotEqual(told.returncode, 0)
        self.assertIn("quota", told.stderr)
        self.assertEqual(self.engine.ok("images", "-q"), "")


class FullDisk(LazyTest):
    """The state folder on a disk that becomes full while layers are coming."""

    def start(self, *options):
        self.engine = caisson.Engine(options=["--registry-stall-timeout", "60", *options])
        self.engine.prefix_command = self.namespace.command
        self.disk = caisson.SmallDisk(self.engine.root, 128)
        self.addCleanup(self.disk.close)
        self.addCleanup(self.engine.close)
        self.engine.start()
        self.pull()
        running = self.engine.ok("run", "-d", self.name, "sleep", "1000")
        self.engine.ok("exec", running, "cat", "/srv/first")
        return running

    def fill(self, but_mebibytes=0):
        """Takes all free space but so much; returns a function that gives it back."""
        path = os.path.join(self.engine.root, "ballast")
        with open(path, "wb", buffering=0) as file:  # a buffer would be written once more when it is closed
            free = os.statvfs(path)
            os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - (but_mebibytes << 20) - (1 << 20)))
            file.seek(0, os.SEEK_END)
            if but_mebibytes == 0:
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(4096))
        return lambda: os.unlink(path)

    def expect_trouble(self):
        """The image and the log name what did not fit."""
        wait_until(lambda: "No space left on device" in self.trouble(), lambda: f"the image says so: {self.image()}\n{self.engine.log_text()[-2000:]}", 60)
        self.assertRegex(self.trouble(), "|".join(self.layer_digest(number) for number in (0, 1)))
        self.assertFalse(self.image()["Coming"]["Refused"])
        self.assertRegex(self.engine.log_text(), r"error go on with a lazy pull [^\n]*No space left on device")

    def expect_all_comes(self, running):
        self.wait_until_here(timeout_s=120)
        self.expect_big(running)
        fresh = self.engine.ok("run", "-d", self.name, "sleep", "1000")
        self.assertIn("/layers/", self.engine.inspect(fresh)["GraphDriver"]["Data"]["LowerDir"])
        self.expect_big(fresh)
        self.finish()

    def test_what_a_container_reads_is_served_and_the_rest_comes_when_there_is_room(self):
        running = self.start()
        free = self.fill()
        self.expect_big(running)
        self.assertRegex(self.engine.log_text(), r'warning serve a layer that is still coming object="layer ' + self.layer_digest(1) + r' of \S+ msg="what was read cannot be kept: [^\n]*No space left on device')
        self.gate.set()
        self.expect_trouble()
        self.expect_big(running)
        self.assertIn("0/2 layers", self.engine.ok("images"))
        free()
        self.expect_all_comes(running)

    def test_a_layer_that_fits_half_is_not_fetched_anew(self):
        running = self.start()
        # The blob fits, and what it unpacks to does not.
        free = self.fill(36)
        self.gate.set()
        self.expect_trouble()
        self.expect_big(running)
        free()
        self.expect_all_comes(running)
        # What had come stays: nobody asks for a whole blob twice.
        asked = [path for method, path, headers in self.between.seen if method == "GET" and "/blobs/" in path and "Range" not in headers and self.layer_digest(1) in path]
        self.assertEqual(len(asked), 1, self.between.seen)

    def test_a_disk_that_is_full_in_the_middle_of_a_download(self):
        running = self.start()
        free = self.fill(12)
        self.gate.set()
        self.expect_trouble()
        self.expect_big(running)
        free()
        self.engine.ok("pull", self.name, timeout=120)  # an ordinary pull does not wait for the next attempt
        self.expect_all_comes(running)

    def test_an_image_that_is_removed_beside_a_full_disk_leaves_nothing(self):
        running = self.start()
        self.engine.ok("rm", "-f", running)
        free = self.fill()
        self.gate.set()
        self.expect_trouble()
        self.engine.ok("rmi", self.name)
        free()
        self.finish()

    def test_a_daemon_that_is_killed_beside_a_full_disk_goes_on_when_there_is_room(self):
        running = self.start()
        free = self.fill()
        self.gate.set()
        self.expect_trouble()
        self.engine.kill9()
        try:
            self.engine.start()
        except AssertionError as refused:
            self.assertRegex(str(refused), "(?i)no space left|disk is full|database or disk")
            free()
            self.engine.start()
        else:
            self.expect_big(running)
            free()
        self.expect_all_comes(running)


if __name__ == "__main__":
    caisson.main(lambda: caisson.why_not() or registries.CaissonRegistry.why_not() or registries.why_not_fetch())

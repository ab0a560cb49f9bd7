#!/usr/bin/env python3
"""Images come from and go to Debian's docker-registry, by our command line, docker's and python3-docker, over bad networks too."""

import base64
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
import unittest

import caisson
import registries
from caisson import wait_until

BIG_BYTES = 12 << 20


def big_layer(seed=b"big"):
    """A layer of some megabytes that does not compress."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        data = b"".join(hashlib.sha512(seed + number.to_bytes(4, "big")).digest() for number in range(BIG_BYTES // 64))
        caisson.add_file(tar, "srv/big", data)
        caisson.add_file(tar, "srv/" + seed.decode(), seed)
    return out.getvalue()


class RegistryTest(registries.NamespaceTest):
    """An engine and a docker-registry, alone in a network namespace."""

    registry_options = {}

    @classmethod
    def why_not(cls):
        return super().why_not() or registries.why_not() or registries.why_not_fetch()

    @classmethod
    def open(cls):
        cls.registry = cls.kept(registries.DockerRegistry(cls.namespace, **cls.registry_options))
        cls.engine = cls.new_engine()
        cls.engine.import_busybox()

    @classmethod
    def new_engine(cls, *options):
        return super().new_engine("--registry-stall-timeout", "5", *options)

    def push_busybox(self, name):
        self.engine.ok("tag", "busybox", f"{self.registry.address}/{name}")
        return self.engine.ok("push", f"{self.registry.address}/{name}")

    def forget(self, *names, engine=None):
        (engine or self.engine).ok("rmi", "-f", *names)

    def pulled(self, name, engine=None):
        return json.loads((engine or self.engine).ok("image", "inspect", name))[0]

    def no_leftovers(self, engine=None):
        engine = engine or self.engine
        self.assertEqual(os.listdir(os.path.join(engine.root, "ingest")), [])
        wait_until(lambda: not engine.processes("caisson-fetch"), "no process that fetches is left")  # without root its parent is not the engine, and may be slower
        self.assertEqual(engine.processes("caisson-worker"), [])


class PullAndPush(RegistryTest):
    def test_an_image_goes_there_and_comes_back_the_same(self):
        name = f"{self.registry.address}/round/trip:1"
        before = self.pulled("busybox")["Id"]
        self.push_busybox("round/trip:1")
        other = self.new_engine()
        out = other.cli("pull", name, check=0)
        self.assertEqual(out.stdout.strip(), name)
        image = self.pulled(name, other)
        self.assertEqual(image["Id"], before)
        self.assertEqual(image["RepoTags"], [name])
        self.assertRegex(image["RepoDigests"][0], rf"^{self.registry.address}/round/trip@sha256:[0-9a-f]{{64}}$")
        self.assertEqual(other.ok("run", "--rm", name, "echo", "hello"), "hello")
        self.no_leftovers(other)
        again = other.cli("pull", name, check=0)
        self.assertIn("Image is up to date for " + name, again.stderr)

    def test_progress_is_dockers(self):
        name = f"{self.registry.address}/progress:1"
        lines = [json.loads(line) for line in self.api_push("progress:1").splitlines()]
        self.assertEqual(lines[0]["status"], f"The push refers to repository [{self.registry.address}/progress]")
        self.assertTrue(any(line.get("status") == "Preparing" and len(line["id"]) == 12 for line in lines))
        self.assertTrue(any(line.get("status") in ("Pushed", "Layer already exists") or line.get("status", "").startswith("Mounted from") for line in lines))
        aux = lines[-1]["aux"]
        self.assertEqual(aux["Tag"], "1")
        self.assertIn(f"1: digest: {aux['Digest']} size: {aux['Size']}", [line.get("status") for line in lines])
        other = self.new_engine()
        status, _, body = other.request("POST", f"/images/create?fromImage={self.registry.address}/progress&tag=1", timeout=60)
        self.assertEqual(status, 200)
        lines = [json.loads(line) for line in body.splitlines()]
        self.assertEqual(lines[0], {"status": "Pulling from progress", "id": "1"})
        seen = [line["status"] for line in lines if "id" in line]
        for wanted in ("Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"):
            self.assertIn(wanted, seen)
        self.assertEqual([line["status"] for line in lines[-2:]], [f"Digest: {aux['Digest']}", f"Status: Downloaded newer image for {name}"])

    def api_push(self, name):
        self.engine.ok("tag", "busybox", f"{self.registry.address}/{name}")
        repository, _, tag = name.rpartition(":")
        status, _, body = self.engine.request("POST", f"/images/{self.registry.address}/{repository}/push?tag={tag}", timeout=60)
        self.assertEqual(status, 200, body)
        return body.decode()

    def test_a_digest_names_an_image_for_ever(self):
        self.push_busybox("by/digest:1")
        digest = [line for line in self.pulled(f"{self.registry.address}/by/digest:1")["RepoDigests"] if "/by/digest@" in line][0]
        other = self.new_engine()
        other.ok("pull", digest)
        image = self.pulled(digest, other)
        self.assertEqual((image["RepoTags"], image["RepoDigests"]), ([], [digest]))
        self.assertEqual(other.ok("run", "--rm", digest, "echo", "x"), "x")
        wrong = digest[:-4] + ("0000" if not digest.endswith("0000") else "1111")
        refused = other.cli("pull", wrong)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("not found: manifest unknown", refused.stderr)

    def test_only_what_is_missing_travels(self):
        base = caisson.busybox_rootfs()
        for number in (1, 2):
            self.engine.ok("load", stdin=caisson.docker_archive([base, big_layer(b"share%d" % number)], tags=[f"{self.registry.address}/share{number}:1"]), text=False)
            self.engine.ok("push", f"{self.registry.address}/share{number}:1")
        uploads = [path for method, path, status in self.registry.requests() if method == "PATCH" and "/share2/" in path]
        self.assertEqual(len(uploads), 2, "the second push sends its own layer and its config")  # the shared layer is mounted
        other = self.new_engine()
        other.ok("pull", f"{self.registry.address}/share1:1")
        before = len(self.registry.requests())
        other.ok("pull", f"{self.registry.address}/share2:1")
        blobs = [path for method, path, _ in self.registry.requests()[before:] if method == "GET" and "/blobs/" in path]
        self.assertEqual(len(blobs), 2, blobs)
        before = len(self.registry.requests())
        other.ok("pull", f"{self.registry.address}/share2:1")
        self.assertEqual([path for method, path, _ in self.registry.requests()[before:] if "/blobs/" in path], [])

    def test_run_pulls_what_is_missing(self):
        name = f"{self.registry.address}/run/missing:1"
        self.push_busybox("run/missing:1")
        other = self.new_engine()
        never = other.cli("run", "--rm", "--pull", "never", name, "true")
        self.assertEqual(never.returncode, 125)
        run = other.cli("run", "--rm", name, "echo", "pulled", check=0)
        self.assertEqual(run.stdout, "pulled\n")
        self.assertIn(f"Unable to find image '{name}' locally", run.stderr)
        always = other.cli("run", "--rm", "--pull", "always", name, "true", check=0)
        self.assertIn("Image is up to date", always.stderr)

    def test_errors_are_dockers(self):
        missing = self.engine.cli("pull", f"{self.registry.address}/no/such:1")
        self.assertEqual(missing.returncode, 1)
        self.assertIn(f"manifest for {self.registry.address}/no/such:1 not found: manifest unknown: manifest unknown", missing.stderr)
        status, _, body = self.engine.request("POST", f"/images/create?fromImage={self.registry.address}/no/such&tag=1")
        self.assertEqual(status, 404)
        nobody = self.engine.cli("pull", "127.0.0.1:1/x")
        self.assertIn("connection refused", nobody.stderr)
        self.assertEqual(self.engine.request("POST", "/images/create?fromImage=127.0.0.1:1/x&tag=1")[0], 500)
        lost = self.engine.cli("pull", "registry.invalid/x")
        self.assertIn("no such host", lost.stderr)
        untagged = self.engine.cli("push", f"{self.registry.address}/never/tagged:1")
        self.assertIn(f"An image does not exist locally with the tag: {self.registry.address}/never/tagged", untagged.stderr)
        self.no_leftovers()

    def test_all_tags_come_and_go_together(self):
        for tag in ("a", "b"):
            self.engine.ok("tag", "busybox", f"{self.registry.address}/all:{tag}")
        self.engine.ok("push", "--all-tags", f"{self.registry.address}/all")
        other = self.new_engine()
        other.ok("pull", "-a", f"{self.registry.address}/all")
        self.assertEqual(sorted(self.pulled(f"{self.registry.address}/all:a", other)["RepoTags"]), [f"{self.registry.address}/all:{tag}" for tag in "ab"])

    def test_removing_the_last_tag_removes_the_digest_name_too(self):
        name = f"{self.registry.address}/remove:1"
        self.push_busybox("remove:1")
        other = self.new_engine()
        other.ok("pull", name)
        out = other.ok("rmi", name)
        self.assertIn(f"Untagged: {name}", out)
        self.assertIn(f"Untagged: {self.registry.address}/remove@sha256:", out)
        self.assertEqual(other.ok("images", "-q"), "")

    def test_distribution_tells_without_pulling(self):
        self.push_busybox("look:1")
        status, _, body = self.engine.request("GET", f"/distribution/{self.registry.address}/look:1/json")
        self.assertEqual(status, 200, body)
        told = json.loads(body)
        self.assertEqual(told["Platforms"], [{"architecture": "amd64", "os": "linux"}])
        self.assertRegex(told["Descriptor"]["digest"], "^sha256:")

    def test_docker_pulls_and_pushes_through_us(self):
        if not shutil.which("docker"):
            self.skipTest("needs docker: tools/dependencies peers")
        name = f"{self.registry.address}/docker/cli:1"
        self.engine.ok("tag", "busybox", name)
        self.engine.docker("push", name, check=0)
        other = self.new_engine()
        pulled = other.docker("pull", name, check=0)
        self.assertIn(f"Status: Downloaded newer image for {name}", pulled.stdout)
        self.forget(name, engine=other)
        run = other.docker("run", "--rm", name, "echo", "ran", check=0)
        self.assertEqual(run.stdout, "ran\n")
        self.assertIn(name, other.docker("images", "--digests", "--format", "{{.Repository}}:{{.Tag}} {{.Digest}}", check=0).stdout)

    def test_python_docker_pulls_and_pushes_through_us(self):
        script = """
import docker, sys
client = docker.DockerClient(base_url=sys.argv[1])
repository = sys.argv[2]
client.images.get("busybox").tag(repository, "py")
lines = list(client.images.push(repository, tag="py", stream=True, decode=True))
assert not any("error" in line for line in lines), lines
assert any("aux" in line for line in lines), lines
client.images.remove(repository + ":py")
image = client.images.pull(repository, tag="py")
assert repository + ":py" in image.tags, image.tags
assert client.images.get_registry_data(repository + ":py").id.startswith("sha256:")
print("good")
"""
        run = subprocess.run(self.engine.as_user(["/usr/bin/python3", "-c", script, self.engine.host, f"{self.registry.address}/py/docker"]), capture_output=True, text=True, timeout=120, check=False)
        if "No module named 'docker'" in run.stderr:
            self.skipTest("needs python3-docker: tools/dependencies peers")
        self.assertEqual(run.stdout, "good\n", run.stderr)

    def test_skopeo_reads_what_we_pushed_and_the_other_way_round(self):
        if not shutil.which("skopeo"):
            self.skipTest("needs skopeo: tools/dependencies peers")
        self.push_busybox("exchange/ours:1")
        skopeo = [*self.namespace.command, "skopeo", "--insecure-policy"]
        plain = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        for form in ("oci", "v2s2"):
            theirs = f"{self.registry.address}/exchange/{form}:1"
            subprocess.run([*skopeo, "copy", *plain, "--format", form, f"docker://{self.registry.address}/exchange/ours:1", f"docker://{theirs}"], check=True,
                           capture_output=True, timeout=120)
            other = self.new_engine()
            other.ok("pull", theirs)
            self.assertEqual(other.ok("run", "--rm", theirs, "echo", form), form)
            # What came in Docker's form goes out in it, under the same digest.
            other.ok("tag", theirs, f"{self.registry.address}/exchange/again-{form}:1")
            other.ok("push", f"{self.registry.address}/exchange/again-{form}:1")
            digests = {subprocess.run([*skopeo, "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{reference}"], check=True, capture_output=True,
                                      timeout=60).stdout for reference in (theirs, f"{self.registry.address}/exchange/again-{form}:1")}
            self.assertEqual(len(digests), 1)


def text_layer(seed=b"text"):
    """A layer of some megabytes that compresses well, and differs by its seed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        caisson.add_file(tar, "srv/text", b"".join(seed + b" line %d of a text\n" % number for number in range(200_000)))
    return out.getvalue()


class Compressed(RegistryTest):
    """Layers lie here without compression, and travel with it."""

    @classmethod
    def open(cls):
        super().open()
        cls.load(cls.engine, "text:1", [caisson.busybox_rootfs(), text_layer()])

    @staticmethod
    def load(engine, name, layers):
        engine.ok("load", stdin=caisson.docker_archive(layers, {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, (name,)), text=False)

    def push(self, name, *flags, engine=None, image="text:1"):
        """The digest that was pushed, and what was told."""
        engine = engine or self.engine
        engine.ok("tag", image, f"{self.registry.address}/{name}")
        told = engine.cli("push", *flags, f"{self.registry.address}/{name}", check=0).stderr
        return told.split("digest: ")[1].split()[0], told

    def manifest(self, digest):
        with open(f"{self.registry.folder}/data/docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data", encoding="utf-8") as file:
            return json.load(file)

    def blob(self, digest):
        with open(f"{self.registry.folder}/data/docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data", "rb") as file:
            return file.read()

    def uploads(self, name):
        return [path for method, path, _ in self.registry.requests() if method == "PATCH" and f"/{name}/" in path]

    def test_layers_travel_as_gzip_and_are_the_same_image_everywhere(self):
        digest, _ = self.push("gzip:1")
        manifest = self.manifest(digest)
        self.assertEqual([layer["mediaType"] for layer in manifest["layers"]], ["application/vnd.oci.image.layer.v1.tar+gzip"] * 2)
        diff_ids = self.pulled("text:1")["RootFS"]["Layers"]
        for layer, diff_id in zip(manifest["layers"], diff_ids):
            blob = self.blob(layer["digest"])
            self.assertEqual((len(blob), "sha256:" + hashlib.sha256(blob).hexdigest()), (layer["size"], layer["digest"]))
            self.assertEqual("sha256:" + hashlib.sha256(gzip.decompress(blob)).hexdigest(), diff_id)
        name = f"{self.registry.address}/gzip"
        self.assertIn(f"{name}@{digest}", self.pulled("text:1")["RepoDigests"])
        self.assertEqual(self.pulled(f"{name}@{digest}")["Id"], self.pulled("text:1")["Id"])
        self.assertEqual(self.engine.ok("run", "--rm", f"{name}@{digest}", "head", "-c", "4", "/srv/text"), "text")
        other = self.new_engine()
        other.ok("pull", f"{name}:1")
        self.assertEqual(self.pulled(f"{name}:1", other)["Id"], self.pulled("text:1")["Id"])
        # There they lie compressed, and go on as they are.
        other.ok("tag", f"{name}:1", f"{self.registry.address}/onward:1")
        other.ok("push", f"{self.registry.address}/onward:1")
        self.assertIn(f"{self.registry.address}/onward@{digest}", self.pulled(f"{name}:1", other)["RepoDigests"])
        self.no_leftovers()

    def test_what_was_pushed_does_not_come_back(self):
        digest, _ = self.push("back:1")
        name = f"{self.registry.address}/back"
        before = len(self.registry.requests())
        for reference in (f"{name}:1", f"{name}@{digest}"):
            self.assertIn("Image is up to date", self.engine.cli("pull", reference, check=0).stderr)
        self.assertEqual([path for method, path, _ in self.registry.requests()[before:] if method == "GET" and "/blobs/" in path], [])
        self.engine.ok("save", "-o", os.path.join(self.engine.folder, "back.tar"), f"{name}:1")
        self.engine.ok("rmi", f"{name}:1")
        self.assertNotEqual(self.engine.cli("image", "inspect", f"{name}@{digest}").returncode, 0, "its digest goes with the last tag")

    def test_a_second_push_sends_nothing_and_compresses_nothing(self):
        # Layers that no other test has pushed.
        one, two, three = (text_layer(b"twice %d" % number) for number in range(3))
        self.load(self.engine, "two:1", [one, two])
        first, told = self.push("twice:1", image="two:1")
        self.assertEqual(sorted(line.split(": ")[1].split()[0] for line in told.splitlines() if "Compressing" in line), ["Compressing"] * 2, told)
        sent = len(self.uploads("twice"))
        self.assertEqual(sent, 3)
        second, told = self.push("twice:2", image="two:1")
        self.assertEqual(second, first)
        self.assertEqual(told.count("Layer already exists"), 2)
        self.assertNotIn("Compressing", told)
        self.assertEqual(len(self.uploads("twice")), sent)
        # Another image with the same layer, to another repository: it is mounted.
        self.load(self.engine, "child:1", [one, two, three])
        digest, told = self.push("child:1", image="child:1")
        self.assertEqual((told.count("Mounted from"), len(self.uploads("child"))), (2, 2), told)
        self.assertEqual(self.manifest(digest)["layers"][:2], self.manifest(first)["layers"])
        # What a registry has lost is made again.
        other = self.kept(registries.DockerRegistry(self.namespace, port=5001))
        self.engine.ok("tag", "two:1", f"{other.address}/twice:1")
        told = self.engine.cli("push", f"{other.address}/twice:1", check=0).stderr
        self.assertIn(first, told)
        self.assertEqual(len([1 for method, _, _ in other.requests() if method == "PATCH"]), 3)

    def test_two_engines_push_the_same_digests(self):
        other = self.new_engine()
        self.load(other, "text:1", [caisson.busybox_rootfs(), text_layer()])
        for flags in ((), ("--compression-format", "zstd"), ("--compression-level", "9")):
            ours, _ = self.push("same:1", *flags)
            theirs, told = self.push("same:2", *flags, engine=other)
            self.assertEqual(theirs, ours, flags)
            self.assertEqual(told.count("Layer already exists"), 2, told)

    def test_every_form_can_be_asked_for_and_pulled(self):
        sizes = {}
        for form, suffix in (("gzip", "+gzip"), ("zstd", "+zstd"), ("uncompressed", "")):
            digest, _ = self.push(f"form-{form}:1", "--compression-format", form)
            manifest = self.manifest(digest)
            self.assertEqual([layer["mediaType"] for layer in manifest["layers"]], ["application/vnd.oci.image.layer.v1.tar" + suffix] * 2)
            sizes[form] = manifest["layers"][1]["size"]
            other = self.new_engine()
            name = f"{self.registry.address}/form-{form}:1"
            other.ok("pull", name)
            self.assertEqual(self.pulled(name, other)["Id"], self.pulled("text:1")["Id"])
            self.assertEqual(other.ok("run", "--rm", name, "head", "-c", "4", "/srv/text"), "text")
            # From one form to another, all layers: the same as from the start.
            other.ok("tag", name, f"{self.registry.address}/again-{form}:1")
            told = other.cli("push", "--compression-format", "gzip", f"{self.registry.address}/again-{form}:1", check=0).stderr
            self.assertIn(self.push("gzip-of-all:1", "--compression-format", "gzip")[0], told)
            self.no_leftovers(other)
        self.assertLess(sizes["gzip"], sizes["uncompressed"] // 4)
        self.assertLess(sizes["zstd"], sizes["uncompressed"] // 4)

    def test_a_level_counts_and_wrong_wishes_are_refused(self):
        quick, _ = self.push("level:1", "--compression-level", "1")
        small, _ = self.push("level:9", "--compression-level", "9")
        self.assertGreater(self.manifest(quick)["layers"][0]["size"], self.manifest(small)["layers"][0]["size"])
        for flags, words in ((("--compression-format", "lz4"), "zstd:chunked"), (("--compression-level", "13"), "gzip has the levels 1 to 12"),
                             (("--compression-format", "zstd", "--compression-level", "0"), "zstd has the levels 1 to 22"),
                             (("--compression-format", "uncompressed", "--compression-level", "1"), "does not go with")):
            refused = self.engine.cli("push", *flags, f"{self.registry.address}/level:1")
            self.assertEqual(refused.returncode, 1)
            self.assertIn(words, refused.stderr)

    def test_a_manifest_of_dockers_stays_one_as_long_as_it_has_the_words(self):
        if not shutil.which("skopeo"):
            self.skipTest("needs skopeo: tools/dependencies peers")
        self.push("docker-form:1", "--compression-format", "uncompressed")
        theirs = f"{self.registry.address}/docker-form:v2s2"
        subprocess.run([*self.namespace.command, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format", "v2s2",
                        f"docker://{self.registry.address}/docker-form:1", f"docker://{theirs}"], check=True, capture_output=True, timeout=120)
        other = self.new_engine()
        other.ok("pull", theirs)
        for form, manifest_type, layer_type in (("uncompressed", "docker.distribution.manifest.v2+json", "docker.image.rootfs.diff.tar"),
                                                ("gzip", "docker.distribution.manifest.v2+json", "docker.image.rootfs.diff.tar.gzip"),
                                                ("zstd", "oci.image.manifest.v1+json", "oci.image.layer.v1.tar+zstd")):
            digest, _ = self.push(f"docker-form-{form}:1", "--compression-format", form, engine=other, image=theirs)
            manifest = self.manifest(digest)
            self.assertTrue(manifest["mediaType"].endswith(manifest_type), (form, manifest["mediaType"]))
            self.assertEqual([layer["mediaType"].removeprefix("application/vnd.") for layer in manifest["layers"]], [layer_type] * 2)
            third = self.new_engine()
            third.ok("pull", f"{self.registry.address}/docker-form-{form}:1")
            self.assertEqual(self.pulled(f"{self.registry.address}/docker-form-{form}:1", third)["Id"], self.pulled(theirs, other)["Id"])

    def test_skopeo_takes_it_apart(self):
        if not shutil.which("skopeo"):
            self.skipTest("needs skopeo: tools/dependencies peers")
        digest, _ = self.push("skopeo:1")
        target = os.path.join(self.engine.folder, "skopeo.tar")
        # An archive of docker's has layers without compression.
        subprocess.run([*self.namespace.command, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", f"docker://{self.registry.address}/skopeo@{digest}",
                        f"docker-archive:{target}:read:1"], check=True, capture_output=True, timeout=120)
        with tarfile.open(target) as tar:
            listed = json.load(tar.extractfile("manifest.json"))[0]
            layers = ["sha256:" + hashlib.sha256(tar.extractfile(layer).read()).hexdigest() for layer in listed["Layers"]]
        self.assertEqual("sha256:" + listed["Config"].removesuffix(".json"), self.pulled("text:1")["Id"])
        self.assertEqual(layers, self.pulled("text:1")["RootFS"]["Layers"])

    def test_podman_pulls_it(self):
        if not shutil.which("podman") or os.geteuid() != 0:
            self.skipTest("needs root and podman: tools/dependencies peers")
        folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "podman-")
        self.addCleanup(shutil.rmtree, folder, True)
        for form in ("gzip", "zstd", "zstd:chunked"):
            digest, _ = self.push("podman:" + form.replace(":", "-"), "--compression-format", form)
            done = subprocess.run([*self.namespace.command, "podman", "--root", folder + "/root", "--runroot", folder + "/run", "--storage-driver", "vfs", "pull", "-q", "--tls-verify=false",
                                   f"{self.registry.address}/podman@{digest}"], capture_output=True, text=True, timeout=120, check=False)
            self.assertEqual((done.returncode, "sha256:" + done.stdout.strip()), (0, self.pulled("text:1")["Id"]), done.stderr)

    def test_a_push_that_is_given_up_leaves_nothing(self):
        between = registries.BetweenServer(self.namespace)
        self.addCleanup(between.close)
        reached, released = threading.Event(), threading.Event()

        def hold(*_):
            reached.set()
            released.wait(30)
            return False

        between.on("/blobs/uploads/", hold, "PATCH")
        self.addCleanup(released.set)
        name = f"{between.address}/given-up:1"
        self.engine.ok("tag", "text:1", name)
        client = subprocess.Popen(self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", self.engine.host, "push", name]), stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, env=self.engine.environment())
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        self.assertTrue(reached.wait(30))
        self.assertNotEqual(os.listdir(os.path.join(self.engine.root, "ingest")), [], "what was compressed waits there")
        client.kill()
        wait_until(lambda: os.listdir(os.path.join(self.engine.root, "ingest")) == [], "the push has ended")
        released.set()
        self.no_leftovers()


class Faults(RegistryTest):
    """A registry whose network, or honesty, leaves something to be desired."""

    def setUp(self):
        self.between = registries.BetweenServer(self.namespace)
        self.addCleanup(self.between.close)

    def push_big(self, name, seed):
        self.engine.ok("load", stdin=caisson.docker_archive([big_layer(seed)], {"Cmd": ["x"]}, tags=[f"{self.registry.address}/{name}"]), text=False)
        self.engine.ok("push", f"{self.registry.address}/{name}")
        manifest = self.manifest(name)
        return manifest["layers"][0]["digest"]

    def manifest(self, name):
        repository, _, tag = name.rpartition(":")
        path = f"{self.registry.folder}/data/docker/registry/v2"
        with open(f"{path}/repositories/{repository}/_manifests/tags/{tag}/current/link", encoding="utf-8") as file:
            digest = file.read()
        with open(f"{path}/blobs/sha256/{digest[7:9]}/{digest[7:]}/data", encoding="utf-8") as file:
            return json.load(file)

    def cut_after(self, count, times):
        """Blobs break off after `count` bytes, so often."""
        left = [times]

        def act(handler, body):
            if left[0] <= 0:
                return False
            left[0] -= 1
            status, headers, data = self.between.fetch(handler, body)
            handler.send_response(status)
            for name in ("Content-Length", "Content-Range", "Content-Type"):
                if name in headers:
                    handler.send_header(name, headers[name])
            handler.end_headers()
            handler.wfile.write(data[:count])
            handler.wfile.flush()
            handler.close_connection = True
            handler.connection.shutdown(2)
            return True

        return act

    def test_a_download_that_is_cut_goes_on_where_it_stopped(self):
        digest = self.push_big("cut:1", b"cut")
        other = self.new_engine()
        self.between.on(f"/blobs/{digest}", self.cut_after(5 << 20, 2), "GET")
        other.ok("pull", f"{self.between.address}/cut:1")
        ranges = [headers.get("Range") for _, path, headers in self.between.seen if digest in path]
        self.assertEqual(ranges, [None, f"bytes={5 << 20}-", f"bytes={10 << 20}-"])
        self.no_leftovers(other)

    def test_a_killed_daemon_or_worker_leaves_nothing_half_done_and_the_next_pull_goes_on(self):
        digest = self.push_big("kill:1", b"kill")
        for victim in ("daemon", "caisson-worker", "caisson-fetch"):
            with self.subTest(victim=victim):
                other = self.new_engine()
                gate = threading.Event()
                reached = threading.Event()

                def hold(handler, body, gate=gate, reached=reached):
                    status, headers, data = self.between.fetch(handler, body)
                    handler.send_response(status)
                    for name in ("Content-Length", "Content-Range"):
                        if name in headers:
                            handler.send_header(name, headers[name])
                    handler.end_headers()
                    handler.wfile.write(data[:4 << 20])
                    handler.wfile.flush()
                    reached.set()
                    gate.wait(30)
                    handler.wfile.write(data[4 << 20:])
                    return True

                self.between.faults.clear()
                self.between.on(f"/blobs/{digest}", hold, "GET")
                self.between.seen.clear()
                pulling = threading.Thread(target=lambda: other.cli("pull", f"{self.between.address}/kill:1"))
                pulling.start()
                self.assertTrue(reached.wait(30))
                partial = os.path.join(other.root, "partial", digest.replace(":", "-"))
                wait_until(lambda: os.path.exists(partial) and os.stat(partial).st_size == 4 << 20, "the first part has arrived")
                if victim == "daemon":
                    other.kill9()
                    # What it had at work ends with it; else the one that fetches could go on as soon as the gate opens.
                    wait_until(lambda: not (other.processes("caisson-fetch") or other.processes("caisson-worker")), "the daemon's processes have ended")
                else:
                    for pid in wait_until(lambda: other.processes(victim), f"{victim} runs"):
                        os.kill(pid, 9)
                if victim != "daemon":
                    pulling.join(30)
                gate.set()
                pulling.join(30)
                self.between.faults.clear()
                if victim == "daemon":
                    other.start()
                self.assertEqual(other.ok("images", "-q"), "")
                self.no_leftovers(other)
                self.between.seen.clear()
                other.ok("pull", f"{self.between.address}/kill:1")
                ranges = [headers.get("Range") for _, path, headers in self.between.seen if digest in path]
                self.assertEqual(len(ranges), 1)
                self.assertRegex(ranges[0] or "", r"^bytes=\d+-$")
                self.no_leftovers(other)

    def test_a_client_that_goes_away_stops_the_pull(self):
        digest = self.push_big("away:1", b"away")
        other = self.new_engine()
        reached = threading.Event()
        released = threading.Event()

        def hold(handler, _):
            handler.send_response(200)
            handler.send_header("Content-Length", str(BIG_BYTES))
            handler.end_headers()
            handler.wfile.write(b"x")
            handler.wfile.flush()
            reached.set()
            released.wait(30)
            return True

        self.between.on(f"/blobs/{digest}", hold, "GET")
        client = subprocess.Popen(other.as_user([os.path.join(caisson.BIN, "caisson"), "-H", other.host, "pull", f"{self.between.address}/away:1"]), stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, env=other.environment())
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        self.addCleanup(released.set)
        self.assertTrue(reached.wait(30))
        client.kill()
        wait_until(lambda: not other.processes("caisson-fetch") and not other.processes("caisson-worker"), "the pull has ended")
        released.set()

    def test_the_process_that_fetches_has_no_right_but_the_network(self):
        digest = self.push_big("rights:1", b"rights")
        other = self.new_engine()
        reached = threading.Event()
        released = threading.Event()

        def hold(*_):
            reached.set()
            released.wait(30)
            return False

        self.between.on(f"/blobs/{digest}", hold, "GET")
        self.addCleanup(released.set)
        pulling = threading.Thread(target=other.ok, args=("pull", f"{self.between.address}/rights:1"))
        pulling.start()
        self.addCleanup(pulling.join)
        self.assertTrue(reached.wait(30))
        (pid,) = other.processes("caisson-fetch")
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        self.assertNotIn("0", status["Uid"].split() + status["Gid"].split())
        self.assertEqual(status["Groups"].strip(), "")
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0, name)
        self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))

        def namespace(of, kind):
            return os.readlink(f"/proc/{of}/ns/{kind}")

        self.assertEqual(namespace(pid, "net"), namespace(other.process.pid, "net"))  # without root the supervisor's, which is the host's
        for kind in ("pid", "mnt", "ipc", "uts", "cgroup", *(("user",) if caisson.ROOTLESS else ())):
            self.assertNotEqual(namespace(pid, kind), namespace(other.own_pid, kind), kind)
        # Both begin at once; which one is seen first is chance.
        wait_until(lambda: other.processes("caisson-worker"), "the worker that unpacks runs")
        worker = other.processes("caisson-worker")[0]
        self.assertNotEqual(namespace(worker, "net"), namespace(other.own_pid, "net"))
        self.assertNotIn(status["Uid"].split()[0], [str(os.stat(other.root).st_uid)])
        descriptors = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        files = [path for path in descriptors if path.startswith("/") and path != "/dev/null"]
        self.assertEqual([path for path in files if "/partial/" not in path], [], "it holds what it downloads, and nothing else of the host")
        released.set()

    def test_what_is_not_what_was_promised_is_refused(self):
        digest = self.push_big("wrong:1", b"wrong")
        manifest = self.manifest("wrong:1")

        def serve(data):
            def act(handler, _):
                handler.answer(200, data, {"Content-Type": "application/octet-stream"})
                return True
            return act

        document = json.dumps(manifest).encode()
        too_long = big_layer(b"wrong") + b"\0"
        other_content = big_layer(b"other")
        config = manifest["config"]["digest"]
        cases = {
            "another blob": (f"/blobs/{digest}", serve(other_content[:manifest["layers"][0]["size"]]), "something else|ends early|cut off"),
            "a longer blob": (f"/blobs/{digest}", serve(too_long), "more than|something else"),
            "another config": (f"/blobs/{config}", serve(b"{}" + b" " * (manifest["config"]["size"] - 2)), "something else"),
            "another manifest": ("/manifests/1", lambda handler, _: handler.answer(200, document + b" ", {
                "Content-Type": manifest["mediaType"], "Docker-Content-Digest": "sha256:" + hashlib.sha256(document).hexdigest()}) or True, "announced the digest"),
            "an index that is called a manifest": ("/manifests/1", lambda handler, _: handler.answer(200, json.dumps(
                {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}).encode(), {
                    "Content-Type": "application/vnd.oci.image.manifest.v1+json"}) or True, "contradicts"),
            "both at once": ("/manifests/1", lambda handler, _: handler.answer(200, json.dumps({**manifest, "manifests": []}).encode(), {
                "Content-Type": manifest["mediaType"]}) or True, "both"),
            "a huge manifest": ("/manifests/1", lambda handler, _: handler.answer(200, b" " * (5 << 20), {"Content-Type": manifest["mediaType"]}) or True, "longer than"),
            "no JSON": ("/manifests/1", lambda handler, _: handler.answer(200, b"<html>", {"Content-Type": "text/html"}) or True, "image manifest"),
            "schema 1": ("/manifests/1", lambda handler, _: handler.answer(200, b'{"schemaVersion":1}', {
                "Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}) or True, "schema 1"),
            "an artifact": ("/manifests/1", lambda handler, _: handler.answer(200, json.dumps({**manifest, "config": {
                **manifest["config"], "mediaType": "application/vnd.cncf.helm.config.v1+json"}}).encode(), {"Content-Type": manifest["mediaType"]}) or True, "no image"),
        }
        other = self.new_engine()
        for name, (pattern, act, words) in cases.items():
            with self.subTest(name):
                self.between.faults.clear()
                self.between.on(pattern, act, "GET")
                refused = other.cli("pull", f"{self.between.address}/wrong:1")
                self.assertEqual(refused.returncode, 1, refused.stderr)
                self.assertRegex(refused.stderr, words)
                self.assertEqual(other.ok("images", "-q"), "")
                self.no_leftovers(other)
        self.between.faults.clear()
        other.ok("pull", f"{self.between.address}/wrong:1")

    def test_an_index_that_contains_itself_ends(self):
        def act(handler, _):
            body = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
                {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": "sha256:" + "0" * 64, "size": 3}]}).encode()
            handler.answer(200, body, {"Content-Type": "application/vnd.oci.image.index.v1+json"})
            return True

        self.between.on("/manifests/", act, "GET")
        refused = self.engine.cli("pull", f"{self.between.address}/self:1")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("something else", refused.stderr)

    def test_the_platform_is_chosen_from_an_index(self):
        self.push_busybox("platform/amd64:1")
        path = f"{self.registry.folder}/data/docker/registry/v2"
        with open(f"{path}/repositories/platform/amd64/_manifests/tags/1/current/link", encoding="utf-8") as file:
            digest = file.read()
        size = os.stat(f"{path}/blobs/sha256/{digest[7:9]}/{digest[7:]}/data").st_size
        media_type = self.manifest("platform/amd64:1")["mediaType"]
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            {"mediaType": media_type, "digest": "sha256:" + "1" * 64, "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}},
            {"mediaType": media_type, "digest": "sha256:" + "2" * 64, "size": 1, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
            {"mediaType": media_type, "digest": digest, "size": size, "platform": {"os": "linux", "architecture": "amd64"}}]}
        body = json.dumps(index).encode()
        self.between.on("/manifests/multi", lambda handler, _: handler.answer(200, body, {"Content-Type": index["mediaType"]}) or True, "GET")
        other = self.new_engine()
        other.ok("pull", f"{self.between.address}/platform/amd64:multi")
        image = self.pulled(f"{self.between.address}/platform/amd64:multi", other)
        self.assertEqual(image["RepoDigests"], [f"{self.between.address}/platform/amd64@sha256:{hashlib.sha256(body).hexdigest()}"])
        refused = other.cli("pull", "--platform", "linux/s390x", f"{self.between.address}/platform/amd64:multi")
        self.assertIn("no matching manifest for linux/s390x in the manifest list entries", refused.stderr)

    def test_too_many_requests_are_waited_for(self):
        self.push_busybox("busy:1")
        left = [2]

        def act(handler, _):
            if left[0] == 0:
                return False
            left[0] -= 1
            handler.answer(429 if left[0] else 503, b"", {"Retry-After": "1"})
            return True

        self.between.on("/manifests/1", act, "GET")
        other = self.new_engine()
        begin = time.monotonic()
        other.ok("pull", f"{self.between.address}/busy:1")
        self.assertGreaterEqual(time.monotonic() - begin, 2.0)

    def test_credentials_do_not_follow_a_redirect(self):
        digest = self.push_big("redirect:1", b"redirect")
        elsewhere = registries.BetweenServer(self.namespace)
        self.addCleanup(elsewhere.close)
        tokens = registries.TokenServer(self.namespace)
        self.addCleanup(tokens.close)

        def act(handler, _):
            handler.answer(307, b"", {"Location": f"http://{elsewhere.address}{handler.path}"})
            return True

        tokens.on(f"/blobs/{digest}", act, "GET")
        other = self.new_engine()
        other.ok("login", "-u", "user", "-p", "secret", tokens.address)
        other.ok("pull", f"{tokens.address}/redirect:1")
        self.assertTrue(any("Authorization" in headers for _, path, headers in tokens.seen if "/blobs/" in path))
        self.assertEqual([headers for _, path, headers in elsewhere.seen if "Authorization" in headers], [])
        self.assertTrue(elsewhere.paths("GET"))

    def cut_first_chunk(self, keep, taken=4 << 20):
        """The first large PATCH breaks off after `taken` bytes, which `keep(handler, bytes)` gets; the client hears nothing."""
        left = [1]

        def act(handler, body):
            if left[0] == 0 or len(body) < taken:
                return False
            left[0] -= 1
            keep(handler, body[:taken])
            handler.close_connection = True
            handler.connection.shutdown(2)
            return True

        self.between.on("/blobs/uploads/", act, "PATCH")

    def chunks(self):
        return [headers.get("Content-Range") for method, _, headers in self.between.seen if method == "PATCH" and int(headers.get("Content-Length", 0)) > 1 << 20]

    def test_an_upload_that_is_cut_goes_on_where_the_registry_can_tell_how_far_it_is(self):
        # docker-registry cannot: its upload's address holds the offset that the lost answer would have moved. So a registry that follows the
        # specification stands in for its uploads, and hands them on whole.
        name = f"{self.between.address}/upload:1"
        self.engine.ok("load", stdin=caisson.docker_archive([big_layer(b"upload")], {"Cmd": ["x"]}, tags=[name]), text=False)
        stored = bytearray()
        place = "/v2/upload/blobs/uploads/1"

        def uploads(handler, body):
            progress = {"Location": place, "Range": f"0-{max(len(stored), 1) - 1}"}
            if handler.command == "POST":
                stored.clear()
                handler.answer(202, b"", {"Location": place})
            elif handler.command == "GET":
                handler.answer(204, b"", progress)
            elif handler.command == "PATCH":
                if int(handler.headers["Content-Range"].split("-")[0]) != len(stored):
                    handler.answer(416, b"", progress)
                    return True
                stored.extend(body)
                handler.answer(202, b"", {"Location": place, "Range": f"0-{len(stored) - 1}"})
            else:
                digest = handler.path.split("digest=")[1]
                connection = http.client.HTTPConnection(self.namespace.address, self.registry.port)
                connection.sock = self.namespace.connect(self.registry.port)
                connection.request("POST", "/v2/upload/blobs/uploads/")
                begun = connection.getresponse()
                begun.read()
                connection.request("PUT", begun.headers["Location"] + "&digest=" + digest, body=bytes(stored))
                handler.answer(connection.getresponse().status)
                connection.close()
            return True

        self.between.on("/blobs/uploads/", uploads)
        self.cut_first_chunk(lambda _, part: stored.extend(part))
        self.engine.ok("push", name)
        self.assertEqual([chunk.split("-")[0] for chunk in self.chunks()], ["0", str(4 << 20)])
        self.new_engine().ok("pull", f"{self.registry.address}/upload:1")

    def test_an_upload_that_is_cut_begins_anew_where_it_cannot_tell(self):
        name = f"{self.between.address}/anew:1"
        self.engine.ok("load", stdin=caisson.docker_archive([big_layer(b"anew")], {"Cmd": ["x"]}, tags=[name]), text=False)
        self.cut_first_chunk(lambda handler, part: self.between.fetch(handler, part, {"Content-Range": f"0-{len(part) - 1}", "Content-Length": str(len(part))}))
        self.engine.ok("push", name)
        self.assertEqual([chunk.split("-")[0] for chunk in self.chunks()], ["0", "0"])
        self.new_engine().ok("pull", f"{self.registry.address}/anew:1")

    def test_two_pulls_of_one_image_download_it_once(self):
        digest = self.push_big("twice:1", b"twice")
        other = self.new_engine()
        threads = [threading.Thread(target=other.ok, args=("pull", f"{self.between.address}/twice:1")) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len([path for path in self.between.paths("GET") if digest in path]), 1)
        self.no_leftovers(other)

    def test_a_mirror_is_asked_first_and_a_dead_one_costs_little(self):
        self.push_busybox("library/mirrored:1")
        other = self.new_engine("--registry-mirror", "http://127.0.0.1:1", "--registry-mirror", f"http://{self.between.address}")
        begin = time.monotonic()
        other.ok("pull", "mirrored:1")
        self.assertLess(time.monotonic() - begin, 15)
        self.assertEqual(self.pulled("mirrored:1", other)["RepoTags"], ["mirrored:1"])
        self.assertIn("/v2/library/mirrored/manifests/1", self.between.paths("GET"))

    def test_hosts_toml_says_where_a_registry_is(self):
        self.push_busybox("moved:1")
        folder = os.path.join(self.engine.folder, "certs.d", "registry.example")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "hosts.toml"), "w", encoding="utf-8") as file:
            file.write(f'server = "http://127.0.0.1:1"\n[host."http://{self.between.address}"]\ncapabilities = ["pull", "resolve"]\n[host."http://{self.between.address}".header]\nx-test = "yes"\n')
        other = self.new_engine("--registry-hosts", os.path.dirname(folder))
        other.ok("pull", "registry.example/moved:1")
        self.assertEqual(self.between.seen[0][2].get("x-test"), "yes")

    def test_a_search_asks_the_index(self):
        answer = {"results": [{"name": "thing", "description": "a thing", "star_count": 3, "is_official": True, "is_automated": False}]}
        self.between.on("/v1/search", lambda handler, _: handler.answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}) or True)
        out = self.engine.ok("search", f"{self.between.address}/thing")
        self.assertIn("thing", out)
        self.assertIn("[OK]", out)
        self.assertEqual(self.between.paths("GET")[-1], "/v1/search?q=thing&n=25")


class Tls(unittest.TestCase):
    """A registry with a certificate that nobody in the system's list has signed."""

    def test_its_authority_is_believed_once_it_is_named(self):
        reason = caisson.why_not() or registries.why_not() or registries.why_not_fetch() or (None if shutil.which("openssl") else "needs openssl")
        if reason:
            self.skipTest(reason)
        namespace = registries.Namespace()
        self.addCleanup(namespace.close)
        engine = caisson.Engine()
        self.addCleanup(engine.close)
        key, certificate = os.path.join(engine.folder, "key.pem"), os.path.join(engine.folder, "certificate.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=registry",
                        "-addext", f"subjectAltName=DNS:registry.test,IP:{namespace.address}", "-keyout", key, "-out", certificate], check=True, capture_output=True)
        registry = registries.DockerRegistry(namespace, tls=(certificate, key))
        self.addCleanup(registry.close)
        # 127.0.0.1 would be trusted as it is, and the certificate is for the namespace's address; another address of this host is not. 192.0.2.0/24 is for documentation.
        subprocess.run([*namespace.command, "ip", "address", "add", "192.0.2.1/32", "dev", "lo"], check=True)
        address = f"192.0.2.1:{registry.port}"
        certs = os.path.join(engine.folder, "certs.d")
        engine.prefix_command = namespace.command
        engine.options = ["--registry-hosts", certs, "--registry-attempts", "1"]
        registry.stop()
        with open(registry.config, encoding="utf-8") as file:
            config = file.read()
        with open(registry.config, "w", encoding="utf-8") as file:
            file.write(config.replace(registry.address, f"0.0.0.0:{registry.port}"))
        registry.start()
        engine.start()
        engine.import_busybox(f"{address}/tls:1")
        refused = engine.cli("push", f"{address}/tls:1")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("tls: failed to verify certificate", refused.stderr)
        folder = os.path.join(certs, address)
        os.makedirs(folder)
        shutil.copy(certificate, os.path.join(folder, "ca.crt"))
        wrong_name = engine.cli("push", f"{address}/tls:1")
        self.assertEqual(wrong_name.returncode, 1, "its certificate is for another address")
        # hosts.toml leads there by the address that the certificate has.
        with open(os.path.join(folder, "hosts.toml"), "w", encoding="utf-8") as file:
            file.write(f'server = "https://{namespace.address}:{registry.port}"\nca = "ca.crt"\n')
        engine.ok("push", f"{address}/tls:1")
        engine.ok("rmi", f"{address}/tls:1")
        engine.ok("pull", f"{address}/tls:1")


class BasicAuth(RegistryTest):
    registry_options = {"htpasswd": True}

    def test_basic_credentials_are_asked_for_kept_and_forgotten(self):
        name = f"{self.registry.address}/basic:1"
        self.engine.ok("tag", "busybox", name)
        refused = self.engine.cli("push", name)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("no basic auth credentials", refused.stderr)
        wrong = self.engine.cli("login", "-u", "user", "--password-stdin", self.registry.address, stdin="wrong\n")
        self.assertEqual(wrong.returncode, 1)
        self.assertIn("unauthorized", wrong.stderr)
        self.assertEqual(self.engine.ok("login", "-u", "user", "--password-stdin", self.registry.address, stdin="secret\n"), "Login Succeeded")
        path = os.path.join(self.engine.folder, "docker", "config.json")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["auths"][self.registry.address]["auth"], base64.b64encode(b"user:secret").decode())
        self.engine.ok("push", name)
        self.forget(name)
        self.engine.ok("pull", name)
        self.assertNotIn("secret", self.engine.log_text())
        self.engine.ok("logout", self.registry.address)
        self.assertEqual(self.engine.cli("pull", name).returncode, 1)

    def test_dockers_login_works_too(self):
        if not shutil.which("docker"):
            self.skipTest("needs docker: tools/dependencies peers")
        out = self.engine.docker("login", "-u", "user", "--password-stdin", self.registry.address, stdin="secret\n", check=0)
        self.assertIn("Login Succeeded", out.stdout)
        name = f"{self.registry.address}/docker-login:1"
        self.engine.ok("tag", "busybox", name)
        self.engine.docker("push", name, check=0)
        self.engine.docker("logout", self.registry.address, check=0)
        self.assertNotEqual(self.engine.docker("pull", name).returncode, 0)

    def test_a_credential_helper_is_used(self):
        folder = os.path.join(self.engine.folder, "helper")
        os.makedirs(folder, exist_ok=True)
        os.makedirs(os.path.join(self.engine.folder, "docker"), exist_ok=True)
        helper = os.path.join(folder, "docker-credential-test")
        with open(helper, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\n[ "$1" = get ] || exit 1\nread -r server\necho "$server" >>{folder}/asked\necho \'{{"Username":"user","Secret":"secret"}}\'\n')
        os.chmod(helper, 0o755)
        config = os.path.join(self.engine.folder, "docker", "config.json")
        with open(config, "w", encoding="utf-8") as file:
            json.dump({"credHelpers": {self.registry.address: "test"}}, file)
        self.addCleanup(os.unlink, config)
        name = f"{self.registry.address}/helper:1"
        self.engine.ok("tag", "busybox", name)
        self.engine.give(folder, os.path.join(self.engine.folder, "docker"), config)
        command = self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", self.engine.host, "push", name])
        environment = {**self.engine.environment(), "PATH": folder + ":" + os.environ["PATH"]}
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        with open(os.path.join(folder, "asked"), encoding="utf-8") as file:
            self.assertEqual(file.read().strip(), self.registry.address)


class TokenAuth(RegistryTest):
    def setUp(self):
        self.tokens = registries.TokenServer(self.namespace)
        self.addCleanup(self.tokens.close)

    def test_tokens_are_fetched_for_the_scope_that_is_needed(self):
        name = f"{self.tokens.address}/private/image:1"
        self.engine.ok("tag", "busybox", name)
        denied = self.engine.cli("push", name)
        self.assertEqual(denied.returncode, 1)
        self.assertIn("denied: requested access to the resource is denied", denied.stderr)
        wrong = self.engine.cli("login", "-u", "user", "-p", "wrong", self.tokens.address)
        self.assertIn("incorrect username or password", wrong.stderr)
        self.engine.ok("login", "-u", "user", "-p", "secret", self.tokens.address)
        self.engine.ok("push", name)
        self.assertIn("repository:private/image:pull,push", self.tokens.granted[-1][0])
        self.forget(name)
        self.engine.ok("pull", name)
        # The login gave a refresh token: the password is not kept, and not sent again.
        self.assertEqual(self.tokens.granted[-1], (["repository:private/image:pull"], "refresh"))
        with open(os.path.join(self.engine.folder, "docker", "config.json"), encoding="utf-8") as file:
            kept = json.load(file)["auths"][self.tokens.address]
        self.assertEqual(kept["identitytoken"], "refresh-1")
        self.assertEqual(base64.b64decode(kept["auth"]), b"user:")
        self.engine.ok("logout", self.tokens.address)

    def test_a_public_image_needs_no_login_and_a_private_one_says_so(self):
        self.push_busybox("public/image:1")
        other = self.new_engine()
        other.ok("pull", f"{self.tokens.address}/public/image:1")
        self.assertEqual(self.tokens.granted[-1][1], "anonymous")
        self.push_busybox("private/other:1")
        refused = other.cli("pull", f"{self.tokens.address}/private/other:1")
        self.assertIn(f"pull access denied for {self.tokens.address}/private/other, repository does not exist or may require 'docker login'", refused.stderr)

    def test_a_token_that_has_expired_is_renewed(self):
        self.push_busybox("public/expires:1")
        self.tokens.on("/blobs/", lambda *_: self.tokens.tokens.clear() or False)  # from the first blob on the old one is void
        other = self.new_engine()
        other.ok("pull", f"{self.tokens.address}/public/expires:1")
        self.assertGreaterEqual(len(self.tokens.granted), 2)


if __name__ == "__main__":
    caisson.main()

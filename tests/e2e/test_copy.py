#!/usr/bin/env python3
"""image copy and image sync between two of our registries, layouts, archives and an engine; skopeo judges; and what a kill or a lying registry does."""

import contextlib
import glob
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading

import caisson
import registries
from caisson import wait_until

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
BIG_BYTES = 24 << 20


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def noise(seed, size):
    return b"".join(hashlib.sha512(seed + number.to_bytes(4, "big")).digest() for number in range(size // 64))


def is_open(path):
    """Whether some process has the file open."""
    for fd in glob.glob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(fd) == path:
                return True
    return False


class CopyTest(registries.CaissonRegistryTest):
    """A namespace with two of our registries, and a home folder for the command line."""

    @classmethod
    def open(cls):
        cls.near = cls.kept(registries.CaissonRegistry(cls.namespace, port=5001))
        cls.far = cls.kept(registries.CaissonRegistry(cls.namespace, port=5002))
        cls.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "copy-")
        cls.cleanups.callback(shutil.rmtree, cls.folder, ignore_errors=True)

    def environment(self):
        return {"PATH": os.environ["PATH"], "HOME": self.folder, "DOCKER_CONFIG": os.path.join(self.folder, "docker")}

    def command(self, *words):
        return [*self.namespace.command, os.path.join(caisson.BIN, "caisson"), *words]

    def run_cli(self, *words, code=0, **options):
        done = subprocess.run(self.command("image", *words), capture_output=True, text=True, timeout=120, env=self.environment(), check=False, **options)
        self.assertEqual(done.returncode, code, f"{words}: {done.stderr}{done.stdout}")
        return done

    def copy(self, *words, **options):
        return self.run_cli("copy", *words, **options).stdout.strip()

    # -- images of their own making
    def push_blob(self, repository, data, registry=None):
        digest = digest_of(data)
        status, _, body = (registry or self.near).request("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)
        self.assertEqual(status, 201, body)
        return digest

    def push_manifest(self, repository, reference, document, kind=MANIFEST, registry=None):
        text = json.dumps(document, indent=3).encode()  # a form of its own: copies have to keep it
        status, headers, body = (registry or self.near).request("PUT", f"/v2/{repository}/manifests/{reference}", text, {"Content-Type": kind})
        self.assertEqual(status, 201, body)
        self.assertEqual(headers["docker-content-digest"], digest_of(text))
        return {"mediaType": kind, "digest": digest_of(text), "size": len(text)}

    def push_image(self, repository, tag, layers, architecture="amd64", registry=None):
        """An image of uncompressed layers; its descriptor."""
        config = json.dumps({"architecture": architecture, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]}}).encode()

        def described(data, kind):
            return {"mediaType": kind, "digest": self.push_blob(repository, data, registry), "size": len(data)}
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described(config, "application/vnd.oci.image.config.v1+json"),
                    "layers": [described(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers]}
        digest = digest_of(json.dumps(document, indent=3).encode())
        return self.push_manifest(repository, tag or digest, document, registry=registry)

    def push_index(self, repository, tag, images):
        entries = [{**descriptor, "platform": {"os": "linux", "architecture": architecture}} for architecture, descriptor in images.items()]
        return self.push_manifest(repository, tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX)

    def manifest(self, registry, repository, reference):
        status, headers, body = registry.request("GET", f"/v2/{repository}/manifests/{reference}", headers={"Accept": f"{MANIFEST}, {INDEX}"})
        return (headers["docker-content-digest"], body) if status == 200 else (None, None)

    def uploads(self, registry, since):
        return [line for line in registry.log_text()[since:].splitlines() if "PATCH" in line]


class Copies(CopyTest):
    def test_an_index_travels_whole_with_its_digest(self):
        images = {name: self.push_image("multi", None, [name.encode() * 2000], name) for name in ("amd64", "arm64", "s390x")}
        index = self.push_index("multi", "1", images)
        self.assertEqual(self.copy("--all", f"{self.near.address}/multi:1", f"{self.far.address}/copies/multi:one"), index["digest"])
        self.assertEqual(self.manifest(self.far, "copies/multi", "one"), self.manifest(self.near, "multi", "1"))
        for descriptor in images.values():
            self.assertEqual(self.manifest(self.far, "copies/multi", descriptor["digest"]), self.manifest(self.near, "multi", descriptor["digest"]))
        # One of them alone is itself, not an index.
        self.assertEqual(self.copy("--platform", "linux/arm64", f"{self.near.address}/multi:1", f"{self.far.address}/copies/arm:1"), images["arm64"]["digest"])
        self.assertIsNone(self.manifest(self.far, "copies/arm", images["amd64"]["digest"])[0])
        self.assertIn("no matching manifest for linux/riscv64", self.run_cli("copy", "--platform", "linux/riscv64", f"{self.near.address}/multi:1", f"{self.far.address}/x:1", code=1).stderr)
        self.assertFalse(os.path.exists(os.path.join(self.folder, ".cache/caisson/transit")))  # it went with its last file

    def test_only_missing_blobs_travel_and_the_same_registry_mounts(self):
        base, first, second = (noise(name, 256 << 10) for name in (b"base", b"first", b"second"))
        self.push_image("layers", "1", [base, first])
        self.push_image("layers", "2", [base, second])
        self.copy(f"{self.near.address}/layers:1", f"{self.far.address}/layers:1")
        done = self.run_cli("copy", f"{self.near.address}/layers:2", f"{self.far.address}/layers:2")
        self.assertIn("2 blobs", done.stderr)
        self.assertIn("1 there already", done.stderr)
        # Within one registry nothing travels at all: neither here nor there.
        since = len(self.far.log_text())
        done = self.run_cli("copy", f"{self.far.address}/layers:2", f"{self.far.address}/other/layers:2")
        self.assertIn("0 blobs (0B), 3 mounted", done.stderr)
        self.assertEqual(self.uploads(self.far, since), [])
        self.assertEqual(self.manifest(self.far, "other/layers", "2")[0], self.manifest(self.near, "layers", "2")[0])

    def test_an_air_gap_is_crossed_by_layouts_and_archives(self):
        descriptor = self.push_image("gap", "1", [noise(b"gap", 64 << 10)])
        digest = descriptor["digest"]
        layout, archive, docker = (os.path.join(self.folder, name) for name in ("gap", "gap.tar", "gap-docker.tar"))
        self.assertEqual(self.copy(f"{self.near.address}/gap:1", f"oci:{layout}:v1"), digest)
        self.assertEqual(self.copy(f"oci:{layout}:v1", f"oci-archive:{archive}:v1"), digest)
        self.assertEqual(self.copy(f"oci-archive:{archive}", f"{self.far.address}/gap:2"), digest)
        self.assertEqual(self.manifest(self.far, "gap", "2"), self.manifest(self.near, "gap", "1"))
        self.assertEqual(self.copy(f"{self.far.address}/gap@{digest}", f"docker-archive:{docker}:gap:3"), digest)
        with tarfile.open(docker) as tar:
            self.assertEqual(json.load(tar.extractfile("manifest.json"))[0]["RepoTags"], ["gap:3"])
        self.assertIn("is there already", self.run_cli("copy", f"oci:{layout}", f"docker-archive:{docker}", code=1).stderr)
        self.assertFalse(os.path.exists(os.path.join(layout, "partial")))
        if shutil.which("skopeo"):
            for place in (f"oci:{layout}:v1", f"oci-archive:{archive}:v1"):
                told = subprocess.run(["skopeo", "inspect", "--format", "{{.Digest}}", place], capture_output=True, text=True, check=True, timeout=60).stdout.strip()
                self.assertEqual(told, digest, place)
            back = os.path.join(self.folder, "gap-back")
            subprocess.run(["skopeo", "--insecure-policy", "copy", f"docker-archive:{docker}", f"oci:{back}:1"], capture_output=True, check=True, timeout=60)
            subprocess.run(["skopeo", "--insecure-policy", "copy", "--preserve-digests", f"oci:{layout}:v1", f"oci-archive:{archive}.theirs:v9"], capture_output=True, check=True, timeout=60)
            self.assertEqual(self.copy(f"oci-archive:{archive}.theirs:v9", f"{self.far.address}/gap:theirs"), digest)

    def test_skopeo_finds_the_same_image_in_both_registries(self):
        if not shutil.which("skopeo"):
            self.skipTest("needs skopeo: tools/dependencies peers")
        images = {name: self.push_image("judged", None, [name.encode() * 999], name) for name in ("amd64", "arm64")}
        self.push_index("judged", "1", images)
        self.copy("-a", f"{self.near.address}/judged:1", f"{self.far.address}/judged:1")
        raw = {subprocess.run([*self.namespace.command, "skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/judged:1"], capture_output=True, check=True,
                              timeout=60).stdout for registry in (self.near, self.far)}
        self.assertEqual(len(raw), 1)
        target = os.path.join(self.folder, "judged")
        subprocess.run([*self.namespace.command, "skopeo", "--insecure-policy", "copy", "--all", "--src-tls-verify=false", f"docker://{self.far.address}/judged:1", f"oci:{target}:1"],
                       capture_output=True, check=True, timeout=60)

    def test_signatures_go_along_when_asked(self):
        descriptor = self.push_image("signed", "1", [b"signed" * 1000])
        tag = descriptor["digest"].replace(":", "-") + ".sig"
        self.push_image("signed", tag, [b"signature"])
        self.copy(f"{self.near.address}/signed:1", f"{self.far.address}/unsigned:1")
        self.assertIsNone(self.manifest(self.far, "unsigned", tag)[0])
        self.copy("--signatures", f"{self.near.address}/signed:1", f"{self.far.address}/signed:1")
        self.assertEqual(self.manifest(self.far, "signed", tag), self.manifest(self.near, "signed", tag))

    def attach(self, repository, subject, note, registry=None):
        """A document attached to a manifest; its descriptor."""
        config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": self.push_blob(repository, b"{}", registry), "size": 2}
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x.note", "config": config, "subject": subject,
                    "layers": [{"mediaType": "text/plain", "digest": self.push_blob(repository, note, registry), "size": len(note)}]}
        return self.push_manifest(repository, digest_of(json.dumps(document, indent=3).encode()), document, registry=registry)

    def referrers(self, registry, repository, digest):
        return [entry["digest"] for entry in json.loads(registry.request("GET", f"/v2/{repository}/referrers/{digest}")[2])["manifests"]]

    def test_what_is_attached_goes_along_when_asked_byte_for_byte(self):
        amd64 = self.push_image("attached", None, [b"attached" * 1000])
        index = self.push_index("attached", "1", {"amd64": amd64})
        note = self.attach("attached", amd64, b"on the image")
        on_index = self.attach("attached", index, b"on the index")
        reply = self.attach("attached", note, b"on the note")
        source = f"{self.near.address}/attached:1"
        self.copy("--all", source, f"{self.far.address}/bare:1")
        self.assertEqual(self.referrers(self.far, "bare", amd64["digest"]), [])
        self.copy("--all", "--referrers", source, f"{self.far.address}/attached:1")
        for subject, attached in ((amd64, note), (index, on_index), (note, reply)):
            self.assertEqual(self.referrers(self.far, "attached", subject["digest"]), [attached["digest"]])
            self.assertEqual(self.manifest(self.far, "attached", attached["digest"]), self.manifest(self.near, "attached", attached["digest"]))
        # Again, with one more: it alone travels.
        later = self.attach("attached", reply, b"later")
        since = len(self.far.log_text())
        done = self.run_cli("copy", "--all", "--referrers", source, f"{self.far.address}/attached:1")
        self.assertIn(", 1 blob (5B)", done.stderr)
        self.assertEqual(len([line for line in self.far.log_text()[since:].splitlines() if "PUT" in line and "/manifests/" in line and later["digest"] in line]), 1)
        self.assertFalse([line for line in self.far.log_text()[since:].splitlines() if "PUT" in line and note["digest"] in line])
        # Over a layout to a registry that lists no referrers, and back.
        layout = f"oci:{self.folder}/attached"
        self.copy("--all", "--referrers", source, layout + ":1")
        self.copy("--all", "--referrers", layout, f"{self.far.address}/back:1")
        self.assertEqual(self.referrers(self.far, "back", reply["digest"]), [later["digest"]])
        self.run_cli("copy", "--referrers", source, "local:x:1", code=1)

    def test_a_registry_without_lists_of_referrers_gets_the_fallback_tag(self):
        if registries.why_not():
            self.skipTest(registries.why_not())
        old = registries.DockerRegistry(self.namespace, port=5003)
        self.addCleanup(old.close)
        image = self.push_image("fallback", "1", [b"fallback"])
        note = self.attach("fallback", image, b"note")
        reply = self.attach("fallback", note, b"reply")
        self.copy("--referrers", f"{self.near.address}/fallback:1", f"{old.address}/fallback:1")
        self.copy("--referrers", f"{old.address}/fallback:1", f"{self.far.address}/fallback:1")
        self.assertEqual(self.referrers(self.far, "fallback", image["digest"]), [note["digest"]])
        self.assertEqual(self.referrers(self.far, "fallback", note["digest"]), [reply["digest"]])

    def test_errors_name_the_registry_and_what_was_asked_for(self):
        done = self.run_cli("copy", f"{self.near.address}/nobody:1", f"{self.far.address}/x:1", code=1)
        self.assertIn(f"registry {self.near.address}: ", done.stderr)
        self.assertIn("nobody", done.stderr)
        self.push_image("lonely", "1", [b"lonely"])
        done = self.run_cli("copy", f"{self.near.address}/lonely:1", "127.0.0.1:1/x:1", code=1)
        self.assertIn("registry 127.0.0.1:1: x: ", done.stderr)
        self.assertIn("is no OCI layout", self.run_cli("copy", "oci:/nonexistent", f"{self.far.address}/x:1", code=1).stderr)

    def test_the_engines_images_go_out_and_come_in(self):
        engine = caisson.Engine()
        try:
            engine.start()
            engine.import_busybox("travel:1")

            def copy(*words):
                program = [os.path.join(caisson.BIN, "caisson"), "-H", engine.host, "image", "copy", *words]
                return subprocess.run([*self.namespace.command, *engine.as_user(program)], capture_output=True, text=True, timeout=120, env=engine.environment(), check=False)

            out = copy("local:travel:1", f"{self.far.address}/travel:1")
            self.assertEqual(out.returncode, 0, out.stderr)
            self.assertEqual(self.manifest(self.far, "travel", "1")[0], out.stdout.strip())
            back = copy(f"{self.far.address}/travel:1", "local:arrived:2")
            self.assertEqual(back.returncode, 0, back.stderr)
            self.assertEqual(back.stdout, out.stdout)
            self.assertEqual(engine.ok("image", "inspect", "--format", "{{.Id}}", "arrived:2"), engine.ok("image", "inspect", "--format", "{{.Id}}", "travel:1"))
        finally:
            engine.close()


class Sync(CopyTest):
    def test_a_list_says_what_travels_and_what_fails_stops_nobody(self):
        for tag in ("1.0", "1.1", "1.2-rc1", "2.0"):
            self.push_image("team/app", tag, [tag.encode() * 500])
        self.push_image("tool", "latest", [b"tool" * 500])
        path = os.path.join(self.folder, "list.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"images:\n  - from: {self.near.address}/team/app\n    tags: [\"1.*\"]\n    except: [\"*-rc*\"]\n    to: renamed/app\n"
                       f"  - {self.near.address}/missing:1\n  - {self.near.address}/tool:latest\n")
        rehearsal = self.run_cli("sync", "--dry-run", "--file", path, f"{self.far.address}/mirror", code=1)
        self.assertIn("to copy: 3, unchanged: 0, failed: 1", rehearsal.stdout)
        self.assertIsNone(self.manifest(self.far, "mirror/renamed/app", "1.0")[0])
        done = self.run_cli("sync", "--file", path, f"{self.far.address}/mirror", code=1)
        self.assertIn("copied: 3, unchanged: 0, failed: 1", done.stdout)
        self.assertRegex(done.stderr, r"failed +\S+/missing:1: registry 127.0.0.1:5001: ")
        for repository, tag, at in (("team/app", "1.0", "mirror/renamed/app"), ("team/app", "1.1", "mirror/renamed/app"), ("tool", "latest", "mirror/tool")):
            self.assertEqual(self.manifest(self.far, at, tag), self.manifest(self.near, repository, tag))
        self.assertIsNone(self.manifest(self.far, "mirror/renamed/app", "2.0")[0])
        self.assertIsNone(self.manifest(self.far, "mirror/renamed/app", "1.2-rc1")[0])
        again = self.run_cli("sync", f"{self.near.address}/team/app:1.[01]", f"{self.near.address}/tool", f"{self.far.address}/mirror")
        self.assertIn("copied: 2, unchanged: 1, failed: 0", again.stdout)  # team/app goes to another name this time
        with open(path, "w", encoding="utf-8") as file:
            file.write("".join(["images:\n"] + [f"  - {{from: {self.near.address}/team/app, tags: [\"2.0\"], to: {name}}}\n" for name in ("first/app", "second/app")]))
        twice = self.run_cli("sync", "-f", path, f"{self.far.address}/mirror")
        self.assertRegex(twice.stdout, r"copied +\S+/team/app:2.0 -> \S+/second/app:2.0 \S+ \(1 manifest, 0 blobs \(0B\), 2 mounted, 0 there already\)")

    def test_attachments_come_later_to_an_image_that_is_there(self):
        image = self.push_image("synced", "1", [b"synced"])
        run = lambda: self.run_cli("sync", "--referrers", f"{self.near.address}/synced", f"{self.far.address}/mirror").stdout
        run()
        note = Copies.attach(self, "synced", image, b"note")
        self.assertIn("unchanged", run())
        self.assertEqual(Copies.referrers(self, self.far, "mirror/synced", image["digest"]), [note["digest"]])

    def test_a_folder_of_layouts_carries_images_over(self):
        self.push_image("carried/one", "1", [b"one" * 500])
        self.push_image("carried/two", "2", [b"two" * 500])
        folder = os.path.join(self.folder, "carried")
        self.run_cli("sync", f"{self.near.address}/carried/one", f"{self.near.address}/carried/two:2", f"oci:{folder}")
        self.assertTrue(os.path.exists(os.path.join(folder, "carried/one/oci-layout")))
        done = self.run_cli("sync", f"oci:{folder}", f"{self.far.address}/in")
        self.assertIn("copied: 2, unchanged: 0, failed: 0", done.stdout)
        self.assertEqual(self.manifest(self.far, "in/carried/two", "2"), self.manifest(self.near, "carried/two", "2"))


class Faults(CopyTest):
    def setUp(self):
        self.between = registries.BetweenServer(self.namespace, self.near.port)
        self.addCleanup(self.between.close)

    def held_download(self, digest, sent_bytes):
        """The registry sends so much of a blob and then waits: (reached, released)."""
        reached, released = threading.Event(), threading.Event()

        def act(handler, body):
            status, headers, data = self.between.fetch(handler, body)
            handler.send_response(status)
            for name in ("Content-Length", "Content-Range", "Docker-Content-Digest"):
                if name in headers:
                    handler.send_header(name, headers[name])
            handler.end_headers()
            handler.wfile.write(data[:sent_bytes])
            handler.wfile.flush()
            reached.set()
            released.wait(60)
            handler.close_connection = True
            return True
        self.between.on(f"blobs/{digest}", act, "GET")
        self.addCleanup(released.set)
        return reached, released

    def test_a_killed_copy_goes_on_where_it_was(self):
        layer = noise(b"killed", BIG_BYTES)
        self.push_image("killed", "1", [layer])
        digest = digest_of(layer)
        for target in (f"{self.far.address}/killed:1", f"oci:{self.folder}/killed:1"):
            with self.subTest(target=target):
                self.between.faults.clear()
                half = len(layer) // 2
                reached, released = self.held_download(digest, half)
                process = subprocess.Popen(self.command("image", "copy", f"{self.between.address}/killed:1", target), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL, env=self.environment(), start_new_session=True)
                self.addCleanup(process.wait)
                self.addCleanup(process.kill)
                self.assertTrue(reached.wait(60))
                folder = os.path.join(self.folder, "killed/partial") if target.startswith("oci:") else os.path.join(self.folder, ".cache/caisson/transit")
                partial = os.path.join(folder, digest.replace(":", "-"))
                wait_until(lambda partial=partial: os.path.exists(partial) and os.path.getsize(partial) > half // 2, "half of the blob is here", 60)
                process.send_signal(signal.SIGKILL)
                process.wait()
                # The process that fetches notices a moment later, and writes what had come until then.
                wait_until(lambda partial=partial: not is_open(partial), "nobody writes the blob any more", 60)
                released.set()
                here = os.path.getsize(partial)
                self.between.faults.clear()
                asked = []
                self.between.on(f"blobs/{digest}", lambda handler, _, asked=asked: asked.append(handler.headers.get("Range")), "GET")
                self.copy(f"{self.between.address}/killed:1", target)
                self.assertEqual(asked, [f"bytes={here}-"])
                self.assertFalse(os.path.exists(partial))
                if target.startswith("oci:"):
                    with open(os.path.join(self.folder, "killed/blobs/sha256", digest.split(":")[1]), "rb") as file:
                        self.assertEqual(digest_of(file.read()), digest)
                else:
                    self.assertEqual(self.manifest(self.far, "killed", "1"), self.manifest(self.near, "killed", "1"))

    def test_a_copy_killed_while_it_sends_does_not_read_again(self):
        layer = noise(b"sent", 4 << 20)
        self.push_image("sent", "1", [layer])
        digest = digest_of(layer)
        target = registries.BetweenServer(self.namespace, self.far.port)
        self.addCleanup(target.close)
        reached, released = threading.Event(), threading.Event()
        self.addCleanup(released.set)

        def hold(*_):
            reached.set()
            released.wait(60)
            return False
        target.on("blobs/uploads/", hold, "PATCH")
        process = subprocess.Popen(self.command("image", "copy", "--jobs", "1", f"{self.between.address}/sent:1", f"{target.address}/sent:1"), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.environment(), start_new_session=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertTrue(reached.wait(60))
        process.send_signal(signal.SIGKILL)
        process.wait()
        target.faults.clear()
        released.set()
        self.assertIsNone(self.manifest(self.far, "sent", "1")[0])
        before = len([path for path in self.between.paths("GET") if path.endswith(digest)])
        self.copy(f"{self.between.address}/sent:1", f"{target.address}/sent:1")
        self.assertEqual(len([path for path in self.between.paths("GET") if path.endswith(digest)]), before)
        self.assertEqual(self.manifest(self.far, "sent", "1"), self.manifest(self.near, "sent", "1"))

    def test_a_blob_or_manifest_that_is_something_else_is_refused(self):
        layer = noise(b"lied", 64 << 10)
        descriptor = self.push_image("lied", "1", [layer])
        digest = digest_of(layer)
        self.between.on(f"blobs/{digest}", lambda handler, _: handler.answer(200, b"x" * len(layer)) or True, "GET")
        done = self.run_cli("copy", f"{self.between.address}/lied:1", f"{self.far.address}/lied:1", code=1)
        self.assertIn(f"{self.between.address}/lied: blob {digest} is something else", done.stderr)
        self.assertIsNone(self.manifest(self.far, "lied", "1")[0])
        self.assertFalse(os.path.exists(os.path.join(self.folder, ".cache/caisson/transit")))  # it went with its last file
        self.between.faults.clear()
        self.between.on("manifests/", lambda handler, _: handler.answer(200, b"{}", {"Content-Type": MANIFEST}) or True, "GET")
        done = self.run_cli("copy", f"{self.between.address}/lied@{descriptor['digest']}", f"{self.far.address}/lied:1", code=1)
        self.assertIn(descriptor["digest"], done.stderr)
        self.assertIn("the registry sent something else", done.stderr)

    def test_two_copies_at_once_download_once(self):
        layer = noise(b"twice", 4 << 20)
        self.push_image("twice", "1", [layer])
        digest = digest_of(layer)
        reached, released = self.held_download(digest, len(layer) // 2)
        first = subprocess.Popen(self.command("image", "copy", f"{self.between.address}/twice:1", f"{self.far.address}/twice:1"), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self.environment(), start_new_session=True)
        self.assertTrue(reached.wait(60))
        self.between.faults.clear()
        second = subprocess.Popen(self.command("image", "copy", f"{self.between.address}/twice:1", f"{self.far.address}/twice:1"), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self.environment(), start_new_session=True)
        released.set()
        for process in (first, second):
            _, errors = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 0, errors)
        self.assertEqual(self.manifest(self.far, "twice", "1"), self.manifest(self.near, "twice", "1"))
        self.assertLessEqual(len(self.between.paths("GET")), 8)


class Passwords(CopyTest):
    def test_credentials_are_those_of_login(self):
        htpasswd = os.path.join(self.folder, "htpasswd")
        with open(htpasswd, "w", encoding="utf-8") as file:
            file.write(registries.HTPASSWD)
        os.chmod(self.folder, 0o755)
        os.chmod(htpasswd, 0o644)
        locked = registries.CaissonRegistry(self.namespace, port=5003, options=("--htpasswd", htpasswd))
        self.addCleanup(locked.close)
        self.push_image("open", "1", [b"open"])
        self.assertIn("registry 127.0.0.1:5003", self.run_cli("copy", f"{self.near.address}/open:1", f"{locked.address}/open:1", code=1).stderr)
        os.makedirs(os.path.join(self.folder, "docker"), exist_ok=True)
        with open(os.path.join(self.folder, "docker/config.json"), "w", encoding="utf-8") as file:
            json.dump({"auths": {locked.address: {"auth": "dXNlcjpzZWNyZXQ="}}}, file)
        self.copy(f"{self.near.address}/open:1", f"{locked.address}/open:1")
        self.assertEqual(self.copy(f"{locked.address}/open:1", f"oci:{self.folder}/open"), self.manifest(self.near, "open", "1")[0])


if __name__ == "__main__":
    caisson.main(registries.CaissonRegistry.why_not)

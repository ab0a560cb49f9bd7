#!/usr/bin/env python3
"""Cache mounts of builds as things of their own: listed, bounded, pruned, and carried from engine to engine."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile

import caisson
import registries
from caisson import wait_until
from test_roles import ALICE, BOB, RolesTest

MB = 1 << 20
# What it makes differs every time, so that an equal sum proves that nothing was made again.
WORK = ("if [ -e /c/work ]; then echo reused; else echo worked; head -c 300000 /dev/urandom >/c/work; mkdir -p /c/deep/er; ln /c/work /c/deep/hard; ln -s ../work /c/deep/soft; "
        "echo x >/c/deep/er/own; chown 5:6 /c/deep/er/own; chmod 4751 /c/deep/er/own; chown 7:8 /c; chmod 1770 /c; fi; "
        "(sha1sum /c/work; find /c | sort | while read f; do stat -c '%n %a %u:%g %h' $f; done; readlink /c/deep/soft) >/result")


class Builds:
    """Building with one cache mount; `folder` is the context's."""

    def write(self, dockerfile, folder=None):
        caisson.write_files(folder or self.folder, {"Dockerfile": dockerfile})

    def build(self, engine, script, mount="id=tools", check=0, tag="made"):
        self.write(f"FROM busybox\nRUN --mount=type=cache,target=/c,{mount} {script}\n")
        return engine.cli("build", "--no-cache", "-t", tag, self.folder, check=check, timeout=120)

    def begin(self, engine, script, mount):
        """A build that goes on."""
        self.write(f"FROM busybox\nRUN --mount=type=cache,target=/c,{mount} {script}\n")
        return self.popen(engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", engine.host, "build", "--no-cache", "-t", "made", self.folder]), env=engine.environment())

    def popen(self, command, **options):
        build = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
        self.addCleanup(build.stdout.close)
        self.addCleanup(build.wait)
        self.addCleanup(build.kill)
        return build

    def fill(self, engine, name, megabytes):
        self.build(engine, f"head -c {megabytes * MB} /dev/urandom >/c/f", f"id={name}")

    @staticmethod
    def rows(engine):
        return [row for row in json.loads(engine.request("GET", "/system/df")[2])["BuildCache"] if row["Type"] == "exec.cachemount"]

    def row(self, engine, mount):
        found = [row for row in self.rows(engine) if row["CacheMount"]["ID"] == mount]
        return found[0] if found else None

    def ids(self, engine):
        return sorted(row["CacheMount"]["ID"] for row in self.rows(engine))

    def measured(self, engine, mount, least):
        """Its row, once the step's end has been followed by a measurement."""
        return wait_until(lambda: (row := self.row(engine, mount)) and row["Size"] >= least and row, f"{mount} has {least} bytes")

    def context(self):
        folder = tempfile.TemporaryDirectory(prefix=caisson.PREFIX)
        self.addCleanup(folder.cleanup)
        os.chmod(folder.name, 0o777)
        return folder.name


class CacheMountsTest(Builds, registries.NamespaceTest):
    """Two engines and a docker-registry, alone in a network namespace."""

    @classmethod
    def why_not(cls):
        return super().why_not() or registries.why_not() or registries.why_not_fetch()

    @classmethod
    def open(cls):
        cls.registry = cls.kept(registries.DockerRegistry(cls.namespace))
        cls.one = cls.new_engine()
        cls.two = cls.new_engine()
        for engine in (cls.one, cls.two):
            engine.import_busybox()

    def setUp(self):
        self.folder = self.context()
        for engine in (self.one, self.two):
            # The build of a client that another test has killed takes a moment to end.
            wait_until(lambda engine=engine: engine.ok("builder", "prune", "-af") and not self.rows(engine), "no cache mount is left")

    def result(self, engine):
        return engine.ok("run", "--rm", "made", "cat", "/result")

    def images(self, engine):
        """Those that are cache mounts on their way."""
        return set(engine.ok("images", "-aq", "--no-trunc", "--filter", "label=org.caisson.build.cache-mount").split())

    def inside(self, engine, *words):
        """A command line that can reach the registry itself."""
        run = subprocess.run([*self.namespace.command, *engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", engine.host, *words])], capture_output=True, text=True,
                             env=engine.environment(), timeout=60, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout.strip()

    def on_disk(self, engine):
        return sorted(os.listdir(os.path.join(engine.root, "build-cache")))

    # -- named

    def test_they_are_listed_with_all_that_is_known_of_them(self):
        self.build(self.one, WORK, "id=tools,sharing=locked")
        self.build(self.one, "true", "sharing=shared")  # its id is its target
        row = self.measured(self.one, "tools", 300_000)
        self.assertEqual(row["CacheMount"], {"ID": "tools", "Scope": "", "Sharing": "locked", "Target": "/c"})
        self.assertEqual(row["Description"], 'cached mount /c with id "tools"')
        self.assertEqual((row["UsageCount"], row["InUse"], row["Shared"]), (1, False, False))
        self.assertLessEqual(row["CreatedAt"], row["LastUsedAt"])
        self.assertEqual(self.ids(self.one), ["/c", "tools"])
        listed = self.one.ok("builder", "cache", "ls", "--format", "{{.Mount}} {{.Sharing}} {{.UsageCount}} {{.InUse}}").splitlines()
        self.assertEqual(sorted(listed), ["/c shared 1 false", "tools locked 1 false"])
        shown = json.loads(self.one.ok("build", "cache", "inspect", "tools"))[0]
        self.assertEqual(shown["ID"], row["ID"])
        self.assertEqual(json.loads(self.one.ok("build", "cache", "inspect", row["ID"]))[0]["CacheMount"]["ID"], "tools")
        self.assertIn("exec.cachemount", self.one.ok("system", "df", "-v"))
        self.assertIn("No such cache mount: other", self.one.cli("builder", "cache", "inspect", "other", check=1).stderr)
        # All of it is still known to the next daemon.
        self.build(self.one, "true", "id=tools,sharing=shared")
        self.one.kill9()
        self.one.start()
        again = self.measured(self.one, "tools", 300_000)
        self.assertEqual((again["UsageCount"], again["CacheMount"]["Sharing"], again["CreatedAt"]), (2, "shared", row["CreatedAt"]))

    def test_dockers_client_lists_and_prunes_them(self):
        if not caisson.docker_program():
            self.skipTest("no docker client is installed")
        self.build(self.one, WORK)
        self.measured(self.one, "tools", 300_000)
        self.assertIn("exec.cachemount", self.one.ok("system", "df", "-v", program="docker"))
        self.one.ok("builder", "prune", "-f", "--filter", "type=exec.cachemount", program="docker", env={"DOCKER_BUILDKIT": "0"})
        self.assertEqual(self.rows(self.one), [])

    # -- bounded

    def test_prune_takes_what_its_filters_name(self):
        for name in ("x", "y", "z"):  # no hexadecimal digits: id= also takes beginnings of keys
            self.fill(self.one, name, 1)
            self.measured(self.one, name, MB)
        steps = len(json.loads(self.one.request("GET", "/system/df")[2])["BuildCache"]) - 3
        self.assertGreater(steps, 0)
        prune = ("builder", "prune", "-f")
        self.one.ok(*prune, "--filter", "until=1h")
        self.one.ok(*prune, "--filter", "type=regular", "--filter", "id=x")
        self.assertEqual(self.ids(self.one), ["x", "y", "z"])
        self.assertRegex(self.one.ok(*prune, "--filter", "id=x"), r"Total:\t1\.0\d*MB")
        self.assertEqual(self.ids(self.one), ["y", "z"])
        self.one.ok(*prune, "--filter", "id=" + self.row(self.one, "y")["ID"][:12])
        self.assertEqual(self.ids(self.one), ["z"])
        self.one.ok(*prune, "--filter", "type=exec.cachemount")
        left = json.loads(self.one.request("GET", "/system/df")[2])["BuildCache"]
        self.assertEqual([row["Type"] for row in left], ["regular"] * steps)
        self.assertEqual(self.on_disk(self.one), [])
        self.fill(self.one, "old", 2)
        self.measured(self.one, "old", 2 * MB)
        self.fill(self.one, "new", 1)
        self.measured(self.one, "new", MB)
        self.one.ok(*prune, "--reserved-space", "1500k")
        self.assertEqual(self.ids(self.one), ["new"], "what was used last stays")
        self.one.ok("builder", "cache", "rm", "new")
        self.assertEqual(self.on_disk(self.one), [])

    def test_nothing_touches_what_a_running_build_uses(self):
        build = self.begin(self.one, "until [ -e /c/go ]; do usleep 20000; done; cp /c/go /got", "id=busy")
        wait_until(lambda: self.row(self.one, "busy"), "the step has begun")
        self.assertTrue(self.row(self.one, "busy")["InUse"])
        self.one.ok("builder", "prune", "-af")
        self.assertEqual(self.ids(self.one), ["busy"])
        busy = "cache mount busy is in use by a build"
        archive = os.path.join(self.folder, "busy.tar")
        self.assertIn(busy, self.one.cli("builder", "cache", "rm", "busy", check=1).stderr)
        self.assertIn(busy, self.one.cli("builder", "cache", "export", "busy", "oci-archive:" + archive, check=1).stderr)
        self.assertFalse(os.path.exists(archive))
        self.other = self.context()
        self.write("FROM busybox\nRUN --mount=type=cache,target=/c,id=idle echo idle >/c/f\n", self.other)
        self.one.ok("build", self.other)
        self.one.ok("builder", "cache", "export", "idle", "oci-archive:" + archive)
        self.assertIn(busy, self.one.cli("builder", "cache", "import", "--id", "busy", "oci-archive:" + archive, check=1).stderr)
        go = os.path.join(self.one.root, "build-cache", hashlib.sha256(b"busy").hexdigest(), "go")
        with open(go + ".part", "w", encoding="utf-8") as file:
            file.write("whole")
        os.rename(go + ".part", go)
        self.assertEqual(build.wait(60), 0, build.stdout.read())
        self.assertEqual(self.one.ok("run", "--rm", "made", "cat", "/got"), "whole")
        wait_until(lambda: not self.row(self.one, "busy")["InUse"], "the build has let go of it")
        self.one.ok("builder", "prune", "-af")
        self.assertEqual(self.on_disk(self.one), [])

    def test_the_builders_bound_lets_the_oldest_go(self):
        engine = self.new_engine("--build-cache", "5m")
        engine.import_busybox()
        self.fill(engine, "old", 2)
        self.measured(engine, "old", 2 * MB)
        self.fill(engine, "middle", 2)
        self.measured(engine, "middle", 2 * MB)
        self.build(engine, "cat /c/f >/dev/null", "id=old")  # used again: the other one is the oldest now
        self.fill(engine, "new", 2)
        wait_until(lambda: self.ids(engine) == ["new", "old"], lambda: f"what was used longest ago goes: {self.ids(engine)}")
        wait_until(lambda: len(self.on_disk(engine)) == 2, "its files too")
        self.assertIn("gave a cache mount away", engine.log_text())

    def test_they_count_in_the_stores_quota(self):
        engine = self.new_engine()
        engine.import_busybox()
        used = json.loads(engine.request("GET", "/system/df")[2])["LayersSize"]
        engine.stop()
        engine.options += ["--store-quota", str(used + 5 * MB)]
        engine.start()
        self.fill(engine, "first", 3)
        self.measured(engine, "first", 3 * MB)
        after = json.loads(engine.request("GET", "/system/df")[2])
        self.assertLess(after["LayersSize"], used + MB, "images are what they were")
        self.assertGreaterEqual(after["BuilderSize"], 3 * MB)
        # A layer that needs the room gets it.
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            caisson.add_file(tar, "large", os.urandom(23 * MB // 10))
        engine.ok("load", stdin=caisson.docker_archive([layer.getvalue()], tags=["large:1"]), text=False)
        self.assertEqual(self.ids(engine), [])
        engine.ok("rmi", "large:1")
        # And so does a mount that grows: of two that do not fit together the older one goes.
        self.fill(engine, "second", 3)
        self.measured(engine, "second", 3 * MB)
        self.fill(engine, "third", 4)
        wait_until(lambda: self.ids(engine) == ["third"], lambda: f"the older one goes: {self.ids(engine)}")

    # -- portable

    def test_they_travel_by_registry_folder_and_archive_and_nothing_is_done_again(self):
        self.assertIn("\nworked\n", self.build(self.one, WORK).stdout)
        self.build(self.one, WORK)
        wanted = self.result(self.one)
        self.assertIn("/c/deep/er/own 4751 5:6 1", wanted)
        self.assertIn("/c/deep/hard 644 0:0 2", wanted)
        self.assertIn("/c 1770 7:8", wanted)
        places = (f"{self.registry.address}/cache/tools:x", f"oci:{self.folder}/layout", f"oci-archive:{self.folder}/tools.tar")
        digests = set()
        for place in places:
            with self.subTest(place=place):
                digests.add(self.inside(self.one, "builder", "cache", "export", "tools", place))
                self.two.ok("builder", "prune", "-af")
                self.assertEqual(self.two.ok("builder", "cache", "import", place), "tools")
                self.assertEqual(self.on_disk(self.two), [hashlib.sha256(b"tools").hexdigest()])
                self.assertGreaterEqual(self.row(self.two, "tools")["Size"], 300_000)
                self.assertIn("\nreused\n", self.build(self.two, WORK).stdout)
                self.assertEqual(self.result(self.two), wanted)
        for engine in (self.one, self.two):
            self.assertEqual(self.images(engine), set(), "no image of it is left")
        # The same files give the same digest, wherever they lie.
        digests.add(self.two.ok("builder", "cache", "export", "tools", f"oci:{self.folder}/again"))
        self.assertEqual(len(digests), 1, digests)
        # Under another id it is another mount; over one that is there it is that one.
        self.two.ok("builder", "cache", "import", "--id", "mine", places[2])
        self.assertEqual(self.ids(self.two), ["mine", "tools"])
        self.build(self.two, "rm -rf /c/* && echo other >/c/other", "id=mine")
        self.two.ok("builder", "cache", "import", "--id", "mine", places[1])
        self.assertIn("\nreused\n", self.build(self.two, WORK, "id=mine").stdout)
        self.assertEqual(self.result(self.two), wanted)

    def layout(self, layer, annotations, artifact_type="application/vnd.caisson.cache-mount.v1"):
        """A folder with one artifact of one layer, made by hand."""
        place = os.path.join(caisson.own(tempfile.mkdtemp(dir=self.folder)), "layout")
        os.makedirs(os.path.join(place, "blobs/sha256"))

        def put(data):
            digest = hashlib.sha256(data).hexdigest()
            with open(os.path.join(place, "blobs/sha256", digest), "wb") as file:
                file.write(data)
            return {"digest": "sha256:" + digest, "size": len(data)}

        config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **put(json.dumps(config).encode())},
                    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **put(layer)}], "annotations": annotations, "artifactType": artifact_type}
        entry = {"mediaType": manifest["mediaType"], **put(json.dumps(manifest).encode())}
        for name, value in (("index.json", {"schemaVersion": 2, "manifests": [entry]}), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
            with open(os.path.join(place, name), "w", encoding="utf-8") as file:
                json.dump(value, file)
        return place

    def test_as_artifacts_they_say_what_they_are_and_are_no_images(self):
        self.build(self.one, WORK)
        place, layout, archive = f"{self.registry.address}/cache/artifact:x", os.path.join(self.folder, "layout"), os.path.join(self.folder, "tools.tar")
        self.inside(self.one, "builder", "cache", "export", "tools", place)
        self.one.ok("builder", "cache", "export", "tools", "oci:" + layout)
        self.one.ok("builder", "cache", "export", "tools", "oci-archive:" + archive)
        with open(os.path.join(layout, "index.json"), encoding="utf-8") as file:
            digest = json.load(file)["manifests"][0]["digest"]
        with open(os.path.join(layout, "blobs", *digest.split(":")), encoding="utf-8") as file:
            manifest = json.load(file)
        kind = "application/vnd.caisson.cache-mount.v1"
        self.assertEqual((manifest["artifactType"], manifest["config"]["mediaType"]), (kind, "application/vnd.caisson.cache-mount.config.v1+json"))
        self.assertEqual([layer["mediaType"] for layer in manifest["layers"]], ["application/vnd.oci.image.layer.v1.tar"])
        with tarfile.open(archive) as tar:
            self.assertNotIn("manifest.json", tar.getnames(), "docker's list has images only")
        before = self.one.ok("images", "-aq")
        for words in (("pull", place), ("load", "-i", archive)):
            self.assertIn(f"a cache mount of builds ({kind}), no image: `caisson builder cache import` takes it in", self.one.cli(*words, check=1).stderr)
        self.assertEqual(self.one.ok("images", "-aq"), before)
        # Other tools carry it, and what they have carried is the same mount.
        if shutil.which("skopeo"):
            subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", "oci:" + layout, f"oci:{self.folder}/carried"], check=True, capture_output=True, timeout=60)
            self.two.ok("builder", "cache", "import", f"oci:{self.folder}/carried")
            self.assertIn("\nreused\n", self.build(self.two, WORK).stdout)

    def test_what_is_no_cache_mount_is_refused_by_name_and_leaves_nothing(self):
        def tar_of(*entries):
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w") as tar:
                for name, fields in entries:
                    caisson.add_file(tar, name, b"" if fields else b"x", **fields)
            return out.getvalue()
        prefix = "org.caisson.build.cache-mount."
        good = {prefix + "id": "evil", prefix + "owner": "0:0", prefix + "mode": "0755"}
        image = f"{self.registry.address}/plain:x"
        self.one.ok("tag", "busybox", image)
        self.one.ok("push", image)
        self.one.ok("rmi", image)
        self.fill(self.one, "evil", 1)
        self.measured(self.one, "evil", MB)
        before = set(self.one.ok("images", "-aq").split())
        damaged = self.layout(tar_of(("f", {})), good)
        largest = max((os.path.join(damaged, "blobs/sha256", name) for name in os.listdir(os.path.join(damaged, "blobs/sha256"))), key=os.path.getsize)
        with open(largest, "r+b") as file:
            file.seek(600)
            file.write(b"damage")
        cases = {
            image: "is no cache mount",
            "oci:" + self.layout(tar_of(("f", {})), good, ""): "is no cache mount: its artifactType is not application/vnd.caisson.cache-mount.v1",
            "oci:" + self.layout(tar_of(("f", {})), {}): "the annotation org.caisson.build.cache-mount.id is missing",
            "oci:" + self.layout(tar_of(("f", {})), {**good, prefix + "mode": "rwx"}): '"rwx" is no number',
            "oci:" + damaged: os.path.basename(largest)[:12],
            "oci:" + self.layout(tar_of(("../../out", {})), good): "out",
            "oci:" + self.layout(tar_of(("disk", {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0})), good): '"disk", a device node',
            "oci:" + self.layout(tar_of(("f", {"uid": 70000})), good): "f",
            "docker-archive:" + os.path.join(self.folder, "x.tar"): "a cache mount is no image to run",
        }
        for place, why in cases.items():
            with self.subTest(place=place, why=why):
                self.assertIn(why, self.one.cli("builder", "cache", "import", place, check=1).stderr)
        self.assertEqual(self.ids(self.one), ["evil"])
        self.assertEqual(self.on_disk(self.one), [hashlib.sha256(b"evil").hexdigest()])
        self.assertEqual(set(self.one.ok("images", "-aq").split()), before)
        self.build(self.one, "[ $(stat -c %s /c/f) = 1048576 ]", "id=evil")

    @caisson.differs_without_root("the folders of this test are root's")
    def test_a_daemon_killed_meanwhile_leaves_nothing_half_made(self):
        engine = self.new_engine()
        engine.import_busybox()
        self.fill(engine, "large", 40)
        self.measured(engine, "large", 40 * MB)
        # Export: the archive is larger than what sockets hold, so that the image is there and the daemon waits for its reader.
        connection = caisson.UnixConnection(engine.socket, 60)
        with contextlib.closing(connection):
            connection.request("GET", "/caisson/v1/cache-mounts/archive?id=large")
            answer = connection.getresponse()
            self.assertEqual(answer.status, 200)
            self.assertEqual(len(answer.read(1000)), 1000)
            engine.kill9()
        engine.start()
        self.assertEqual(self.images(engine), set())
        self.assertIn("removed the image of a cache mount whose export or import was interrupted", engine.log_text())
        archive = os.path.join(self.folder, "large.tar")
        engine.ok("builder", "cache", "export", "large", "oci-archive:" + archive)
        self.build(engine, "rm /c/f && echo mine >/c/mine", "id=large")
        # Import: killed while the new tree grows beside the old one.
        command = [os.path.join(caisson.BIN, "caisson"), "-H", engine.host, "builder", "cache", "import", "oci-archive:" + archive]
        client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=engine.environment())
        with client:
            wait_until(lambda: client.poll() is not None or any(name.startswith(".new-") for name in self.on_disk(engine)), "the import unpacks", 60)
            self.assertIsNone(client.poll(), "it was quicker than this test")
            engine.kill9()
            client.communicate(timeout=60)
        engine.start()
        wait_until(lambda: self.on_disk(engine) == [hashlib.sha256(b"large").hexdigest()], lambda: f"nothing half-made: {self.on_disk(engine)}")
        self.assertEqual(self.images(engine), set())
        self.build(engine, "[ $(ls /c) = mine ]", "id=large")
        engine.ok("builder", "cache", "import", "oci-archive:" + archive)
        self.build(engine, f"[ $(ls /c) = f ] && [ $(stat -c %s /c/f) = {40 * MB} ]", "id=large")

    @caisson.differs_without_root("an ordinary user mounts no disk")
    def test_a_full_disk_refuses_an_import_and_leaves_what_was_there(self):
        self.fill(self.one, "large", 28)
        self.measured(self.one, "large", 28 * MB)
        archive = os.path.join(self.folder, "large.tar")
        self.one.ok("builder", "cache", "export", "large", "oci-archive:" + archive)
        engine = caisson.Engine()
        self.addCleanup(engine.close)
        disk = caisson.SmallDisk(engine.root, 48)
        self.addCleanup(disk.close)
        engine.start()
        engine.import_busybox()
        refused = engine.cli("builder", "cache", "import", "oci-archive:" + archive, check=1)
        self.assertIn("o space left on device", refused.stderr)
        self.assertEqual(self.on_disk(engine), [])
        self.assertEqual(self.ids(engine), [])


class CacheMountsOfOneEngine(Builds, caisson.EngineTest):
    """What needs no registry, so that an ordinary user's engine is asked as well."""

    def test_an_archive_brings_back_what_was_pruned_with_its_owners(self):
        self.engine.import_busybox()
        self.folder = self.context()
        archive = os.path.join(self.context(), "tools.tar")
        self.build(self.engine, WORK)
        self.build(self.engine, WORK)
        wanted = self.engine.ok("run", "--rm", "made", "cat", "/result")
        self.engine.ok("builder", "cache", "export", "tools", "oci-archive:" + archive)
        self.engine.ok("builder", "prune", "-af")
        self.assertEqual(self.rows(self.engine), [])
        self.engine.ok("builder", "cache", "import", "oci-archive:" + archive)
        self.assertIn("\nreused\n", self.build(self.engine, WORK).stdout)
        self.assertEqual(self.engine.ok("run", "--rm", "made", "cat", "/result"), wanted)

    def test_a_build_that_waits_for_anothers_mount_ends_with_its_client(self):
        self.folder = self.context()
        first = self.begin(self.engine, "until [ -e /c/go ]; do usleep 20000; done", "id=alone,sharing=locked")
        step = wait_until(lambda: self.engine.ok("ps", "-q", "--filter", "label=org.caisson.build").strip(), "the first one has it")
        self.folder = self.context()
        second = self.begin(self.engine, "echo second", "id=alone,sharing=locked")
        for line in second.stdout:
            if "echo second" in line:
                break
        second.kill()
        wait_until(lambda: json.loads(self.engine.ok("build", "history", "inspect", "^0"))[0]["Status"] != "Running", "the second build has ended")
        self.assertIsNone(first.poll(), "the first one goes on")
        self.engine.ok("exec", step, "touch", "/c/go")
        self.assertEqual(first.wait(60), 0, first.stdout.read())


@caisson.differs_without_root("a user's engine serves that user alone")
class BuildsOfRoles(Builds, RolesTest):
    """Builds of users with a role."""

    def setUp(self):
        self.folder = self.context()
        os.chmod(self.folder, 0o755)
        wait_until(lambda: self.engine.ok("builder", "prune", "-af") and not self.rows(self.engine), "no cache mount is left")

    def build_as(self, uid, script, check=0):
        self.write(f"FROM busybox\nRUN --mount=type=cache,target=/c,id=same {script}\n")
        return self.as_user(uid, "build", "--no-cache", self.folder, check=check)


class CacheMountsOfRoles(BuildsOfRoles):
    """Two users who may build, each with a label of their own, and root."""

    roles = """
[[who]]
user = "61001"
role = "web"
[[who]]
user = "61002"
role = "shop"
[roles.web]
may = ["see", "build.*", "image.*", "container.*"]
labels = ["team=web"]
unbounded = true
[roles.shop]
may = ["see", "build.run", "build.prune", "container.*"]
labels = ["team=shop"]
unbounded = true
"""

    def test_nobody_sees_reads_or_removes_the_mounts_of_another_label(self):
        self.build(self.engine, "echo root >/c/root", "id=same")
        self.build_as(ALICE, "ls /c | grep . ; echo alice >/c/alice")
        self.assertIn("\nfound=\n", self.build_as(BOB, "echo found=$(ls /c)").stdout)
        self.assertIn("\nfound=alice\n", self.build_as(ALICE, "echo found=$(ls /c)").stdout)
        self.assertEqual(sorted(row["CacheMount"]["Scope"] for row in self.rows(self.engine)), ["", "team=shop", "team=web"])
        listed = self.as_user(ALICE, "builder", "cache", "ls", "--format", "{{.Mount}} {{.Scope}}", check=0).stdout.splitlines()
        self.assertEqual(listed, ["same team=web"])
        self.assertIn("ambiguous", self.engine.cli("builder", "cache", "inspect", "same", check=1).stderr)
        roots = [row["ID"] for row in self.rows(self.engine) if not row["CacheMount"]["Scope"]][0]
        self.assertIn("No such cache mount", self.as_user(ALICE, "builder", "cache", "inspect", roots).stderr)
        self.as_user(BOB, "builder", "prune", "-af", check=0)
        self.assertEqual(sorted(row["CacheMount"]["Scope"] for row in self.rows(self.engine)), ["", "team=web"])
        # Taking one out asks for the right to save images, too.
        status = self.as_user(BOB, "builder", "cache", "rm", "same")
        self.assertIn("No such cache mount", status.stderr)
        self.build_as(BOB, "true")
        self.assertEqual(self.archive_as(BOB), 403)
        self.assertEqual(self.archive_as(ALICE), 200)

    def archive_as(self, uid):
        run = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", self.engine.socket, "http://x/caisson/v1/cache-mounts/archive?id=same"],
                             capture_output=True, text=True, timeout=60, check=True, user=uid, group=uid, extra_groups=[61000], cwd="/")
        return int(run.stdout)


class CacheMountsOfBoundedRoles(BuildsOfRoles):
    """Two users whose containers stay in the default box, with roles that see everything."""

    roles = """
[[who]]
user = "61001"
role = "maker"
[[who]]
user = "61002"
role = "peer"
[roles.maker]
may = ["see", "build.*", "image.*", "container.*"]
[roles.maker.containers]
images = ["busybox*"]
memory = "256m"
[roles.peer]
may = ["see", "build.*", "image.*", "container.*"]
[roles.peer.containers]
"""

    def test_every_kind_of_mount_is_there_in_their_builds(self):
        caisson.write_files(self.folder, {"given": "of the context", "secret": "word"})
        secret = os.path.join(self.folder, "secret")
        agent = os.path.join(self.folder, "agent")
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(agent)
        os.chmod(agent, 0o777)
        listening.listen()
        self.write("""FROM busybox AS first
RUN echo of-the-stage >/made
FROM busybox
RUN --mount=type=cache,target=/c,id=kinds cat /c/f; echo kept >/c/f
RUN --mount=type=cache,target=/c,id=kinds --mount=type=tmpfs,target=/c/t --mount=type=secret,id=s --mount=type=bind,from=first,source=/made,target=/made --mount=type=bind,target=/ctx --mount=type=ssh \
    test "$(cat /c/f /run/secrets/s /made /ctx/given)" = "$(printf 'kept\\nwordof-the-stage\\nof the context')" && touch /c/t/x && test -S $SSH_AUTH_SOCK
RUN <<EOF
#!/bin/sh
echo a script of its own
EOF
""")
        command = ("build", "--no-cache", "--secret", f"id=s,src={secret}", "--ssh", f"default={agent}", self.folder)
        self.as_user(ALICE, *command, check=0)
        self.assertIn("\nkept\n", self.as_user(ALICE, *command, check=0).stdout)
        self.assertEqual([(row["CacheMount"]["ID"], row["CacheMount"]["Scope"]) for row in self.rows(self.engine)], [("kinds", "role maker")])
        # The shell in what failed has them as well, and is the caller's.
        self.write("FROM busybox\nRUN --mount=type=cache,target=/c,id=kinds false\n")
        failed = self.as_user(ALICE, "build", "--no-cache", "--debug-shell", self.folder, check=1, typed="echo it has $(cat /c/f)\n")
        self.assertIn("it has kept", failed.stdout + failed.stderr)
        self.assertEqual(self.engine.ok("ps", "-aq"), "")

    def test_steps_come_from_images_that_the_role_may_use(self):
        self.engine.import_image(caisson.busybox_rootfs(), "secret:latest", ['CMD ["/bin/sh"]'])
        self.write("FROM busybox\nRUN true\n")
        for source, name in (("secret", "secret"), ("type=registry,ref=registry.invalid/other:1", "registry.invalid/other:1")):
            said = self.as_user(ALICE, "build", "--cache-from", source, self.folder, check=1).stderr
            self.assertIn(f"cache source {name}: ", said)
            self.assertIn(f"does not allow the image {name}", said)
        self.as_user(ALICE, "build", "--cache-from", "busybox", self.folder, check=0)

    def test_they_are_the_roles_own(self):
        self.build(self.engine, "echo root >/c/root", "id=same")
        self.build_as(ALICE, "ls /c | grep . ; echo alice >/c/alice")
        self.assertIn("\nfound=\n", self.build_as(BOB, "echo found=$(ls /c)").stdout)
        self.assertIn("\nfound=alice\n", self.build_as(ALICE, "echo found=$(ls /c)").stdout)
        self.assertEqual(self.as_user(ALICE, "builder", "cache", "ls", "--format", "{{.Mount}} {{.Scope}}", check=0).stdout.splitlines(), ["same role maker"])
        self.as_user(ALICE, "builder", "prune", "-af", check=0)
        self.assertEqual(sorted(row["CacheMount"]["Scope"] for row in self.rows(self.engine)), ["", "role peer"])

    def test_a_build_gives_them_nothing_of_the_host_or_of_others(self):
        self.engine.import_image(caisson.busybox_rootfs(), "hidden:latest", ['CMD ["/bin/sh"]'])
        cases = {
            "FROM busybox\nRUN --mount=type=bind,source=/etc/shadow,target=/x cat /x": ((), "/etc/shadow"),
            "FROM busybox\nRUN --mount=type=bind,from=hidden,target=/x ls /x": ((), "does not allow the image hidden"),
            "FROM busybox\nCOPY --from=hidden /bin/sh /x": ((), "does not allow the image hidden"),
            "FROM hidden\nCOPY Dockerfile /": ((), "does not allow the image hidden"),
            "FROM busybox\nRUN --security=insecure true": (("--allow", "security.insecure"), "does not allow privileged"),
            "FROM busybox\nRUN --network=host true": (("--allow", "network.host"), "does not allow the host's network"),
        }
        for text, (options, why) in cases.items():
            with self.subTest(text):
                self.write(text)
                self.assertIn(why, self.as_user(ALICE, "build", "--no-cache", *options, self.folder, check=1).stderr)
        # Words of ours in a request are nobody's word for it.
        body = json.dumps({"Image": "busybox", "HostConfig": {"Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/x", "of_step": True, "OfStep": True, "within": "/", "Within": "/"}], "of_step": True}})
        run = subprocess.run(["curl", "-sS", "-w", "%{http_code}", "--unix-socket", self.engine.socket, "-H", "Content-Type: application/json", "-d", body, "http://x/containers/create"],
                             capture_output=True, text=True, timeout=60, check=True, user=ALICE, group=ALICE, extra_groups=[61000], cwd="/")
        self.assertIn("does not allow the bind mount of /etc", run.stdout)
        self.assertTrue(run.stdout.endswith("403"), run.stdout)

    def test_nobody_else_gets_at_the_mounts_of_a_running_step(self):
        self.write("FROM busybox\nRUN --mount=type=cache,target=/c,id=busy until [ -e /c/go ]; do usleep 20000; done\n")
        build = self.popen([self.program, "-H", self.engine.host, "build", "--no-cache", self.folder], user=ALICE, group=ALICE, extra_groups=[61000], cwd="/",
                           env={**self.engine.environment(), "HOME": "/nonexistent", "DOCKER_CONFIG": "/nonexistent"})
        step = wait_until(lambda: self.engine.ok("ps", "-q", "--filter", "label=org.caisson.build").strip(), "the step runs")
        self.assertIn("the mount /c of somebody's build", self.refused(BOB, "exec", step, "true"))
        for uid in (ALICE, BOB):
            self.refused(uid, "run", "--rm", "--volumes-from", step, "busybox", "true")
        place = self.engine.inspect(step)["Mounts"][0]["Source"]
        self.refused(ALICE, "run", "--rm", "-v", f"{place}:/c", "busybox", "true")
        self.as_user(ALICE, "exec", step, "touch", "/c/go", check=0)
        self.assertEqual(build.wait(60), 0, build.stdout.read())


if __name__ == "__main__":
    caisson.main()

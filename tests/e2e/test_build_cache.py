#!/usr/bin/env python3
"""The build cache between engines that share nothing but a registry, a folder or an image; and the list of past builds."""

import contextlib
import http.client
import io
import json
import os
import tarfile
import tempfile
import urllib.parse

import caisson
import registries

# What RUN makes differs every time, so that equal images prove that nothing ran again.
DOCKERFILE = """FROM busybox AS tools
RUN head -c 300000 /dev/urandom > /tool && echo ran-tool
FROM busybox
COPY f /f
RUN head -c 1000 /dev/urandom > /own && echo ran-own
RUN true
COPY --from=tools /tool /tool
ENV A=1
"""


class BuildCacheTest(registries.NamespaceTest):
    """Two engines and a docker-registry, alone in a network namespace."""

    @classmethod
    def why_not(cls):
        return super().why_not() or registries.why_not() or registries.why_not_fetch()

    @classmethod
    def open(cls):
        cls.registry = cls.kept(registries.DockerRegistry(cls.namespace))
        cls.one = cls.new_engine()
        cls.two = cls.new_engine()
        cls.one.import_busybox()
        # The same base image, with the same id.
        archive = os.path.join(cls.one.folder, "busybox.tar")
        cls.one.ok("save", "-o", archive, "busybox")
        cls.two.ok("load", "-i", archive)

    def setUp(self):
        for engine in (self.one, self.two):
            engine.ok("builder", "prune", "-af")
        folder = tempfile.TemporaryDirectory(prefix=caisson.PREFIX)
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.context = os.path.join(self.folder, "context")
        os.mkdir(self.context)
        self.one.give(self.folder, self.context)
        self.write("Dockerfile", DOCKERFILE)
        self.write("f", self.id())

    def write(self, name, text):
        with open(os.path.join(self.context, name), "w") as file:
            file.write(text)

    def build(self, engine, *arguments, check=0):
        result = engine.cli("build", "--build-arg", "SOURCE_DATE_EPOCH=1", "-t", "made", *arguments, self.context, check=check, timeout=120)
        return result

    def identity(self, engine):
        return engine.ok("image", "inspect", "--format", "{{.Id}}", "made")

    def images(self, engine):
        return set(engine.ok("images", "-q", "--no-trunc").split())

    def assert_all_cached(self, result):
        self.assertEqual(result.stdout.count(" ---> Using cache"), 5, result.stdout)
        self.assertNotIn("\nran-", result.stdout)

    # -- ways of travelling

    def test_all_stages_travel_by_a_registry_and_only_layers_that_are_hit_are_fetched(self):
        cache = f"{self.registry.address}/cache/all:x"
        before = self.images(self.one)
        self.build(self.one, "--cache-to", f"type=registry,ref={cache},mode=max")
        self.assertEqual(self.images(self.one) - before, {self.identity(self.one)}, "the cache's image is no image of the host's")
        self.assert_all_cached(self.build(self.two, "--cache-from", f"type=registry,ref={cache}"))
        self.assertEqual(self.identity(self.two), self.identity(self.one))
        # Once here, it is this engine's own cache.
        self.assert_all_cached(self.build(self.two))
        self.two.ok("rmi", "made")
        self.two.ok("builder", "prune", "-af")
        self.write("f", "something else")
        seen = len(self.registry.requests())
        result = self.build(self.two, "--cache-from", f"type=registry,ref={cache}")
        self.assertNotIn("\nran-tool\n", result.stdout)
        self.assertIn("\nran-own\n", result.stdout)
        blobs = {path for method, path, _ in self.registry.requests()[seen:] if method == "GET" and "/blobs/" in path}
        self.assertEqual(len(blobs), 2, blobs)  # the configuration, and the tool's layer

    def test_without_mode_max_the_targets_own_steps_travel(self):
        cache = f"{self.registry.address}/cache/own:x"
        self.build(self.one, "--cache-to", f"type=registry,ref={cache}")
        result = self.build(self.two, "--cache-from", cache)
        self.assertIn("\nran-tool\n", result.stdout)
        self.assertNotIn("\nran-own\n", result.stdout)

    def test_a_folder_carries_it_as_an_oci_layout(self):
        folder = os.path.join(self.folder, "cache")
        self.build(self.one, "--cache-to", f"type=local,dest={folder},mode=max")
        with open(os.path.join(folder, "index.json")) as file:
            self.assertEqual(len(json.load(file)["manifests"]), 1)
        before = self.images(self.two) - {self.identity(self.one)}
        self.assert_all_cached(self.build(self.two, "--cache-from", f"type=local,src={folder}"))
        self.assertEqual(self.identity(self.two), self.identity(self.one))
        self.assertEqual(self.images(self.two) - before, {self.identity(self.two)}, "the lent image is gone again")
        # A damaged one is refused, and names what is wrong.
        digest = max(os.listdir(os.path.join(folder, "blobs/sha256")), key=lambda name: os.stat(os.path.join(folder, "blobs/sha256", name)).st_size)
        with open(os.path.join(folder, "blobs/sha256", digest), "r+b") as file:
            file.seek(50_000)
            file.write(b"damaged")
        self.two.ok("rmi", "made")
        self.two.ok("builder", "prune", "-af")
        result = self.build(self.two, "--cache-from", f"type=local,src={folder}", check=1)
        self.assertIn(f"--cache-from {folder}", result.stderr)
        self.assertIn(digest[:12], result.stderr)

    def test_an_image_carries_its_own_steps_in_its_manifest(self):
        name = f"{self.registry.address}/inline:x"
        self.build(self.one, "-t", name, "--cache-to", "type=inline")
        plain = self.identity(self.one)
        self.one.ok("push", name)
        result = self.build(self.two, "--cache-from", name)
        self.assertNotIn("\nran-own\n", result.stdout)
        self.assertIn("\nran-tool\n", result.stdout)
        # The image's id does not know of the cache.
        self.build(self.one)
        self.assertEqual(self.identity(self.one), plain)

    def test_pipelines_ask_for_it_as_buildkit_has_it(self):
        name = f"{self.registry.address}/buildkit:x"
        self.build(self.one, "-t", name, "--build-arg", "BUILDKIT_INLINE_CACHE=1")
        self.one.ok("push", name)
        query = urllib.parse.urlencode({"t": "made", "cachefrom": json.dumps([name]), "buildargs": json.dumps({"SOURCE_DATE_EPOCH": "1"})})
        status, _, body = self.two.request("POST", "/build?" + query, self.tar(), {"Content-Type": "application/x-tar"}, timeout=120)
        self.assertEqual(status, 200)
        self.assertNotIn(b'"ran-own\\n', body)

    def tar(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name in os.listdir(self.context):
                tar.add(os.path.join(self.context, name), name)
        return out.getvalue()

    # -- several platforms

    def write_for_both(self):
        """No step runs, so that no emulator is needed; what a platform's steps make is its own."""
        self.write("Dockerfile", "FROM scratch AS other\nARG TARGETARCH\nCOPY $TARGETARCH /other\nFROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /own\nCOPY f /f\nCOPY --from=other /other /other\n")
        for name in ("amd64", "arm64", "s390x"):
            self.write(name, f"{self.id()} for {name}\n" * 3000)

    def build_for(self, engine, platforms, *words):
        return self.build(engine, "--platform", platforms, *words)

    def manifest(self, repository, reference):
        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", self.registry.port, timeout=30)
            connection.request("GET", f"/v2/{repository}/manifests/{reference}", headers={"Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"})
            with contextlib.closing(connection):
                return json.loads(connection.getresponse().read())
        return registries.in_namespace(self.namespace.name, ask)

    def test_several_platforms_share_one_index_in_a_registry_and_keep_their_steps_apart(self):
        self.write_for_both()
        cache = f"{self.registry.address}/cache/many:x"
        before = self.images(self.one)
        self.build_for(self.one, "linux/amd64,linux/arm64", "--cache-to", f"type=registry,ref={cache},mode=max")
        made = self.identity(self.one)
        hidden = self.images(self.one) - before
        self.assertIn(made, hidden)
        self.assertEqual(len(hidden), 2, "the images of both platforms, and nothing of the cache")
        index = self.manifest("cache/many", "x")
        self.assertEqual(sorted(entry["platform"]["architecture"] for entry in index["manifests"]), ["amd64", "arm64"])
        keys = {}
        for entry in index["manifests"]:
            manifest = self.manifest("cache/many", entry["digest"])
            steps = json.loads(manifest["annotations"]["org.caisson.build.cache.v1"])["steps"]
            keys[entry["platform"]["architecture"]] = ({step["key"] for step in steps}, {layer["digest"] for layer in manifest["layers"]})
        self.assertEqual([len(steps) for steps, _ in keys.values()], [4, 4])
        self.assertEqual(keys["amd64"][0] & keys["arm64"][0], set())
        # Each takes what is for it, and nothing of the other's comes.
        seen = len(self.registry.requests())
        result = self.build_for(self.two, "linux/arm64", "--cache-from", f"type=registry,ref={cache}")
        self.assertEqual(result.stdout.count(" ---> Using cache"), 4, result.stdout)
        fetched = {path.rpartition("/")[2] for method, path, _ in self.registry.requests()[seen:] if method == "GET" and "/blobs/" in path}
        self.assertEqual(fetched & (keys["amd64"][1] - keys["arm64"][1]), set())
        self.assertTrue(fetched & keys["arm64"][1])
        result = self.build_for(self.two, "linux/amd64,linux/arm64", "--cache-from", f"type=registry,ref={cache}")
        self.assertEqual(result.stdout.count(" ---> Using cache"), 8, result.stdout)
        self.assertEqual(self.identity(self.two), made)
        result = self.build_for(self.two, "linux/s390x", "--cache-from", f"type=registry,ref={cache}")
        self.assertIn("/many:x is left out", result.stdout)

    def test_several_platforms_share_one_folder(self):
        self.write_for_both()
        folder, least = os.path.join(self.folder, "cache"), os.path.join(self.folder, "least")
        self.build_for(self.one, "linux/amd64,linux/arm64", "--cache-to", f"type=local,dest={folder},mode=max", "--cache-to", f"type=local,dest={least}")
        made = self.identity(self.one)
        for words, count in (("linux/arm64", 4), ("linux/amd64,linux/arm64", 8)):
            before = self.images(self.two)
            result = self.build_for(self.two, words, "--cache-from", f"type=local,src={folder}")
            self.assertEqual(result.stdout.count(" ---> Using cache"), count, result.stdout)
            self.assertLessEqual(len(self.images(self.two) - before), 2, "the lent images are gone again")
            self.two.ok("builder", "prune", "-af")
        self.assertEqual(self.identity(self.two), made)
        for image in self.images(self.two) - {self.two.ok("image", "inspect", "--format", "{{.Id}}", "busybox")}:
            self.two.ok("rmi", "-f", image)
        self.two.ok("builder", "prune", "-af")
        result = self.build(self.two, "--cache-from", f"type=local,src={least}")  # this machine's, without saying so
        self.assertEqual(result.stdout.count(" ---> Using cache"), 3, result.stdout)
        result = self.build_for(self.two, "linux/s390x", "--cache-from", f"type=local,src={folder}")
        self.assertIn("nothing in it is for linux/s390x", result.stderr)

    def test_a_registry_that_refuses_the_cache_leaves_no_image_of_it(self):
        self.write_for_both()
        before = self.images(self.one)
        result = self.build(self.one, "--platform", "linux/amd64,linux/arm64", "--cache-to", "type=registry,ref=127.0.0.1:1/none:x", check=1)
        self.assertIn("--cache-to 127.0.0.1:1/none:x", result.stderr)
        left = self.images(self.one) - before
        self.assertEqual(len(left), 2, "the images of both platforms, and nothing of the cache")

    # -- what goes wrong

    def test_a_source_that_is_not_there_is_told_and_left_out(self):
        result = self.build(self.one, "--cache-from", f"type=registry,ref={self.registry.address}/no/such:x", "--cache-from", f"type=local,src={self.folder}/none", "--cache-from", "busybox")
        self.assertIn("/no/such:x is left out", result.stdout)
        self.assertIn("cache source busybox offers no steps", result.stdout)
        self.assertIn("there is no folder", result.stderr)

    def test_a_layer_that_does_not_come_is_made_again(self):
        cache = f"{self.registry.address}/cache/cut:x"
        self.build(self.one, "--cache-to", f"type=registry,ref={cache},mode=max")
        files = [os.path.join(folder, name) for folder, _, names in os.walk(os.path.join(self.registry.folder, "data")) for name in names if name == "data"]
        os.truncate(max(files, key=os.path.getsize), 10)
        result = self.build(self.two, "--cache-from", f"type=registry,ref={cache}")
        self.assertIn("the step is done again", result.stdout)
        self.assertIn("\nran-tool\n", result.stdout)

    def test_flags_that_are_wrong_are_named(self):
        for arguments, words in {("--cache-from", "type=gha"): "--cache-from: type=gha is not supported (registry, local)", ("--cache-to", "type=registry"): "needs ref=NAME",
                                 ("--cache-to", "type=local"): "needs dest=FOLDER", ("--cache-to", "type=registry,ref=x,mode=most"): "mode=most is neither min nor max",
                                 ("--cache-from", "type=local,dir=x"): "unexpected key 'dir'"}.items():
            self.assertIn(words, self.build(self.one, *arguments, check=1).stderr)

    # -- past builds

    def test_builds_are_remembered_with_what_they_said(self):
        self.one.ok("build", "history", "rm", "--all")
        self.build(self.one)
        self.write("Dockerfile", "FROM busybox\nRUN echo before && exit 3\n")
        self.build(self.one, "-t", "other", "--progress", "json", check=1)
        rows = [json.loads(line) for line in self.one.ok("build", "history", "ls", "--format", "json").splitlines()]
        self.assertEqual([(row["Name"], row["Status"]) for row in rows], [("made", "Error"), ("made", "Completed")])
        self.assertIn("returned a non-zero code: 3", rows[0]["Error"])
        self.assertEqual(rows[1]["Image"], self.identity(self.one))
        self.assertIn("before\n", self.one.ok("build", "history", "logs") + "\n")
        self.assertIn("\nran-tool\n", self.one.ok("builder", "history", "logs", "^1"))
        shown = json.loads(self.one.ok("build", "history", "inspect", rows[1]["ID"][:12]))[0]
        self.assertEqual(shown["Tags"], ["made"])
        self.assertEqual(shown["Status"], "Completed")
        self.one.ok("build", "history", "rm", rows[0]["ID"])
        self.assertEqual(self.one.ok("build", "history", "ls", "-q"), rows[1]["ID"])
        self.assertIn("No such build", self.one.cli("build", "history", "logs", "nothing", check=1).stderr)


if __name__ == "__main__":
    caisson.main()

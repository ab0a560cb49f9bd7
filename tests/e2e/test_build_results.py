#!/usr/bin/env python3
"""What becomes of a build's image: pushed with what is said of it, and for several platforms at once."""

import contextlib
import json
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile

import caisson
import registries

SLSA = "https://slsa.dev/provenance/v1"


def arm64_program(text):
    """A static program for arm64 that writes `text`: ELF header, one segment, seven instructions, the text."""
    head = 64 + 56
    code = [0xD2800808, 0xD2800020, 0x10000000 | (6 << 5) | 1, 0xD2800002 | (len(text) << 5), 0xD4000001, 0xD2800BA8, 0xD2800000, 0xD4000001]  # write(1, …), exit(0)
    body = b"".join(struct.pack("<I", word) for word in code) + text
    base = 0x400000
    elf = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, base + head, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return elf + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, head + len(body), head + len(body), 4096) + body


class Results(registries.CaissonRegistryTest):
    """An engine and our own registry, alone in a network namespace."""

    @classmethod
    def open(cls):
        cls.registry = cls.kept(registries.CaissonRegistry(cls.namespace))
        cls.engine = cls.new_engine()
        cls.engine.import_busybox()

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix=caisson.PREFIX)
        self.addCleanup(folder.cleanup)
        self.folder = caisson.own(folder.name)
        self.context = os.path.join(self.folder, "context")
        os.mkdir(self.context)
        caisson.own(self.context)

    def write(self, name, text):
        path = os.path.join(self.context, name)
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, 0o755)

    def run_here(self, *words, check=0, **options):
        """Our command line in the registry's network."""
        command = [*self.namespace.command, *self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", self.engine.host, *words])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, env={**self.engine.environment(), **options}, check=False)
        self.assertEqual(done.returncode, check, f"{words}: {done.stderr}{done.stdout}")
        return done

    def address(self, name):
        return f"{self.registry.address}/{name}"

    def manifest(self, repository, reference):
        status, headers, body = self.registry.request("GET", f"/v2/{repository}/manifests/{reference}", headers={"Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"})
        self.assertEqual(status, 200, body)
        return json.loads(body), headers["docker-content-digest"]

    def blob(self, repository, digest):
        status, _, body = self.registry.request("GET", f"/v2/{repository}/blobs/{digest}")
        self.assertEqual(status, 200, body)
        return body

    def attached(self, repository, digest):
        """The blobs of what is attached to a manifest, by type."""
        _, _, body = self.registry.request("GET", f"/v2/{repository}/referrers/{digest}")
        found = {}
        for entry in json.loads(body)["manifests"]:
            manifest, _ = self.manifest(repository, entry["digest"])
            self.assertEqual(manifest["subject"]["digest"], digest)
            found[manifest["artifactType"]] = self.blob(repository, manifest["layers"][0]["digest"])
        return found

    # -- what is said of it

    def test_provenance_and_packages_are_attached_signed_and_verified(self):
        self.write("Dockerfile", "FROM busybox AS tools\nRUN true\nFROM busybox\nARG WHO\nRUN --mount=type=secret,id=s test -s /run/secrets/s\nCOPY --from=tools /bin/busybox /b\n")
        self.write("secret", "the-secret-itself")
        key, metadata = os.path.join(self.folder, "key"), os.path.join(self.folder, "metadata")
        with open(os.path.join(self.folder, "empty"), "wb"):
            pass
        self.run_here("image", "generate-key", "--output-prefix", key, "--passphrase-file", os.path.join(self.folder, "empty"))
        name = self.address("said/app:1")
        out = self.run_here("build", "-t", name, "--push", "--sbom=true", "--provenance=mode=max", "--attestation-key", key + ".key", "--metadata-file", metadata, "--build-arg", "WHO=me",
                            "--label", "l=v", "--secret", f"id=s,src={self.context}/secret", self.context)
        _, digest = self.manifest("said/app", "1")
        found = self.attached("said/app", digest)
        self.assertEqual(sorted(found), ["application/spdx+json", "application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.in-toto+json"])
        self.assertEqual(json.loads(found["application/spdx+json"])["spdxVersion"], "SPDX-2.3")
        statement = json.loads(found["application/vnd.in-toto+json"])
        self.assertEqual((statement["predicateType"], statement["subject"][0]["digest"]["sha256"]), (SLSA, digest.removeprefix("sha256:")))
        definition = statement["predicate"]["buildDefinition"]
        request = definition["externalParameters"]["request"]
        self.assertEqual((request["args"]["WHO"], request["labels"], request["secrets"]), ("me", {"l": "v"}, ["s"]))
        self.assertIn("FROM busybox AS tools", request["dockerfile"])
        base = self.engine.ok("image", "inspect", "--format", "{{.Id}}", "busybox").removeprefix("sha256:")
        self.assertEqual(definition["resolvedDependencies"], [{"uri": "pkg:docker/busybox@latest?platform=linux%2Famd64", "digest": {"sha256": base}}])
        run = statement["predicate"]["runDetails"]
        self.assertEqual(run["metadata"]["invocationId"], json.loads(self.engine.ok("builder", "history", "ls", "--format", "json").splitlines()[0])["ID"])
        self.assertNotIn("the-secret-itself", json.dumps(statement))
        self.assertIn(digest.removeprefix("sha256:")[:12], out.stdout + out.stderr)
        with open(metadata, encoding="utf-8") as file:
            told = json.load(file)
        self.assertEqual((told["containerimage.digest"], told["image.name"], told["caisson.build.provenance"]), (digest, name, statement["predicate"]))
        for kind in ("slsaprovenance1", "spdx"):
            verified = json.loads(self.run_here("image", "verify", "--attestation", kind, "--key", key + ".pub", "--format", "json", name).stdout)
            self.assertEqual(len(verified["attestations"]), 1, kind)
        self.assertEqual(verified["attestations"][0]["predicate"]["spdxVersion"], "SPDX-2.3")

    def test_little_is_told_unless_all_is_asked_for(self):
        self.write("Dockerfile", "FROM busybox\nARG TOKEN\nLABEL hidden=label\n")
        self.run_here("build", "-t", self.address("said/min:1"), "--push", "--attest", "type=provenance", "--build-arg", "TOKEN=by-mistake", self.context)
        _, digest = self.manifest("said/min", "1")
        found = self.attached("said/min", digest)
        self.assertEqual(list(found), ["application/vnd.in-toto+json"])
        self.assertNotIn(b"by-mistake", found["application/vnd.in-toto+json"])
        self.assertNotIn(b"LABEL", found["application/vnd.in-toto+json"])
        self.run_here("build", "-t", self.address("said/none:1"), "--push", "--attest", "type=provenance", "--provenance=false", self.context)
        self.assertEqual(self.attached("said/none", self.manifest("said/none", "1")[1]), {})

    def test_what_does_not_go_together_is_refused_before_anything_is_built(self):
        self.write("Dockerfile", "FROM busybox\n")
        for words, why in ((["--sbom=true"], "with --push"), (["--provenance=some", "-t", "a"], "neither true, false, mode=min nor mode=max"), (["--sbom=generator=x/y"], "there is no generator"),
                           (["--attestation-key", "k"], "none is asked for"), (["--platform", "linux/amd64,linux/arm64", "-o", "type=docker,dest=x"], "holds one platform"),
                           (["--platform", "linux/amd64,linux/arm64", "-o", "type=oci,dest=x"], "needs a name"), (["--platform", "linux/nothing/a/b"], "--platform"),
                           (["--attest", "type=vuln"], "type is sbom or provenance")):
            self.assertIn(why, self.run_here("build", *words, self.context, check=1).stderr, words)

    # -- in which compression layers leave

    def layers_of(self, archive):
        """The media types of the layers of an archive's only image."""
        with tarfile.open(archive) as tar:
            def read(digest):
                return json.load(tar.extractfile("blobs/" + digest.replace(":", "/")))

            entry = json.load(tar.extractfile("index.json"))["manifests"][0]
            document = read(entry["digest"])
            manifest = document if "layers" in document else read(document["manifests"][0]["digest"])
            for layer in manifest["layers"]:
                self.assertEqual(tar.getmember("blobs/" + layer["digest"].replace(":", "/")).size, layer["size"])
            return [layer["mediaType"].removeprefix("application/vnd.oci.image.layer.v1.") for layer in manifest["layers"]]

    def build_archive(self, fields, kind="oci", engine=None):
        archive = os.path.join(self.folder, "out.tar")
        (engine or self.engine).ok("build", "-t", "leaves:1", "-o", f"type={kind},dest={archive}{fields}", self.context)
        return archive

    def test_an_archive_has_its_layers_in_the_compression_that_is_asked_for(self):
        self.write("more", "more")
        self.write("Dockerfile", "FROM busybox\nCOPY more /more\n")
        other = self.new_engine()
        for fields, types in (("", ["tar"] * 2), (",compression=uncompressed", ["tar"] * 2), (",compression=zstd", ["tar+zstd"] * 2), (",compression=gzip,compression-level=9", ["tar+gzip"] * 2)):
            for kind in ("oci", "docker"):
                archive = self.build_archive(fields, kind)
                self.assertEqual(self.layers_of(archive), types, (kind, fields))
                made = self.engine.ok("image", "inspect", "--format", "{{.Id}}", "leaves:1")
                other.ok("load", "-i", archive)
                self.assertEqual(other.ok("run", "--rm", made, "cat", "/more"), "more")
                other.ok("rmi", made)

    def test_a_base_keeps_the_compression_it_came_in_unless_it_is_forced(self):
        base = self.address("base/gzip:1")
        self.engine.ok("tag", "busybox", base)
        self.engine.ok("push", base)
        self.write("more", "more")
        self.write("Dockerfile", f"FROM {base}\nCOPY more /more\n")
        other = self.new_engine()
        other.ok("pull", base)
        for fields, types in ((",compression=zstd", ["tar+gzip", "tar+zstd"]), (",compression=zstd,force-compression=true", ["tar+zstd"] * 2), (",compression=uncompressed", ["tar+gzip", "tar"]),
                              (",compression=uncompressed,force-compression=true", ["tar"] * 2)):
            self.assertEqual(self.layers_of(self.build_archive(fields, engine=other)), types, fields)
        for fields, types in (("", ["tar+gzip"] * 2), (",compression=zstd", ["tar+gzip", "tar+zstd"]), (",compression=zstd,compression-level=5,force-compression=true", ["tar+zstd"] * 2)):
            other.ok("build", "-t", self.address("leaves/pushed:1"), "-o", "type=registry" + fields, self.context)
            manifest, digest = self.manifest("leaves/pushed", "1")
            self.assertEqual([layer["mediaType"].removeprefix("application/vnd.oci.image.layer.v1.") for layer in manifest["layers"]], types, fields)
            self.assertIn(self.address("leaves/pushed") + "@" + digest, other.ok("image", "inspect", "--format", "{{.RepoDigests}}", self.address("leaves/pushed:1")))

    def test_a_quiet_build_delivers_as_a_loud_one_does(self):
        folder = caisson.own(caisson.write_files(os.path.join(self.engine.folder, self._testMethodName), {"Dockerfile": "FROM busybox\nRUN echo quiet > /quiet\n"}))
        archive = os.path.join(folder, "out.tar")
        image = self.engine.ok("build", "-q", "-o", f"type=oci,dest={archive}", folder, timeout=120)
        self.assertRegex(image, r"^sha256:[0-9a-f]{64}$")
        with tarfile.open(archive) as tar:
            self.assertIn("blobs/sha256/" + image.split(":")[1], tar.getnames())
        metadata = os.path.join(folder, "metadata.json")
        self.engine.ok("build", "-q", "--metadata-file", metadata, folder, timeout=120)
        with open(metadata, encoding="utf-8") as file:
            self.assertIn(image.split(":")[1], file.read())

    def test_a_compression_that_an_output_has_no_use_for_is_refused(self):
        self.write("Dockerfile", "FROM busybox\nRUN false\n")
        for output, why in (("type=local,dest=x,compression=gzip", "type=local: compression is for layers that leave"), ("type=image,compression=gzip", "type=image: compression is for"),
                            ("type=oci,dest=x,compression-level=3", "need compression=FORMAT"), ("type=tar,dest=x,force-compression=true", "type=tar: compression is for")):
            self.assertIn(why, self.run_here("build", "-t", "refused:1", "-o", output, self.context, check=1).stderr, output)
        self.write("Dockerfile", "FROM busybox\n")
        for output, why in (("type=oci,dest=x,compression=lz4", "gzip, zstd, zstd:chunked and uncompressed"), ("type=oci,dest=x,compression=gzip,compression-level=13", "gzip has the levels 1 to 12"),
                            ("type=oci,dest=x,compression=gzip,compression-level=much", "compression-level")):
            self.assertIn(why, self.run_here("build", "-o", output, self.context, check=1).stderr, output)

    # -- platforms

    def build_for_both(self, *words, check=0):
        self.write("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /which\nCMD [\"/which\"]\n")
        self.write("amd64", "for amd64")
        self.write("arm64", "for arm64")
        return self.run_here("build", "--platform", "linux/amd64,linux/arm64", *words, self.context, check=check)

    def test_several_platforms_are_one_image_in_the_registry(self):
        name = self.address("many/app:1")
        self.build_for_both("-t", name, "--push", "--provenance=true")
        index, digest = self.manifest("many/app", "1")
        self.assertEqual(index["mediaType"], "application/vnd.oci.image.index.v1+json")
        self.assertEqual({entry["platform"]["architecture"] for entry in index["manifests"]}, {"amd64", "arm64"})
        for entry in index["manifests"]:
            architecture = entry["platform"]["architecture"]
            self.assertIn(f'"platform":"linux/{architecture}"'.encode(), self.attached("many/app", entry["digest"])["application/vnd.in-toto+json"])
            self.run_here("pull", "--platform", f"linux/{architecture}", name)
            self.assertEqual(self.engine.ok("image", "inspect", "--format", "{{.Architecture}}", name), architecture)
        self.assertIn(digest, self.run_here("pull", name).stderr)

    def test_annotations_are_where_they_were_asked_for(self):
        self.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
        name = self.address("noted/several:1")
        self.run_here("build", "-t", name, "--platform", "linux/amd64,linux/arm64", "--push", "--annotation", "index,manifest:org.example.both=1", "--annotation", "manifest[linux/arm64]:org.example.arm=2",
                      "--annotation", "manifest-descriptor:org.example.entry=3", self.context)
        index, _ = self.manifest("noted/several", "1")
        self.assertEqual(index["annotations"], {"org.example.both": "1"})
        for entry in index["manifests"]:
            self.assertEqual(entry["annotations"], {"org.example.entry": "3"})
            manifest, _ = self.manifest("noted/several", entry["digest"])
            self.assertEqual(manifest["annotations"], {"org.example.both": "1", **({"org.example.arm": "2"} if entry["platform"]["architecture"] == "arm64" else {})})
        # The same files at the same time with other annotations: another manifest, and not the one from before.
        for note in ("one", "two", "one"):
            self.run_here("build", "-t", self.address("noted/single:1"), "--push", "--annotation", "org.example.note=" + note, "--build-arg", "SOURCE_DATE_EPOCH=1", self.context)
            self.assertEqual(self.manifest("noted/single", "1")[0]["annotations"], {"org.example.note": note})
        archive = os.path.join(self.context, "..", "noted.tar")
        self.run_here("build", "--annotation", "manifest-descriptor:org.example.entry=3", "-o", "type=oci,dest=" + archive, self.context)
        with tarfile.open(archive) as tar:
            self.assertEqual(json.load(tar.extractfile("index.json"))["manifests"][0]["annotations"]["org.example.entry"], "3")
        self.assertIn("the result has no index", self.run_here("build", "--annotation", "index:a=b", self.context, check=1).stderr)
        self.assertIn("want key=value", self.run_here("build", "--annotation", "a", self.context, check=1).stderr)

    def test_a_name_means_this_machines_image_of_several(self):
        self.build_for_both("-t", "many:here")
        self.assertEqual(self.engine.ok("image", "inspect", "--format", "{{.Architecture}}", "many:here"), "amd64")

    def test_an_archive_and_folders_hold_all_platforms(self):
        archive, folder = os.path.join(self.folder, "all.tar"), os.path.join(self.folder, "all")
        self.build_for_both("-t", "many:archive", "-o", f"type=oci,dest={archive}")
        self.build_for_both("-o", f"type=local,dest={folder}")
        for architecture in ("amd64", "arm64"):
            with open(os.path.join(folder, f"linux_{architecture}", "which"), encoding="utf-8") as file:
                self.assertEqual(file.read(), f"for {architecture}")
        layout = os.path.join(self.folder, "layout")
        os.mkdir(layout)
        subprocess.run(["tar", "-xf", archive, "-C", layout], check=True)
        with open(os.path.join(layout, "index.json"), encoding="utf-8") as file:
            outer = json.load(file)["manifests"]
        self.assertEqual([entry["mediaType"] for entry in outer], ["application/vnd.oci.image.index.v1+json"])
        # Another engine takes the one for its machine from it.
        self.assertIn("many:archive", self.run_here("load", "-i", archive).stdout)
        if shutil.which("skopeo"):
            seen = subprocess.run(["skopeo", "inspect", "--override-arch", "arm64", f"oci-archive:{archive}"], capture_output=True, text=True, check=True).stdout
            self.assertEqual(json.loads(seen)["Architecture"], "arm64")

    def test_a_base_of_another_platform_is_warned_of_by_its_rule(self):
        self.write("program", "x")
        self.write("Dockerfile", "FROM --platform=linux/arm64 busybox\nCOPY program /program\n")
        said = self.run_here("build", self.context).stdout
        self.assertIn('InvalidBaseImagePlatform: Base image busybox was pulled with platform "linux/amd64", expected "linux/arm64" for current build', said)
        self.assertIn("cannot be pulled", said)

    def test_a_step_of_another_platform_says_what_is_missing(self):
        if os.path.exists("/proc/sys/fs/binfmt_misc/register") and any("aarch64" in name for name in os.listdir("/proc/sys/fs/binfmt_misc")):
            self.skipTest("this host emulates arm64")
        self.write("program", arm64_program(b"never said\n"))
        self.write("Dockerfile", "FROM scratch\nCOPY program /program\nRUN [\"/program\"]\n")
        said = self.run_here("build", "--platform", "linux/arm64", self.context, check=1).stderr
        self.assertIn("exec format error: the step is for linux/arm64, and this host knows no emulator for it", said)

    def test_steps_of_another_platform_run_where_the_host_emulates_it(self):
        qemu = shutil.which("qemu-aarch64-static")
        if not qemu:
            self.skipTest("needs qemu-aarch64-static: tools/dependencies peers")
        with contextlib.ExitStack() as stack:
            folder = "/proc/sys/fs/binfmt_misc"
            if not os.path.exists(folder + "/register"):
                if subprocess.run(["mount", "-t", "binfmt_misc", "caisson-test", folder], check=False).returncode != 0:
                    self.skipTest("this kernel has no binfmt_misc")
                stack.callback(lambda: subprocess.run(["umount", folder], check=False))
            entry = os.path.join(folder, "caisson-test-arm64")
            magic = "\\x7fELF\\x02\\x01\\x01" + "\\x00" * 9 + "\\x02\\x00\\xb7\\x00"
            mask = "\\xff" * 7 + "\\x00" * 9 + "\\xfe\\xff\\xff\\xff"
            with open(folder + "/register", "w", encoding="ascii") as file:
                file.write(f":caisson-test-arm64:M::{magic}:{mask}:{qemu}:F")

            def forget():
                with open(entry, "w", encoding="ascii") as file:
                    file.write("-1")

            stack.callback(forget)
            self.write("program", arm64_program(b"spoken by arm64\n"))
            self.write("Dockerfile", "FROM scratch\nCOPY program /program\nRUN [\"/program\"]\n")
            out = self.run_here("build", "--platform", "linux/arm64", "-t", "emulated", self.context)
            self.assertIn("spoken by arm64", out.stdout)
            self.assertEqual(self.engine.ok("image", "inspect", "--format", "{{.Architecture}}", "emulated"), "arm64")


if __name__ == "__main__":
    caisson.main()

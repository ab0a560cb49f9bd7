#!/usr/bin/env python3
"""Images travel between Caisson and skopeo, podman and docker, in both directions, and keep their identity."""

import bz2
import hashlib
import io
import json
import lzma
import os
import stat
import shutil
import subprocess
import tarfile
import unittest

import caisson
import peers


def upper_layer():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        caisson.add_file(tar, "etc/.wh.os-release")
        caisson.add_file(tar, "srv/two", b"second layer\n", mode=0o4755)
        caisson.add_file(tar, "srv/link", type=tarfile.SYMTYPE, linkname="two")
        caisson.add_file(tar, "srv/" + "n" * 120, b"long name\n", uid=1000, gid=1000)
    return out.getvalue()


def small_tar(name, text):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        caisson.add_file(tar, name, text)
    return out.getvalue()


CONFIG = {"Cmd": ["sh", "-c", "cat /srv/two; stat -c '%a %u' /srv/two; ls /etc; echo $MARK"], "Env": ["PATH=/bin", "MARK=kept"], "WorkingDir": "/srv",
          "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}}, "User": "0"}
WANTED = ["second", "layer", "4755", "0"]


class Exchange(caisson.EngineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.engine.ok("load", stdin=caisson.docker_archive([caisson.busybox_rootfs(), upper_layer()], CONFIG, ["exchange:1"]), text=False)
        cls.saved = os.path.join(cls.engine.folder, "saved.tar")
        cls.engine.ok("save", "-o", cls.saved, "exchange:1")

    def work(self):
        folder = os.path.join(self.engine.folder, self._testMethodName)
        os.makedirs(folder, exist_ok=True)
        return folder

    def check_ours(self, name):
        """The image `name` runs in our engine and is what was sent."""
        out = self.engine.ok("run", "--rm", name).split()
        self.assertEqual(out[:4], WANTED)
        self.assertNotIn("os-release", out)
        self.assertEqual(out[-1], "kept")
        config = json.loads(self.engine.ok("image", "inspect", name))[0]["Config"]
        self.assertEqual((config["WorkingDir"], config["Labels"]["a"]), ("/srv", "b"))

    def check_output(self, text):
        words = text.split()
        self.assertEqual(words[:4], WANTED)
        self.assertEqual(words[-1], "kept")

    def skopeo(self, *arguments):
        if not shutil.which("skopeo"):
            self.skipTest("needs skopeo: tools/dependencies peers")
        run = subprocess.run(["skopeo", "--insecure-policy", "--tmpdir", self.work(), *arguments], capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def test_an_archive_does_not_take_the_place_of_a_device(self):
        device = os.path.join(self.engine.folder, "null")
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        container = self.engine.ok("create", "exchange:1", "true")
        self.addCleanup(lambda: self.engine.cli("rm", container))
        for words in (("save", "-o", device, "exchange:1"), ("export", "-o", device, container)):
            result = self.engine.cli(*words)
            self.assertEqual(result.returncode, 1)
            self.assertIn(f'invalid output path: "{device}" must be a directory or a regular file: got a device', result.stderr)
            self.assertTrue(stat.S_ISCHR(os.stat(device).st_mode))

    def test_archives_wrapped_in_xz_or_bzip2_are_the_same_images(self):
        with open(self.saved, "rb") as file:
            saved = file.read()
        wanted = self.engine.inspect("exchange:1")["Id"]
        rootfs = caisson.busybox_rootfs()
        self.engine.import_image(rootfs, "plain:1")
        plain = self.engine.inspect("plain:1")["RootFS"]["Layers"]
        for name, wrap in (("xz", lzma.compress), ("bzip2", bz2.compress)):
            with self.subTest(wrapping=name):
                self.engine.ok("rmi", "exchange:1")
                self.assertIn("exchange:1", self.engine.ok("load", stdin=wrap(saved), text=False).decode())
                self.assertEqual(self.engine.inspect("exchange:1")["Id"], wanted)
                self.engine.import_image(wrap(rootfs), f"{name}:1", ['CMD ["true"]'])
                self.assertEqual(self.engine.inspect(f"{name}:1")["RootFS"]["Layers"], plain)
                self.engine.ok("run", "--rm", f"{name}:1", "true")
                folder = self.work()
                with open(os.path.join(folder, "root.tar." + name), "wb") as file:
                    file.write(wrap(small_tar("inside", b"unpacked")))
                with open(os.path.join(folder, "Dockerfile"), "w", encoding="utf-8") as file:
                    file.write(f"FROM busybox\nADD root.tar.{name} /\n")
                self.engine.ok("build", "-q", "-t", f"added-{name}", folder)
                self.assertEqual(self.engine.ok("run", "--rm", f"added-{name}", "cat", "/inside"), "unpacked")
                self.assertIn(f"{name}: ", self.engine.cli("import", "-", stdin=wrap(rootfs)[:-100], text=False, check=1).stderr.decode())

    def test_the_archive_is_docker_archive_and_oci_layout_at_once(self):
        with tarfile.open(self.saved) as tar:
            names = set(tar.getnames())
            manifest = json.load(tar.extractfile("manifest.json"))
            index = json.load(tar.extractfile("index.json"))
            self.assertEqual(json.load(tar.extractfile("oci-layout"))["imageLayoutVersion"], "1.0.0")
            self.assertEqual(manifest[0]["RepoTags"], ["exchange:1"])
            for path in [manifest[0]["Config"], *manifest[0]["Layers"]]:
                self.assertIn(path, names)
            for name in names:
                if name.startswith("blobs/sha256/") and len(name) > 20:
                    self.assertEqual(hashlib.sha256(tar.extractfile(name).read()).hexdigest(), name.rsplit("/", 1)[1])
            self.assertEqual(index["schemaVersion"], 2)

    def test_skopeo_reads_ours_as_docker_archive_and_gives_it_back_as_oci(self):
        folder = self.work()
        info = json.loads(self.skopeo("inspect", "--config", f"docker-archive:{self.saved}"))
        self.assertEqual(info["config"]["Env"], CONFIG["Env"])
        self.skopeo("copy", f"docker-archive:{self.saved}", f"oci-archive:{folder}/oci.tar:skopeo:oci")
        self.engine.ok("load", "-i", f"{folder}/oci.tar")
        listed = [line.split() for line in self.engine.ok("images").splitlines()]
        name = "skopeo:oci" if ["skopeo", "oci"] in [row[:2] for row in listed] else self.untagged_id()
        self.check_ours(name)

    def untagged_id(self):
        """An archive whose name is only a tag loads as <none>; its id is the newest."""
        return self.engine.ok("images", "-q").split()[0]

    def test_skopeo_reads_ours_as_oci_layout(self):
        folder = self.work()
        with tarfile.open(self.saved) as tar:
            tar.extractall(f"{folder}/layout")
        self.skopeo("copy", f"oci:{folder}/layout", f"docker-archive:{folder}/back.tar:skopeo:layout")
        self.engine.ok("load", "-i", f"{folder}/back.tar")
        self.check_ours("skopeo:layout")

    def test_skopeos_compressed_layers_load(self):
        folder = self.work()
        for kind in ("gzip", "zstd"):
            with self.subTest(compression=kind):
                self.skopeo("copy", "--dest-compress-format", kind, "--dest-compress", f"docker-archive:{self.saved}", f"oci:{folder}/{kind}:latest")
                with tarfile.open(f"{folder}/{kind}.tar", "w") as tar:
                    tar.add(f"{folder}/{kind}", arcname=".")
                self.engine.ok("load", "-i", f"{folder}/{kind}.tar")
                # The archive names nothing, and other tests may have loaded the same image under names: ask for it by its config's digest.
                with open(f"{folder}/{kind}/index.json", encoding="utf-8") as index:
                    manifest = json.load(index)["manifests"][0]["digest"].split(":")[1]
                with open(f"{folder}/{kind}/blobs/sha256/{manifest}", encoding="utf-8") as blob:
                    identity = json.load(blob)["config"]["digest"].split(":")[1]
                self.check_ours(identity[:20])

    def test_podman_loads_ours_runs_it_and_gives_it_back(self):
        if reason := peers.PrivatePodman.why_not():
            self.skipTest(reason)
        folder = self.work()
        with peers.PrivatePodman() as podman:
            podman.podman("load", "-i", self.saved, check=0)
            run = podman.podman("run", "--rm", "--network", "none", "exchange:1")
            if run.returncode == 0:
                self.check_output(run.stdout.decode())
            else:
                self.assertIn(b"cgroup", run.stderr, run.stderr)  # podman cannot run here; its store still took the image
            for form in ("docker-archive", "oci-archive"):
                podman.podman("tag", "exchange:1", f"localhost/{form}:podman", check=0)
                podman.podman("save", "--format", form, "-o", f"{folder}/{form}.tar", f"localhost/{form}:podman", check=0)
                self.engine.ok("load", "-i", f"{folder}/{form}.tar")
                self.check_ours(f"localhost/{form}:podman")

    def test_docker_loads_ours_runs_it_and_gives_it_back(self):
        if reason := peers.PrivateDockerd.why_not():
            self.skipTest(reason)
        folder = self.work()
        with peers.PrivateDockerd() as docker:
            docker.docker("load", "-i", self.saved, check=0)
            self.check_output(docker.docker("run", "--rm", "exchange:1", check=0).stdout.decode())
            theirs = json.loads(docker.docker("image", "inspect", "exchange:1", check=0).stdout)[0]
            ours = json.loads(self.engine.ok("image", "inspect", "exchange:1"))[0]
            self.assertEqual((theirs["Id"], theirs["RootFS"]["Layers"]), (ours["Id"], ours["RootFS"]["Layers"]))
            docker.docker("tag", "exchange:1", "from/docker:20", check=0)
            docker.docker("save", "-o", f"{folder}/docker.tar", "from/docker:20", check=0)
        self.engine.give(f"{folder}/docker.tar")
        self.engine.ok("load", "-i", f"{folder}/docker.tar")
        self.check_ours("from/docker:20")
        self.assertEqual(json.loads(self.engine.ok("image", "inspect", "from/docker:20"))[0]["Id"], ours["Id"])


if __name__ == "__main__":
    caisson.main()

#!/usr/bin/env python3
"""Layers as directories and as EROFS indexes over their tar: said, probed, side by side in one store, changed under a store that is in use, and killed
in the middle of their making. What containers see is the same."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
import time
import unittest

import caisson
from caisson import wait_until

SEED = int(os.environ.get("CAISSON_TEST_SEED", random.SystemRandom().randrange(1 << 31)))
def layer(fill):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        fill(tar)
    return out.getvalue()


def large_layer(size):
    """Of `size` bytes that no compression makes smaller, in a thousand files; its gzip form."""
    noise = random.Random(SEED).randbytes(size)
    step = size // 1000
    return gzip.compress(layer(lambda tar: [caisson.add_file(tar, f"many/{number}", noise[number * step : (number + 1) * step]) for number in range(1000)]), 1)


class Forms(unittest.TestCase):
    def setUp(self):
        self.engine = caisson.Engine()
        self.addCleanup(self.engine.close)

    def start(self, form):
        """(Re)starts the daemon. Skips the test where the form cannot be had."""
        self.engine.stop()
        self.engine.options = ["--snapshot-form", form]
        try:
            self.engine.start()
        except AssertionError:
            if "layers cannot be kept as EROFS indexes here" in self.engine.log_text():
                self.skipTest(self.engine.log_text()[-300:].strip())
            raise
        if form != "auto":
            self.assertEqual(self.form(), form)

    def form(self):
        return dict(json.loads(self.engine.ok("info", "--format", "{{json .DriverStatus}}")))["Snapshot form"]

    def forms_of(self, image):
        """The forms of an image's layers, the lowest first."""
        found = []
        for diff_id in json.loads(self.engine.ok("image", "inspect", image))[0]["RootFS"]["Layers"]:
            folder = os.path.join(self.engine.root, "layers", diff_id.split(":")[1])
            found.append("directory" if os.path.isdir(os.path.join(folder, "fs")) else "erofs" if os.path.isfile(os.path.join(folder, "index.erofs")) else "missing")
        return found

    def finish(self):
        ids = self.engine.ok("ps", "-aq").split()
        if ids:
            self.engine.ok("rm", "-f", "-v", *ids)
        images = self.engine.ok("images", "-aq").split()
        if images:
            self.engine.ok("rmi", "-f", *dict.fromkeys(images))
        self.assertEqual(caisson.mounts_mentioning(os.path.join(self.engine.root, "layers")), [])
        self.assertEqual(os.listdir(os.path.join(self.engine.root, "layers")), ["empty"])
        self.assertEqual(os.listdir(os.path.join(self.engine.root, "ingest")), [])
        self.assertEqual(self.engine.stop(), 0, self.engine.log_text()[-2000:])
        self.assertEqual(self.engine.leftovers(), [])


class Change(Forms):
    def test_a_store_goes_on_working_when_the_form_of_new_layers_changes(self):
        self.start("directory")
        self.engine.import_busybox("lower:1")
        self.engine.ok("run", "-d", "--name", "running", "lower:1", "/bin/sh", "-c", "echo mine >/mine; sleep 1000")
        self.engine.ok("create", "--name", "made", "lower:1", "/bin/cat", "/etc/os-release")
        self.assertEqual(self.forms_of("lower:1"), ["directory"])

        self.start("erofs")
        self.assertEqual(self.engine.ok("exec", "running", "/bin/cat", "/mine"), "mine")
        self.assertIn("ID=busybox", self.engine.ok("start", "-a", "made"))
        self.assertEqual(self.forms_of("lower:1"), ["directory"])
        # One image of both forms: what a container wrote upon a directory becomes an index.
        self.engine.ok("exec", "running", "/bin/sh", "-c", "rm /etc/os-release; mkdir -p /srv/new; echo new >/srv/new/file; chown -R 7:8 /srv/new; chmod 4755 /bin/busybox")
        self.engine.ok("commit", "running", "both:1")
        self.assertEqual(self.forms_of("both:1"), ["directory", "erofs"])
        look = ("run", "--rm", "both:1", "/bin/sh", "-c", "ls /etc/os-release; stat -c '%u:%g' /srv/new/file; stat -c %a /bin/busybox; cat /srv/new/file /mine; find / -xdev -name file")
        seen = self.engine.cli(*look)
        self.assertEqual(seen.stdout.split(), ["7:8", "4755", "new", "mine", "/srv/new/file"], seen.stderr)

        self.start("directory")
        self.assertEqual(self.engine.cli(*look).stdout, seen.stdout)
        self.engine.ok("run", "-d", "--name", "above", "both:1", "/bin/sh", "-c", "echo top >/srv/top; sleep 1000")
        wait_until(lambda: self.engine.cli("exec", "above", "/bin/test", "-s", "/srv/top").returncode == 0, "the file is there")
        self.engine.ok("commit", "above", "three:1")
        self.assertEqual(self.forms_of("three:1"), ["directory", "erofs", "directory"])
        self.assertEqual(self.engine.ok("run", "--rm", "three:1", "/bin/cat", "/srv/top", "/srv/new/file", "/mine").split(), ["top", "new", "mine"])

        # Away and back again in the other form: the same bytes.
        saved = self.engine.ok("save", "three:1", text=False)
        ids = [self.engine.ok("image", "inspect", "--format", "{{.Id}}", name) for name in ("both:1", "three:1")]
        self.engine.ok("rm", "-f", "running", "made", "above")
        self.engine.ok("rmi", "three:1", "both:1", "lower:1")
        self.assertEqual(caisson.mounts_mentioning(os.path.join(self.engine.root, "layers")), [])
        self.start("erofs")
        self.engine.ok("load", stdin=saved, text=False)
        self.assertEqual(self.engine.ok("image", "inspect", "--format", "{{.Id}}", "three:1"), ids[1])
        self.assertEqual(self.forms_of("three:1"), ["erofs"] * 3)
        self.assertEqual(self.engine.ok("run", "--rm", "three:1", "/bin/cat", "/srv/top", "/srv/new/file", "/mine").split(), ["top", "new", "mine"])
        self.finish()

    def test_automatic_says_what_it_has_chosen_and_a_disk_that_cannot_is_no_obstacle(self):
        self.start("auto")
        self.assertIn(self.form(), ("directory", "erofs"))
        self.engine.import_busybox()
        self.assertEqual(self.forms_of("busybox"), [self.form()])
        self.finish()
        self.engine.close()
        # No index can be mounted from a tmpfs: automatic is directories there, and who asks for indexes is told why not.
        self.engine = caisson.Engine(folder=tempfile.mkdtemp(prefix="caisson-test-", dir="/dev/shm"), options=["--snapshot-form", "auto"])
        self.addCleanup(self.engine.close)
        self.engine.start()
        self.assertEqual(self.form(), "directory")
        self.engine.import_busybox()
        self.assertEqual(self.engine.ok("run", "--rm", "busybox", "echo", "works"), "works")
        self.finish()
        self.engine.options = ["--snapshot-form", "erofs"]
        with self.assertRaises(AssertionError) as refused:
            self.engine.start()
        self.assertRegex(str(refused.exception), "layers cannot be kept as EROFS indexes here: .*Block device required")

    def test_a_wrong_name_of_a_form_is_refused(self):
        self.engine.options = ["--snapshot-form", "squashfs"]
        with self.assertRaisesRegex(AssertionError, '"squashfs" is no form of layers'):
            self.engine.start()


class Readers(Forms):
    """What reads layers, on an image of three: the answers are the same in both forms."""

    def read_all(self, form):
        self.start(form)
        root = caisson.busybox_rootfs(lambda tar: caisson.add_file(tar, "srv/data/old", b"old\n", mode=0o640, uid=5, gid=6))
        second = layer(lambda tar: [caisson.add_file(tar, "srv/data/.wh.old"), caisson.add_file(tar, "srv/data/new", b"new\n"), caisson.add_file(tar, "home/.wh..wh..opq")])
        third = layer(lambda tar: caisson.add_file(tar, "tmp/implied/file", b"x"))  # names /tmp in passing only: it stays 1777
        self.engine.ok("load", stdin=caisson.docker_archive([root, second, third], {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, ["read:1"]), text=False)
        self.assertEqual(set(self.forms_of("read:1")), {form})
        answers = {"mode": self.engine.ok("run", "--rm", "read:1", "stat", "-c", "%a %u", "/tmp", "/srv/data", "/tmp/implied/file")}
        self.engine.ok("create", "--name", "still", "read:1", "true")
        answers["listing"] = self.listing(self.engine.ok("export", "still", text=False))
        answers["copied"] = self.listing(self.engine.ok("cp", "still:/srv/data", "-", text=False))
        self.engine.ok("cp", "-", "still:/srv", stdin=layer(lambda tar: caisson.add_file(tar, "put", b"put\n")), text=False)
        self.engine.ok("run", "--name", "changed", "read:1", "sh", "-c", "rm /srv/data/new; echo a >>/etc/passwd; mkdir /fresh; chmod 700 /home")
        answers["diff"] = self.engine.ok("diff", "changed") + self.engine.ok("diff", "still")
        self.engine.ok("commit", "changed", "made:1")
        answers["committed"] = self.engine.ok("run", "--rm", "made:1", "sh", "-c", "ls /srv/data; tail -n 1 /etc/passwd; stat -c %a /home /fresh")
        self.engine.ok("run", "--rm", "-v", "vol:/srv/data", "read:1", "true")  # copied up from the image
        answers["volume"] = self.engine.ok("run", "--rm", "-v", "vol:/v", "read:1", "ls", "-ln", "/v").split()[:5]
        context = os.path.join(self.engine.folder, "context")
        os.makedirs(context, exist_ok=True)
        with open(os.path.join(context, "Dockerfile"), "w", encoding="utf-8") as file:
            file.write("FROM read:1 AS first\nRUN echo run >/srv/run && rm /srv/data/new\nFROM scratch\nCOPY --from=first / /\nCOPY --from=read:1 /srv/data /again\nRUN [\"/bin/cat\", \"/srv/run\"]\n")
        self.engine.ok("build", "-t", "built:1", context, timeout=120)
        answers["built"] = self.engine.ok("run", "--rm", "built:1", "/bin/sh", "-c", "/bin/find /srv /again | /bin/sort")
        usage = json.loads(self.engine.request("GET", "/system/df")[2])
        answers["layers"] = sorted(image["Size"] for image in usage["Images"] if image["RepoTags"] == ["read:1"])
        answers["du"] = self.engine.ok("run", "--rm", "read:1", "sh", "-c", "find / -xdev -type f | wc -l; du -xs /srv | cut -f2")
        self.assertEqual(self.engine.ok("image", "prune", "-af").count("deleted: sha256:") > 0, True)
        self.finish()
        return answers

    @staticmethod
    def listing(archive):
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            return sorted((m.name, m.type, m.mode, m.uid, m.gid, m.linkname, m.size, hashlib.sha256(tar.extractfile(m).read()).hexdigest() if m.isreg() else "")
                          for m in tar if m.name not in (".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf"))

    def test_export_cp_diff_commit_build_volumes_and_df_do_not_tell_the_forms_apart(self):
        directories = self.read_all("directory")
        self.engine.close()
        self.engine = caisson.Engine()
        self.addCleanup(self.engine.close)
        indexes = self.read_all("erofs")
        for what, answer in directories.items():
            with self.subTest(what=what):
                self.assertEqual(indexes[what], answer)
        self.assertEqual(directories["mode"].split("\n")[0], "1777 0")


class Killed(Forms):
    def archive(self):
        data = large_layer(12 << 20)
        diff_id = "sha256:" + hashlib.sha256(gzip.decompress(data)).hexdigest()
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}).encode()
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            caisson.add_file(tar, "config.json", config)
            caisson.add_file(tar, "layer.tar", data)
            caisson.add_file(tar, "manifest.json", json.dumps([{"Config": "config.json", "RepoTags": ["large:1"], "Layers": ["layer.tar"]}]).encode())
        path = os.path.join(self.engine.folder, "large.tar")
        with open(path, "wb") as file:
            file.write(out.getvalue())
        return path

    def begin(self, *arguments):
        return subprocess.Popen(self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", self.engine.host, *arguments]), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, env=self.engine.environment())

    def test_a_daemon_killed_in_any_phase_of_a_load_or_a_removal_leaves_a_whole_store(self):
        """Each moment is a share of what the whole thing took; the dice move it a little."""
        dice = random.Random(SEED)
        print(f"CAISSON_TEST_SEED={SEED}", flush=True)
        self.start("erofs")
        self.engine.import_busybox()
        path = self.archive()
        begin = time.monotonic()
        self.engine.ok("load", "-i", path, timeout=120)
        takes_s = time.monotonic() - begin
        for turn in range(12 if not caisson.FULL else 40):
            if turn % 3 == 0:
                work = self.begin("rmi", "-f", "large:1")
                within_s = 0.05
            else:
                self.engine.cli("rmi", "-f", "large:1")
                work = self.begin("load", "-i", path)
                within_s = takes_s
            try:
                work.wait(dice.uniform(0, within_s))  # the moment is the dice's, not an event's
            except subprocess.TimeoutExpired:
                pass
            self.engine.kill9()
            work.wait(60)
            self.engine.start()
            with self.subTest(turn=turn):
                self.assertEqual(caisson.mounts_mentioning(os.path.join(self.engine.root, "ingest")), [])
                self.assertEqual(os.listdir(os.path.join(self.engine.root, "ingest")), [])
                self.assertEqual(self.engine.ok("run", "--rm", "busybox", "echo", f"turn {turn}"), f"turn {turn}")
                layers = set(os.listdir(os.path.join(self.engine.root, "layers"))) - {"empty"}
                self.assertEqual(len(layers), 1 + ("large:1" in self.engine.ok("images", "--format", "{{.Repository}}:{{.Tag}}").split()))
        self.engine.ok("load", "-i", path, timeout=120)
        self.assertEqual(self.forms_of("large:1"), ["erofs"])
        self.engine.ok("create", "--name", "whole", "large:1", "/none")
        with tarfile.open(fileobj=io.BytesIO(self.engine.ok("export", "whole", text=False))) as tar:
            self.assertEqual(sum(member.size for member in tar if member.name.startswith("many/")), (12 << 20) // 1000 * 1000)
        self.finish()

    def test_containers_outlive_a_daemon_that_is_killed_and_the_removal_of_its_mounts(self):
        self.start("erofs")
        self.engine.import_busybox()
        self.engine.ok("run", "-d", "--name", "lives", "busybox", "/bin/sh", "-c", "sleep 1000")
        self.engine.kill9()
        self.engine.start()
        self.assertEqual(self.engine.ok("exec", "lives", "/bin/cat", "/etc/os-release").splitlines()[0], "ID=busybox")
        self.assertEqual(self.engine.ok("run", "--rm", "busybox", "echo", "again"), "again")
        self.assertEqual(len(caisson.mounts_mentioning(os.path.join(self.engine.root, "layers"))), 1)
        # A damaged index is made again from the blob under a container that goes on with the old one.
        folder = os.path.join(self.engine.root, "layers", next(name for name in os.listdir(os.path.join(self.engine.root, "layers")) if name != "empty"))
        self.engine.stop()
        shutil.copy(os.path.join(folder, "index.erofs"), os.path.join(self.engine.folder, "index"))
        with open(os.path.join(self.engine.folder, "index"), "r+b") as file:
            file.seek(1200)
            file.write(b"!!!!")
        os.replace(os.path.join(self.engine.folder, "index"), os.path.join(folder, "index.erofs"))
        self.engine.start()
        self.assertEqual(self.engine.ok("run", "--rm", "busybox", "echo", "mended"), "mended")
        self.assertEqual(self.engine.ok("exec", "lives", "/bin/cat", "/etc/os-release").splitlines()[0], "ID=busybox")
        self.finish()


if __name__ == "__main__":
    caisson.main()

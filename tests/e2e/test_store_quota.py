#!/usr/bin/env python3
"""A quota of the image store: what does not fit is refused and leaves nothing, what nobody needs goes first, and what is said of the disk is what du says."""

import hashlib
import io
import json
import os
import random
import re
import subprocess
import tarfile
import threading
import unittest

import caisson
import registries
from caisson import wait_until

SEED = int(os.environ.get("CAISSON_TEST_SEED", random.SystemRandom().randrange(1 << 31)))
MB = 1 << 20
SKELETON = 128 << 10  # folders of the store itself and its two small documents
NO_ROOM = r"the image store has no room for it: .* more are needed, .* are used.*, and the quota \(store-quota\) is .*; `caisson system df` shows .*`caisson image prune`"


def noisy_layer(size, name):
    """A tar with one file that no compression makes smaller, another one for every name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        caisson.add_file(tar, f"srv/{name}", random.Random(f"{SEED} {name}").randbytes(size))
    return out.getvalue()


class QuotaTest(registries.NamespaceTest):
    """An engine with a quota, and a registry that another engine has filled; all in a network namespace of their own."""

    form = "directory"

    @classmethod
    def why_not(cls):
        return super().why_not() or registries.why_not() or registries.why_not_fetch()

    @classmethod
    def open(cls):
        print(f"CAISSON_TEST_SEED={SEED}", flush=True)
        cls.registry = cls.kept(registries.DockerRegistry(cls.namespace))
        cls.source = cls.new_engine()
        cls.source.import_busybox()
        # Layers upon busybox: each pull of two shares one.
        base = caisson.busybox_rootfs()
        cls.base_bytes = len(base)
        for name, size in (("three", 3 * MB), ("five", 5 * MB), ("five2", 5 * MB), ("nine", 9 * MB)):
            cls.source.ok("load", stdin=caisson.docker_archive([base, noisy_layer(size, name)], {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, [cls.name(name)]), text=False)
            cls.source.ok("push", cls.name(name))
        cls.between = cls.kept(registries.BetweenServer(cls.namespace))

    @classmethod
    def name(cls, name):
        return f"{cls.registry.address}/quota/{name}:1"

    def setUp(self):
        self.engine = caisson.Engine()
        self.engine.prefix_command = self.namespace.command
        self.addCleanup(self.engine.close)

    def start(self, quota):
        """(Re)starts the daemon. Skips the test where the form cannot be had."""
        self.engine.stop()
        self.engine.options = ["--snapshot-form", self.form, "--store-quota", str(quota)]
        try:
            self.engine.start()
        except AssertionError:
            if "layers cannot be kept as EROFS indexes here" in self.engine.log_text():
                self.skipTest(self.engine.log_text()[-300:].strip())
            raise

    def used(self):
        return json.loads(self.engine.request("GET", "/system/df")[2])["LayersSize"]

    def on_disk(self):
        paths = [os.path.join(self.engine.root, name) for name in ("content", "layers", "partial", "ingest")]
        # -x: what is mounted in a layer's folder lies elsewhere; -c: one count, so that what has two names counts once.
        return int(subprocess.run(["du", "-xcs", "--block-size=1", *paths], capture_output=True, text=True, check=True).stdout.split()[-2])

    def expect_as_du(self):
        used, disk = self.used(), self.on_disk()
        self.assertLessEqual(used, disk)
        self.assertGreaterEqual(used + SKELETON, disk)

    def expect_nothing_made(self, used, *names):
        self.assertEqual(os.listdir(os.path.join(self.engine.root, "ingest")), [])
        listed = self.engine.ok("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        self.assertEqual([name for name in names if name in listed], [])
        self.assertLessEqual(self.used(), used + 64 * 1024)
        self.expect_as_du()

    def size_of(self, name):
        """What an image takes in a store of this form, without any quota."""
        self.start(0)
        self.engine.ok("pull", self.name(name), timeout=120)
        size = self.used()
        self.engine.ok("rmi", self.name(name))
        self.assertLess(self.used(), 64 * 1024)
        return size


class Directory(QuotaTest):
    def test_a_pull_that_does_not_fit_is_refused_before_a_byte_travels_and_says_why(self):
        self.start(11 * MB)
        refused = self.engine.cli("pull", self.name("nine"), check=1)
        self.assertRegex(refused.stderr, f"image {self.name('nine')}: {NO_ROOM}")
        self.expect_nothing_made(0, self.name("nine"))
        self.assertEqual(os.listdir(os.path.join(self.engine.root, "partial")), [])
        # Docker's client hears of a full disk inside the answer, too.
        status, _, body = self.engine.request("POST", f"/images/create?fromImage={self.registry.address}/quota/nine&tag=1", timeout=60)
        self.assertEqual(status, 200)
        self.assertRegex(json.loads(body.splitlines()[-1])["errorDetail"]["message"], NO_ROOM)
        self.engine.ok("pull", self.name("three"))
        self.assertEqual(self.engine.ok("run", "--rm", self.name("three"), "ls", "/srv"), "three")
        self.expect_as_du()

    def test_info_says_quota_and_use_and_a_restart_counts_the_same(self):
        self.start("50MB")
        self.engine.ok("pull", self.name("three"))
        status = dict(json.loads(self.engine.ok("info", "--format", "{{json .DriverStatus}}")))
        self.assertEqual(status["Store quota"], "50MiB")
        self.assertRegex(status["Store use"], r"^[0-9.]+MiB$")
        self.assertIn("\n  Store quota: 50MiB\n", self.engine.ok("info"))
        used = self.used()
        self.expect_as_du()
        self.engine.kill9()
        self.start("40%")
        self.assertEqual(self.used(), used)
        self.assertRegex(dict(json.loads(self.engine.ok("info", "--format", "{{json .DriverStatus}}")))["Store quota"], r"^[0-9.]+(MiB|GiB|TiB)$")
        self.engine.ok("rmi", self.name("three"))
        self.assertLess(self.used(), 64 * 1024)
        self.start(0)
        self.assertEqual(dict(json.loads(self.engine.ok("info", "--format", "{{json .DriverStatus}}")))["Store quota"], "none")

    def test_a_wrong_quota_is_refused_at_the_start(self):
        for wrong, why in (("much", "invalid size: 'much'"), ("0%", "must be 1% to 100%"), ("101%", "must be 1% to 100%")):
            with self.subTest(quota=wrong):
                self.engine.options = ["--store-quota", wrong]
                with self.assertRaisesRegex(AssertionError, f"--store-quota: {why}"):
                    self.engine.start()

    def test_garbage_given_up_downloads_and_the_build_cache_go_first_and_no_image(self):
        size = self.size_of("five")
        self.engine.import_busybox()
        kept = self.used()
        with caisson.temporary_folder() as context:
            for name in ("first", "second"):
                with open(os.path.join(context, "Dockerfile"), "w", encoding="utf-8") as file:
                    file.write(f"FROM busybox\nRUN head -c 3000000 /dev/urandom >/{name}\n")
                self.engine.ok("build", "-t", "built:1", context, timeout=120)
        self.engine.ok("rmi", "built:1")
        self.engine.ok("image", "prune", "-f")  # the first one, whose name the second has
        self.engine.stop()
        hexes = [hashlib.sha256(text).hexdigest() for text in (b"lost", b"given up")]
        lost = os.path.join(self.engine.root, "partial", "sha256-" + hexes[1])
        with open(lost, "wb") as file:
            file.write(random.Random(SEED).randbytes(2 * MB))
        self.start(0)
        before = self.used()
        self.assertGreater(before, kept + 2 * MB + 6_000_000)
        # busybox is here already. One step of the cache less and the download gone: that is enough, and the other step stays.
        self.start(before - 2 * MB - 100_000 + (size - kept) - 2_500_000)
        self.engine.ok("pull", self.name("five"), timeout=120)
        self.assertFalse(os.path.exists(lost))
        cache = json.loads(self.engine.request("GET", "/system/df")[2])["BuildCache"]
        self.assertEqual([step["Description"] for step in cache], ["RUN head -c 3000000 /dev/urandom >/second"])
        self.assertIn("gave a step of the build cache away", self.engine.log_text())
        for image, command in (("busybox", ("echo", "whole")), (self.name("five"), ("ls", "/srv"))):
            self.engine.ok("run", "--rm", image, *command)
        self.expect_as_du()

    def test_load_import_commit_and_build_are_refused_and_leave_nothing(self):
        self.start(0)
        self.engine.import_busybox()
        used = self.used()
        self.start(used + 4 * MB)
        large = noisy_layer(9 * MB, "large")
        loaded = self.engine.cli("load", stdin=caisson.docker_archive([large], tags=["large:1"]), text=False, check=1)
        self.assertRegex(loaded.stderr.decode(), f"load: {NO_ROOM}")
        self.expect_nothing_made(used, "large:1")
        imported = self.engine.cli("import", "-", "large:2", stdin=large, text=False, check=1)
        self.assertRegex(imported.stderr.decode(), f"import: {NO_ROOM}")
        self.expect_nothing_made(used, "large:2")

        self.engine.ok("run", "-d", "--name", "writer", "busybox", "sh", "-c", "head -c 9000000 /dev/urandom >/large; touch /ready; sleep 1000")
        wait_until(lambda: self.engine.cli("exec", "writer", "test", "-e", "/ready").returncode == 0, "the container has written")
        self.assertLessEqual(self.used(), used + 64 * 1024, "a container's own layer is not the store's")
        status, _, body = self.engine.request("POST", "/commit?container=writer&repo=large&tag=3", {}, timeout=60)
        self.assertEqual(status, 500, body)
        self.assertRegex(json.loads(body)["message"], NO_ROOM)
        self.assertRegex(self.engine.cli("commit", "writer", "large:3", check=1).stderr, NO_ROOM)
        self.expect_nothing_made(used, "large:3")
        self.assertEqual(self.engine.ok("exec", "writer", "wc", "-c", "/large").split()[0], "9000000")

        with caisson.temporary_folder() as context:
            with open(os.path.join(context, "Dockerfile"), "w", encoding="utf-8") as file:
                file.write("FROM busybox\nRUN echo small >/small\nRUN head -c 9000000 /dev/urandom >/large\n")
            built = self.engine.cli("build", "-t", "large:4", context, timeout=120)
            self.assertNotEqual(built.returncode, 0)
            self.assertRegex(built.stderr + built.stdout, NO_ROOM)
        self.expect_nothing_made(used + 64 * 1024, "large:4")
        self.assertEqual(self.engine.ok("run", "--rm", "busybox", "echo", "works"), "works")

    def test_of_two_pulls_at_once_of_which_one_fits_one_is_made_whole(self):
        size = self.size_of("five")
        self.start(size + 2 * MB)
        outcomes = {}

        def pull(name):
            outcomes[name] = self.engine.cli("pull", self.name(name), timeout=120)

        threads = [threading.Thread(target=pull, args=(name,)) for name in ("five", "five2")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        good = [name for name, outcome in outcomes.items() if outcome.returncode == 0]
        bad = [name for name in outcomes if name not in good]
        self.assertEqual(len(good), 1, {name: outcome.stderr for name, outcome in outcomes.items()})
        self.assertRegex(outcomes[bad[0]].stderr, f"{self.name(bad[0])}: .*{NO_ROOM}")
        self.assertEqual(self.engine.ok("run", "--rm", self.name(good[0]), "ls", "/srv"), good[0])
        self.assertLessEqual(self.on_disk(), size + 2 * MB + SKELETON)
        self.expect_as_du()
        # What the other one had brought is in nobody's way.
        self.engine.ok("rmi", self.name(good[0]))
        self.engine.ok("pull", self.name(bad[0]), timeout=120)
        self.expect_as_du()

    def test_two_pulls_of_one_image_need_its_room_once(self):
        size = self.size_of("five")
        self.start(size + MB)
        outcomes = []
        threads = [threading.Thread(target=lambda: outcomes.append(self.engine.cli("pull", self.name("five"), timeout=120))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([outcome.returncode for outcome in outcomes], [0, 0, 0], [outcome.stderr for outcome in outcomes])
        self.expect_as_du()

    def test_the_account_is_right_after_a_daemon_was_killed_in_the_middle_of_a_pull(self):
        size = self.size_of("nine")
        self.start(size + 64 * 1024)
        gate, reached = threading.Event(), threading.Event()
        self.addCleanup(gate.set)

        def hold(handler, body):
            status, headers, data = self.between.fetch(handler, body)
            if len(data) < 6 * MB:
                return False
            handler.send_response(status)
            for name in ("Content-Length", "Content-Range"):
                if name in headers:
                    handler.send_header(name, headers[name])
            handler.end_headers()
            handler.wfile.write(data[: 4 * MB])
            handler.wfile.flush()
            reached.set()
            gate.wait(60)
            handler.close_connection = True
            return True

        self.between.on("/blobs/", hold, "GET")
        name = f"{self.between.address}/quota/nine:1"
        pulling = threading.Thread(target=lambda: self.engine.cli("pull", name, timeout=120))
        pulling.start()
        self.assertTrue(reached.wait(60))
        partial = os.path.join(self.engine.root, "partial")
        wait_until(lambda: any(os.stat(os.path.join(partial, file)).st_size == 4 * MB for file in os.listdir(partial)), "the first part has arrived")
        self.engine.kill9()
        gate.set()
        pulling.join()
        self.between.faults.clear()
        self.start(size + 64 * 1024)
        self.expect_as_du()
        self.assertGreaterEqual(self.used(), 4 * MB, "what has come so far is there, and counted")
        self.engine.ok("pull", name, timeout=120)  # and the rest fits, because the part is not counted twice
        self.expect_as_du()
        self.assertEqual(self.engine.ok("run", "--rm", name, "ls", "/srv"), "nine")

    def test_df_is_what_du_says_whatever_is_there(self):
        self.start(0)
        self.expect_as_du()
        for name in ("three", "five"):  # they share busybox
            self.engine.ok("pull", self.name(name), timeout=120)
            self.expect_as_du()
        self.engine.import_busybox("plain:1")
        self.expect_as_du()
        self.engine.ok("run", "--name", "changed", self.name("three"), "sh", "-c", "rm -r /srv; mkdir -p /a/b; for i in 1 2 3 4 5 6 7 8 9; do echo $i >/a/b/$i; done; ln -s /a/b/1 /a/link")
        self.engine.ok("commit", "changed", "made:1")
        self.expect_as_du()
        saved = self.engine.ok("save", "made:1", text=False)
        self.engine.ok("rm", "changed")
        self.engine.ok("rmi", "made:1", self.name("three"))
        self.expect_as_du()
        self.engine.ok("load", stdin=saved, text=False)
        self.expect_as_du()
        rows = {row["Type"]: row for row in map(json.loads, self.engine.ok("system", "df", "--format", "{{json .}}").splitlines())}
        self.assertEqual(rows["Images"]["TotalCount"], "3")
        self.assertTrue(re.match(r"^[0-9.]+MB$", rows["Images"]["Size"]), rows["Images"])
        self.engine.ok("image", "prune", "-af")
        self.assertLess(self.used(), 64 * 1024)
        self.expect_as_du()


class Erofs(Directory):
    form = "erofs"


if __name__ == "__main__":
    caisson.main()

#!/usr/bin/env python3
"""Contexts that are kept: the next build sends only the files that have changed, and is the same build all the same."""

import hashlib
import json
import os
import shutil
import threading

import caisson
from caisson import wait_until
from counting_proxy import CountingProxy

FILES = 300


class KeptContextTest(caisson.EngineTest):
    def setUp(self):
        super().setUp()
        self.engine.ok("builder", "prune", "-af")
        self.folder = os.path.join(self.engine.folder, self._testMethodName)
        caisson.write_files(self.folder, {"Dockerfile": "FROM busybox\nCOPY . /src\n", **{f"d{n % 7}/f{n}": self.content(n) for n in range(FILES)}})
        self.engine.give(self.folder)
        self.proxy = None
        if not self.engine.user:  # that engine listens to its user alone, and the proxy is root's
            self.proxy = CountingProxy(os.path.join(self.engine.folder, self._testMethodName[-40:] + ".sock"), self.engine.socket)
            self.addCleanup(self.proxy.close)

    @staticmethod
    def content(n):
        return hashlib.sha256(f"{n}".encode()).hexdigest() * 128  # 8 KiB

    def build(self, *arguments, check=0):
        """Returns the image's id and how many bytes the client sent (None: nobody counted)."""
        through = []
        if self.proxy:
            self.proxy.taken()
            through = ["-H", f"unix://{self.proxy.path}"]
        run = self.engine.cli(*through, "build", "-q", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", *arguments, self.folder, check=check, timeout=120)
        return run.stdout.strip(), self.proxy.taken() if self.proxy else None

    def assert_all_sent(self, sent):
        if sent is not None:
            self.assertGreater(sent, FILES * 8000)

    def assert_few_sent(self, sent, more=0):
        """A list, heads of folders, and so many bytes of files."""
        if sent is not None:
            self.assertLess(sent, FILES * 600 + more)

    def tree(self, image):
        return self.engine.ok("run", "--rm", "--network", "none", image, "sh", "-c", "cd /src && find . -type f -exec stat -c '%n %a %Y %h' {} + | sort && find . -type f | sort | xargs sha256sum")

    def kept(self):
        return [row for row in json.loads(self.engine.ok("system", "df", "-v", "--format", "{{json .}}"))["BuildCache"] if row["CacheType" if "CacheType" in row else "Type"] == "source.local"]

    def test_only_what_has_changed_travels_and_the_image_is_the_same_as_of_a_whole_context(self):
        _, first = self.build()
        self.assert_all_sent(first)
        caisson.write_files(self.folder, {"d3/f3": "changed" * 1000, "new": "n" * 5000})
        os.unlink(os.path.join(self.folder, "d4/f4"))
        os.rename(os.path.join(self.folder, "d5/f5"), os.path.join(self.folder, "d6/moved"))
        os.chmod(os.path.join(self.folder, "d6/f6"), 0o755)
        os.utime(os.path.join(self.folder, "d0/f7"), (1_000_000_000, 1_000_000_000))
        os.symlink("f8", os.path.join(self.folder, "d1/link"))
        shutil.copyfile(os.path.join(self.folder, "d0/f0"), os.path.join(self.folder, "d0/same-as-f0"))
        image, second = self.build()
        self.assert_few_sent(second, 7000 + 5000)
        # Beside it a builder that has nothing.
        self.engine.ok("builder", "prune", "-af")
        whole, third = self.build()
        self.assert_all_sent(third)
        self.assertEqual(self.tree(image), self.tree(whole))
        self.assertEqual(self.engine.inspect(image)["RootFS"], self.engine.inspect(whole)["RootFS"])

    def test_nothing_has_changed(self):
        self.build()
        image, sent = self.build()
        self.assert_few_sent(sent)
        self.assertEqual(self.build()[0], image)
        self.assertIn("Using cache", self.engine.ok("build", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", self.folder))

    def test_a_failing_build_and_another_dockerfile_lose_nothing(self):
        caisson.write_files(self.folder, {"Failing": "FROM busybox\nCOPY . /src\nRUN false\n"})
        self.build("-f", os.path.join(self.folder, "Failing"), check=1)
        _, sent = self.build("-f", os.path.join(self.folder, "Failing"), check=1)
        self.assert_few_sent(sent)
        self.build()
        self.assert_few_sent(self.build()[1])
        self.assert_few_sent(self.build("-f", os.path.join(self.folder, "Failing"), check=1)[1])

    def test_kept_contexts_are_listed_bounded_and_go_with_a_prune(self):
        self.build()
        wait_until(lambda: any(row["Size"] not in (0, "0B") for row in self.kept()), "it is measured")
        self.assertIn(self.folder, json.dumps(self.kept()))
        self.engine.ok("builder", "prune", "-af", "--filter", "type=source.local")
        self.assertEqual(self.kept(), [])
        self.assertEqual(os.listdir(os.path.join(self.engine.root, "build-contexts")), [])
        self.assert_all_sent(self.build()[1])

    def test_files_that_vanish_or_are_damaged_are_sent_again(self):
        image, _ = self.build()
        place = os.path.join(self.engine.root, "build-contexts")
        (kept,) = (name for name in os.listdir(place) if not name.startswith("."))
        names = sorted(os.listdir(os.path.join(place, kept)))
        self.assertEqual(len(names), FILES)
        with open(os.path.join(place, kept, names[0]), "r+b") as file:
            file.write(b"damaged")
        self.assertEqual(self.build("--no-cache")[0], image)
        self.assertEqual(self.build("--no-cache")[0], image)
        self.assert_few_sent(self.build()[1])

    def test_a_killed_daemon_leaves_a_context_that_is_whole_or_none(self):
        image, _ = self.build()
        for n in range(5):
            caisson.write_files(self.folder, {"d0/f0": f"round {n}" * 1000})
            builder = threading.Thread(target=lambda: self.engine.cli("build", "-q", self.folder, timeout=60, check=None))
            builder.start()
            builder.join(0.02 * n)
            self.engine.kill9()
            builder.join()
            self.engine.start()
        caisson.write_files(self.folder, {"d0/f0": self.content(0)})
        self.assertEqual(self.tree(self.build("--no-cache")[0]), self.tree(image))
        self.assertEqual(os.listdir(os.path.join(self.engine.root, "builds")), [])

    def test_a_digest_gives_nobody_the_file_of_another_context(self):
        self.build()
        digest = hashlib.sha256(self.content(1).encode()).hexdigest()
        status, _, body = self.engine.request("POST", "/caisson/v1/builds/context", {"name": "another", "digests": [digest]})
        self.assertEqual((status, json.loads(body)), (200, {"Missing": [0]}))
        for bad in ({"name": "x", "digests": ["../../etc/passwd"]}, {"name": "x", "digests": "no list"}, {"name": 7}):
            self.assertEqual(self.engine.request("POST", "/caisson/v1/builds/context", bad)[0], 400, bad)


if __name__ == "__main__":
    caisson.main()

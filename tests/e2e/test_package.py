#!/usr/bin/env python3
"""The Debian packages: what they bring, and installing, upgrading, removing and purging them in a folder of their own."""

import glob
import gzip
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import caisson
from caisson import wait_until


def run(*command, check=True, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("dpkg-deb"):
            raise unittest.SkipTest("needs dpkg")
        if subprocess.run(["ldd", f"{caisson.BIN}/caisson"], capture_output=True, check=False).returncode == 0:
            raise unittest.SkipTest("needs static binaries: use the release build")
        cls.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "deb-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        os.chmod(cls.folder, 0o755)  # the worker that unpacks images has no rights of root's
        cls.build("0.0.9")
        cls.build("0.1.0")

    @classmethod
    def build(cls, version):
        run(f"{caisson.TREE}/tools/build-deb", caisson.BIN, cls.folder, version)

    def package(self, name, version="0.1.0"):
        return glob.glob(f"{self.folder}/{name}_{version}_*.deb")[0]

    def contents(self, name):
        return [line.split()[5][1:] for line in run("dpkg-deb", "-c", self.package(name)).stdout.splitlines()]

    def test_the_engine_comes_with_units_manual_and_completions(self):
        contents = self.contents("caisson")
        for path in ("/usr/bin/caisson", "/usr/bin/caissond", "/usr/bin/caisson-runtime", "/usr/bin/caisson-worker", "/usr/lib/systemd/system/caissond.socket",
                     "/usr/lib/systemd/system/caissond.service", "/usr/lib/systemd/user/caissond.socket", "/usr/lib/systemd/user/caissond.service", "/usr/share/man/man1/caisson.1.gz", "/usr/share/man/man1/caisson-volume-create.1.gz",
                     "/usr/share/man/man8/caissond.8.gz", "/usr/share/bash-completion/completions/caisson", "/usr/share/zsh/vendor-completions/_caisson",
                     "/usr/share/fish/vendor_completions.d/caisson.fish", "/usr/share/doc/caisson/copyright", "/usr/share/doc/caisson/changelog.gz"):
            self.assertIn(path, contents)
        self.assertFalse([path for path in contents if path.startswith("/usr/share/man") and path.endswith(".1")])

    def test_the_same_tree_gives_the_same_manual(self):
        texts = []
        for version in ("0.0.9", "0.1.0"):
            target = f"{self.folder}/unpacked-{version}"
            run("dpkg-deb", "-x", self.package("caisson", version), target)
            with gzip.open(f"{target}/usr/share/man/man1/caisson-run.1.gz", "rt") as file:
                texts.append(file.read())
            shutil.rmtree(target)
        self.assertEqual(texts[0], texts[1])

    def test_the_alias_brings_the_command_the_socket_and_completions_of_docker(self):
        target = f"{self.folder}/alias"
        run("dpkg-deb", "-x", self.package("caisson-docker"), target)
        self.assertEqual(os.readlink(f"{target}/usr/bin/docker"), "caisson")
        with open(f"{target}/usr/lib/tmpfiles.d/caisson-docker.conf", encoding="utf-8") as file:
            self.assertIn("L+ /run/docker.sock - - - - /run/caisson.sock", file.read())
        with open(f"{target}/usr/share/bash-completion/completions/docker", encoding="utf-8") as file:
            self.assertIn("complete -F _caisson_docker docker", file.read())
        fields = run("dpkg-deb", "-f", self.package("caisson-docker")).stdout
        self.assertRegex(fields, r"Conflicts: .*docker\.io.*docker-ce-cli.*podman-docker")
        self.assertIn("Depends: caisson (>= 0.1.0)", fields)

    @unittest.skipUnless(shutil.which("lintian"), "needs lintian: tools/dependencies test")
    def test_lintian_finds_no_error(self):
        done = run("lintian", "--fail-on", "error", "--tag-display-limit", "0", self.package("caisson"), self.package("caisson-docker"), check=False,
                   env={**os.environ, "HOME": self.folder, "LC_ALL": "C"})
        self.assertEqual([line for line in done.stdout.splitlines() if line.startswith("E:")], [], done.stdout)

    # ---- a root of its own, in which the maintainer scripts run by chroot ----

    def make_root(self):
        root = tempfile.mkdtemp(prefix="root-", dir=self.folder)
        os.chmod(root, 0o755)
        for path in ("bin", "run", "tmp", "etc", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"):
            os.makedirs(f"{root}/{path}")
        for path in ("var/lib/dpkg/status", "var/lib/dpkg/available"):
            with open(f"{root}/{path}", "w", encoding="utf-8"):
                pass
        # Debian's own programs, as the scripts will meet them: busybox's rm does not know --one-file-system.
        for program, name in (("dash", "sh"), ("rm", "rm"), ("readlink", "readlink")):
            shutil.copy(shutil.which(program), f"{root}/bin/{name}")
            for library in re.findall(r"/\S+", run("ldd", shutil.which(program)).stdout):
                os.makedirs(root + os.path.dirname(library), exist_ok=True)
                shutil.copy(library, root + library)
        return root

    def dpkg(self, root, *arguments, **options):
        return run("dpkg", f"--root={root}", "--force-not-root", "--force-depends", "--force-bad-path", f"--log={root}/tmp/log", *arguments, **options)

    def test_an_upgrade_and_a_removal_keep_the_state_and_a_purge_takes_it(self):
        root = self.make_root()
        self.dpkg(root, "-i", self.package("caisson", "0.0.9"))
        os.makedirs(f"{root}/var/lib/caisson/volumes/data")
        self.dpkg(root, "-i", self.package("caisson"))
        self.assertTrue(os.path.isdir(f"{root}/var/lib/caisson/volumes/data"))
        self.dpkg(root, "-r", "caisson")
        self.assertFalse(os.path.exists(f"{root}/usr/bin/caisson"))
        self.assertTrue(os.path.isdir(f"{root}/var/lib/caisson/volumes/data"))
        self.dpkg(root, "-P", "caisson", stdin=subprocess.DEVNULL)
        self.assertFalse(os.path.exists(f"{root}/var/lib/caisson"))

    def test_a_container_runs_across_an_upgrade(self):
        root = self.make_root()
        self.dpkg(root, "-i", self.package("caisson", "0.0.9"))
        with Installed(root) as engine:
            engine.import_busybox()
            engine.ok("run", "-d", "--name", "lasting", "-v", "kept:/k", "busybox", "sh", "-c", "echo before >/k/f; trap 'exit 7' TERM; while :; do sleep 0.1; done")
            wait_until(lambda: engine.cli("exec", "lasting", "cat", "/k/f").stdout == "before\n", "the container has written")
            pid = engine.inspect("lasting")["State"]["Pid"]
            self.dpkg(root, "-i", self.package("caisson"))
            self.assertEqual(engine.stop(), 0)  # what try-restart of the unit does: KillMode=process
            engine.start()
            state = engine.inspect("lasting")["State"]
            self.assertEqual((state["Status"], state["Pid"]), ("running", pid))
            self.assertEqual(engine.ok("exec", "lasting", "cat", "/k/f"), "before")
            engine.ok("stop", "lasting")
            self.assertEqual(engine.ok("wait", "lasting"), "7")


class Installed(caisson.Engine):
    """An engine that runs the programs of an installed package."""

    def __init__(self, root):
        super().__init__()
        self.installed = os.path.join(root, "usr", "bin")

    def daemon_command(self):
        command = super().daemon_command()
        command[command.index(os.path.join(caisson.BIN, "caissond"))] = os.path.join(self.installed, "caissond")
        return command


if __name__ == "__main__":
    caisson.main()

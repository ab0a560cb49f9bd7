#!/usr/bin/env python3
"""Known escapes that go through the engine: images, copying, the default system call filter; rows of docs/security/escapes.md."""

import os
import re
import shutil
import subprocess
import tarfile

import attacks
import caisson
import leaks
from attacks import read
from caisson import wait_until

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97


class EngineAttack(caisson.EngineTest):
    @classmethod
    def setUpClass(cls):
        attacks.needs_programs()
        cls.watch = leaks.Watch()
        super().setUpClass()
        cls.watch.also(cls.engine.tag, cls.engine.folder)

        def extra(tar):
            for name in ("entries", "hunt", "handle"):
                with open(attacks.program(name), "rb") as file:
                    caisson.add_file(tar, f"bin/{name}", file.read(), mode=0o755)
        cls.engine.import_image(caisson.busybox_rootfs(extra), "armed:latest", ["ENV PATH=/bin"])

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.watch.check()

    def victim(self):
        folder = os.path.join(self.engine.folder, f"victim-{self._testMethodName}")
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o777)
        with open(os.path.join(folder, "file"), "w", encoding="utf-8") as file:
            file.write("untouched")
        return folder

    def assert_untouched(self, folder):
        self.assertEqual(os.listdir(folder), ["file"])
        self.assertEqual(read(os.path.join(folder, "file")), "untouched")

    def image(self, name, members):
        """busybox and more members: (path, tarfile type, link target or bytes)."""
        def extra(tar):
            for path, kind, content in members:
                if kind == tarfile.REGTYPE:
                    caisson.add_file(tar, path, content, mode=0o755)
                else:
                    caisson.add_file(tar, path, type=kind, linkname=content)
        return self.engine.cli("import", "--change", "ENV PATH=/bin", "-", name, stdin=caisson.busybox_rootfs(extra), text=False, timeout=120)

    def test_row_01_members_of_an_archive_stay_in_the_layer(self):
        victim = self.victim()
        up = "../" * 12
        cases = {"absolute": [("way", tarfile.SYMTYPE, victim), ("way/evil", tarfile.REGTYPE, b"evil")],
                 "upwards": [("way", tarfile.SYMTYPE, up + victim[1:]), ("way/evil", tarfile.REGTYPE, b"evil")],
                 "through-file": [("way", tarfile.SYMTYPE, victim + "/file"), ("way", tarfile.REGTYPE, b"evil")],
                 "dots": [(up + victim[1:] + "/evil", tarfile.REGTYPE, b"evil")],
                 "hard-link": [("stolen", tarfile.LNKTYPE, up + victim[1:] + "/file")]}
        for name, members in cases.items():
            with self.subTest(name):
                if self.image(f"row1-{name}:latest", members).returncode == 0:
                    self.engine.cli("run", "--rm", f"row1-{name}", "sh", "-c", "echo evil >/stolen; echo evil >/way/evil; echo evil >/way")
                    self.engine.cli("rmi", "-f", f"row1-{name}")
                self.assert_untouched(victim)

    def test_row_06_looking_up_and_copying_load_nothing_of_the_container(self):
        victim = self.victim()
        with open(attacks.program("nss"), "rb") as file:
            data = file.read()
        self.assertEqual(data.count(attacks.PLACEHOLDER), 1)
        data = data.replace(attacks.PLACEHOLDER, f"{victim}/evil".encode().ljust(len(attacks.PLACEHOLDER), b"\0"))
        library = os.path.join(self.engine.folder, "libnss.so")
        with open(library, "wb") as file:
            file.write(data)
        subprocess.run(["python3", "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", library], check=True)
        self.assertIn("evil", os.listdir(victim), "the library does what it is for when it is loaded")
        os.unlink(os.path.join(victim, "evil"))
        names = [f"{folder}/libnss_{service}.so.2" for folder in ("lib", "lib64", "usr/lib", "lib/x86_64-linux-gnu") for service in ("files", "dns", "compat", "systemd")]
        self.image("nss:latest", [("etc/nsswitch.conf", tarfile.REGTYPE, b"passwd: files systemd\nhosts: files dns\n"), *((name, tarfile.REGTYPE, data) for name in names)])
        name = self.name()
        self.engine.ok("run", "-d", "--name", name, "nss", "sleep", "1000")
        # Names of users are looked up in the container's files, which is where others load its libraries.
        self.assertEqual(self.engine.ok("exec", "-u", "user", name, "id", "-u"), "1000")
        self.assertEqual(self.engine.ok("run", "--rm", "-u", "user:extra", "nss", "id", "-g"), "1500")
        if self.engine.cli("cp", "--help").returncode == 0:
            self.engine.ok("cp", library, f"{name}:/tmp/in.so")
            self.engine.ok("cp", f"{name}:/etc/passwd", os.path.join(self.engine.folder, "out"))
        self.assert_untouched(victim)

    def test_row_07_no_abstract_socket_is_reachable(self):
        out = self.engine.ok("run", "--rm", "--network", "host", "busybox", "cat", "/proc/net/unix")
        self.assertFalse([line for line in out.splitlines() if re.search(r"@.*(caisson|cst)", line)])

    def test_row_12_and_30_entries_to_the_kernel_are_closed(self):
        out = self.engine.ok("run", "--rm", "armed", "entries")
        answers = {name: int(number) for name, number in (line.split() for line in out.splitlines())}
        open_ones = {name: number for name, number in answers.items() if number not in (EPERM, ENOSYS)}
        # AF_VSOCK and the like are refused as families.
        self.assertEqual({name: number for name, number in open_ones.items() if not (name.startswith("socket-") and number == EAFNOSUPPORT)}, {})
        # Without the filter most of them answer otherwise, so the filter is what closes them.
        free = self.engine.ok("run", "--rm", "--security-opt", "seccomp=unconfined", "armed", "entries")
        self.assertGreater(len([line for line in free.splitlines() if int(line.split()[1]) not in (EPERM, ENOSYS)]), 5)

    def test_row_13_a_slow_reader_does_not_fill_the_memory(self):
        client = subprocess.Popen([f"{caisson.BIN}/caisson", "-H", self.engine.host, "run", "--rm", "--name", "flood13", "--network", "none", "--log-driver", "none", "busybox", "yes"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            client.stdout.read(1 << 20)
            resident = int(re.search(r"VmRSS:\s+(\d+)", read(f"/proc/{self.engine.process.pid}/status")).group(1))
            self.assertLess(resident, 64 * 1024)
        finally:
            client.kill()
            client.wait()
            client.stdout.close()
            self.engine.cli("rm", "-f", "flood13")

    def test_row_13_a_volume_of_an_image_copies_nothing_of_the_host(self):
        victim = self.victim()
        config = {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Volumes": {"/../../../../../../../.." + victim: {}, "/srv/link": {}}}

        def extra(tar):
            caisson.add_file(tar, "srv/link", type=tarfile.SYMTYPE, linkname=victim)
        archive = caisson.docker_archive([caisson.busybox_rootfs(extra)], config, ["row13:latest"])
        self.engine.cli("load", stdin=archive, text=False)
        run = self.engine.cli("run", "--rm", "row13", "sh", "-c", f"cat {victim}/file /srv/link/file; echo evil >{victim}/file; echo evil >/srv/link/file")
        self.assertNotIn("untouched", run.stdout)
        self.assert_untouched(victim)

    def build(self, dockerfile, files=None):
        context = os.path.join(self.engine.folder, f"context-{self._testMethodName}")
        shutil.rmtree(context, ignore_errors=True)
        os.makedirs(context)
        for name, text in {"Dockerfile": dockerfile, **(files or {})}.items():
            with open(os.path.join(context, name), "w", encoding="utf-8") as file:
                file.write(text)
        return self.engine.cli("build", "--no-cache", context, timeout=120)

    def test_row_16_a_link_in_a_cache_leads_nowhere_outside_it(self):
        victim = self.victim()
        run = self.build(f"""FROM busybox
RUN --mount=type=cache,id=row16,target=/c ln -sfn {victim} /c/out && ln -sfn ../../../../../../../../..{victim} /c/up
RUN --mount=type=cache,id=row16,source=out,target=/x cat /x/file; echo evil >/x/file; true
""")
        self.assertNotIn("untouched", run.stdout + run.stderr)
        run = self.build("""FROM busybox
RUN --mount=type=cache,id=row16,source=up,target=/x cat /x/file; echo evil >/x/file; true
""")
        self.assertNotIn("untouched", run.stdout + run.stderr)
        self.assert_untouched(victim)

    def test_row_16_removing_the_place_of_a_mount_removes_nothing_of_the_host(self):
        victim = self.victim()
        run = self.build(f"""FROM busybox
COPY given /given
RUN --mount=type=bind,source=given,target=/place/file true
RUN --mount=type=cache,id=row16b,target=/place/sub ln -s {victim} /swapped; mv /place /moved; ln -s {victim} /place; true
COPY given /place/file
RUN --mount=type=tmpfs,target=/place/file2 true
""", {"given": "mine"})
        self.assertIn(run.returncode, (0, 1))
        self.assert_untouched(victim)

    def test_row_16_a_privileged_step_needs_the_callers_word(self):
        run = self.build("FROM busybox\nRUN --security=insecure mount -t tmpfs none /mnt\n")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("security.insecure is not allowed", run.stdout + run.stderr)

    def test_row_30_a_shared_pid_namespace_lets_no_other_user_trace(self):
        # Who shares a pid namespace shares the user namespace with it: the two roots are one (SECURITY.md), as with docker.
        first = self.run_detached(command=("sleep", "1000"))
        name = self.name()
        second = self.engine.cli("run", "-d", "--name", name, "--user", "1000:1000", "--pid", f"container:{first}", "armed", "hunt", "/tmp/found")
        self.assertEqual(second.returncode, 0, second.stderr)
        self.engine.ok("exec", "-d", name, "sleep", "4321")
        caught = wait_until(lambda: [line for line in self.engine.cli("exec", name, "cat", "/tmp/found").stdout.splitlines() if line.startswith("ptrace")], "its own process is caught")
        pids = [line.split()[1] for line in caught]
        self.assertNotIn("1", pids)
        for pid in pids:
            self.assertNotIn("sleep 1000", self.engine.cli("exec", name, "cat", f"/proc/{pid}/cmdline").stdout.replace("\0", " "))

    @caisson.needs_cgroups
    def test_row_31_the_monitor_is_outside_what_it_watches(self):
        name = self.run_detached("--memory", "16m", "--memory-swap", "16m", command=("sh", "-c", "read x; x=$(yes | head -c 100000000); echo $x"))
        monitor = self.engine.monitor_of(name)
        self.assertNotIn(self.engine.inspect(name)["Id"], read(f"/proc/{monitor}/cgroup"))
        hog = self.run_detached("--memory", "16m", "--memory-swap", "16m", command=("sh", "-c", "x=$(yes | head -c 100000000); echo $x"))
        self.assertEqual(self.engine.ok("wait", hog), "137")


if __name__ == "__main__":
    attacks.main()

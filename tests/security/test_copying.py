#!/usr/bin/env python3
"""Attacks on copying in and out of containers: races on links, hostile archives, and what a worker may reach; nothing outside may change or be read."""

import http.client
import io
import os
import tarfile

import attacks
import caisson
import leaks

ROUNDS = min(1000, attacks.ROUNDS // 5)


def tar_of(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, fields in members:
            caisson.add_file(tar, name, **fields)
    return out.getvalue()


class Copying(caisson.EngineTest):
    @classmethod
    def setUpClass(cls):
        attacks.needs_programs()
        cls.watch = leaks.Watch()
        super().setUpClass()
        cls.watch.also(cls.engine.tag, cls.engine.folder)

        def extra(tar):
            with open(attacks.program("swap"), "rb") as file:
                caisson.add_file(tar, "bin/swap", file.read(), mode=0o755)
        cls.engine.import_image(caisson.busybox_rootfs(extra), "armed:latest", ["ENV PATH=/bin"])

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.watch.check()

    def victim(self):
        """A folder of the host at a path that exists inside no container; its file holds a secret."""
        folder = os.path.join(self.engine.folder, f"victim-{self._testMethodName}")
        os.makedirs(folder)
        os.chmod(folder, 0o777)
        with open(os.path.join(folder, "file"), "w", encoding="utf-8") as file:
            file.write("secret of the host")
        return folder

    def assert_untouched(self, folder):
        self.assertEqual(os.listdir(folder), ["file"])
        self.assertEqual(attacks.read(os.path.join(folder, "file")), "secret of the host")

    def put(self, name, path, data):
        return self.engine.request("PUT", f"/containers/{name}/archive?path={path}", body=data)[0]

    def get(self, name, path):
        return self.engine.request("GET", f"/containers/{name}/archive?path={path}")

    @staticmethod
    def swapper(victim):
        """A container's command that exchanges /srv/way, a folder, with a link to the victim for as long as it lives."""
        return ("sh", "-c", f"mkdir /srv/way && ln -s {victim} /srv/way.link && exec swap /srv/way /srv/way.link")

    def race(self, name, victim):
        """Copies both ways through /srv/way while the container exchanges it with a link to the victim."""
        inside = tar_of(("evil", dict(data=b"evil")), ("sub", dict(type=tarfile.DIRTYPE)), ("sub/evil", dict(data=b"evil")))
        statuses = set()
        for _ in range(ROUNDS):
            statuses.add(self.put(name, "/srv/way", inside))
            statuses.add(self.put(name, "/srv", tar_of(("way/through", dict(data=b"evil")), ("way", dict(type=tarfile.DIRTYPE)))))
            for path in ("/srv/way", "/srv/way/", "/srv/way/file"):
                status, _, body = self.get(name, path)
                statuses.add(status)
                self.assertNotIn(b"secret of the host", body)
        self.assert_untouched(victim)
        self.assertIn(200, statuses, "some of the copies got through, or the race was never on")

    def test_a_link_swapped_while_copying_leads_nowhere(self):
        # CVE-2018-15664: docker resolved the path first and used it later.
        victim = self.victim()
        name = self.run_detached(image="armed", command=self.swapper(victim))
        self.race(name, victim)

    @caisson.differs_without_root("the engine's own users are those of its containers")
    def test_nor_does_one_of_a_container_with_the_hosts_users(self):
        victim = self.victim()
        name = self.run_detached("--userns", "host", image="armed", command=self.swapper(victim))
        self.race(name, victim)

    def test_links_of_a_stopped_container_stay_inside(self):
        victim = self.victim()
        name = self.name()
        self.engine.ok("run", "--name", name, "busybox", "sh", "-c", f"ln -s {victim} /srv/way; ln -s {victim}/file /srv/one; ln -s ../../../../../..{victim} /srv/up; ln -s /proc/1/root{victim} /srv/proc")
        for path in ("/srv/way/", "/srv/up/", "/srv/way/file", "/srv/proc/", "/srv/proc/file", f"/proc/1/root{victim}/file", f"/proc/self/root{victim}/file"):
            status, _, body = self.get(name, path)
            self.assertNotEqual(status, 200, path)
            self.assertNotIn(b"secret of the host", body)
            self.assertNotEqual(self.put(name, path, tar_of(("evil", dict(data=b"evil")))), 200, path)
        self.assertNotIn(b"secret", self.get(name, "/srv")[2])
        self.assert_untouched(victim)

    def test_magic_links_of_a_running_container_are_not_followed(self):
        victim = self.victim()
        name = self.run_detached("--pid", "host")
        for path in (f"/proc/1/root{victim}/file", f"/proc/self/root{victim}/file", f"/proc/1/cwd{victim}", "/proc/1/fd/0", "/proc/self/exe"):
            status, _, body = self.get(name, path + "/" if path.endswith("cwd") else path)
            self.assertNotIn(b"secret of the host", body, path)
            if status == 200:
                with tarfile.open(fileobj=io.BytesIO(body)) as tar:
                    self.assertTrue(all(member.issym() for member in tar.getmembers()), "a link is only told, not followed")
        self.assert_untouched(victim)

    def test_members_of_an_archive_stay_inside(self):
        victim = self.victim()
        link, folder = tarfile.SYMTYPE, tarfile.DIRTYPE
        cases = {
            "absolute link": (("way", dict(type=link, linkname=victim)), ("way/evil", dict(data=b"e"))),
            "climbing link": (("way", dict(type=link, linkname="../../../../../../.." + victim)), ("way/evil", dict(data=b"e"))),
            "climbing name": (("../../../../../../.." + victim + "/evil", dict(data=b"e")),),
            "hard link": (("stolen", dict(type=tarfile.LNKTYPE, linkname=victim + "/file")),),
            "hard link through a link": (("way", dict(type=link, linkname=victim)), ("stolen", dict(type=tarfile.LNKTYPE, linkname="way/file"))),
            "folder over link": (("way", dict(type=link, linkname=victim)), ("way", dict(type=folder, mode=0o700, uid=5)), ("way/evil", dict(data=b"e"))),
            "proc": (("way", dict(type=link, linkname="/proc/self/root" + victim)), ("way/evil", dict(data=b"e"))),
        }
        stopped = self.name()
        self.engine.ok("create", "--name", stopped, "busybox", "true")
        for name in (stopped, self.run_detached()):
            for case, members in cases.items():
                with self.subTest(case):
                    self.put(name, "/srv", tar_of(*members))
                    self.assertNotIn(b"secret of the host", self.get(name, "/srv")[2])
                    self.assert_untouched(victim)

    def test_a_device_in_an_archive_is_not_made(self):
        disk = tar_of(("disk", dict(type=tarfile.BLKTYPE, devmajor=254, devminor=0)), ("mem", dict(type=tarfile.CHRTYPE, devmajor=1, devminor=1)))
        for options in ((), *(() if caisson.ROOTLESS else (("--userns", "host"), ("--privileged",)))):
            name = self.run_detached(*options)
            self.assertEqual(self.put(name, "/srv", disk), 200)
            self.assertEqual(self.engine.ok("exec", name, "ls", "/srv"), "")

    def test_set_user_files_belong_to_the_containers_users_only(self):
        name = self.run_detached()
        self.assertEqual(self.put(name, "/srv", tar_of(("root", dict(data=b"x", mode=0o6755)))), 200)
        pid = self.engine.inspect(name)["State"]["Pid"]
        owner = os.stat(f"/proc/{pid}/root/srv/root").st_uid
        self.assertTrue(owner == self.engine.user.uid if caisson.ROOTLESS else owner >= 0x70000000, owner)

    def test_a_fifo_and_an_endless_file_hold_nobody_up(self):
        name = self.run_detached()
        self.engine.ok("exec", name, "sh", "-c", "mkfifo /srv/fifo; mkdir /srv/d; ln -s /dev/zero /srv/d/zero; cp -a /srv/fifo /srv/d/")
        status, _, body = self.get(name, "/srv")
        self.assertEqual(status, 200)
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            self.assertTrue(tar.getmember("srv/fifo").isfifo())
        self.assertEqual(self.get(name, "/dev/zero")[0], 200)
        self.assertEqual(self.put(name, "/srv/fifo", tar_of(("f", dict(data=b"x")))), 400)

    def test_a_worker_can_be_neither_traced_nor_signalled_from_a_shared_pid_namespace(self):
        # The worker has the container's ids; it must not be the container's to command.
        name = self.run_detached("--pid", "host", "--cap-add", "SYS_PTRACE", image="armed",
                                 command=("sh", "-c", "while :; do for p in $(pidof caisson-worker); do readlink /proc/$p/exe && cat /proc/$p/mem /proc/$p/maps; done; done >/tmp/robbed 2>/dev/null"))
        for _ in range(ROUNDS):
            self.assertEqual(self.get(name, "/bin")[0], 200)
        self.assertEqual(self.engine.ok("exec", name, "wc", "-c", "/tmp/robbed").split()[0], "0")

    def test_a_deep_tree_and_a_name_that_is_too_long_are_errors(self):
        name = self.run_detached()
        # No shell goes below PATH_MAX, so two trees of half the depth are put into each other.
        deepen = "i=0; while [ $i -lt 300 ]; do mkdir dddddddddd; cd dddddddddd; i=$((i+1)); done"
        self.engine.ok("exec", name, "sh", "-c", f"cd /run; {deepen}; cd /srv; {deepen}; mv /run/dddddddddd .")
        self.assertEqual(self.engine.request("GET", f"/containers/{name}/changes")[0], 400)
        with self.assertRaisesRegex((http.client.IncompleteRead, OSError), "IncompleteRead"):  # the stream is cut: half an archive must not look like a whole one
            self.get(name, "/srv")
        self.engine.ok("ps")
        self.assertNotEqual(self.engine.cli("commit", name, "deep:1").returncode, 0)
        self.assertEqual(self.engine.inspect(name)["State"]["Status"], "running")


if __name__ == "__main__":
    attacks.main()

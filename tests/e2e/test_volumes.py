#!/usr/bin/env python3
"""Volumes: the local driver's options, subpaths, first contents, sharing, filters and pruning."""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import unittest

import caisson
from caisson import wait_until


class VolumeTest(caisson.EngineTest):
    def volume(self, *arguments):
        name = f"{self._testMethodName[5:30]}-{len(self._volumes)}-{self.engine.tag}"
        self._volumes.append(name)
        self.addCleanup(lambda: self.engine.cli("volume", "rm", "-f", name))
        self.engine.ok("volume", "create", *arguments, name)
        return name

    def setUp(self):
        self._volumes = []

    def work(self):
        folder = os.path.join(self.engine.folder, self._testMethodName)
        os.makedirs(folder, exist_ok=True)
        return folder

    def in_volume(self, volume, script, *options):
        return self.engine.ok("run", "--rm", "-v", f"{volume}:/v", *options, "busybox", "sh", "-c", script)

    def mounts(self):
        return [line for line in caisson.mounts_mentioning(self.engine.folder) if "/volumes/" in line]


class Options(VolumeTest):
    def test_wrong_ones_are_refused_in_dockers_words(self):
        # Texts of dockerd 20.10.
        for body, status, text in (({"DriverOpts": {"foo": "bar"}}, 400, 'invalid option: "foo"'), ({"Driver": "nope"}, 404, 'error looking up volume plugin nope: plugin "nope" not found'),
                                   ({"DriverOpts": {"o": "bind"}}, 400, 'missing required option: "device"'), ({"DriverOpts": {"size": "10M"}}, 400, "quota size requested but no quota support: the file system below "),
                                   ({"DriverOpts": {"type": "nfs"}}, 400, 'missing required option: "device"'), ({"ClusterVolumeSpec": {}}, 501, "cluster volumes are not supported")):
            with self.subTest(body=body):
                got, _, answer = self.engine.request("POST", "/volumes/create", {"Name": "wrong", **body})
                self.assertEqual(got, status, answer)
                self.assertIn(text, json.loads(answer)["message"])
        self.assertEqual(self.engine.ok("volume", "ls", "-q", "--filter", "name=wrong"), "")
        run = self.engine.cli("run", "--rm", "--mount", "type=volume,dst=/v,volume-opt=foo=bar", "busybox", "true")
        self.assertEqual(run.returncode, 125)
        self.assertIn('invalid option: "foo"', run.stderr)
        for kind in ("cluster", "npipe"):
            status, _, answer = self.engine.request("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Mounts": [{"Type": kind, "Source": "x", "Target": "/x"}]}})
            self.assertEqual(status, 501)
            self.assertIn(kind, json.loads(answer)["message"])

    @caisson.differs_without_root("the folders of this test are root's")
    def test_a_bind_shows_its_folder_and_is_never_removed_with_the_volume(self):
        folder = self.work()
        with open(os.path.join(folder, "file"), "w", encoding="utf-8") as file:
            file.write("host")
        volume = self.volume("-o", "type=none", "-o", "o=bind", "-o", f"device={folder}")
        shown = json.loads(self.engine.ok("volume", "inspect", volume))[0]
        self.assertEqual(shown["Options"], {"type": "none", "o": "bind", "device": folder})
        self.assertTrue(shown["Mountpoint"].endswith(f"/volumes/{volume}/_data"))
        self.assertEqual(self.in_volume(volume, "cat /v/file; echo in >/v/new; chown 5 /v/new; stat -c %u /v/file /v/new").split(), ["host0", "5"])
        self.assertEqual(os.stat(os.path.join(folder, "new")).st_uid, 5)
        name = self.name()
        self.engine.ok("create", "--name", name, "-v", f"{volume}:/v", "busybox", "true")
        with tarfile.open(fileobj=__import__("io").BytesIO(self.engine.ok("cp", f"{name}:/v", "-", text=False))) as tar:
            self.assertIn("v/file", tar.getnames())
        self.engine.ok("rm", name)
        self.engine.ok("volume", "rm", volume)
        self.assertEqual(sorted(os.listdir(folder)), ["file", "new"])
        self.assertEqual(self.mounts(), [])

    @caisson.differs_without_root("the folders of this test are root's")
    def test_an_empty_bind_gets_the_images_contents_and_a_missing_one_is_an_error(self):
        folder = self.work()
        volume = self.volume("-o", "type=none", "-o", "o=bind", "-o", f"device={folder}")
        self.engine.ok("run", "--rm", "-v", f"{volume}:/etc", "busybox", "true")
        self.assertIn("passwd", os.listdir(folder))
        missing = self.volume("-o", "type=none", "-o", "o=bind", "-o", f"device={folder}/nope")
        run = self.engine.cli("run", "--rm", "-v", f"{missing}:/v", "busybox", "true")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("no such file or directory", run.stderr.lower())
        status, _, body = self.engine.request("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Binds": [f"{missing}:/v"]}})
        self.assertEqual(status, 500, f"docker's client takes 404 for a missing image, and pulls it: {body}")

    def test_a_read_only_bind_is_read_only(self):
        volume = self.volume("-o", "type=none", "-o", "o=bind,ro", "-o", f"device={self.work()}")
        self.assertIn("Read-only", self.in_volume(volume, "touch /v/x 2>&1; true"))

    def test_a_tmpfs_is_limited_shared_and_gone_with_its_last_container(self):
        volume = self.volume("-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,nosuid")
        first = self.run_detached("-v", f"{volume}:/v")
        second = self.run_detached("-v", f"{volume}:/v")
        self.engine.ok("exec", first, "sh", "-c", "echo shared >/v/f")
        self.assertEqual(self.engine.ok("exec", second, "cat", "/v/f"), "shared")
        written = self.engine.ok("exec", first, "sh", "-c", "head -c 2000000 /dev/zero >/v/big 2>/dev/null; stat -c %s /v/big; rm /v/big")
        self.assertLessEqual(int(written), 1 << 20)
        self.engine.ok("rm", "-f", first)
        self.assertEqual(self.engine.ok("exec", second, "cat", "/v/f"), "shared")
        third = self.run_detached("-v", f"{volume}:/v")
        self.assertEqual(self.engine.ok("exec", third, "cat", "/v/f"), "shared", "it stays mounted while somebody uses it")
        self.engine.ok("rm", "-f", second, third)
        wait_until(lambda: not self.mounts(), lambda: f"nothing is mounted: {self.mounts()}")
        self.assertEqual(self.in_volume(volume, "ls /v"), "")
        wait_until(lambda: not self.mounts(), lambda: f"nothing is mounted: {self.mounts()}")

    def test_what_a_crash_leaves_mounted_is_found_again_or_unmounted(self):
        engine = caisson.Engine()
        self.addCleanup(engine.close)
        engine.start()
        engine.import_busybox()
        engine.ok("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "mem")
        engine.ok("run", "-d", "--name", "web", "-v", "mem:/v", "busybox", "sh", "-c", "echo kept >/v/f; sleep 1000")
        wait_until(lambda: engine.cli("exec", "web", "cat", "/v/f").stdout == "kept\n", "the file is written")
        engine.kill9()
        engine.start()
        self.assertEqual(engine.ok("run", "--rm", "-v", "mem:/v", "busybox", "cat", "/v/f"), "kept")
        pid = engine.inspect("web")["State"]["Pid"]
        engine.kill9()
        os.kill(pid, 9)
        wait_until(lambda: not caisson.is_alive(pid), "the container has ended")
        engine.start()
        wait_until(lambda: not [line for line in caisson.mounts_mentioning(engine.folder) if "/volumes/" in line], "the volume is unmounted")

    def test_a_mount_that_fails_names_the_volume_and_leaves_nothing(self):
        volume = self.volume("-o", "type=nosuchfs", "-o", "device=x")
        name = self.name()
        run = self.engine.cli("run", "--name", name, "-v", f"{volume}:/v", "busybox", "true")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn(f"failed to mount local volume {volume}", run.stderr)
        self.assertEqual(self.mounts(), [])


class Subpaths(VolumeTest):
    def test_a_subpath_is_mounted_and_nothing_above_it(self):
        volume = self.volume()
        self.in_volume(volume, "mkdir -p /v/a/b; echo deep >/v/a/b/f; echo top >/v/t; ln -s a/b /v/link; ln -s /etc /v/out; ln -s ../../../../etc /v/up")
        self.assertEqual(self.engine.ok("run", "--rm", "--mount", f"type=volume,src={volume},dst=/s,volume-subpath=a/b", "busybox", "sh", "-c", "ls /s; ls -a /s/.. | grep -c '^t$'; true").split(), ["f", "0"])
        self.assertEqual(self.engine.ok("run", "--rm", "--mount", f"type=volume,src={volume},dst=/s,volume-subpath=link", "busybox", "cat", "/s/f"), "deep")
        self.assertEqual(self.engine.ok("run", "--rm", "--mount", f"type=volume,src={volume},dst=/f,volume-subpath=t", "busybox", "cat", "/f"), "top")
        out = self.engine.docker("run", "--rm", "--mount", f"type=volume,src={volume},dst=/s,volume-subpath=a,readonly", "busybox", "sh", "-c", "cat /s/b/f; touch /s/x")
        self.assertEqual((out.stdout, out.returncode), ("deep\n", 1))

    def test_links_lead_nowhere_outside_the_volume(self):
        volume = self.volume()
        self.in_volume(volume, "ln -s /etc /v/out; ln -s ../../../../../../../../etc /v/up; mkdir /v/etc; echo inside >/v/etc/f")
        for subpath in ("out", "up"):
            self.assertEqual(self.engine.ok("run", "--rm", "--mount", f"type=volume,src={volume},dst=/s,volume-subpath={subpath}", "busybox", "ls", "/s"), "f")
        for subpath in ("..", "/etc", "a/../../b"):
            run = self.engine.cli("run", "--rm", "--mount", f"type=volume,src={volume},dst=/s,volume-subpath={subpath}", "busybox", "true")
            self.assertEqual(run.returncode, 125, subpath)

    def test_one_that_is_missing_is_named(self):
        volume = self.volume()
        run = self.engine.cli("run", "--rm", "--mount", f"type=volume,src={volume},dst=/s,volume-subpath=nope", "busybox", "true")
        self.assertEqual(run.returncode, 127 if "no such file or directory" in run.stderr.lower() else 125)
        self.assertIn("cannot access path nope", run.stderr)

    def test_volumes_from_takes_it_along_with_its_mode(self):
        volume = self.volume()
        self.in_volume(volume, "mkdir /v/a; echo x >/v/a/f")
        source = self.name()
        self.engine.ok("create", "--name", source, "--mount", f"type=volume,src={volume},dst=/s,volume-subpath=a", "busybox", "true")
        self.assertEqual(self.engine.ok("run", "--rm", "--volumes-from", source, "busybox", "cat", "/s/f"), "x")
        self.assertIn("Read-only", self.engine.ok("run", "--rm", "--volumes-from", f"{source}:ro", "busybox", "sh", "-c", "touch /s/y 2>&1; true"))


class Contents(VolumeTest):
    def test_volumes_from_several_take_the_first_of_a_place_and_own_mounts_win(self):
        first, second = self.name(), self.name() + "-2"
        self.addCleanup(lambda: self.engine.cli("rm", "-f", "-v", second))
        one, two, own = self.volume(), self.volume(), self.volume()
        for volume, text in ((one, "one"), (two, "two"), (own, "own")):
            self.in_volume(volume, f"echo {text} >/v/f")
        self.engine.ok("create", "--name", first, "-v", f"{one}:/x", "busybox", "true")
        self.engine.ok("create", "--name", second, "-v", f"{two}:/x", "-v", f"{two}:/y", "busybox", "true")
        self.assertEqual(self.engine.ok("run", "--rm", "--volumes-from", first, "--volumes-from", second, "busybox", "cat", "/x/f", "/y/f").split(), ["one", "two"])
        self.assertEqual(self.engine.ok("run", "--rm", "-v", f"{own}:/x", "--volumes-from", first, "busybox", "cat", "/x/f"), "own")

    def test_a_new_volume_begins_with_the_images_contents_unless_told_not_to(self):
        full, empty = self.volume(), self.volume()
        self.assertIn("passwd", self.engine.ok("run", "--rm", "-v", f"{full}:/etc", "busybox", "ls", "/etc"))
        self.assertNotIn("passwd", self.engine.ok("run", "--rm", "--mount", f"type=volume,src={empty},dst=/etc,volume-nocopy", "busybox", "ls", "/etc"))

    def test_filters_prune_and_disk_usage(self):
        used, labelled, free = self.volume(), self.volume("--label", "kind=x"), self.volume()
        self.in_volume(used, "head -c 100000 /dev/zero >/v/f")
        name = self.run_detached("-v", f"{used}:/v", "-v", "/anonymous")
        listed = lambda *filters: set(self.engine.ok("volume", "ls", "-q", *[word for one in filters for word in ("--filter", one)]).split())
        self.assertTrue({labelled, free} <= listed("dangling=true"))
        self.assertIn(used, listed("dangling=false"))
        self.assertEqual(listed("label=kind=x"), {labelled})
        self.assertEqual(listed(f"name={free}"), {free})
        self.assertTrue({used, labelled, free} <= listed("driver=local"))
        self.assertEqual(listed("driver=other"), set())
        usage = {volume["Name"]: volume["UsageData"] for volume in json.loads(self.engine.request("GET", "/system/df")[2])["Volumes"]}
        self.assertEqual(usage[used]["RefCount"], 1)
        self.assertGreaterEqual(usage[used]["Size"], 100000)
        self.engine.ok("rm", "-f", name)  # its anonymous volume stays without -v
        anonymous = {volume for volume in listed("dangling=true") if len(volume) == 64}
        self.assertTrue(anonymous)
        self.engine.ok("volume", "prune", "-f")
        self.assertEqual(listed() & (anonymous | {used, labelled, free}), {used, labelled, free}, "named ones stay")
        self.engine.ok("volume", "prune", "-f", "--all", "--filter", "label=kind=x")
        self.assertEqual(listed() & {used, labelled, free}, {used, free})


class SizeLimits(unittest.TestCase):
    """An engine whose state lies on a small ext4 with project quotas."""

    def setUp(self):
        if reason := caisson.why_not():
            self.skipTest(reason)
        self.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "quota-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        disk, mounted = os.path.join(self.folder, "disk"), os.path.join(self.folder, "mounted")
        os.mkdir(mounted)
        with open(disk, "wb") as file:
            file.truncate(256 << 20)
        made = subprocess.run(["mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", disk], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            self.skipTest(f"mkfs.ext4 -O quota,project: {made.stderr.strip()}")
        done = subprocess.run(["mount", "-o", "loop,prjquota", disk, mounted], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self.skipTest(f"this kernel mounts no ext4 with prjquota (CONFIG_QFMT_V2?): {done.stderr.strip().splitlines()[0]}")
        self.addCleanup(subprocess.run, ["umount", "-l", mounted], capture_output=True, check=False)
        self.engine = caisson.Engine(folder=os.path.join(mounted, "caisson-test-engine"))
        os.mkdir(self.engine.folder, 0o711)
        self.addCleanup(self.engine.close)
        self.engine.start()
        self.engine.import_busybox()

    def fill(self, *options, path="/v/big", image="busybox"):
        """How many bytes a container may write into a file before it is told that there is no room."""
        return int(self.engine.ok("run", "--rm", *options, image, "sh", "-c", f"head -c 40000000 /dev/zero >{path} 2>/dev/null; stat -c %s {path}; rm {path}"))

    def test_a_volume_and_a_writable_layer_hold_what_they_may_and_no_more(self):
        for volume in ("one", "two"):
            self.engine.ok("volume", "create", "-o", "size=8M", volume)
            written = self.fill("-v", f"{volume}:/v")
            self.assertTrue(7 << 20 <= written <= 8 << 20, written)
        self.engine.kill9()
        self.engine.start()
        self.assertLessEqual(self.fill("-v", "one:/v"), 8 << 20, "after a restart of the daemon too")
        self.assertLessEqual(self.fill("--mount", "type=volume,dst=/v,volume-opt=size=8M"), 8 << 20)
        self.assertGreater(self.fill("-v", "unlimited:/v"), 30 << 20)
        self.engine.ok("run", "--name", "layer", "--storage-opt", "size=8M", "busybox", "sh", "-c", "head -c 40000000 /dev/zero >/big 2>/dev/null; stat -c %s /big; rm /big; rm -r /home; mv /srv /moved")
        self.assertTrue(7 << 20 <= int(self.engine.ok("logs", "layer")) <= 8 << 20)
        self.engine.ok("start", "-a", "layer")
        for written in self.engine.ok("logs", "layer").split():
            self.assertLessEqual(int(written), 8 << 20, "also after a restart")
        shown = json.loads(self.engine.request("GET", "/system/df")[2])
        sizes = {volume["Name"]: volume["UsageData"]["Size"] for volume in shown["Volumes"]}
        self.assertLess(sizes["one"], 1 << 20)
        self.engine.ok("rm", "layer")
        self.engine.ok("volume", "rm", "one", "two", "unlimited")
        self.assertNotIn("8192", subprocess.run(["repquota", "-P", self.folder + "/mounted"], capture_output=True, text=True, check=False).stdout if shutil.which("repquota") else "")
        self.engine.stop()
        self.assertEqual(self.engine.leftovers(), [])


if __name__ == "__main__":
    caisson.main()

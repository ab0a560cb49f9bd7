#!/usr/bin/env python3
"""A container's files from outside: commit, diff, export, and copying in and out, by docker's command line, ours and the bare API."""

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
import time
import unittest

import caisson
import peers
from caisson import wait_until


def tar_of(*members, fmt=tarfile.PAX_FORMAT):
    """(name, fields of add_file) … → the bytes of a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as tar:
        for name, fields in members:
            caisson.add_file(tar, name, **fields)
    return out.getvalue()


def members_of(data):
    """name → TarInfo of a tar's bytes."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar.getmembers()}


def describe_tree(folder):
    """path → (kind, mode, text or target) of everything below a folder of this machine."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(root, name)
            status = os.lstat(path)
            content = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            found[os.path.relpath(path, folder)] = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), content)
    return found


class FilesTest(caisson.EngineTest):
    def shell(self, name, script, *options):
        return self.engine.ok("exec", *options, name, "sh", "-c", script)

    def created(self, *arguments, command=("sleep", "1000")):
        name = self.name()
        self.engine.ok("create", "--name", name, *arguments, "busybox", *command)
        return name

    def workers(self):
        return [text for text in caisson.processes_mentioning(self.engine.folder).values() if "caisson-worker" in text] + self.engine.processes("caisson-worker")

    def work(self):
        folder = os.path.join(self.engine.folder, self._testMethodName)
        os.makedirs(folder, exist_ok=True)
        return folder

    # archives by the API
    def stat_path(self, name, path):
        status, headers, _ = self.engine.request("HEAD", f"/containers/{name}/archive?path={path}")
        header = headers.get("X-Docker-Container-Path-Stat")
        return status, json.loads(base64.b64decode(header)) if header else None

    def read(self, name, path):
        return self.engine.request("GET", f"/containers/{name}/archive?path={path}")

    def write(self, name, path, data, more=""):
        status, _, body = self.engine.request("PUT", f"/containers/{name}/archive?path={path}{more}", body=data, headers={"Content-Type": "text/plain"})
        return status, body.decode()


class Diff(FilesTest):
    def test_an_unchanged_container_has_none_and_the_answer_is_null(self):
        for name in (self.created(), self.run_detached()):
            status, _, body = self.engine.request("GET", f"/containers/{name}/changes")
            self.assertEqual((status, body), (200, b"null\n"))
            self.assertEqual(self.engine.ok("diff", name), "")

    def test_the_list_is_dockers(self):
        # Recorded from dockerd 20.10 with the same commands.
        name = self.run_detached()
        self.shell(name, "rm /etc/group; echo a >/etc/new; mkdir /x; echo 1 >/x/y; chmod 700 /root; rm -rf /usr; mkdir /usr; touch /tmp/t; mknod /tmp/n p")
        wanted = ["C /etc", "D /etc/group", "A /etc/new", "C /root", "C /tmp", "A /tmp/n", "A /tmp/t", "C /usr", "D /usr/bin", "A /x", "A /x/y"]
        self.assertEqual(self.engine.ok("diff", name).splitlines(), wanted)
        self.assertEqual(sorted(self.engine.docker("diff", name, check=0).stdout.splitlines()), sorted(wanted))
        changes = json.loads(self.engine.request("GET", f"/containers/{name}/changes")[2])
        self.assertIn({"Path": "/etc/group", "Kind": 2}, changes)

    def test_a_file_written_with_what_it_held_is_changed_and_one_only_read_is_not(self):
        name = self.run_detached()
        self.shell(name, "cat /etc/passwd >/dev/null; cp -p /etc/passwd /tmp/p; rm /etc/group; cp /etc/os-release /etc/group")
        self.assertEqual(self.engine.ok("diff", name).splitlines(), ["C /etc", "C /etc/group", "C /tmp", "A /tmp/p"])

    def test_a_container_that_is_not_there_is_named(self):
        status, _, body = self.engine.request("GET", "/containers/zzz/changes")
        self.assertEqual((status, json.loads(body)["message"]), (404, "No such container: zzz"))


class Commit(FilesTest):
    def test_files_and_changes_become_an_image_that_runs(self):
        name = self.run_detached("-e", "MINE=1", "-l", "a=b", "-v", "/data")
        self.shell(name, "mkdir /made; echo text >/made/file; chown 1000:1000 /made/file; chmod 4755 /made/file; ln /made/file /made/second; rm /etc/os-release; echo in >/data/x")
        image = self.engine.ok("commit", "-a", "Ada", "-m", "why", "-c", "ENV Z=1", "-c", 'CMD ["cat", "/made/file"]', "-c", "EXPOSE 80", "-c", "LABEL c=d",
                               "-c", "WORKDIR /made", "-c", "STOPSIGNAL SIGINT", "-c", "HEALTHCHECK CMD true", "-c", "ONBUILD RUN x", "-c", "USER 1000", "-c", "VOLUME /more",
                               name, "made:1")
        self.assertTrue(image.startswith("sha256:"))
        self.assertEqual(self.engine.ok("run", "--rm", "made:1"), "text")
        self.assertEqual(self.engine.ok("run", "--rm", "-u", "0", "made:1", "sh", "-c", "stat -c '%u %a %h' file; ls /etc/os-release /data/x 2>&1; echo $Z $MINE; pwd").splitlines(),
                         ["1000 4755 2", "ls: /etc/os-release: No such file or directory", "ls: /data/x: No such file or directory", "1 1", "/made"])
        shown = self.engine.inspect("made:1")
        config = shown["Config"]
        self.assertEqual((shown["Author"], shown["Comment"], config["User"], config["StopSignal"]), ("Ada", "why", "1000", "SIGINT"))
        self.assertEqual((config["Labels"], sorted(config["Volumes"])), ({"a": "b", "c": "d"}, ["/data", "/more"]))
        self.assertEqual(config["Healthcheck"]["Test"], ["CMD-SHELL", "true"])
        self.assertIn("80/tcp", config["ExposedPorts"])
        history = self.engine.ok("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "made:1").splitlines()
        self.assertEqual(history[0], "sleep 1000|why")
        self.assertEqual(len(history), 2)

    def test_docker_commits_with_an_empty_body_and_the_event_is_told(self):
        name = self.created()
        since = time.time() - 1
        out = self.engine.docker("commit", "-c", "ENV Z=1", "-m", "msg", name, "x:1", check=0).stdout.strip()
        self.assertEqual(self.engine.inspect("x:1")["Id"], out)
        events = self.engine.ok("events", "--since", f"{since:.0f}", "--until", f"{time.time() + 1:.0f}", "--filter", "event=commit", "--format", "{{json .}}")
        attributes = json.loads(events.splitlines()[-1])["Actor"]["Attributes"]
        self.assertEqual((attributes["comment"], attributes["imageID"]), ("msg", out))

    def test_a_configuration_in_the_body_is_merged_as_docker_does(self):
        name = self.created("-e", "A=1")
        body = {"Cmd": ["ls"], "Env": ["B=2"], "Labels": {"k": "v"}, "Volumes": {"/w": {}}}
        status, _, answer = self.engine.request("POST", f"/commit?container={name}&repo=body&tag=1&changes=ENV+C%3D3%0AUSER+7", body=body)
        self.assertEqual(status, 201, answer)
        config = self.engine.inspect("body:1")["Config"]
        self.assertEqual((config["Cmd"], config["User"], config["Labels"]), (["ls"], "7", {"k": "v"}))
        self.assertEqual([item for item in config["Env"] if item[:2] in ("A=", "B=", "C=")], ["B=2", "C=3", "A=1"])

    def test_what_cannot_be_committed_is_refused_and_changes_nothing(self):
        name = self.run_detached()
        before = self.engine.ok("images", "-aq", "--no-trunc")
        for query, status, text in ((f"container={name}&changes=RUN+x", 400, "is not a valid change command"), ("container=zzz", 404, "No such container: zzz"), ("", 400, "container"),
                                    (f"container={name}&repo=UP", 400, "must be lowercase"), (f"container={name}&changes=ENV", 400, "ENV requires at least one argument")):
            with self.subTest(query=query):
                got, _, body = self.engine.request("POST", f"/commit?{query}")
                self.assertEqual(got, status, body)
                self.assertIn(text, json.loads(body)["message"])
        self.assertEqual(self.engine.ok("images", "-aq", "--no-trunc"), before)
        self.assertEqual(self.engine.inspect(name)["State"]["Status"], "running")

    def test_equal_containers_give_equal_layers_and_an_unchanged_one_gives_none(self):
        layers = []
        for number in range(2):
            name = self.run_detached()
            self.shell(name, "mkdir /srv/d; echo same >/srv/d/f; ln -s f /srv/d/l; ln /srv/d/f /srv/d/h; rm /etc/group; touch -hd @1700000000 /srv/d/l /srv/d/f /srv/d /srv /etc")
            self.engine.ok("commit", name, f"equal:{number}")
            layers.append(self.engine.inspect(f"equal:{number}")["RootFS"]["Layers"])
        self.assertEqual(layers[0], layers[1])
        self.assertEqual(len(layers[0]), 2)
        self.engine.ok("commit", self.created(), "unchanged:1")
        self.assertEqual(self.engine.inspect("unchanged:1")["RootFS"]["Layers"], layers[0][:1])

    @caisson.needs_cgroups
    def test_the_container_is_paused_meanwhile_and_goes_on(self):
        name = self.run_detached()
        self.shell(name, "head -c 30000000 /dev/urandom >/big")
        since = time.time() - 1
        self.engine.ok("commit", name, "paused:1")
        self.assertEqual(self.engine.inspect(name)["State"]["Status"], "running")
        self.assertEqual(self.shell(name, "echo on"), "on")
        actions = self.engine.ok("events", "--since", f"{since:.0f}", "--until", f"{time.time() + 1:.0f}", "--filter", f"container={name}", "--format", "{{.Action}}").splitlines()
        self.assertEqual([word for word in actions if "exec" not in word][-3:], ["pause", "unpause", "commit"])
        self.engine.ok("commit", "--pause=false", name, "running:1")
        self.engine.ok("pause", name)
        self.engine.ok("commit", name, "frozen:1")
        self.assertEqual(self.engine.inspect(name)["State"]["Status"], "paused", "who was paused before stays so")

    def test_import_takes_the_same_changes(self):
        tar = caisson.busybox_rootfs()
        self.engine.import_image(tar, "changed:1", ["ENV A=1", "ENTRYPOINT [\"/bin/echo\"]", "CMD there"])
        config = self.engine.inspect("changed:1")["Config"]
        self.assertEqual((config["Env"], config["Entrypoint"], config["Cmd"]), (["A=1"], ["/bin/echo"], ["/bin/sh", "-c", "there"]))

    @caisson.differs_without_root("the folders of this test are root's")
    def test_docker_and_podman_load_what_was_committed_and_run_it(self):
        name = self.run_detached()
        self.shell(name, "echo kept >/srv/kept; chown 33:33 /srv/kept; rm -rf /home; mkdir /home; truncate -s 20000000 /srv/sparse; echo end >>/srv/sparse")
        self.engine.ok("commit", "-c", 'CMD ["sh", "-c", "cat /srv/kept; stat -c %u /srv/kept; ls /home | wc -l; tail -c 4 /srv/sparse; stat -c %s /srv/sparse"]', name, "travel:1")
        saved = os.path.join(self.work(), "saved.tar")
        self.engine.ok("save", "-o", saved, "travel:1")
        self.assertLess(os.path.getsize(saved), 8_000_000, "holes are not written")
        wanted = ["kept", "33", "0", "end", "20000004"]
        self.assertEqual(self.engine.ok("run", "--rm", "travel:1").split(), wanted)
        for peer_class, load in ((peers.PrivateDockerd, "docker"), (peers.PrivatePodman, "podman")):
            if reason := peer_class.why_not():
                print(f"SKIPPED: {load}: {reason}")
                continue
            with self.subTest(peer=load), peer_class() as peer:
                call = getattr(peer, load)
                call("load", "-i", saved, check=0)
                out = call("run", "--rm", "--network", "none", "travel:1", check=0).stdout.decode()
                self.assertEqual(out.split(), wanted)


class Export(FilesTest):
    @caisson.differs_without_root("the folders of this test are root's")
    def test_the_tar_is_the_containers_root_without_its_mounts(self):
        folder = self.work()
        with open(os.path.join(folder, "host"), "w", encoding="utf-8") as file:
            file.write("x")
        name = self.run_detached("-v", f"{folder}:/bound", "-v", "/volume")
        self.shell(name, "echo new >/srv/new; chown 5:6 /srv/new; rm /etc/group; echo v >/volume/in; ln -s new /srv/link; mkfifo /srv/fifo")
        output = os.path.join(folder, "out.tar")
        self.engine.ok("export", "-o", output, name)
        with open(output, "rb") as file:
            ours = members_of(file.read())
        docker = members_of(self.engine.docker("export", name, text=False, check=0).stdout)
        self.assertEqual({member: info.get_info() for member, info in ours.items()}, {member: info.get_info() for member, info in docker.items()})
        self.assertEqual((ours["srv/new"].uid, ours["srv/new"].gid, ours["srv/link"].linkname, ours["srv/fifo"].type), (5, 6, "new", tarfile.FIFOTYPE))
        self.assertIn("bound", ours)
        for absent in ("etc/group", "bound/host", "volume/in", ".wh.group", "etc/.wh.group", "proc/1"):
            self.assertNotIn(absent, ours)
        self.engine.ok("kill", name)
        self.assertEqual(set(members_of(self.engine.ok("export", name, text=False))), set(ours), "a stopped container exports the same")
        self.engine.import_image(self.engine.ok("export", name, text=False), "again:1", ["CMD cat /srv/new"])
        self.assertEqual(self.engine.ok("run", "--rm", "again:1"), "new")

    def test_contents_equal_what_tar_sees_inside(self):
        name = self.run_detached()
        self.shell(name, "mkdir -p /srv/a/b; for n in 1 2 3; do head -c 100000 /dev/urandom >/srv/a/$n; done; ln /srv/a/1 /srv/a/b/one")
        sums = dict(reversed(line.split(None, 1)) for line in self.shell(name, "cd /; find srv bin etc/passwd -type f -exec sha256sum {} +").splitlines())
        work = self.work()
        with tarfile.open(fileobj=io.BytesIO(self.engine.ok("export", name, text=False))) as tar:
            tar.extractall(work)
        for path, digest in sums.items():
            real = subprocess.run(["sha256sum", os.path.join(work, path)], capture_output=True, text=True, check=True).stdout.split()[0]
            self.assertEqual(real, digest, path)

    @caisson.differs_without_root("this test's clients are root's")
    def test_a_client_that_goes_away_frees_everything(self):
        name = self.run_detached()
        self.shell(name, "head -c 50000000 /dev/urandom >/srv/big")
        for path in (f"/containers/{name}/export", f"/containers/{name}/archive?path=/srv"):
            connection = caisson.UnixConnection(self.engine.socket, 30)
            connection.request("GET", path)
            answer = connection.getresponse()
            self.assertEqual(len(answer.read(100000)), 100000)
            answer.close()
            connection.close()
            wait_until(lambda: not self.workers(), lambda: f"workers are gone: {self.workers()}")
        self.assertEqual(caisson.mounts_of_containers(self.engine.folder), [])


class Archive(FilesTest):
    def test_what_lies_at_a_path_is_told_as_docker_tells_it(self):
        # Name, mode and link target as dockerd 20.10 answered for the same image.
        for name in (self.created(), self.run_detached()):
            for path, wanted in (("/etc", ("etc", 2147484141, "")), ("/etc/", ("etc", 2147484141, "")), ("/etc/.", (".", 2147484141, "")), ("/", ("/", 2147484141, "")),
                                 ("/etc/passwd", ("passwd", 420, "")), ("/bin/ls", ("ls", 134218239, "/bin/busybox")), ("etc/../etc/passwd", ("passwd", 420, ""))):
                with self.subTest(path=path):
                    status, shown = self.stat_path(name, path)
                    self.assertEqual(status, 200)
                    self.assertEqual((shown["name"], shown["mode"], shown["linkTarget"]), wanted)
            self.assertEqual(self.stat_path(name, "/etc/passwd")[1]["mtime"], "2023-11-14T22:13:20Z")
            self.assertEqual(self.stat_path(name, "/tmp")[1]["mode"], 2148532735, "the sticky bit stands elsewhere in Go")
            self.assertEqual(self.stat_path(name, "/nope")[0], 404)
            status, _, body = self.read(name, "/nope")
            self.assertEqual((status, json.loads(body)["message"]), (404, f"Could not find the file /nope in container {name}"))
            self.assertEqual(self.engine.request("GET", f"/containers/{name}/archive")[0], 400)

    def test_names_in_an_archive_are_dockers(self):
        for name in (self.created(), self.run_detached()):
            for path, first, second in (("/etc", "etc", "etc/group"), ("/etc/", "etc", "etc/group"), ("/etc/.", ".", "./group"), ("/etc/passwd", "passwd", None), ("/bin/ls", "ls", None), ("/", "", "/bin")):
                with self.subTest(path=path):
                    status, headers, body = self.read(name, path)
                    self.assertEqual((status, headers["Content-Type"]), (200, "application/x-tar"))
                    members = members_of(body)
                    self.assertEqual(next(iter(members)), first)
                    if second:
                        self.assertIn(second, members)
            self.assertEqual(members_of(self.read(name, "/bin/ls")[2])["ls"].linkname, "busybox")

    def test_an_archive_is_placed_with_owners_modes_and_times(self):
        data = tar_of(("f", dict(data=b"x", uid=1234, gid=1235, mode=0o4751)), ("d", dict(type=tarfile.DIRTYPE, uid=77, gid=78, mode=0o750)), ("d/g", dict(data=b"y", uid=5, gid=6)),
                      ("l", dict(type=tarfile.SYMTYPE, linkname="f")), ("h", dict(type=tarfile.LNKTYPE, linkname="f")), ("/absolute", dict(data=b"a")), ("new/deep/file", dict(data=b"z")),
                      ("dev", dict(type=tarfile.CHRTYPE, devmajor=1, devminor=3)))
        running, stopped = self.run_detached(), self.created()
        for name in (running, stopped):
            self.assertEqual(self.write(name, "/srv", data), (200, ""))
        self.engine.ok("start", stopped)
        for name in (running, stopped):
            out = self.shell(name, "cd /srv; stat -c '%n %u %g %a %h %Y' f d d/g absolute new new/deep/file; readlink l; stat -c %i f h | uniq | wc -l; ls dev 2>/dev/null; cat h")
            self.assertEqual(out.splitlines(), ["f 1234 1235 4751 2 1700000000", "d 77 78 750 2 1700000000", "d/g 5 6 644 1 1700000000", "absolute 0 0 644 1 1700000000",
                                               *[line for line in out.splitlines() if line.startswith("new 0 0 755")], "new/deep/file 0 0 644 1 1700000000", "f", "1", "x"])

    def test_compressed_archives_are_taken(self):
        name = self.created()
        plain = tar_of(("p", dict(data=b"text")))
        forms = {"gz": gzip.compress(plain), "xz": lzma.compress(plain), "bz2": bz2.compress(plain)}
        if shutil.which("zstd"):
            forms["zst"] = subprocess.run(["zstd", "-q"], input=plain, capture_output=True, check=True).stdout
        for form, data in forms.items():
            self.assertEqual(self.write(name, "/tmp", data), (200, ""), form)
        self.assertEqual(self.write(name, "/tmp", b""), (200, ""))
        status, text = self.write(name, "/tmp", b"garbage" * 100)
        self.assertEqual(status, 400, text)
        self.assertNotEqual(self.write(name, "/tmp", lzma.compress(plain)[:40])[0], 200)

    def test_kinds_and_places_that_do_not_fit_are_refused_in_dockers_words(self):
        name = self.created()
        folder, file = tar_of(("passwd", dict(type=tarfile.DIRTYPE))), tar_of(("etc", dict(data=b"z")))
        for path, data, more, status, text in (
                ("/nope", file, "", 404, f"Could not find the file /nope in container {name}"), ("/etc/passwd", file, "", 400, "extraction point is not a directory"),
                ("/", file, "&noOverwriteDirNonDir=1", 400, 'cannot overwrite directory "/etc" with non-directory "/"'),
                ("/etc", folder, "&noOverwriteDirNonDir=true", 400, 'cannot overwrite non-directory "/etc/passwd" with directory "/etc"'),
                ("/srv", tar_of(("../../evil", dict(data=b"e"))), "", 400, "../../evil")):
            with self.subTest(path=path, text=text):
                got, body = self.write(name, path, data, more)
                self.assertEqual(got, status, body)
                self.assertIn(text, json.loads(body)["message"])
        self.assertEqual(self.stat_path(name, "/evil")[0], 404)
        self.assertEqual(self.write(name, "/etc", folder), (200, ""))
        self.assertTrue(self.stat_path(name, "/etc/passwd")[1]["mode"] & (1 << 31), "without the flag a file gives way")

    def test_what_is_read_only_stays_so(self):
        for make in (self.created, self.run_detached):
            name = make("--read-only", "-v", "/w", "--tmpfs", "/t", "--mount", "type=volume,dst=/v,readonly")
            data = tar_of(("f", dict(data=b"x")))
            status, text = self.write(name, "/etc", data)
            self.assertEqual((status, json.loads(text)["message"]), (403, "container rootfs is marked read-only"))
            status, text = self.write(name, "/v", data)
            self.assertEqual((status, json.loads(text)["message"]), (403, "mounted volume is marked read-only"))
            self.assertEqual(self.write(name, "/w", data), (200, ""))

    @caisson.differs_without_root("the folders of this test are root's")
    def test_volumes_and_binds_are_seen_as_the_container_sees_them(self):
        host = self.work()
        os.makedirs(os.path.join(host, "in"), exist_ok=True)
        with open(os.path.join(host, "file"), "w", encoding="utf-8") as file:
            file.write("host")
        volume = f"vol-{self.engine.tag}"
        self.addCleanup(lambda: self.engine.cli("volume", "rm", "-f", volume))
        stopped = self.created("-v", f"{volume}:/data", "-v", f"{host}:/data/host", "-v", f"{host}/file:/etc/one")
        self.assertEqual(self.write(stopped, "/data/host/in", tar_of(("put", dict(data=b"p", uid=7)))), (200, ""))
        self.assertEqual(os.stat(os.path.join(host, "in", "put")).st_uid, 7)
        self.assertEqual(self.write(stopped, "/data", tar_of(("kept", dict(data=b"k")))), (200, ""))
        self.assertEqual(sorted(members_of(self.read(stopped, "/data")[2])), ["data", "data/host", "data/host/file", "data/host/in", "data/host/in/put", "data/kept"])
        self.assertEqual(self.stat_path(stopped, "/etc/one")[1]["size"], 4)
        running = self.run_detached("-v", f"{volume}:/data", "-v", f"{host}:/data/host", "--tmpfs", "/mem")
        self.shell(running, "echo m >/mem/m")
        self.assertIn("data/kept", members_of(self.read(running, "/data")[2]))
        self.assertIn("mem/m", members_of(self.read(running, "/mem")[2]))
        self.assertEqual(self.write(running, "/mem", tar_of(("n", dict(data=b"n")))), (200, ""))
        self.assertEqual(self.shell(running, "cat /mem/n /data/host/in/put"), "np")
        self.assertFalse(caisson.mounts_of_containers(self.engine.folder), "nothing is mounted on the host")

    def test_what_is_copied_in_may_be_given_to_the_containers_user(self):
        name = self.run_detached("-u", "user")
        data = tar_of(("f", dict(data=b"x", uid=5, gid=6)), ("d", dict(type=tarfile.DIRTYPE, mode=0o755)), ("d/l", dict(type=tarfile.SYMTYPE, linkname="f")))
        self.assertEqual(self.write(name, "/home/user", data, "&copyUIDGID=true"), (200, ""))
        self.assertEqual(self.shell(name, "cd /home/user; stat -c '%u:%g' f d d/l").split(), ["1000:1000"] * 3)


class CommandLines(FilesTest):
    """Each case runs with docker's command line and with ours against the same engine; what comes out must be the same."""

    def local(self):
        """A folder of this machine to copy from and to."""
        folder = os.path.join(self.work(), f"{time.monotonic_ns()}")
        os.makedirs(f"{folder}/dir/sub")
        for path, text in (("file", "local"), ("dir/a", "1"), ("dir/sub/b", "2")):
            with open(f"{folder}/{path}", "w", encoding="utf-8") as file:
                file.write(text)
        os.symlink("file", f"{folder}/link")
        os.makedirs(f"{folder}/there")
        return folder

    def both(self, call):
        """call(run) for docker and for us; returns both results. run(*arguments, stdin) gives (exit code, stdout, stderr)."""
        results = []
        for program in ("docker", None):
            def run(*arguments, stdin=None, program=program):
                done = self.engine.cli(*arguments, program=program, stdin=stdin, text=False)
                return done.returncode, done.stdout, done.stderr.decode(errors="replace")
            results.append(call(run))
        return results

    def test_copying_out_is_the_same(self):
        name = self.run_detached()
        self.shell(name, "mkdir -p /srv/d/e; echo one >/srv/d/f; echo two >/srv/d/e/g; ln -s d /srv/l; ln -s d/f /srv/fl; chmod 640 /srv/d/f; ln /srv/d/f /srv/d/hard")
        cases = [("/srv/d", "new"), ("/srv/d/.", "new"), ("/srv/d", "there"), ("/srv/d/.", "there"), ("/srv/d/f", "new"), ("/srv/d/f", "there"), ("/srv/d/f", "file"), ("/srv/d/", "there"),
                 ("/srv/d", "file"), ("/srv/d/f", "absent/"), ("/srv/d/f", "no/where"), ("/srv/l", "new"), ("/srv/l/", "new"), ("/srv/l/.", "there"), ("/srv/fl", "there"), ("/nope", "new"), ("srv/d/f", "new")]
        for options in ((), ("-L",)):
            for source, target in cases:
                def call(run, source=source, target=target, options=options):
                    folder = self.local()
                    code, _, error = run("cp", *options, f"{name}:{source}", f"{folder}/{target}")
                    return code, describe_tree(folder), error
                with self.subTest(options=options, source=source, target=target):
                    docker, ours = self.both(call)
                    self.assertEqual((ours[0], ours[1]), (docker[0], docker[1]), f"docker: {docker[2]}\nours: {ours[2]}")

    def test_copying_in_is_the_same(self):
        cases = [("dir", "/srv/new"), ("dir/.", "/srv/new"), ("dir", "/tmp"), ("dir/.", "/tmp"), ("dir/", "/tmp"), ("file", "/srv/new"), ("file", "/tmp"), ("file", "/tmp/"), ("file", "/etc/passwd"), ("dir", "/etc/passwd"),
                 ("file", "/srv/absent/"), ("file", "/no/where"), ("link", "/tmp"), ("link", "/srv/new"), ("nope", "/tmp"), ("file", "/bin/ls"), ("file", "srv/relative")]
        for options in ((), ("-L",), ("-a",)):
            for source, target in cases:
                def call(run, source=source, target=target, options=options):
                    name, folder = self.created(), self.local()
                    code, _, error = run("cp", *options, f"{folder}/{source}", f"{name}:{target}")
                    return code, self.engine.ok("diff", name), sorted((m.name, m.mode, m.uid, m.type, m.linkname) for m in members_of(self.read(name, "/srv")[2]).values()), error
                with self.subTest(options=options, source=source, target=target):
                    docker, ours = self.both(call)
                    self.assertEqual(ours[:3], docker[:3], f"docker: {docker[3]}\nours: {ours[3]}")

    def test_archives_on_standard_input_and_output_are_the_same(self):
        name = self.run_detached()
        data = tar_of(("in", dict(data=b"x")))

        def call(run):
            into = run("cp", "-", f"{name}:/srv", stdin=data)[0]
            refused = run("cp", "-", f"{name}:/etc/passwd", stdin=data)
            out = run("cp", f"{name}:/etc/passwd", "-")
            return into, refused[0], out[0], out[1]
        docker, ours = self.both(call)
        self.assertEqual(ours, docker)
        self.assertEqual(self.shell(name, "cat /srv/in"), "x")
        self.assertEqual(list(members_of(ours[3])), ["passwd"])

    def test_wrong_ends_are_refused_in_the_same_words(self):
        name = self.created()
        for arguments in ((f"{name}:/etc", f"{name}:/tmp"), ("/a", "/b"), ("", f"{name}:/x"), (f"{name}:/x", ""), (f"{name}:/etc", "/dev/null"), ("zzz:/etc", "/tmp/zzz-absent")):
            with self.subTest(arguments=arguments):
                docker, ours = self.both(lambda run, arguments=arguments: run("cp", *arguments))
                self.assertEqual(ours[0] != 0, docker[0] != 0)
                self.assertIn(docker[2].strip().splitlines()[0].removeprefix("Error response from daemon: "), ours[2])

    @caisson.differs_without_root("the folders of this test are root's")
    def test_a_hostile_archive_stays_in_the_folder_it_goes_to(self):
        # What a container could answer: a link that leads out, then a file behind it.
        name = self.run_detached()
        folder = self.local()
        victim = os.path.join(self.work(), "victim")
        os.makedirs(victim, exist_ok=True)
        self.shell(name, f"mkdir -p /srv/evil; ln -s {victim} /srv/evil/link")
        self.engine.ok("cp", f"{name}:/srv/evil", f"{folder}/there")
        self.shell(name, "cd /srv/evil; rm link; mkdir link; echo bad >link/file")
        self.engine.cli("cp", f"{name}:/srv/evil", f"{folder}/there")
        self.assertEqual(os.listdir(victim), [])


class PythonModule(FilesTest):
    """Debian's python3-docker, as compose 1.29 and Ansible use it."""

    @caisson.differs_without_root("this test's clients are root's")
    def test_archives_export_diff_and_commit(self):
        name = self.run_detached()
        script = (
            "import docker, io, sys, tarfile\n"
            "client = docker.from_env()\n"
            f"c = client.containers.get({name!r})\n"
            "out = io.BytesIO()\n"
            "with tarfile.open(fileobj=out, mode='w') as tar:\n"
            "    info = tarfile.TarInfo('put'); info.size = 3; tar.addfile(info, io.BytesIO(b'abc'))\n"
            "assert c.put_archive('/srv', out.getvalue())\n"
            "bits, stat = c.get_archive('/srv/put')\n"
            "data = b''.join(bits)\n"
            "print(stat['name'], stat['size'], tarfile.open(fileobj=io.BytesIO(data)).getnames())\n"
            "print(sorted(x['Path'] for x in c.diff()))\n"
            "print(len(b''.join(c.export())) > 10000)\n"
            "image = c.commit(repository='py', tag='1', message='m', author='a', changes=['ENV P=1'], conf={'Labels': {'x': 'y'}})\n"
            "print(image.tags, image.attrs['Config']['Labels'], 'P=1' in image.attrs['Config']['Env'])\n")
        run = subprocess.run(["/usr/bin/python3", "-c", script], capture_output=True, text=True, timeout=60, env=self.engine.environment(), check=False)
        if "No module named 'docker'" in run.stderr:
            self.skipTest("needs python3-docker: tools/dependencies peers")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(run.stdout.splitlines(), ["put 3 ['put']", "['/srv', '/srv/put']", "True", "['py:1'] {'x': 'y'} True"])


class Faults(unittest.TestCase):
    """An engine per test: these kill it or fill its disk."""

    def setUp(self):
        self.engine = caisson.Engine()
        self.addCleanup(self.engine.close)
        self.engine.start()
        self.engine.import_busybox()

    def big(self, name):
        self.engine.ok("run", "-d", "--name", name, "busybox", "sleep", "1000")
        self.engine.ok("exec", name, "sh", "-c", "head -c 300000000 /dev/zero | tr '\\0' x >/srv/big")

    @caisson.needs_cgroups
    def test_a_commit_that_a_crash_cuts_short_leaves_a_container_that_goes_on(self):
        self.big("web")
        command = subprocess.Popen(self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", self.engine.host, "commit", "web", "cut:1"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, env=self.engine.environment())
        wait_until(lambda: self.engine.inspect("web")["State"]["Status"] == "paused", "the container is paused for the commit")
        self.engine.kill9()
        command.communicate(timeout=60)
        self.engine.start()
        self.assertEqual(self.engine.inspect("web")["State"]["Status"], "running")
        self.assertEqual(self.engine.ok("exec", "web", "echo", "on"), "on")
        self.assertEqual(self.engine.cli("inspect", "cut:1").returncode, 1)
        self.assertEqual(os.listdir(os.path.join(self.engine.root, "ingest")), [])
        self.engine.ok("commit", "web", "whole:1")

    @caisson.differs_without_root("this test's clients are root's")
    def test_a_copy_that_a_crash_cuts_short_leaves_an_engine_that_works(self):
        self.engine.ok("create", "--name", "web", "busybox", "sleep", "1000")
        data = tar_of(("f", dict(data=b"x" * 50_000_000)))
        connection = caisson.UnixConnection(self.engine.socket, 30)
        connection.putrequest("PUT", "/containers/web/archive?path=/srv")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        connection.send(b"%x\r\n" % 10_000_000 + data[:10_000_000] + b"\r\n")
        wait_until(lambda: self.engine.processes("caisson-worker"), "a worker reads the archive")
        self.engine.kill9()
        connection.close()
        wait_until(lambda: not [text for text in caisson.processes_mentioning("caisson-worker").values() if self.engine.folder in text], "its worker is gone")
        self.engine.start()
        connection = caisson.UnixConnection(self.engine.socket, 60)
        connection.request("PUT", "/containers/web/archive?path=/srv", body=tar_of(("f", dict(data=b"whole"))))
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()
        self.engine.ok("start", "web")
        self.assertEqual(self.engine.ok("exec", "web", "cat", "/srv/f"), "whole")


class FullDisk(unittest.TestCase):
    @caisson.differs_without_root("the folders of this test are root's")
    def test_neither_a_commit_nor_a_copy_leaves_half_of_anything(self):
        engine = caisson.Engine()
        self.addCleanup(engine.close)
        os.makedirs(engine.root)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", engine.root], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", engine.root], check=False)
        engine.start()
        engine.import_busybox()
        engine.ok("run", "-d", "--name", "web", "busybox", "sleep", "1000")
        engine.ok("exec", "web", "sh", "-c", "head -c 8000000 /dev/urandom >/srv/big")
        run = engine.cli("commit", "web", "toobig:1")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("No space left on device", run.stderr)
        self.assertEqual(engine.inspect("web")["State"]["Status"], "running")
        self.assertEqual(os.listdir(os.path.join(engine.root, "ingest")), [])
        self.assertEqual(engine.cli("inspect", "toobig:1").returncode, 1)
        run = engine.cli("cp", "-", "web:/srv", stdin=tar_of(("huge", dict(data=b"x" * 30_000_000))), text=False)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn(b"No space left on device", run.stderr)
        engine.ok("exec", "web", "rm", "-f", "/srv/big", "/srv/huge")
        engine.ok("commit", "web", "small:1")


if __name__ == "__main__":
    caisson.main()

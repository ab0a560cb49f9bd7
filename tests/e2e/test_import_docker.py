#!/usr/bin/env python3
"""What a real dockerd left in its folder is taken over: images run, volumes hold their data, containers start with their configuration."""

import hashlib
import json
import os
import signal
import subprocess
import unittest

import caisson
import peers


def fingerprint(folder):
    """Every file below with its contents, owner, mode and change time: what "only read" must leave as it is."""
    found = {}
    for where, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(where, name)
            status = os.lstat(path)
            digest = ""
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()
            found[path] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, digest)
    return found


class ImportDocker(caisson.EngineTest):
    @classmethod
    def setUpClass(cls):
        reason = peers.PrivateDockerd.why_not()
        if reason:
            raise unittest.SkipTest(reason)
        cls.dockerd = peers.PrivateDockerd("--bridge", "none", "--iptables=false")
        cls.dockerd.__enter__()
        cls.addClassCleanup(cls.dockerd.close)
        docker = cls.docker
        docker("import", "--change", 'CMD ["/bin/sh"]', "--change", "ENV PATH=/bin FROM=docker", "-", "base:1", stdin=caisson.busybox_rootfs())
        # A second layer that changes, adds and removes.
        docker("run", "--network", "none", "--name", "maker", "base:1", "sh", "-c", "echo two >/etc/layer; rm /etc/not-executable; ln /etc/layer /etc/again; ln -s layer /etc/soft")
        docker("commit", "--change", "LABEL layers=2", "maker", "app:2")
        docker("rm", "maker")
        docker("tag", "app:2", "app:latest")
        docker("volume", "create", "data")
        docker("volume", "create", "taken")
        docker("run", "--rm", "--network", "none", "-v", "data:/d", "base:1", "sh", "-c",
               "echo kept >/d/file; chown 1000:1000 /d/file; chmod 4750 /d/file; mkdir -p /d/a/b; ln -s ../file /d/a/link")
        docker("create", "--name", "worker", "--network", "none", "-e", "MODE=fast", "-w", "/srv", "-m", "64m", "--restart", "on-failure:3", "-u", "user",
               "--label", "owner=me", "-v", "data:/d:ro", "--cap-drop", "ALL", "--entrypoint", "/bin/sh", "app", "-c", "echo $MODE $FROM $(pwd) $(id -u); cat /d/file /etc/layer")
        docker("run", "--network", "none", "--name", "anonymous", "-v", "/cache", "base:1", "sh", "-c", "echo warm >/cache/state")
        docker("run", "--network", "none", "--name", "written", "base:1", "sh", "-c", "echo note >/root/note")
        docker("create", "--name", "clash", "--network", "none", "base:1", "true")
        cls.image_ids = {name: docker("inspect", "-f", "{{.Id}}", name).stdout.decode().strip() for name in ("base:1", "app:2")}
        cls.data = f"{cls.dockerd.folder}/data"
        super().setUpClass()
        cls.running_refusal = cls.take_over("--yes")
        cls.dockerd.process.send_signal(signal.SIGTERM)
        cls.dockerd.process.wait(30)
        cls.before = fingerprint(cls.data)
        cls.engine.ok("volume", "create", "taken")
        cls.engine.ok("create", "--name", "clash", "--label", "mine", "busybox", "true")
        cls.plan = cls.take_over()
        cls.state_after_plan = cls.engine.ok("volume", "ls", "-q"), cls.engine.ok("ps", "-aq"), cls.engine.ok("images", "-q")
        cls.first = cls.take_over("--yes")

    @classmethod
    def docker(cls, *arguments, **options):
        return cls.dockerd.docker(*arguments, check=0, **options)

    @classmethod
    def take_over(cls, *arguments):
        return cls.engine.cli("import-docker", "--docker-root", cls.data, *arguments, timeout=300)

    def test_a_running_dockerd_is_refused(self):
        self.assertEqual(self.running_refusal.returncode, 1)
        self.assertIn("a dockerd uses", self.running_refusal.stderr)
        self.assertIn("systemctl stop docker", self.running_refusal.stderr)

    def test_the_plan_names_everything_and_changes_nothing(self):
        self.assertEqual(self.plan.returncode, 0, self.plan.stderr)
        for words in (r"image +app:2 +take over", r"volume +data +take over", r"volume +taken +left alone +a volume of that name is here", r"container +worker +take over",
                      r"container +clash +left alone", r"container +written +take over *\n", "Nothing was changed"):
            self.assertRegex(self.plan.stdout, words)
        volumes, containers, images = self.state_after_plan
        self.assertEqual(volumes, "taken")
        self.assertEqual(len(containers.split()), 1)
        self.assertEqual(len(images.split()), 1)

    def test_dockers_folder_is_only_read(self):
        self.assertEqual(fingerprint(self.data), self.before)

    def test_conflicts_are_said_and_leave_the_others_alone(self):
        self.assertEqual(self.first.returncode, 1)
        self.assertIn("volume taken: a volume of that name is here", self.first.stderr)
        self.assertIn("container clash: a container of that name is here", self.first.stderr)
        self.assertIn("2 were not taken over", self.first.stderr)
        self.assertEqual(json.loads(self.engine.ok("inspect", "-f", "{{json .Config.Labels}}", "clash")), {"mine": ""})

    def test_images_keep_their_ids_and_tags_and_run(self):
        for name, image_id in self.image_ids.items():
            self.assertEqual(self.engine.ok("inspect", "-f", "{{.Id}}", name), image_id)
        self.assertEqual(self.engine.ok("inspect", "-f", "{{.Id}}", "app:latest"), self.image_ids["app:2"])
        out = self.engine.ok("run", "--rm", "app:2", "sh", "-c", "cat /etc/again /etc/soft; ls /etc/not-executable 2>&1; stat -c %h /etc/layer; echo $FROM")
        self.assertEqual(out, "two\ntwo\nls: /etc/not-executable: No such file or directory\n2\ndocker")

    def test_volumes_hold_their_data(self):
        out = self.engine.ok("run", "--rm", "-v", "data:/d", "base:1", "sh", "-c", "cat /d/file /d/a/link; stat -c '%u:%g %a' /d/file")
        self.assertEqual(out, "kept\nkept\n1000:1000 4750")

    def test_containers_start_with_their_configuration(self):
        self.assertEqual(self.engine.ok("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}} "
                                        "{{.Config.User}} {{.Config.Labels.owner}} {{.Config.Image}}", "worker"), "67108864 on-failure:3 user me app")
        # Volume's file is 4750 and belongs to user (1000), who the container runs as.
        self.assertEqual(self.engine.ok("start", "-a", "worker"), "fast docker /srv 1000\nkept\ntwo")

    def test_anonymous_volumes_come_along(self):
        name = self.engine.ok("inspect", "-f", "{{(index .Mounts 0).Name}}", "anonymous")
        self.assertEqual(len(name), 64)
        self.assertEqual(self.engine.ok("run", "--rm", "-v", f"{name}:/c", "base:1", "cat", "/c/state"), "warm")

    def test_what_a_container_wrote_comes_along(self):
        self.assertEqual(self.engine.ok("diff", "written").splitlines(), ["C /root", "A /root/note"])
        self.assertIn(b"note\n", self.engine.ok("cp", "written:/root/note", "-", text=False))

    def test_a_second_run_finds_all_done(self):
        again = self.take_over("--yes")
        self.assertEqual(again.stdout, "")
        self.assertIn("2 were not taken over", again.stderr)  # the same two conflicts

    def test_an_interrupted_run_is_taken_up(self):
        with caisson.Engine() as other:
            def take_over(*arguments, **options):
                return other.cli("import-docker", "--docker-root", self.data, "--yes", *arguments, timeout=300, **options)

            # As if it had ended in the middle of the copy: the volume is there, begun, and half full.
            other.ok("volume", "create", "data")
            target = other.ok("volume", "inspect", "-f", "{{.Mountpoint}}", "data")
            with open(f"{target}/half", "w", encoding="utf-8"):
                pass
            with open(f"{other.root}/import-docker.journal", "w", encoding="utf-8") as file:
                file.write(f"begun volume data from {self.data}\n")
            take_over("--only", "volumes", check=0)
            self.assertEqual(sorted(os.listdir(target)), ["a", "file"])
            self.assertEqual(other.ok("images", "-q"), "")
            take_over(check=0)
            self.assertEqual(other.ok("start", "-a", "worker").splitlines()[0], "fast docker /srv 1000")
            self.assertEqual(take_over(check=0).stdout, "")

    def test_a_damaged_layer_is_refused_by_its_file(self):
        copy = f"{self.dockerd.folder}/copy"
        subprocess.run(["cp", "-a", self.data, copy], check=True)
        layers = [os.path.join(where, name) for where, _, names in os.walk(copy) for name in names if name == "passwd" and "/etc" in where]
        self.assertTrue(layers)
        for path in layers:
            with open(path, "w", encoding="utf-8") as file:
                file.write("short")
        with caisson.Engine() as other:
            run = other.cli("import-docker", "--docker-root", copy, "--only", "images", "--yes", timeout=300)
            self.assertEqual(run.returncode, 1)
            self.assertIn("etc/passwd", run.stderr)
            self.assertEqual(other.ok("images", "-q"), "")

    def test_a_folder_that_is_not_dockers_is_refused(self):
        self.assertIn("is no folder of Docker", self.engine.cli("import-docker", "--docker-root", "/usr/share", check=1).stderr)


if __name__ == "__main__":
    caisson.main()

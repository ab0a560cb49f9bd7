#!/usr/bin/env python3
"""Builds from Dockerfiles: by our command line, docker's classic client and the bare API; beside dockerd's classic builder where it is here."""

import base64
import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import unittest
import urllib.parse

import caisson
import peers
from caisson import wait_until
from terminal import Terminal


def context_of(files):
    """name → text, bytes or a dict of tar fields → the bytes of a context's tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            if isinstance(content, dict):
                caisson.add_file(tar, name, **content)
            else:
                caisson.add_file(tar, name, content.encode() if isinstance(content, str) else content)
    return out.getvalue()


def documents(body):
    return [json.loads(line) for line in body.decode().splitlines() if line.strip()]


class BuildTest(caisson.EngineTest):
    def folder(self, files):
        """A context on disk: name → text, or (text, mode), or None for a folder."""
        return caisson.write_files(os.path.join(self.engine.folder, self._testMethodName), files)

    def build(self, files, *arguments, check=0, **options):
        return self.engine.cli("build", *arguments, self.folder(files), check=check, timeout=120, **options)

    def built(self, dockerfile, files=None, *arguments, **options):
        """Builds under the test's own name and returns that name."""
        name = self._testMethodName.lower()
        self.build({"Dockerfile": dockerfile, **(files or {})}, "-t", name, *arguments, **options)
        return name

    def shell(self, image, script):
        return self.engine.ok("run", "--rm", "--entrypoint", "sh", image, "-c", script)

    def config(self, image):
        return json.loads(self.engine.ok("image", "inspect", image))[0]

    def assert_nothing_left(self):
        self.assertEqual(os.listdir(os.path.join(self.engine.root, "builds")), [])
        self.assertEqual(os.listdir(os.path.join(self.engine.exec_root, "builds")), [])
        self.assertEqual(self.engine.ok("ps", "-aq"), "")

    # -- instructions

    @caisson.differs_without_root("the folders of this test are root's")
    def test_a_dockerfile_becomes_an_image_with_files_and_configuration(self):
        name = self.built(
            "ARG BASE=busybox\nFROM $BASE AS first\nARG WHO=world\nENV GREETING=\"hello $WHO\" A=1\nWORKDIR /srv/app\nCOPY a.txt b/ ./\nRUN echo \"$GREETING\" > out && pwd >> out\n"
            "EXPOSE 80 53/udp\nVOLUME /data\nUSER user\nLABEL one=1 two=\"2 3\"\nSTOPSIGNAL SIGINT\nHEALTHCHECK --interval=5s CMD true\nENTRYPOINT [\"cat\"]\nCMD [\"/srv/app/out\"]\n",
            {"a.txt": ("text", 0o640), "b/c.sh": ("#!/bin/sh", 0o755)}, "--label", "three=3")
        self.assertEqual(self.engine.ok("run", "--rm", name), "hello world\n/srv/app")
        self.assertEqual(self.shell(name, "stat -c '%n %a %u:%g' /srv/app/*"), "/srv/app/a.txt 640 0:0\n/srv/app/c.sh 755 0:0\n/srv/app/out 644 0:0")
        config = self.config(name)["Config"]
        self.assertEqual(config["Env"], ["PATH=/bin:/usr/bin", "GREETING=hello world", "A=1"])
        self.assertEqual(config["Entrypoint"], ["cat"])
        self.assertEqual(config["Cmd"], ["/srv/app/out"])
        self.assertEqual(config["WorkingDir"], "/srv/app")
        self.assertEqual(config["User"], "user")
        self.assertEqual(set(config["ExposedPorts"]), {"80/tcp", "53/udp"})
        self.assertEqual(set(config["Volumes"]), {"/data"})
        self.assertEqual(config["Labels"], {"one": "1", "two": "2 3", "three": "3"})
        self.assertEqual(config["Healthcheck"]["Interval"], 5_000_000_000)
        self.assert_nothing_left()

    def test_only_what_the_target_needs_is_built(self):
        name = self.built("FROM busybox AS base\nRUN echo base > /f\nFROM busybox AS unused\nRUN exit 9\nFROM base AS one\nCOPY --from=base /f /g\nFROM busybox AS last\nRUN exit 9\n", {}, "--target", "one")
        self.assertEqual(self.shell(name, "cat /f /g"), "base\nbase")
        out = self.build({"Dockerfile": "FROM busybox AS a\nFROM busybox AS b\n"}, "--target", "c", check=1)
        self.assertIn("failed to reach build target c in Dockerfile", out.stderr)

    def test_stages_copy_from_each_other_and_from_images(self):
        name = self.built("FROM busybox AS one\nRUN mkdir -p /d/e && echo 1 > /d/e/f && ln -s e /d/link && chown -R 1000:1000 /d\nFROM scratch AS two\nCOPY --from=one /d /kept\n"
                          "COPY --from=busybox /bin/busybox /bin/sh\nCOPY --from=0 --chown=5:6 /d/link/f /renamed\n")
        self.engine.ok("create", "--name", "peek", name, "x")
        self.addCleanup(self.engine.cli, "rm", "-f", "peek")
        with tarfile.open(fileobj=io.BytesIO(self.engine.cli("export", "peek", text=False, check=0).stdout)) as tar:
            members = {member.name: member for member in tar.getmembers()}
        self.assertEqual((members["kept/e/f"].uid, members["kept/e/f"].gid), (1000, 1000))
        self.assertEqual(members["kept/link"].linkname, "e")
        self.assertEqual((members["renamed"].uid, members["renamed"].gid), (5, 6))

    @caisson.differs_without_root("the folders of this test are root's")
    def test_named_contexts_stand_for_stages_images_and_folders(self):
        files = self.folder({"lib/a": ("lib", 0o640), "lib/skipped": "no", "lib/.dockerignore": "skipped\n", "app/f": "f", "app/Dockerfile":
                             "FROM given\nCOPY --from=lib . /lib\nCOPY . /app\nRUN --mount=from=lib,target=/m cat /m/a > /mounted\nCOPY --from=slow /bin/busybox /slow\n",
                             "over/Dockerfile": "FROM busybox AS slow\nRUN exit 9\nFROM busybox\nCOPY --from=slow /bin/busybox /slow\n", "root/Dockerfile": "FROM lib\nCMD [\"/a\"]\n"})
        given = ["--build-context", "given=docker-image://busybox", "--build-context", f"lib={files}/lib", "--build-context", "slow=docker-image://busybox"]
        name = self._testMethodName
        self.engine.ok("build", "-t", name, *given, f"{files}/app")
        self.assertEqual(self.shell(name, "cd /lib && stat -c '%n %a %u:%g' *; cat /mounted; ls -A /app; cmp /slow /bin/busybox && echo same"), "a 640 0:0\nlibDockerfile\nf\nsame")
        self.assertEqual(self.engine.ok("build", *given, f"{files}/app").count("Using cache"), 4)
        with open(f"{files}/lib/a", "w") as file:
            file.write("new")
        self.assertEqual(self.engine.ok("build", *given, f"{files}/app").count("Using cache"), 0)
        # A stage that something else stands for is not built; a folder may be the base.
        self.engine.ok("build", *given, f"{files}/over")
        self.engine.ok("build", "-t", name, *given, f"{files}/root")
        self.assertEqual(self.config(name)["Config"]["Cmd"], ["/a"])
        self.engine.ok("create", "--name", "named-root", name)
        with tarfile.open(fileobj=io.BytesIO(self.engine.cli("export", "named-root", text=False, check=0).stdout)) as tar:
            self.assertIn("a", tar.getnames())
            self.assertNotIn("skipped", tar.getnames())
        self.engine.ok("rm", "named-root")
        for flag, words in {"x": "want NAME=FOLDER", f"lib={files}/nothing": "No such file", "a=oci-layout://x": "not supported", "given=docker-image://no/such:image": "no/such"}.items():
            self.assertIn(words, self.engine.cli("build", "--build-context", flag, f"{files}/app", check=1).stderr)
        self.assert_nothing_left()

    def test_bake_builds_the_targets_of_a_file_in_their_order(self):
        folder = self.folder({"docker-bake.hcl": """
variable "WHO" { default = "nobody" }
group "default" { targets = ["app", "tool"] }
target "base" { context = "base" }
target "app" {
  context = "app"
  contexts = { base = "target:base" }
  args = { WHO = upper(WHO) }
  tags = ["baked-app:${WHO}"]
}
target "tool" {
  dockerfile-inline = "FROM busybox\\nRUN echo inline > /made\\n"
  tags = ["baked-tool"]
}
""", "base/Dockerfile": "FROM busybox\nRUN echo base > /base\n", "app/Dockerfile": "FROM base\nARG WHO\nRUN echo $WHO > /who\n"})
        environment = {"WHO": "ann"}
        printed = json.loads(self.engine.ok("bake", "--print", cwd=folder, env=environment))
        self.assertEqual(printed["target"]["app"]["args"], {"WHO": "ANN"})
        out = self.engine.ok("bake", cwd=folder, env=environment)
        self.assertIn("[app] Step 1/3 : FROM base", out)
        self.assertIn("[tool] Successfully tagged baked-tool:latest", out)
        self.assertEqual(self.shell("baked-app:ann", "cat /base /who"), "base\nANN")
        self.assertEqual(self.shell("baked-tool", "cat /made"), "inline")
        self.engine.ok("builder", "bake", "-f", "docker-bake.hcl", "--set", "tool.tags=other", "tool", cwd=folder)
        listed = [line.split() for line in self.engine.ok("bake", "--list", "targets", cwd=folder).splitlines()]
        self.assertEqual((listed[0], "tool" in [words[0] for words in listed]), (["TARGET", "DESCRIPTION"], True))
        self.assertIn({"name": "WHO", "value": "ann", "description": ""}, json.loads(self.engine.ok("bake", "--list=type=variables,format=json", cwd=folder, env=environment)))
        self.assertIn("there are targets and variables", self.engine.cli("bake", "--list", "groups", cwd=folder, check=1).stderr)
        metadata = os.path.join(self.engine.folder, "baked.json")
        self.engine.ok("bake", "--metadata-file", metadata, "tool", cwd=folder, env=environment)
        with open(metadata, encoding="utf-8") as file:
            known = json.load(file)
        self.assertEqual(list(known), ["tool"])
        self.assertEqual((known["tool"]["containerimage.config.digest"], known["tool"]["image.name"]), (self.engine.inspect("baked-tool")["Id"], "baked-tool"))
        self.assertIn("buildDefinition", known["tool"]["caisson.build.provenance"])
        self.engine.ok("image", "inspect", "other")
        failed = self.engine.cli("bake", "--set", "tool.dockerfile-inline=FROM busybox\nRUN exit 4", "tool", cwd=folder, check=1)
        self.assertIn("target tool: ", failed.stderr)
        self.assertIn("returned a non-zero code: 4", failed.stderr)
        self.assertIn("there is no target nothing", self.engine.cli("bake", "nothing", cwd=folder, check=1).stderr)
        self.assertIn("there is no build file here", self.engine.cli("bake", cwd=os.path.join(folder, "app"), check=1).stderr)
        self.assert_nothing_left()

    def test_copy_follows_dockers_rules(self):
        files = {"f": "1", "d/x": "x", "d/y/z": "z", "a1.txt": "a1", "a2.txt": "a2", "a.md": "md", ".dockerignore": "*.md\nskip\n", "skip/me": "no"}
        name = self.built("FROM busybox\nCOPY f /f1\nCOPY f /dir/\nCOPY d /copied\nCOPY a?.txt /many/\nCOPY --chmod=0700 f /mode\nCOPY --chmod=u=rwx,go= d /tree\nCOPY --exclude=y d /less\n"
                          "COPY --parents d/y/z /par/\nCOPY . /all\nRUN mkdir /there && chmod 750 /there && ln -s there /lnk\nCOPY f /there\nCOPY f /lnk/g\nCOPY --link f /linked/f\nCOPY <<A <<\"B\" /doc/\nfrom $PATH\nA\nraw $PATH\nB\n", files)
        self.assertEqual(self.shell(name, "cat /f1 /dir/f /copied/x /copied/y/z /many/a1.txt /many/a2.txt /there/f /there/g /linked/f; stat -c %a /mode /tree/x /tree/y /there; ls /less; cat /par/d/y/z /doc/A /doc/B"),
                         "11xza1a2111700\n700\n700\n750\nx\nzfrom /bin:/usr/bin\nraw $PATH")
        self.assertEqual(self.shell(name, "cd /all && find . -type f | sort | tr '\\n' ' '"), "./.dockerignore ./Dockerfile ./a1.txt ./a2.txt ./d/x ./d/y/z ./f ")
        for dockerfile, words in {"COPY nothing /x": "COPY failed: file not found in build context or excluded by .dockerignore: stat nothing: file does not exist",
                                  "COPY a.md /x": "excluded by .dockerignore", "COPY z*.q /x": "no source files were specified",
                                  "COPY a1.txt a2.txt /x": "the destination must be a directory and end with a /", "COPY --chown=ghost f /x": "ghost",
                                  "COPY --from=127.0.0.1:1/none:1 a b": "127.0.0.1:1", "COPY ../../etc/passwd /x": "file does not exist"}.items():
            out = self.build({"Dockerfile": f"FROM busybox\n{dockerfile}\n"}, check=1)
            self.assertIn(words, out.stderr, dockerfile)
            self.assertIn("Dockerfile:2", out.stderr, dockerfile)

    def test_a_folder_of_the_context_joins_what_is_there(self):
        files = {"d/x": "new", "d/deep/y/z": "z", "d/deep/y/w": "w", "d/more/f": ("f", 0o4755), "other/x": "other"}
        name = self.built("FROM busybox\nRUN mkdir -p -m 711 /real/app/deep/y && chmod 751 /real/app && ln -s real /link && cd /real/app && echo old > x && echo kept > deep/y/kept && ln -s /etc/passwd deep/y/z\n"
                          "COPY --chown=5:6 d /link/app\nCOPY other/ /real/app/\n", files)
        self.assertEqual(self.shell(name, "cd /real/app; cat x deep/y/z deep/y/w deep/y/kept more/f; stat -c '%a %u' . deep/y deep/y/z more more/f x | tr '\\n' ' '; wc -l < /etc/passwd"),
                         "otherzwkept\nf751 0 755 5 644 5 755 5 4755 5 644 0 " + self.shell("busybox", "wc -l < /etc/passwd"))
        for dockerfile, words in {"RUN mkdir -p /a/x\nCOPY d /a": "a folder of that name is there", "RUN mkdir /a && touch /a/deep\nCOPY d /a": "cannot copy a folder to a file",
                                  "RUN touch /a\nCOPY d /a": "folder /a: openat2 ./a: Not a directory"}.items():
            self.assertIn(words, self.build({"Dockerfile": f"FROM busybox\n{dockerfile}\n"}, check=1).stderr, dockerfile)
        self.assert_nothing_left()

    @unittest.skipUnless(caisson.ROOTLESS, "root reads every file")
    def test_a_file_of_the_context_that_cannot_be_read_is_named(self):
        said = self.build({"Dockerfile": "FROM busybox\n", "mine": ("not yours", 0o700)}, check=1).stderr
        self.assertIn("mine: ", said)
        self.assertIn("Permission denied", said)

    def test_a_symbolic_link_of_the_context_leads_nowhere_else(self):
        secret = os.path.join(self.engine.folder, "outside")
        with open(secret, "w", encoding="utf-8") as file:
            file.write("host file")
        folder = self.folder({"Dockerfile": "FROM busybox\nCOPY link /x\n"})
        os.symlink(secret, os.path.join(folder, "link"))
        self.assertIn("file does not exist", self.engine.cli("build", folder, check=1).stderr)
        with open(os.path.join(folder, "Dockerfile"), "w", encoding="utf-8") as file:
            file.write("FROM busybox\nRUN --mount=type=bind,source=link,target=/x cat /x\n")
        self.assertNotIn("host file", (out := self.engine.cli("build", folder, check=1)).stdout + out.stderr)

    @caisson.differs_without_root("the host's network is not the engine's")
    def test_add_takes_archives_apart_and_fetches_files(self):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            caisson.add_file(tar, "in/side", b"unpacked", uid=7)
        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"fetched")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url = f"http://127.0.0.1:{server.server_port}/some/name.txt"
        name = self.built(f"FROM busybox\nADD a.tgz /u/\nADD --unpack=false a.tgz /plain/\nADD {url} /got/\nADD plain.txt /plain/\n", {"a.tgz": archive.getvalue(), "plain.txt": "just text"})
        self.assertEqual(self.shell(name, "cat /u/in/side /got/name.txt /plain/plain.txt; stat -c '%a %u' /got/name.txt; stat -c %u /u/in/side; ls /plain"), "unpackedfetchedjust text600 0\n7\na.tgz\nplain.txt")

    def test_run_has_mounts_heredocs_and_networks(self):
        name = self.built("# syntax=docker/dockerfile:1\nFROM busybox AS src\nRUN echo from-stage > /s\nFROM busybox\n"
                          "RUN --mount=type=cache,target=/c,id=k1 echo cached > /c/f\nRUN --mount=type=cache,target=/c,id=k1,sharing=locked cat /c/f > /cached\n"
                          "RUN --mount=type=tmpfs,target=/t touch /t/x && mount | grep -c ' /t ' > /tmpfs\nRUN --mount=type=bind,from=src,source=/s,target=/m cat /m > /bound\n"
                          "RUN --mount=target=/ctx cat /ctx/f > /context\nRUN --network=none ip addr | grep -c eth > /eth || true\n"
                          "RUN <<EOF\necho one > /h1\necho two >> /h1\nEOF\nRUN <<EOF\n#!/bin/cat\nscript\nEOF\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $0 > /sh\n", {"f": "ctx"})
        self.assertEqual(self.shell(name, "cat /cached /tmpfs /bound /context /eth /h1; ls -d /c/* /t/* /m /ctx 2>/dev/null; true"), "cached\n1\nfrom-stage\nctx0\none\ntwo")

    def test_onbuild_triggers_run_in_the_child(self):
        self.build({"Dockerfile": "FROM busybox\nONBUILD COPY f /f\nONBUILD RUN echo trigger >> /f\n"}, "-t", "parent")
        name = self.built("FROM parent\nRUN echo child >> /f\n", {"f": "context\n"})
        self.assertEqual(self.shell(name, "cat /f"), "context\ntrigger\nchild")
        self.assertFalse(self.config(name)["Config"].get("OnBuild"))

    # -- cache

    def test_a_rebuild_does_nothing_again_and_gives_the_same_image(self):
        files = {"Dockerfile": "FROM busybox\nARG A=1\nLABEL v=1\nCOPY f /f\nRUN cat /proc/sys/kernel/random/uuid > /once\n", "f": "1"}
        first = self.build(files, "-q").stdout.strip()
        os.utime(os.path.join(self.folder({}), "f"), (1, 1))
        again = self.build(files)
        self.assertIn("Using cache", again.stdout)
        self.assertNotIn("Running in", again.stdout)
        self.assertEqual(self.build(files, "-q").stdout.strip(), first, "a time stamp is no change")
        self.assertIn("Running in", self.build({**files, "f": "2"}).stdout, "content is")
        self.assertIn("Running in", self.build({"f": ("1", 0o755)}).stdout, "a mode is")
        relabelled = self.build({"Dockerfile": files["Dockerfile"].replace("v=1", "v=2"), "f": ("1", 0o644)})
        self.assertNotIn("Running in", relabelled.stdout, "a label is no reason to run again")
        self.assertIn("Running in", self.build({"Dockerfile": files["Dockerfile"], "f": "1"}, "--build-arg", "A=2").stdout, "an argument is")
        self.assertIn("Running in", self.build({}, "--no-cache").stdout)

    def test_what_follows_a_step_that_was_done_again_is_done_upon_it(self):
        files = {"Dockerfile": "FROM busybox AS first\nRUN cat /proc/sys/kernel/random/uuid > /f\nFROM first AS second\nRUN cp /f /g && cat /proc/sys/kernel/random/uuid > /own\nFROM busybox AS same\nRUN true\nFROM same\n"
                               "COPY --from=second /f /g /own /\nRUN cat /f > /h\n"}
        def contents():
            self.build(files, "-t", "chained")
            return self.shell("chained", "cat /f; cat /g; cat /h; cat /own").split()
        first = contents()
        self.assertEqual(len(set(first[:3])), 1)
        self.assertEqual(contents(), first)
        self.build(files, "--no-cache", "--target", "first")
        second = contents()
        self.assertEqual(len(set(second[:3])), 1, "a step's files and what was made of them belong together")
        self.assertNotIn(first[0], second)
        said = self.build(files, "--no-cache-filter", "second", "-t", "chained").stdout
        self.assertEqual(said.count("Using cache"), 2, said)  # the RUNs of first and same; what COPY takes has changed
        third = self.shell("chained", "cat /f; cat /g; cat /h; cat /own").split()
        self.assertEqual(third[:3], second[:3])
        self.assertNotEqual(third[3], second[3])

    def test_a_dockerfile_says_what_it_has_and_takes(self):
        files = {"Dockerfile": "# VERSION of the tools\nARG VERSION=1\n# tools are for building\nFROM busybox AS tools\nARG VERSION\nRUN --mount=type=secret,id=key,required=true exit 9\nFROM tools AS app\nFROM scratch\n"}
        before = self.engine.ok("build", "history", "ls", "-q")
        self.assertEqual(self.build(files, "--call", "targets").stdout, "TARGET      DESCRIPTION\ntools       are for building\napp         \n(default)   \n")
        self.assertEqual(self.build(files, "--call=outline", "--target", "app", "--build-arg", "VERSION=2").stdout, "TARGET:        app\n\nBUILD ARG   VALUE     DESCRIPTION\nVERSION     2         of the tools\n\nSECRET    REQUIRED\nkey       true\n")
        self.assertEqual(json.loads(self.build(files, "--call=targets,format=json").stdout)["targets"][2], {"base": "scratch", "default": True})
        self.assertEqual(json.loads(self.build(files, "--call=outline,format=json", "--target", "tools").stdout)["args"], [{"name": "VERSION", "description": "of the tools", "value": "1"}])
        self.assertIn("Check complete", self.build(files, "--call=check").stdout)
        self.assertIn("want build, check, outline or targets", self.build(files, "--call=all", check=1).stderr)
        self.assertIn('an engine has one, "default"', self.build(files, "--builder", "mine", check=1).stderr)
        self.assertEqual(self.engine.ok("build", "history", "ls", "-q"), before, "nothing was built")

    @caisson.differs_without_root("the folders of this test are root's")
    def test_system_prune_takes_the_cache_along_and_says_so(self):
        with caisson.Engine() as engine, tempfile.TemporaryDirectory(prefix=caisson.PREFIX) as folder:
            engine.import_busybox()
            with open(f"{folder}/Dockerfile", "w", encoding="utf-8") as file:
                file.write("FROM busybox\nRUN echo a >/a\n")
            engine.ok("build", "-q", "-t", "pruned:1", folder)
            # Nothing in the cache has a label, so one that is asked for spares it.
            self.assertNotIn("cache", engine.ok("system", "prune", "-f", "--filter", "label=nosuch"))
            self.assertIn("all build cache", engine.ok("system", "prune", "-a", stdin="n\n"))
            entries = json.loads(engine.request("GET", "/system/df")[2])["BuildCache"]
            self.assertTrue(entries)
            said = engine.ok("system", "prune", "-a", "-f")
            self.assertIn("Deleted build cache objects:\n", said)
            for entry in entries:
                self.assertIn(entry["ID"][:12], said)
            self.assertEqual(engine.ok("images", "-aq"), "")
            self.assertIn("Build Cache     0 ", engine.ok("system", "df"))

    def test_the_cache_outlives_the_daemon_and_can_be_pruned(self):
        files = {"Dockerfile": "FROM busybox\nRUN echo kept > /kept\n"}
        self.build(files, "-t", "keep")
        self.engine.kill9()
        self.engine.start()
        self.assertIn("Using cache", self.build(files).stdout)
        listed = [line for line in self.engine.ok("images", "-q").splitlines()]
        usage = json.loads(self.engine.request("GET", "/system/df")[2])
        self.assertTrue(usage["BuildCache"])
        self.assertGreater(usage["BuilderSize"], 0)
        self.assertLess(len(listed), 3 + len(usage["Images"]), "steps are not listed among the images")
        pruned = json.loads(self.engine.request("POST", "/build/prune?all=1")[2])
        self.assertTrue(pruned["CachesDeleted"])
        self.assertEqual(json.loads(self.engine.request("GET", "/system/df")[2])["BuildCache"], [])
        self.assertEqual(self.shell("keep", "cat /kept"), "kept")
        self.assertIn("Running in", self.build(files).stdout)

    def test_the_same_files_and_time_give_the_same_image_on_another_engine(self):
        files = {"Dockerfile": "FROM busybox\nCOPY d /d\nADD d/b /e/\nRUN mkdir /r && echo x > /r/f && ln -s f /r/l && chown 3:4 /r/f\nWORKDIR /w\nCMD [\"sh\"]\n", "d/a": "1", "d/b/c": "2"}
        epoch = ("--build-arg", "SOURCE_DATE_EPOCH=1700000000")
        archive = os.path.join(self.engine.folder, "busybox.tar")
        self.engine.ok("save", "-o", archive, "busybox")
        mine = self.build(files, "-q", *epoch).stdout.strip()
        with caisson.Engine() as other:
            other.ok("load", "-i", archive)
            # Another folder, other times and another user's files.
            folder = tempfile.mkdtemp(prefix=caisson.PREFIX)
            self.addCleanup(shutil.rmtree, folder, True)
            shutil.copytree(self.folder({}), folder, dirs_exist_ok=True)
            for place, folders, names in os.walk(folder):
                for name in folders + names:
                    os.utime(os.path.join(place, name), (1_750_000_000, 1_750_000_000 + len(name)))
                    os.chown(os.path.join(place, name), 1234, 1234)
            theirs = other.ok("build", "-q", *epoch, folder)
            layers = json.loads(other.ok("image", "inspect", theirs))[0]["RootFS"]["Layers"]
        self.assertEqual(self.config(mine)["RootFS"]["Layers"], layers)
        self.assertEqual(mine, theirs, "the id covers configuration and history, too")

    def test_independent_stages_run_side_by_side(self):
        name = self.built("FROM busybox AS a\nRUN --mount=type=cache,target=/c,id=meet touch /c/a && until [ -e /c/b ]; do usleep 20000; done\n"
                          "FROM busybox AS b\nRUN --mount=type=cache,target=/c,id=meet touch /c/b && until [ -e /c/a ]; do usleep 20000; done && echo met > /met\nFROM busybox\nCOPY --from=a /etc/passwd /x\nCOPY --from=b /met /met\n")
        self.assertEqual(self.shell(name, "cat /met"), "met")

    # -- secrets

    def test_a_secret_is_in_no_layer_cache_or_history(self):
        secret = "s3cr3t-" + os.urandom(8).hex()
        path = os.path.join(self.engine.folder, "the-secret")
        with open(path, "w", encoding="utf-8") as file:
            file.write(secret)
        name = self.built("FROM busybox\nRUN --mount=type=secret,id=k wc -c < /run/secrets/k > /size && stat -c '%a %u' /run/secrets/k >> /size\nRUN --mount=type=secret,id=k,env=KEY test -n \"$KEY\"\n"
                          "RUN --mount=type=secret,id=missing test ! -e /run/secrets/missing\n", {}, "--secret", f"id=k,src={path}")
        self.assertEqual(self.shell(name, "cat /size; ls -A /run"), f"{len(secret)}\n400 0")
        os.unlink(path)
        found = subprocess.run(["grep", "-rl", "--devices=skip", secret, self.engine.root, self.engine.exec_root], capture_output=True, text=True, check=False).stdout
        self.assertEqual(found, "")
        self.assertNotIn(secret, self.engine.ok("history", "--no-trunc", name))
        out = self.build({"Dockerfile": "FROM busybox\nRUN --mount=type=secret,id=nope,required true\n"}, check=1)
        self.assertIn("secret nope: not found", out.stderr)

    # -- failures

    def test_a_failing_step_tells_its_command_code_and_leaves_nothing(self):
        out = self.build({"Dockerfile": "FROM busybox\nRUN echo before >&2; exit 3\n"}, check=1)
        self.assertIn("before", out.stdout + out.stderr)
        self.assertIn("The command '/bin/sh -c echo before >&2; exit 3' returned a non-zero code: 3", out.stderr)
        status, _, body = self.engine.request("POST", "/build", context_of({"Dockerfile": "FROM busybox\nRUN exit 3\n"}), {"Content-Type": "application/x-tar"})
        self.assertEqual(status, 200)
        self.assertEqual(documents(body)[-1], {"errorDetail": {"code": 3, "message": "The command '/bin/sh -c exit 3' returned a non-zero code: 3"}, "error": "The command '/bin/sh -c exit 3' returned a non-zero code: 3"})
        self.assert_nothing_left()

    def test_what_is_wrong_with_a_dockerfile_is_a_400_with_the_place(self):
        for dockerfile, words in {"": "cannot be empty", "FROM busybox\nFOO x\n": "dockerfile parse error on line 2: unknown instruction: FOO", "RUN x\n": "no build stage in current context",
                                  "FROM busybox\nCOPY a\n": "COPY requires at least two arguments", "FROM busybox\nENV a\n": "ENV must have two arguments",
                                  "FROM busybox\nRUN --mount=type=cache true\n": "target can't be empty", "# comment\n": "file with no instructions"}.items():
            status, _, body = self.engine.request("POST", "/build", context_of({"Dockerfile": dockerfile}), {"Content-Type": "application/x-tar"})
            self.assertEqual(status, 400, dockerfile)
            self.assertIn(words, json.loads(body)["message"], dockerfile)
        for body, words in {b"": "empty", b"no tar at all" * 100: "context", context_of({"Dockerfile": "FROM busybox\n" * 3})[:700]: "context", context_of({"x": "1"}): "Cannot locate specified Dockerfile: Dockerfile",
                            context_of({"Dockerfile": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}}): "Cannot locate"}.items():
            status, _, answer = self.engine.request("POST", "/build", body, {"Content-Type": "application/x-tar"})
            self.assertEqual(status, 400, answer)
            self.assertIn(words, json.loads(answer)["message"])
        out = self.build({"Dockerfile": "FROM 127.0.0.1:1/does/not:exist\n"}, check=1)
        self.assertIn("127.0.0.1:1", out.stderr)
        self.assert_nothing_left()

    def test_a_client_that_leaves_ends_its_build(self):
        folder = self.folder({"Dockerfile": "FROM busybox\nRUN echo started; sleep 1000\n"})
        process = subprocess.Popen(self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", self.engine.host, "build", folder]), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.engine.environment())
        self.addCleanup(process.stdout.close)
        for line in process.stdout:
            if b"started" in line:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: self.engine.ok("ps", "-aq") == "", "the step's container is gone")
        wait_until(lambda: os.listdir(os.path.join(self.engine.root, "builds")) == [], "the build's folder is gone")

    def test_a_daemon_killed_in_a_build_clears_up_and_reuses_what_was_done(self):
        files = {"Dockerfile": "FROM busybox\nRUN echo done > /done\nRUN echo started; sleep 1000\n"}
        folder = self.folder(files)
        process = subprocess.Popen(self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", self.engine.host, "build", folder]), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.engine.environment())
        self.addCleanup(process.stdout.close)
        for line in process.stdout:
            if b"started" in line:
                break
        self.engine.kill9()
        process.wait()
        self.engine.start()
        self.assert_nothing_left()
        out = self.build({"Dockerfile": "FROM busybox\nRUN echo done > /done\nRUN true\n"})
        self.assertIn("Using cache", out.stdout)

    def test_output_without_end_is_bounded_where_it_is_kept_and_ends_with_the_client(self):
        folder = self.folder({"Dockerfile": "FROM busybox\nRUN echo first; yes 0123456789abcdef0123456789abcdef0123456789abcdef\n"})
        process = subprocess.Popen(self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", self.engine.host, "build", folder]), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.engine.environment())
        self.addCleanup(process.stdout.close)
        seen = 0
        while seen < 10 << 20:  # more than the 8 MiB that are kept
            piece = process.stdout.read(1 << 16)
            self.assertTrue(piece, f"the output ended after {seen} bytes")
            seen += len(piece)
        process.kill()
        process.wait()
        wait_until(lambda: self.engine.ok("ps", "-aq") == "" and os.listdir(os.path.join(self.engine.root, "builds")) == [], "the step has ended")
        wait_until(lambda: json.loads(self.engine.ok("build", "history", "inspect", "^0"))[0]["Status"] != "Running", "the build has ended")
        logs = os.path.join(self.engine.root, "build-history")
        self.assertLessEqual(max(os.path.getsize(os.path.join(logs, name)) for name in os.listdir(logs)), 8 << 20)
        self.assertIn("first\n", self.engine.ok("build", "history", "logs", "^0"))

    def test_a_context_with_devices_links_and_holes_harms_nobody(self):
        sparse = io.BytesIO()
        with tarfile.open(fileobj=sparse, mode="w", format=tarfile.PAX_FORMAT) as tar:
            caisson.add_file(tar, "Dockerfile", b"FROM busybox\nCOPY . /all\n")
            entry = tarfile.TarInfo("device")
            entry.type, entry.devmajor, entry.devminor = tarfile.CHRTYPE, 1, 3
            tar.addfile(entry)
            entry = tarfile.TarInfo("out")
            entry.type, entry.linkname = tarfile.SYMTYPE, "/"
            tar.addfile(entry)
            caisson.add_file(tar, "out/written-through-a-link", b"x")
            entry = tarfile.TarInfo("holes")  # eight terabytes, of which one byte is there
            data = b"1\n8796093022207\n1\n".ljust(512, b"\0") + b"x"
            entry.size = len(data)
            entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "holes", "GNU.sparse.realsize": str(8 << 40)}
            tar.addfile(entry, io.BytesIO(data))
        status, _, body = self.engine.request("POST", "/build?t=hostile", sparse.getvalue(), {"Content-Type": "application/x-tar"}, timeout=120)
        self.assertIn(status, (200, 400), body)
        self.assertFalse(os.path.exists("/written-through-a-link"))
        self.assertLess(sum(os.lstat(os.path.join(place, name)).st_blocks for place, _, names in os.walk(self.engine.root) for name in names) * 512, 64 << 20)
        self.assertRegex(body.decode(), "holes: with its holes it has 8796093022208 bytes, and there is no room|too large|not supported|sparse")
        for name in ("../up", "/abs/../../up", "d/../../../up"):
            status, _, body = self.engine.request("POST", "/build", context_of({"Dockerfile": "FROM busybox\nCOPY . /all\n", name: "x"}), {"Content-Type": "application/x-tar"}, timeout=60)
            self.assertFalse(os.path.exists(os.path.join(self.engine.root, "builds", "up")), body)
        self.assert_nothing_left()

    def test_rights_that_nobody_allowed_are_refused(self):
        for flag, right in (("--security=insecure", "security.insecure"), ("--network=host", "network.host")):
            out = self.build({"Dockerfile": f"FROM busybox\nRUN {flag} true\n"}, check=1)
            self.assertIn(right, out.stderr)
        self.engine.ok("run", "--rm", "busybox", "true")  # the first one makes the bridge
        self.build({"Dockerfile": "FROM busybox\nRUN --network=host ls /sys/class/net > /nets\n"}, "-t", "allowed", "--allow", "network.host")
        self.assertLessEqual({"lo", self.engine.tag}, set(self.shell("allowed", "cat /nets").split()), "the engine's own bridge is among them")

    # -- on a terminal

    def on_terminal(self, *words):
        return Terminal(self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", self.engine.host, "build", *words]), {**self.engine.environment(), "TERM": "xterm"})

    def test_a_terminal_shows_stages_as_they_run_and_what_failed(self):
        folder = self.folder({"Dockerfile": "FROM busybox AS tools\nRUN echo a-word; sleep 1; echo $((6 * 7))\nFROM busybox\nCOPY --from=tools /bin/true /t\nRUN echo last; echo words; exit 3\n"})
        terminal = self.on_terminal(folder)
        terminal.read_until(b"[+] Building")
        terminal.read_until(b"=> => # a-word")
        seen, code = terminal.wait()
        self.assertEqual(code, 1)
        self.assertIn(b"[tools 2/5] RUN", seen)
        self.assertIn(b"[+] Failed after", seen)
        self.assertIn(b"------\r\n=> ERROR [5/5] RUN echo last; echo words; exit 3:\r\nlast\r\nwords\r\n------\r\n", seen)
        self.assertIn(b"returned a non-zero code: 3", seen)

    def test_a_terminal_may_have_lines_too(self):
        folder = self.folder({"Dockerfile": "FROM busybox\nENV A=b\n"})
        seen, code = self.on_terminal("--progress", "plain", folder).wait()
        self.assertEqual(code, 0)
        self.assertIn(b"Step 2/2 : ENV A=b", seen)
        seen, code = self.on_terminal(folder).wait()
        self.assertEqual(code, 0)
        self.assertIn(b"[+] Built in", seen)
        self.assertIn(b"Successfully built", seen)
        self.assertNotIn(b"Step 2/2", seen)
        self.assertIn("no terminal", self.engine.cli("build", "--progress", "tty", folder, check=1).stderr)
        self.assertIn("want auto, tty, plain, json or quiet", self.engine.cli("build", "--progress", "x", folder, check=1).stderr)

    # -- clients

    @caisson.differs_without_root("this test's clients are root's")
    def test_dockers_classic_client_builds_and_reads_the_words(self):
        folder = self.folder({"Dockerfile": "FROM busybox\nRUN echo hello\nENV A=b\n"})
        environment = {**self.engine.environment(), "DOCKER_BUILDKIT": "0"}
        out = subprocess.run([caisson.docker_program(), "build", "-t", "classic", folder], capture_output=True, text=True, env=environment, timeout=120, check=False)
        self.assertEqual(out.returncode, 0, out.stderr)
        identity = self.config("classic")["Id"].removeprefix("sha256:")[:12]
        lines = out.stdout.splitlines()
        self.assertIn("Step 1/3 : FROM busybox", lines)
        self.assertIn("Step 3/3 : ENV A=b", lines)
        self.assertIn("hello", lines)
        self.assertTrue(any(line.startswith(" ---> Running in ") for line in lines))
        self.assertTrue(any(line.startswith("Removing intermediate container ") for line in lines))
        self.assertEqual(lines[-2:], [f"Successfully built {identity}", "Successfully tagged classic:latest"])
        quiet = subprocess.run(["docker", "build", "-q", folder], capture_output=True, text=True, env=environment, timeout=120, check=False)
        self.assertEqual(quiet.stdout, f"sha256:{self.config('classic')['Id'].removeprefix('sha256:')}\n")
        failed = subprocess.run(["docker", "build", "-"], input="FROM busybox\nRUN exit 4\n", capture_output=True, text=True, env=environment, timeout=120, check=False)
        self.assertEqual(failed.returncode, 4, failed.stderr)
        self.assertIn("The command '/bin/sh -c exit 4' returned a non-zero code: 4", failed.stderr)

    def test_the_bare_api_takes_every_parameter(self):
        query = urllib.parse.urlencode({"t": "bare:1", "dockerfile": "sub/Other", "buildargs": '{"A":"1","B":null}', "labels": '{"l":"v"}', "nocache": "1", "rm": "0", "target": "", "networkmode": "default", "cachefrom": "null",
                                        "shmsize": "1048576", "ulimits": "null", "memory": "67108864", "memswap": "0", "cpushares": "0", "cgroupparent": "", "version": "1", "extrahosts": "h:1.2.3.4"})
        status, headers, body = self.engine.request("POST", f"/v1.41/build?{query}", context_of({"sub/Other": "FROM busybox\nARG A\nRUN echo $A; grep h /etc/hosts\n"}),
                                                    {"Content-Type": "application/x-tar", "X-Registry-Config": base64.b64encode(b"{}").decode()})
        self.assertEqual(status, 200, body)
        self.assertEqual(headers["Content-Type"], "application/json")
        text = "".join(document.get("stream", "") for document in documents(body))
        self.assertIn("\n1\n", text)
        self.assertIn("1.2.3.4", text)
        self.assertNotIn("Removing intermediate container", text)
        self.assertEqual(self.config("bare:1")["Config"]["Labels"], {"l": "v"})
        self.assertIn({"aux": {"ID": self.config("bare:1")["Id"]}}, documents(body))

    def test_the_dockerfile_may_come_from_elsewhere(self):
        other = os.path.join(self.engine.folder, "elsewhere.Dockerfile")
        with open(other, "w", encoding="utf-8") as file:
            file.write("FROM busybox\nCOPY f /f\n")
        folder = self.folder({"f": "1"})
        self.engine.ok("build", "-t", "elsewhere", "-f", other, folder)
        self.assertEqual(self.shell("elsewhere", "cat /f"), "1")
        self.engine.ok("build", "-t", "stdin", "-", stdin="FROM busybox\nRUN echo 2 > /f\n")
        self.assertEqual(self.shell("stdin", "cat /f"), "2")
        self.engine.ok("build", "-t", "tarred", "-", stdin=context_of({"Dockerfile": "FROM busybox\nCOPY f /f\n", "f": "3"}), text=False)
        self.assertEqual(self.shell("tarred", "cat /f"), "3")

    def test_check_and_outputs(self):
        out = self.build({"Dockerfile": "from busybox as Bad\nCMD echo\n"}, "--check")
        for rule in ("StageNameCasing", "JSONArgsRecommended"):
            self.assertIn(rule, out.stdout)
        target = os.path.join(self.engine.folder, "out.tar")
        identity = os.path.join(self.engine.folder, "iid")
        self.build({"Dockerfile": "FROM busybox\nRUN echo out > /out\n"}, "-o", f"type=tar,dest={target}", "--iidfile", identity)
        with tarfile.open(target) as tar:
            self.assertEqual(tar.extractfile("out").read(), b"out\n")
        with open(identity, encoding="utf-8") as file:
            self.assertTrue(file.read().startswith("sha256:"))
        folder = os.path.join(self.engine.folder, "out/files")
        self.build({"Dockerfile": "FROM scratch\nCOPY made /a/b\nCOPY link /link\n", "made": "by the build", "link": None}, "-o", folder)
        with open(os.path.join(folder, "a/b"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "by the build")
        self.assertEqual({"a", "link"}, set(os.listdir(folder)), "what the engine mounts upon is no part of the result")
        nothing = os.path.join(self.engine.folder, "nothing.tar")
        self.build({"Dockerfile": "FROM scratch\nLABEL a=b\n"}, "-o", "type=tar,dest=" + nothing)
        with tarfile.open(nothing) as tar:
            self.assertEqual(tar.getnames(), [])

    # -- beside docker

    @unittest.skipIf(peers.PrivateDockerd.why_not(), peers.PrivateDockerd.why_not())
    @caisson.differs_without_root("the folders of this test are root's")
    def test_dockers_builder_makes_the_same_of_the_same_files(self):
        files = {"f": "1", "d/x": ("x", 0o600), "d/y/z": ("z", 0o755),
                 "Dockerfile": "ARG B=busybox\nFROM $B\nARG V=1\nMAINTAINER somebody\nENV A=1 B=\"two words\"\nENV OLD old style\nLABEL a=1 b=\"x y\"\nWORKDIR /w/sub\nCOPY f d /w/\nADD d /added/\nRUN echo $V $A > /w/run && chmod 4755 /w/run && rm /w/f\n"
                               "RUN [\"sh\", \"-c\", \"echo exec > /exec\"]\nEXPOSE 80 90/udp\nVOLUME [\"/v1\", \"/v2\"]\nUSER nobody\nSTOPSIGNAL 9\nSHELL [\"/bin/sh\", \"-e\", \"-c\"]\nHEALTHCHECK --interval=30s --retries=3 CMD true\nONBUILD RUN touch /x\nENTRYPOINT exec sh\nCMD [\"-c\", \"true\"]\n"}
        folder = self.folder(files)
        with peers.PrivateDockerd() as dockerd:
            dockerd.docker("import", "--change", "CMD [\"/bin/sh\"]", "--change", "ENV PATH=/bin:/usr/bin", "-", "busybox", stdin=caisson.busybox_rootfs(), check=0)
            theirs = subprocess.run(["docker", "build", "-t", "same", folder], capture_output=True, text=True, env={**dockerd.environment(), "DOCKER_BUILDKIT": "0"}, timeout=200, check=False)
            self.assertEqual(theirs.returncode, 0, theirs.stderr)
            mine = self.engine.cli("build", "-t", "same", folder, check=0, timeout=200)
            expected = json.loads(dockerd.docker("image", "inspect", "same", check=0).stdout)[0]
            got = self.config("same")
            for key in ("Env", "Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Shell", "Healthcheck", "OnBuild"):
                self.assertEqual(got["Config"].get(key) or None, expected["Config"].get(key) or None, key)
            self.assertEqual(got["Author"], expected["Author"])

            def history(text):
                lines = text.splitlines()
                return [" ".join("HASH" if word.startswith(("file:", "dir:", "multi:")) else word for word in line.split(" ")) for line in lines]
            listing = ("history", "--no-trunc", "--format", "{{.CreatedBy}}", "same")
            self.assertEqual(history(self.engine.ok(*listing)), history(dockerd.docker(*listing, check=0).stdout.decode().rstrip("\n")))

            def steps(text):
                return [line for line in text.splitlines() if line.startswith("Step ")]
            self.assertEqual(steps(mine.stdout), steps(theirs.stdout))
            dockerd.docker("create", "--name", "peek", "same", check=0)
            self.engine.ok("create", "--name", "same-peek", "same")
            self.addCleanup(self.engine.cli, "rm", "-f", "same-peek")

            def tree(data):
                with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                    return {member.name.strip("/"): (member.type, oct(member.mode & 0o7777), member.uid, member.gid, tar.extractfile(member).read() if member.isreg() else member.linkname) for member in tar.getmembers()}
            ignored = {".dockerenv", "dev", "etc", "proc", "sys", "v1", "v2", "dev/console", "dev/pts", "dev/shm", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "."}
            got_tree = {name: facts for name, facts in tree(self.engine.cli("export", "same-peek", text=False, check=0).stdout).items() if name not in ignored}
            expected_tree = {name: facts for name, facts in tree(dockerd.docker("export", "peek", check=0).stdout).items() if name not in ignored}
            # BuildKit's rule, which the reference has too: a WORKDIR belongs to the USER of its line (root here).
            self.assertEqual(got_tree, expected_tree)


if __name__ == "__main__":
    caisson.main()

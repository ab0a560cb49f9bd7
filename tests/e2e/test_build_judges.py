#!/usr/bin/env python3
"""A Dockerfile for each instruction and flag, built here, by docker's classic builder, by docker's BuildKit and by buildah: files with modes, owners and
attributes, and configurations, are the same. Debian 12's judges are of 2021 and 2022: what they do not know yet (here-documents, --link, --parents, --exclude,
--checksum, --keep-git-dir, --unpack) test_build.py and test_build_remote.py test by the reference's words."""

import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import unittest

import caisson
import peers

OLD_DOCKER = "/usr/bin/docker"  # Debian's client speaks to BuildKit by itself; later ones need a plugin
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")[:20]  # cap_net_bind_service=ep
ALL = ("classic", "buildkit", "buildah")
KEYS = ("Env", "Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Shell", "Healthcheck", "OnBuild")
# What engines put into a container's root for its mounts.
OF_CONTAINERS = {".", "", ".dockerenv", "dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "run/.containerenv", "run/secrets"}


def archive(mode="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT) as tar:
        caisson.add_file(tar, "in/file", b"unpacked", uid=7, gid=8, mode=0o640)
        caisson.add_file(tar, "in/setuid", b"s", mode=0o4755)
        entry = tarfile.TarInfo("in/able")
        entry.size, entry.mode = 3, 0o755
        entry.pax_headers = {"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")}
        tar.addfile(entry, io.BytesIO(b"cap"))
        entry = tarfile.TarInfo("in/link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "file"
        tar.addfile(entry)
    return out.getvalue()


TREE = {"f": "one", "run.sh": ("#!/bin/sh\n", 0o755), "private": ("p", 0o600), "d/x": "x", "d/y/z": ("z", 0o750), "d/.hidden": "h", "a1.txt": "a1", "a2.txt": "a2", "b.md": "md"}

# name → (Dockerfile behind FROM busybox, judges, more files)
CASES = {
    "ARG": ("ARG A=1\nARG B\nARG C=c$A\nRUN echo $A $B $C > /f\nENV D=$C\n", ALL, {}),
    "ENV": ("ENV A=1 B=\"two words\" C=x\\ y\nENV OLD old  style\nENV A=2 E=$A F=${B:-no} G=${H:-yes} I=${A:+set}\n", ALL, {}),
    "LABEL": ("LABEL a=1 \"b c\"=\"x y\"\nLABEL old style\nLABEL a=2 d=\"multi\\\nline\"\n", ALL, {}),
    "MAINTAINER": ("MAINTAINER somebody <s@example.org>\n", ALL, {}),
    "RUN shell form": ("RUN mkdir -p /a/b && echo x > /a/b/c && ln -s c /a/b/l && ln /a/b/c /a/h && chmod 4711 /a/b/c && chmod 1777 /a && chown 3:4 /a/b && mkfifo /a/p\n", ALL, {}),
    "RUN exec form": ("RUN [\"touch\", \"/a b\", \"/$HOME\"]\n", ALL, {}),
    "RUN that removes": ("RUN echo 1 > /one && mkdir /two && echo 2 > /two/f\nRUN rm /one && rm -r /two && mkdir /two && rm /bin/ls\n", ALL, {}),
    "RUN --mount=type=bind": ("RUN mkdir /c\nRUN --mount=type=bind,target=/c cp /c/f /got\nRUN --mount=type=bind,source=d,target=/c cp /c/x /x\nRUN --mount=type=bind,from=busybox,source=/bin,target=/c ls /c | head -n 1 > /n\n", ("buildkit",), {}),
    "RUN --mount=type=cache": ("RUN mkdir /c\nRUN --mount=type=cache,target=/c,id=judged echo 1 > /c/f\nRUN --mount=type=cache,target=/c,id=judged cp /c/f /kept\n", ("buildkit",), {}),
    "RUN --mount=type=tmpfs": ("RUN mkdir /t\nRUN --mount=type=tmpfs,target=/t touch /t/x && ls /t > /seen\n", ("buildkit",), {}),
    "RUN --mount=type=secret": ("RUN --mount=type=secret,id=k cp /run/secrets/k /kept && stat -c '%a %u %g' /run/secrets/k > /facts\nRUN --mount=type=secret,id=k,target=/s,mode=0440,uid=3,gid=4 stat -c '%a %u %g' /s > /more\n", ("buildkit",), {}),
    "COPY": ("COPY f /one\nCOPY f /dir/\nCOPY f private run.sh /many/\nCOPY d /tree\nCOPY d/ /tree2/\nCOPY . /all\n", ALL, {}),
    "COPY patterns": ("COPY a?.txt /p/\nCOPY *.md /m/\nCOPY d/* /d/\nCOPY [\"a1.txt\", \"/with blank\"]\n", ALL, {}),
    "COPY onto what is there": ("RUN mkdir -m 700 /d && echo old > /d/x && mkdir -p /real && ln -s real /link\nCOPY d /d\nCOPY f /link/\nCOPY f /link/g\n", ALL, {}),
    "COPY of a folder through a link and onto files": ("RUN mkdir -p -m 711 /real/app/y && ln -s real /link && cd /real/app && echo old > x && ln -s x .hidden && echo kept > y/kept && chmod 700 y && echo old > y/z && chown -R 3:4 y\nCOPY d /link/app\n", ALL, {}),
    "COPY into WORKDIR": ("WORKDIR /w\nCOPY f .\nCOPY f sub/\nWORKDIR deeper\nCOPY d ./\n", ALL, {}),
    "COPY --chown": ("COPY --chown=3:4 d /n\nCOPY --chown=5 f /five\nCOPY --chown=user f /named\nCOPY --chown=user:root f /both/\n", ALL, {}),
    "COPY --chmod": ("COPY --chmod=0750 f /c\nCOPY --chmod=0711 d/x d/y/z /many/\n", ("buildkit",), {}),
    "COPY --from stage": ("RUN mkdir /o && echo s > /o/f && chown 9:9 /o/f && chmod 600 /o/f\nFROM busybox\nCOPY --from=0 /o/f /f\nCOPY --from=0 /o /o\nCOPY --from=0 --chown=1:2 /o/f /mine\n", ALL, {}),
    "COPY --from image": ("COPY --from=busybox /etc/passwd /copied\n", ALL, {}),
    "ADD": ("ADD f /one\nADD d /tree\nADD a1.txt a2.txt /many/\n", ALL, {}),
    "ADD archives": ("ADD a.tgz /gz/\nADD a.tar /plain/\nADD a.tgz /x/y/z\n", ALL, {"a.tgz": archive(), "a.tar": archive("w")}),
    "ADD --chown": ("ADD --chown=3:4 d /n\nADD --chown=user f /named\n", ALL, {}),
    "ADD --chmod": ("ADD --chmod=0750 f /c\n", ("buildkit",), {}),
    "CMD and ENTRYPOINT, exec": ("ENTRYPOINT [\"/bin/echo\", \"$A\"]\nCMD [\"one\", \"two\"]\n", ALL, {}),
    "CMD and ENTRYPOINT, shell": ("CMD echo one && echo two\nENTRYPOINT exec echo $A\n", ALL, {}),
    "CMD alone": ("CMD [\"sh\", \"-c\", \"true\"]\nCMD only the last counts\n", ALL, {}),
    "ENTRYPOINT clears the base's CMD": ("ENTRYPOINT [\"/bin/true\"]\n", ("classic", "buildkit"), {}),
    "EXPOSE": ("ARG P=70\nEXPOSE 80 90/udp $P\nEXPOSE 70/tcp\n", ALL, {}),
    "EXPOSE, a range": ("EXPOSE 100-102/tcp\n", ("classic", "buildkit"), {}),
    "VOLUME": ("RUN mkdir /v1 && echo before > /v1/f\nVOLUME /v1 /v2\nVOLUME [\"/v3\", \"/v 4\"]\n", ALL, {}),
    "USER": ("USER user\nRUN id -un > /tmp/who && touch /tmp/mine\nUSER 3:4\nRUN id -u > /tmp/number\n", ALL, {}),
    "WORKDIR": ("ENV W=/env\nWORKDIR /a/b\nWORKDIR c\nRUN pwd > /where\nWORKDIR $W/x\n", ALL, {}),
    "STOPSIGNAL": ("STOPSIGNAL SIGUSR1\n", ALL, {}),
    "SHELL": ("SHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $0 $- > /flags\nCMD run by it\n", ("classic", "buildkit"), {}),
    "HEALTHCHECK": ("HEALTHCHECK --interval=30s --timeout=3s --start-period=1m --retries=5 CMD [\"true\", \"x\"]\n", ALL, {}),
    "HEALTHCHECK, shell": ("HEALTHCHECK --interval=1m30s CMD exit 0\n", ALL, {}),
    "HEALTHCHECK NONE": ("HEALTHCHECK NONE\n", ALL, {}),
    "ONBUILD": ("ONBUILD RUN touch /child\nONBUILD COPY f /f\n", ("classic", "buildkit"), {}),
    ".dockerignore": ("COPY . /all\n", ALL, {".dockerignore": "# comment\n*.md\nd/*\n!d/x\n**/z\nprivate\n"}),
    "escape directive": ("RUN echo one ` \n two > /f\nENV A=b`$c\n", ALL, {"escape": "`"}),
    "continued lines and comments": ("RUN echo one && \\\n  # inside\n  echo two > /f\n# between\nENV A=1 \\\n  B=2\n", ALL, {}),
    "stages, of which one is needed": ("RUN touch /never\nFROM busybox AS mid\nRUN echo m > /m\nFROM mid AS last\nRUN echo l > /l\n", ALL, {}),
    "FROM with a global ARG": ("ARG UNUSED\n", ALL, {"global": "ARG BASE=busy\n", "base": "${BASE}box"}),
    "FROM scratch": ("RUN true\nFROM scratch\nCOPY f /f\nCOPY d /d\nCMD [\"/f\"]\n", ALL, {}),
}
# Where the judges differ among themselves, we go with the reference, as BuildKit does. What one of them cannot do is left out above: ports by ranges and triggers that it
# would run at once, what is mounted (buildah, which removes the folder below a mount), --mount and --chmod (the classic builder).
NOT_OF = {
    ("WORKDIR", "buildah"): "keeps no folder of a WORKDIR that nothing is written to",
    ("escape directive", "buildah"): "expands what is escaped by another character than the backslash",
}


def tree_of_tar(data):
    out = {}
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        for member in tar.getmembers():
            kind = "file" if member.isreg() or member.islnk() else "dir" if member.isdir() else "link" if member.issym() else "fifo" if member.isfifo() else "device"
            source = tar.getmember(member.linkname) if member.islnk() else member
            content = tar.extractfile(source).read() if kind == "file" else member.linkname
            attributes = {name.removeprefix("SCHILY.xattr."): value.encode("utf-8", "surrogateescape") for name, value in source.pax_headers.items() if name.startswith("SCHILY.xattr.")}
            out[member.name.removeprefix("./").strip("/")] = (kind, oct(member.mode & 0o7777) if kind != "link" else "", member.uid, member.gid, content, attributes)
    return out


def tree_of_folder(root):
    out = {}
    for folder, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            mode = status.st_mode
            kind = "file" if stat.S_ISREG(mode) else "dir" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "fifo" if stat.S_ISFIFO(mode) else "device"
            if kind == "file":
                with open(path, "rb") as file:
                    content = file.read()
            else:
                content = os.readlink(path) if kind == "link" else ""
            attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False) if name.startswith(("user.", "security.capability")) and not name.startswith("user.overlay")}
            out[os.path.relpath(path, root)] = (kind, oct(mode & 0o7777) if kind != "link" else "", status.st_uid, status.st_gid, content, attributes)
    return out


def facts(tree, config, volumes):
    hidden = tuple(volume.strip("/") for volume in volumes)
    files = {name: about for name, about in tree.items() if name not in OF_CONTAINERS and not name.startswith(("dev/", "proc/", "sys/", "run/secrets")) and not any(name == volume or name.startswith(volume + "/") for volume in hidden)}
    files.pop("run", None), files.pop("etc", None)  # made or changed for the mounts below
    shown = {key: config.get(key) or None for key in KEYS}
    shown["WorkingDir"] = shown["WorkingDir"] or "/"
    if shown["Labels"]:
        shown["Labels"] = {name: value for name, value in shown["Labels"].items() if name != "io.buildah.version"} or None
    return files, shown


class Ours:
    def __init__(self, engine):
        self.engine = engine

    def build(self, folder, name):
        self.engine.ok("build", "-q", "-t", name, "--secret", f"id=k,src={folder}.secret", folder, timeout=120)
        config = json.loads(self.engine.ok("image", "inspect", name))[0]["Config"]
        container = self.engine.ok("create", name, *([] if config.get("Cmd") or config.get("Entrypoint") else ["x"]))
        tree = tree_of_tar(self.engine.cli("export", container, text=False, check=0).stdout)
        self.engine.ok("rm", "-v", container)
        return facts(tree, config, config.get("Volumes") or {})


class Docker:
    def __init__(self, dockerd, is_buildkit):
        self.dockerd, self.is_buildkit = dockerd, is_buildkit

    def run(self, *words, stdin=None):
        environment = {**self.dockerd.environment(), "DOCKER_BUILDKIT": "1" if self.is_buildkit else "0"}
        program = OLD_DOCKER if self.is_buildkit else "docker"
        done = subprocess.run([program, *words], capture_output=True, env=environment, input=stdin, timeout=200, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{program} {words}: {done.stderr.decode(errors='replace')[-1500:]}")
        return done.stdout

    def build(self, folder, name):
        secret = ["--secret", f"id=k,src={folder}.secret"] if self.is_buildkit else []
        self.run("build", "-q", "-t", name, *secret, folder)
        config = json.loads(self.run("image", "inspect", name))[0]["Config"]
        container = self.run("create", name, *([] if config.get("Cmd") or config.get("Entrypoint") else ["x"])).decode().strip()
        tree = tree_of_tar(self.run("export", container))
        self.run("rm", "-v", container)
        return facts(tree, config, config.get("Volumes") or {})


class Buildah:
    """With a store of its own that needs no mounts."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "buildah-")
        made = self.run("from", "scratch").strip()
        self.run("add", "-q", made, self.file("base.tar", caisson.busybox_rootfs()), "/")
        self.run("config", "--env", "PATH=/bin:/usr/bin", "--cmd", '["/bin/sh"]', made)
        self.run("commit", "-q", "--format", "docker", made, "docker.io/library/busybox:latest")

    def file(self, name, data):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def run(self, *words):
        base = ["buildah", "--root", self.folder + "/root", "--runroot", self.folder + "/run", "--storage-driver", "vfs"]
        done = subprocess.run([*base, *words], capture_output=True, text=True, timeout=200, check=False)
        if done.returncode != 0:
            raise AssertionError(f"buildah {words}: {done.stderr[-1500:]}{done.stdout[-500:]}")
        return done.stdout

    def build(self, folder, name):
        self.run("bud", "-q", "--format", "docker", "--isolation", "chroot", "--layers", "--pull-never", "-t", name, folder)
        config = json.loads(self.run("inspect", "--type", "image", name))["Docker"]["config"]
        container = self.run("from", "--pull-never", name).strip()
        tree = tree_of_folder(self.run("mount", container).strip())
        self.run("rm", container)
        return facts(tree, config, config.get("Volumes") or {})

    def close(self):
        subprocess.run(["umount", "-l", os.path.join(self.folder, "root/vfs")], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


class Judged(caisson.EngineTest):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.judges = {}
        if not peers.PrivateDockerd.why_not():
            dockerd = peers.PrivateDockerd()
            cls.addClassCleanup(dockerd.close)
            dockerd.__enter__()
            dockerd.docker("import", "--change", 'CMD ["/bin/sh"]', "--change", "ENV PATH=/bin:/usr/bin", "-", "busybox", stdin=caisson.busybox_rootfs(), check=0)
            cls.judges["classic"] = Docker(dockerd, False)
            if os.access(OLD_DOCKER, os.X_OK) and " 20." in subprocess.run([OLD_DOCKER, "--version"], capture_output=True, text=True, check=False).stdout:
                cls.judges["buildkit"] = Docker(dockerd, True)
        if shutil.which("buildah"):
            cls.judges["buildah"] = Buildah()
            cls.addClassCleanup(cls.judges["buildah"].close)
        if not cls.judges:
            raise unittest.SkipTest("needs docker.io or buildah: tools/dependencies peers")

    def context(self, number, dockerfile, more):
        folder = os.path.join(self.engine.folder, f"case{number}")
        more = dict(more)
        head = "# escape=`\n" if more.pop("escape", "") else ""
        head += more.pop("global", "")
        text = f"{head}FROM {more.pop('base', 'busybox')}\n{dockerfile}"
        caisson.write_files(folder, {"Dockerfile": text, **TREE, **more})
        with open(folder + ".secret", "w", encoding="utf-8") as file:
            file.write("the secret")
        return folder

    def compare(self, name, judge, mine, theirs):
        for number, what in enumerate(("files", "configuration")):
            both = {key: (mine[number].get(key), theirs[number].get(key)) for key in {*mine[number], *theirs[number]}}
            different = {key: values for key, values in both.items() if values[0] != values[1]}
            self.assertEqual(different, {}, f"{what} of {name}: here and by {judge}")

    def test_each_instruction_and_flag_makes_the_same(self):
        ours = Ours(self.engine)
        for number, (name, (dockerfile, wanted, more)) in enumerate(CASES.items()):
            folder = self.context(number, dockerfile, more)
            with self.subTest(case=name):
                mine = ours.build(folder, f"case{number}")
            for judge in wanted:
                if judge not in self.judges or (name, judge) in NOT_OF:
                    continue
                with self.subTest(case=name, judge=judge):
                    self.compare(name, judge, mine, self.judges[judge].build(folder, f"case{number}"))


def why_not():
    return caisson.why_not() or (None if caisson.FULL else "three engines build 45 Dockerfiles: make test-all, or CAISSON_TEST_FULL=1")


if __name__ == "__main__":
    caisson.main(why_not)

#!/usr/bin/env python3
"""Load of a docker-archive with one large layer: CPU of Caisson's daemon and worker in both forms of layers, of podman, and of plain `tar x`; and the way back out.

usage: bench/image.py [--build build/release] [--rounds 3] [--megabytes 100] [--minutes 5] [--source /usr] [--only load|export|push-form]
The layer is the tar of SOURCE's regular files, up to so many MB of them; it is loaded uncompressed and through gzip, and exported. Each round is printed as it was; no
round begins after MINUTES, so that a busy machine measures less instead of longer, and whoever takes minutes for one step is left out with that as the reason.
"""
import argparse
import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import tarfile
import sys
import tempfile
import time

import engines
import measure


def make_layer(source, limit_bytes):
    out, size = io.BytesIO(), 0
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder, _, names in os.walk(source):
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path) and size < limit_bytes:
                    size += os.path.getsize(path)
                    tar.add(path, recursive=False)
    return out.getvalue()


def archive(layer, path, compressed):
    """A docker-archive of the layer. Returns the layer's file in it."""
    blob = gzip.compress(layer, 6) if compressed else layer
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                         "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}).encode()
    with tarfile.open(path, "w") as tar:
        for name, data in (("config.json", config), ("layer.tar", blob),
                           ("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": ["bench:1"], "Layers": ["layer.tar"]}]).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return blob


def cpu_of(pid):
    """CPU seconds of a process and of its children that have ended."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as line:
        fields = line.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def children_cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def timed(argv, timeout=None, **options):
    before = children_cpu()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=timeout, **options)
    return children_cpu() - before


STEP_SECONDS = 180  # of one load or export; some three of them are what it takes on an idle machine


class Row:
    """What one contender took, round by round. One that fails is left out from then on, with its reason."""

    def __init__(self, name, measure_once):
        self.name, self.measure_once, self.values, self.failure = name, measure_once, [], None

    def run(self):
        if self.failure:
            return
        try:
            self.values.append(self.measure_once())
        except (subprocess.SubprocessError, AssertionError, OSError) as reason:
            self.failure = f"{type(reason).__name__}: {str(reason)[-300:]}"


def in_turns(title, rows, rounds, until, megabytes):
    """Prints CPU seconds of each round, and at the end the medians, MB per second of CPU, and the median of the pairwise ratios to the first row."""
    print(f"\n## {title}: CPU seconds")
    for number in range(rounds):
        if number > 0 and time.monotonic() > until:
            print(f"no more rounds: {number} of {rounds} in the time there was")
            break
        for row in rows:
            row.run()
        print(f"round {number + 1}:  " + "   ".join(f"{row.name} {'-' if row.failure else format(row.values[-1], '.2f')}" for row in rows), flush=True)
    for row in rows:
        if row.failure or not row.values:
            print(f"{row.name:32} left out: {row.failure}")
            continue
        text = f"{row.name:32} {statistics.median(row.values):6.2f}   {megabytes / max(0.01, statistics.median(row.values)):6.0f} MB/s"
        if rows[0].values and row is not rows[0]:
            text += f"   {statistics.median(a / max(0.01, b) for a, b in zip(row.values, rows[0].values)):5.2f} x {rows[0].name}"
        print(text)
    sys.stdout.flush()


class Ours:
    """Our engine with one form of layers, by what its daemon and its command line take."""

    def __init__(self, build, form):
        self.form, self.engine = form, engines.caisson(build, options=("--snapshot-form", form))
        self.program = os.path.join(os.path.abspath(build), "bin", "caisson")
        self.removal = []

    def timed(self, *words, **options):
        before = cpu_of(self.engine.process.pid)
        client = timed([self.program, "-H", self.engine.host, *words], timeout=STEP_SECONDS, env=self.engine.environment(), **options)
        return cpu_of(self.engine.process.pid) - before + client

    def load(self, path):
        took = self.timed("load", "-q", "-i", path)
        self.removal.append(self.timed("rmi", "bench:1"))
        return took


def export_rows(ours, work, layer):
    """Ways back out: the floor packs the same files. Each is done twice, and the bytes have to be the same."""
    tree = os.path.join(work, "tree")
    os.makedirs(tree)
    subprocess.run(["tar", "-C", tree, "-xf", os.path.join(work, "layer.tar")], check=True)
    rows = [Row("tar c (floor)", lambda: timed(["tar", "-C", tree, "-cf", os.path.join(work, "floor.tar"), "."], timeout=STEP_SECONDS)),
            Row("tar c | gzip", lambda: timed(["sh", "-c", f"tar -C {tree} -c . | gzip -6 >{work}/floor.tar.gz"], timeout=STEP_SECONDS))]
    for one in ours:
        engine = one.engine
        engine.cli("load", "-i", os.path.join(work, "plain.tar"), check=0, timeout=STEP_SECONDS)
        engine.cli("create", "--name", "bench", "bench:1", "none", check=0)
        for verb, words in (("export", ("export", "-o")), ("save", ("save", "-o"))):
            out = os.path.join(work, f"{verb}-{one.form}.tar")
            seen = set()

            def measure_once(one=one, words=words, out=out, verb=verb, seen=seen):
                took = one.timed(*words, out, "bench" if verb == "export" else "bench:1")
                with open(out, "rb") as file:
                    seen.add(hashlib.file_digest(file, "sha256").hexdigest())
                assert len(seen) == 1, f"{verb} gave other bytes than the time before"
                assert os.path.getsize(out) > len(layer) * 0.9, f"{verb} gave {os.path.getsize(out)} bytes"
                return took

            rows.append(Row(f"caisson {verb}, {one.form}", measure_once))
    return rows


def push_form_rows(one, work, layer):
    """The layer as gzip, as a push sends it: into an archive, because a registry's own work is no part of it. Each is done twice, and the bytes have to be the same."""
    one.engine.cli("load", "-i", os.path.join(work, "plain.tar"), check=0, timeout=STEP_SECONDS)
    packed = os.path.join(work, "push-form.gz")
    sizes = {}

    def tool(name, command):
        took = timed(["sh", "-c", f"{command} <{work}/layer.tar >{packed}"], timeout=STEP_SECONDS)
        sizes[name] = os.path.getsize(packed)
        return took

    rows = [Row("gzip -6", lambda: tool("gzip -6", "gzip -6n"))]
    if shutil.which("pigz"):
        rows.append(Row("pigz -6 -p 1", lambda: tool("pigz -6 -p 1", "pigz -6n -p 1")))
    socket, out = one.engine.host.removeprefix("unix://"), os.path.join(work, "push-form.tar")
    for form in ("gzip", "zstd"):
        seen = set()

        def measure_once(form=form, seen=seen):
            before = cpu_of(one.engine.process.pid)
            client = timed(["curl", "-sfS", "--unix-socket", socket, "-o", out, f"http://caisson/images/bench:1/get?compression={form}"], timeout=STEP_SECONDS)
            took = cpu_of(one.engine.process.pid) - before + client
            with open(out, "rb") as file:
                seen.add(hashlib.file_digest(file, "sha256").hexdigest())
            assert len(seen) == 1, f"{form} gave other bytes than the time before"
            sizes[f"caisson {form}"] = os.path.getsize(out)
            return took

        rows.append(Row(f"caisson {form}", measure_once))
    return rows, sizes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--source", default="/usr")
    parser.add_argument("--only", choices=("load", "export", "push-form"))
    options = parser.parse_args()
    measure.require_root()
    until = time.monotonic() + options.minutes * 60
    work = tempfile.mkdtemp(prefix="caisson-bench-")
    ours, podman = [], None
    try:
        for form in ("directory", "erofs"):
            ours.append(Ours(options.build, form))
        try:
            podman = engines.podman()
        except RuntimeError as reason:
            print(f"podman left out: {reason}")
        layer = make_layer(options.source, options.megabytes << 20)
        with open(os.path.join(work, "layer.tar"), "wb") as out:
            out.write(layer)
        packed = archive(layer, os.path.join(work, "packed.tar"), True)
        archive(layer, os.path.join(work, "plain.tar"), False)
        with open(os.path.join(work, "layer.tar.gz"), "wb") as out:
            out.write(packed)
        print(f"layer: {len(layer) / 1e6:.0f} MB, gzip {len(packed) / 1e6:.0f} MB", flush=True)
        tool = "igzip" if shutil.which("igzip") else "gzip"
        target = os.path.join(work, "out")

        def floor(*command):
            os.makedirs(target)
            try:
                return timed(command, timeout=STEP_SECONDS)
            finally:
                shutil.rmtree(target)

        def podman_load(path):
            took = timed(podman.command("load", "-i", path), timeout=STEP_SECONDS, env=podman.environment(), stderr=subprocess.DEVNULL)
            podman.podman("rmi", "bench:1", check=0)
            return took

        loads = options.only in (None, "load")
        for kind, path, command in () if not loads else (("uncompressed", "plain.tar", ("tar", "-C", target, "-xf", os.path.join(work, "layer.tar"))),
                                    ("gzip", "packed.tar", ("sh", "-c", f"{tool} -dc {work}/layer.tar.gz | tar -C {target} -xf -"))):
            path = os.path.join(work, path)
            rows = [Row("tar x (floor)" if kind != "gzip" else f"{tool} | tar x (floor)", lambda command=command: floor(*command))]
            rows += [Row(f"caisson load, {one.form}", lambda one=one, path=path: one.load(path)) for one in ours]
            if podman:
                rows.append(Row("podman load", lambda path=path: podman_load(path)))
            for one in ours:
                one.removal.clear()
            in_turns(f"load, {kind}", rows, options.rounds, until, len(layer) / 1e6)
            for one in ours:
                if one.removal:
                    print(f"its removal, {one.form:19} {statistics.median(one.removal):6.2f}")
        if options.only in (None, "export"):
            in_turns("export", export_rows(ours, work, layer), options.rounds, until, len(layer) / 1e6)
        if options.only in (None, "push-form"):
            rows, sizes = push_form_rows(ours[0], work, layer)
            in_turns("push-form of a layer", rows, options.rounds, until, len(layer) / 1e6)
            print("of the layer's size: " + ", ".join(f"{name} {size / len(layer):.4f}" for name, size in sizes.items()))
    finally:
        for one in ours:
            one.engine.close()
        if podman:
            podman.close()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()

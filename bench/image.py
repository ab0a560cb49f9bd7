#!/usr/bin/env python3
"""Load of a docker-archive with one large layer: CPU of Caisson's daemon and worker in both forms of layers, of podman, and of plain `tar x`.

usage: bench/image.py [--build build/release] [--rounds 3] [--source /usr]
The layer is the tar of SOURCE's regular files, up to 200 MB of them; it is loaded uncompressed and through gzip.
"""
import argparse
import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import tarfile
import tempfile

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
    blob = gzip.compress(layer, 6) if compressed else layer
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                         "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}).encode()
    with tarfile.open(path, "w") as tar:
        for name, data in (("config.json", config), ("layer.tar", blob),
                           ("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": ["bench:1"], "Layers": ["layer.tar"]}]).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def cpu_of(pid):
    """CPU seconds of a process and of its children that have ended."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as line:
        fields = line.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def children_cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def timed(argv, **options):
    before = children_cpu()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)
    return children_cpu() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--source", default="/usr")
    options = parser.parse_args()
    measure.require_root()
    work = tempfile.mkdtemp(prefix="caisson-bench-")
    ours = {form: engines.caisson(options.build, options=("--snapshot-form", form)) for form in ("directory", "erofs")}
    podman = None
    try:
        try:
            podman = engines.podman()
        except RuntimeError as reason:
            print(f"podman left out: {reason}")
        layer = make_layer(options.source, 200 << 20)
        print(f"layer: {len(layer) / 1e6:.0f} MB")
        with open(os.path.join(work, "layer.tar"), "wb") as out:
            out.write(layer)
        for compressed in (False, True):
            path = os.path.join(work, "archive.tar")
            archive(layer, path, compressed)
            floor, mine, theirs = [], {form: [] for form in ours}, []
            removed = {form: [] for form in ours}
            for _ in range(options.rounds):
                target = os.path.join(work, "out")
                os.makedirs(target)
                if compressed:
                    with gzip.open(os.path.join(work, "layer.tar.gz"), "wb", 6) as out:
                        out.write(layer)
                    tool = "igzip" if shutil.which("igzip") else "gzip"
                    floor.append(timed(["sh", "-c", f"{tool} -dc {work}/layer.tar.gz | tar -C {target} -xf -"]))
                else:
                    floor.append(timed(["tar", "-C", target, "-xf", os.path.join(work, "layer.tar")]))
                shutil.rmtree(target)
                for form, engine in ours.items():
                    before = cpu_of(engine.process.pid)
                    client = timed([os.path.join(os.path.abspath(options.build), "bin", "caisson"), "-H", engine.host, "load", "-i", path], env=engine.environment())
                    loaded = cpu_of(engine.process.pid)
                    mine[form].append(loaded - before + client)
                    engine.cli("rmi", "bench:1", check=0)
                    removed[form].append(cpu_of(engine.process.pid) - loaded)
                if podman:
                    theirs.append(timed(podman.command("load", "-i", path), env=podman.environment(), stderr=subprocess.DEVNULL))
                    podman.podman("rmi", "bench:1")
            kind = "gzip" if compressed else "uncompressed"
            median = lambda values: sorted(values)[len(values) // 2]
            print(f"\n## load, {kind}: CPU seconds, median of {options.rounds}")
            print(f"tar x (floor)   {median(floor):.2f}")
            for form, values in mine.items():
                print(f"caisson load, {form:<9}  {median(values):.2f}   {median(values) / median(floor):.2f} x floor; its removal {median(removed[form]):.2f}")
            if theirs:
                print(f"podman load     {median(theirs):.2f}   {median(theirs) / median(floor):.2f} x floor")
    finally:
        for engine in ours.values():
            engine.close()
        if podman:
            podman.close()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Decoding of gzip: our decoder and zlib, in one process, in turns, from memory to memory.

usage: bench/inflate.py [--build build/release] [--rounds 9] [--megabytes 60]
The data: tars of binaries, of Python's library and of text (headers, documentation) through `gzip -6`; the binaries stored (level 0); random bytes.
"""
import argparse
import gzip
import os
import statistics
import subprocess
import tarfile
import tempfile

import measure

SOURCES = {"binaries": ("/usr/bin", "/usr/lib/x86_64-linux-gnu"), "python": ("/usr/lib/python3", "/usr/lib/python3.11"), "text": ("/usr/include", "/usr/share/perl")}


def tar_of(folders, limit_bytes):
    """A tar of the folders' regular files, cut off at the limit."""
    with tempfile.TemporaryFile() as out:
        with tarfile.open(fileobj=out, mode="w") as tar:
            for folder in folders:
                for place, _, names in os.walk(folder):
                    for name in sorted(names):
                        path = os.path.join(place, name)
                        if os.path.isfile(path) and not os.path.islink(path) and out.tell() < limit_bytes:
                            tar.add(path, recursive=False)
        out.seek(0)
        return out.read(limit_bytes)


def samples(limit_bytes):
    for name, folders in SOURCES.items():
        data = tar_of(folders, limit_bytes)
        yield f"{name}, gzip -6", data, 6
        if name == "binaries":
            yield f"{name}, stored", data, 0
    yield "random bytes, gzip -6", os.urandom(limit_bytes), 6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--megabytes", type=int, default=60)
    options = parser.parse_args()
    measure.build_programs(options.build)
    print("| data | MB, in → out | caisson, MB/s of CPU (median, best) | zlib | times zlib, median of pairs |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="caisson-bench-") as work:
        path = os.path.join(work, "data.gz")
        for name, data, level in samples(options.megabytes * 1_000_000):
            packed = gzip.compress(data, level)
            with open(path, "wb") as out:
                out.write(packed)
            lines = subprocess.run([os.path.join(options.build, "bin", "inflate"), path, str(options.rounds)], check=True, stdout=subprocess.PIPE, text=True).stdout
            cpu = {"caisson": [], "zlib": []}
            for decoder, seconds, _, total in map(str.split, lines.splitlines()):
                if int(total) != len(data):
                    raise SystemExit(f"{decoder} made {total} bytes of {len(data)}")
                cpu[decoder].append(float(seconds))
            speed = {decoder: [len(data) / 1e6 / seconds for seconds in values] for decoder, values in cpu.items()}
            ratio = statistics.median([zlib / ours for ours, zlib in zip(cpu["caisson"], cpu["zlib"])])
            row = " | ".join(f"{statistics.median(values):.0f}, {max(values):.0f}" for values in speed.values())
            print(f"| {name} | {len(packed) / 1e6:.0f} → {len(data) / 1e6:.0f} | {row} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()

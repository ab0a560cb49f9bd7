#!/usr/bin/env python3
"""The smallest memory limit under which each runtime runs a static /bin/true, five times out of five.

usage: bench/oci_limit.py [--build build/release]
What is charged to the container before its program runs is the runtime's own: pages it touches inside, its page tables, its mounts.
"""
import json
import os
import shutil
import subprocess
import tempfile

import bundle
import measure
import oci_run

STEPS_KIB = (64, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 10240, 12288, 16384)


def passes(path, state, folder, limit_kib, attempts=5):
    config = os.path.join(folder, "config.json")
    with open(config, encoding="utf-8") as source:
        spec = json.load(source)
    spec["linux"]["resources"]["memory"] = {"limit": limit_kib * 1024}
    with open(config, "w", encoding="utf-8") as out:
        json.dump(spec, out)
    for attempt in range(attempts):
        name = f"bench-limit-{os.getpid()}-{limit_kib}-{attempt}"
        result = subprocess.run([path, "--root", state, "run", "--bundle", folder, name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, check=False, timeout=60)
        if result.returncode != 0:
            subprocess.run([path, "--root", state, "delete", "--force", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            return False
    return True


def main():
    options = oci_run.parse()
    measure.require_root()
    if not options.inside:
        oci_run.pure_cgroups_again()
    measure.build_programs(options.build)
    binaries = os.path.abspath(os.path.join(options.build, "bin"))
    work = tempfile.mkdtemp(prefix="caisson-bench-")
    try:
        folder = bundle.make(os.path.join(work, "bundle"), {"true": os.path.join(binaries, "bench_true")})
        for name, path in oci_run.runtimes(binaries).items():
            smallest = next((step for step in STEPS_KIB if passes(path, os.path.join(work, "state-" + name), folder, step)), None)
            print(f"{name:18} {'more than ' + str(STEPS_KIB[-1]) if smallest is None else smallest} KiB", flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()

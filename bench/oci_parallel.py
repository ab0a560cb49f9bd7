#!/usr/bin/env python3
"""Many starts at once: `run` of a static /bin/true by 1, 2, 8 and 32 callers at a time, caisson-runtime and its peers in turns.

usage: bench/oci_parallel.py [--build build/release] [--rounds 3] [--starts 64]
"""
import concurrent.futures
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

import bundle
import measure
import oci_run


class Starts:
    """One runtime's starts of the same bundle; every start has an id of its own."""

    def __init__(self, path, folder, state):
        self.base = [path, "--root", state, "run", "--bundle", folder]
        self.count = 0

    def one(self, name):
        result = subprocess.run([*self.base, name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        return None if result.returncode == 0 else result.stderr.decode(errors="replace").strip()[-200:]

    def round(self, callers, starts):
        """(starts per second, CPU ms per start, failures)"""
        names = [f"bench-{os.getpid()}-{self.count + i}" for i in range(starts)]
        self.count += starts
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(callers) as pool:
            failures = [text for text in pool.map(self.one, names) if text]
        wall, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return starts / wall, cpu * 1000 / starts, failures


def main():
    options = oci_run.parse(rounds=3, starts=64)
    measure.require_root()
    if not options.inside:
        oci_run.pure_cgroups_again()
    measure.build_programs(options.build)
    binaries = os.path.abspath(os.path.join(options.build, "bin"))
    work = tempfile.mkdtemp(prefix="caisson-bench-")
    try:
        folder = bundle.make(os.path.join(work, "bundle"), {"true": os.path.join(binaries, "bench_true")})
        contenders = {name: Starts(path, folder, os.path.join(work, "state-" + name)) for name, path in oci_run.runtimes(binaries).items()}
        print(f"{'at a time':>9} {'runtime':18} {'starts/s':>9} {'CPU ms':>8}   (medians of {options.rounds} rounds of {options.starts} starts; CPU per start)")
        for callers in (1, 2, 8, 32):
            results = {name: [] for name in contenders}
            for _ in range(options.rounds):
                for name, starts in contenders.items():
                    results[name].append(starts.round(callers, options.starts))
            for name, rounds in results.items():
                failed = [text for _, _, texts in rounds for text in texts]
                note = f"   {len(failed)} failed, the first: {failed[0]}" if failed else ""
                print(f"{callers:9} {name:18} {statistics.median(r[0] for r in rounds):9.0f} {statistics.median(r[1] for r in rounds):8.2f}{note}", flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Many idle containers: memory beside their workload, `ps` and a start among them; Caisson with 1,000, docker beside with 100.

usage: bench/idle.py [--build build/release] [--containers 1000] [--peers 100]
"""
import argparse
import concurrent.futures
import statistics
import subprocess
import time

import engines
import measure


def available_kib():
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def total_pss(pids):
    return sum(size for size in map(measure.pss_kib, pids) if size is not None)


def median_ms(call, rounds=21):
    """Wall time of one call, median; the first is thrown away."""
    times = []
    for _ in range(rounds + 1):
        begin = time.monotonic()
        call()
        times.append((time.monotonic() - begin) * 1000)
    return statistics.median(times[1:])


def start_all(run, count, at_a_time=8):
    """Seconds for `count` starts. An engine that cannot hold so many says so by its first failure."""
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(at_a_time) as pool:
        for done in pool.map(run, range(count)):
            if done.returncode != 0:
                words = done.stderr if isinstance(done.stderr, str) else done.stderr.decode(errors="replace")
                raise RuntimeError(f"after fewer than {count} containers: {words.strip()[-300:]}")
    return time.monotonic() - begin


def report(name, count, seconds, rows):
    print(f"\n{name}, {count} idle containers on the bridge (started in {seconds:.0f} s)")
    for what, value, unit in rows:
        print(f"  {what:58} {value:10.1f} {unit}")


def measure_ours(engine, count):
    free_before = available_kib()
    base = measure.pss_kib(engine.process.pid)
    run = lambda number: engine.cli("run", "-d", "--name", f"idle{number}", "busybox", "sleep", "1000000", timeout=300)
    seconds = start_all(run, count)
    monitors = [engine.monitor_of(f"idle{number}") for number in range(0, count, max(1, count // 100))]
    running = engine.ok("ps", "-q").split()
    if len(running) != count:
        raise RuntimeError(f"{len(running)} of {count} run")
    list_all = lambda: engine.request("GET", "/containers/json")
    report("caisson", count, seconds, [
        ("`ps` through the API", median_ms(list_all), "ms"),
        ("`caisson ps -q`, the whole command", median_ms(lambda: engine.cli("ps", "-q", check=0)), "ms"),
        ("one more `run --rm busybox true` among them", median_ms(lambda: engine.cli("run", "--rm", "busybox", "true", check=0), 11), "ms"),
        ("monitor's PSS, median", statistics.median(filter(None, map(measure.pss_kib, monitors))), "KiB"),
        ("caissond's PSS", measure.pss_kib(engine.process.pid), f"KiB (idle before: {base})"),
        ("memory of the host per container, workload included", (free_before - available_kib()) / count, "KiB"),
    ])
    engine.kill9()
    begin = time.monotonic()
    engine.start(timeout_s=120)
    still = len(engine.ok("ps", "-q").split())
    print(f"  kill -9 of the daemon: `ps` answered after {(time.monotonic() - begin) * 1000:.0f} ms, {still} run")
    begin = time.monotonic()
    engine.cli("rm", "-f", *running, check=0, timeout=600)
    print(f"  `rm -f` of all: {time.monotonic() - begin:.1f} s")


def measure_docker(docker, count):
    free_before = available_kib()
    run = lambda number: docker.docker("run", "-d", "--name", f"idle{number}", "busybox", "sleep", "1000000", timeout=300)
    seconds = start_all(run, count)
    shims = measure.pids_named("containerd-shim-runc-v2", docker.folder)
    dockerd = measure.pids_named("dockerd", docker.folder)
    daemons = dockerd + [pid for parent in dockerd for pid in measure.children_of(parent)]
    quiet = {"stdout": subprocess.DEVNULL, "check": True, "env": docker.environment()}
    report("dockerd", count, seconds, [
        ("`docker ps -q`, the whole command", median_ms(lambda: subprocess.run(["docker", "ps", "-q"], **quiet), 11), "ms"),
        ("one more `run --rm busybox true` among them", median_ms(lambda: docker.docker("run", "--rm", "busybox", "true", check=0), 5), "ms"),
        ("shim's PSS, median", statistics.median(filter(None, map(measure.pss_kib, shims))), "KiB"),
        ("dockerd's and containerd's PSS", total_pss(daemons), "KiB"),
        ("memory of the host per container, workload included", (free_before - available_kib()) / count, "KiB"),
    ])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--containers", type=int, default=1000)
    parser.add_argument("--peers", type=int, default=100, help="containers of docker; 0: none")
    options = parser.parse_args()
    measure.require_root()
    engine = engines.caisson(options.build, subnet="10.199.0.0/20")
    try:
        measure_ours(engine, options.containers)
    finally:
        engine.close()
    if options.peers == 0:
        return
    try:
        docker = engines.dockerd()
    except RuntimeError as reason:
        print(f"docker left out: {reason}")
        return
    try:
        measure_docker(docker, options.peers)
    finally:
        docker.close()


if __name__ == "__main__":
    main()

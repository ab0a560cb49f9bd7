#!/usr/bin/env python3
"""Memory (PSS) of the idle daemon and of each container outside its workload: Caisson beside docker and podman.

usage: bench/memory.py [--build build/release] [--containers 20]
"""
import argparse
import statistics

import engines
import measure


def median_pss(pids):
    sizes = [size for size in map(measure.pss_kib, pids) if size is not None]
    return statistics.median(sizes) if sizes else None


def show(what, kib):
    print(f"{what:52} {'none found' if kib is None else f'{kib:8.0f} KiB'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--containers", type=int, default=20)
    options = parser.parse_args()
    measure.require_root()
    with engines.all_of(options.build) as (ours, docker, podman):
        show("caissond, idle", measure.pss_kib(ours.process.pid))
        starters = measure.children_of(ours.process.pid)
        show("starter of launchers, idle", median_pss(starters))
        show("launcher, idle", median_pss([pid for starter in starters for pid in measure.children_of(starter)]))
        if docker:
            dockerd = measure.pids_named("dockerd", docker.folder)
            show("dockerd, idle", sum(map(measure.pss_kib, dockerd)))
            show("its containerd", sum(map(measure.pss_kib, [pid for parent in dockerd for pid in measure.children_of(parent)])))
        for number in range(options.containers):
            ours.cli("run", "-d", "--network", "none", "--name", f"idle{number}", "busybox", "sleep", "100000", check=0)
            if number < 5:
                if docker:
                    docker.docker("run", "-d", "--network", "none", "busybox", "sleep", "100000")
                if podman:
                    podman.podman("run", "-d", "--network", "none", "busybox", "sleep", "100000")
        show(f"monitor, median of {options.containers} idle containers", median_pss([ours.monitor_of(f"idle{n}") for n in range(options.containers)]))
        show(f"caissond with {options.containers} containers", measure.pss_kib(ours.process.pid))
        if docker:
            show("containerd-shim, median of 5", median_pss(measure.pids_named("containerd-shim-runc-v2", docker.folder)))
        if podman:
            show("conmon, median of 5", median_pss(measure.pids_named("conmon", podman.folder)))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""`run --rm busybox true` through command line and daemon: Caisson, docker and podman in turns; then starts per second.

usage: bench/engine_run.py [--build build/release] [--rounds 15] [--starts 200]
CPU figures are those of the client process alone; the daemons' work shows in the wall time.
"""
import argparse
import concurrent.futures
import os
import subprocess
import time

import engines
import measure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--starts", type=int, default=200)
    options = parser.parse_args()
    measure.require_root()
    with engines.all_of(options.build) as (ours, docker, podman):
        caisson = os.path.join(os.path.abspath(options.build), "bin", "caisson")
        commands = {"caisson": ([caisson, "-H", ours.host], ours.environment()),
                    "docker CLI on caisson": (["docker"], ours.environment())}
        if docker:
            commands["docker"] = (["docker"], docker.environment())
        if podman:
            commands["podman"] = (podman.command(), podman.environment())
        for network in ([], ["--network", "none"]):
            contenders = [measure.Contender(name, [*argv, "run", "--rm", *network, "busybox", "true"], env=env) for name, (argv, env) in commands.items()]
            measure.in_turns(contenders, options.rounds)
            measure.report(f"run --rm {' '.join(network)} busybox true", contenders, "docker", cpu=False)
        for name in ("caisson", "docker"):
            if name in commands:
                argv, env = commands[name]
                print(f"{name:28} {starts_per_second(argv, env, options.starts):7.1f} containers per second, {options.starts} starts, 8 at a time")


def starts_per_second(argv, env, count):
    def start(_):
        return subprocess.run([*argv, "run", "--rm", "--network", "none", "busybox", "true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, env=env, check=False)

    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        failed = [result for result in pool.map(start, range(count)) if result.returncode != 0]
    seconds = time.monotonic() - begin
    if failed:
        print(f"{len(failed)} of {count} failed, the first with: {failed[0].stderr.decode(errors='replace').strip()[-200:]}")
    return (count - len(failed)) / seconds


if __name__ == "__main__":
    main()

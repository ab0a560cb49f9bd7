#!/usr/bin/env python3
"""Builds beside docker's classic builder and buildah, in turns: a cached rebuild of 20 steps, two independent stages from nothing, one changed file in a context of
2,000, the layer that a step leaves (and as a compressed archive), and a RUN step beside `exec`.

usage: bench/build.py [--build build/release] [--rounds 5] [--megabytes 64] [--minutes 10] [--source /usr] [--only cached,stages,changed,export,run]
Wall time of the command line as a user types it; every engine is private and has the same base image. No round begins after MINUTES, shared by the rows
that are left, so that a busy machine measures less instead of longer; whoever fails or takes minutes for one step is left out of that row with the reason.
"""
import argparse
import contextlib
import os
import random
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time

import engines
import image
from counting_proxy import CountingProxy  # tests/e2e, whose place engines.py tells

STEP_SECONDS = 180  # of one command; the longest takes some ten on a busy machine
RUN_STEPS = 10


def write_text(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def write_context(folder):
    write_text(os.path.join(folder, "f"), "x" * 1000)
    steps = "".join(f"RUN echo {n} > /f{n}\n" if n % 2 else f"ENV V{n}={n}\n" for n in range(18))
    write_text(os.path.join(folder, "steps"), f"FROM busybox\n{steps}COPY f /copied\n")
    # Half a second of work each, which two processors share when both run at once.
    work = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo $i"
    write_text(os.path.join(folder, "stages"), f"FROM busybox AS a\nRUN {work} > /a\nFROM busybox AS b\nRUN {work} > /b\nFROM busybox\nCOPY --from=a /a /a\nCOPY --from=b /b /b\n")
    # In exec form, so that a step starts the very program that `exec` starts, and no shell.
    write_text(os.path.join(folder, "run"), "FROM busybox\n" + "".join(f'RUN ["true", "{n}"]\n' for n in range(RUN_STEPS)))
    write_text(os.path.join(folder, "none"), "FROM busybox\n")


def write_many_files(folder):
    """2,000 files of 4 to 12 KiB in 40 folders, the same at every run. Returns their size together."""
    numbers, size = random.Random(1), 0
    for n in range(2000):
        inner = os.path.join(folder, f"d{n // 50:02}")
        os.makedirs(inner, exist_ok=True)
        data = numbers.randbytes(numbers.randrange(2048, 6145)).hex().encode()  # text compresses; noise would not
        size += len(data)
        with open(os.path.join(inner, f"f{n % 50:02}"), "wb") as file:
            file.write(data)
    write_text(os.path.join(folder, "Dockerfile"), "FROM busybox\nCOPY . /src\n")
    return size


def write_big_files(folder, source, megabytes):
    """Real files below `folder`/big. Returns their size together."""
    layer = image.make_layer(source, megabytes << 20)
    big = os.path.join(folder, "big")
    os.mkdir(big)
    subprocess.run(["tar", "-C", big, "-xf", "-"], input=layer, check=True)
    write_text(os.path.join(folder, "Dockerfile"), "FROM busybox\nCOPY big /big\n")
    return len(layer)


class Builder:
    """One engine by its command line: `words` come before every verb."""

    def __init__(self, name, words, environment, socket_path=None):
        self.name, self.words, self.environment, self.socket_path = name, words, environment, socket_path
        self.container = None

    def timed(self, *arguments):
        return timed([*self.words, *arguments], self.environment)

    def build(self, folder, file="Dockerfile", cached=True, options=("-q",)):
        verb = ["bud", "--layers", "--isolation", "chroot", "--pull-never"] if self.name == "buildah" else ["build"]
        return self.timed(*verb, *([] if cached else ["--no-cache"]), *options, "-f", os.path.join(folder, file), folder)

    def build_archive(self, folder, path):
        """A build from nothing to an archive with compressed layers, by each engine's own words."""
        if os.path.exists(path):
            os.unlink(path)
        if self.name == "caisson":
            return self.build(folder, cached=False, options=("-q", "-o", f"type=oci,dest={path},compression=gzip"))
        built = self.build(folder, cached=False, options=("-q", "-t", "bench-archive"))
        if self.name == "buildah":
            return built + self.timed("push", "-q", "localhost/bench-archive", f"oci-archive:{path}")
        return built + timed(["bash", "-o", "pipefail", "-c", '"$@" save bench-archive | gzip -6 >"$0"', path, *self.words], self.environment)

    def exec_true(self):
        """`true` in a container that runs already; buildah has working containers in their place."""
        if self.container is None:
            if self.name == "buildah":
                argv = [*self.words, "from", "--pull-never", "localhost/busybox"]
            else:
                argv = [*self.words, "run", "-d", "--network", "none", "busybox", "sleep", "100000"]
            self.container = subprocess.run(argv, capture_output=True, text=True, env=self.environment, check=True, timeout=STEP_SECONDS).stdout.strip()
        return self.timed(*(["run", "--isolation", "chroot", self.container, "--"] if self.name == "buildah" else ["exec", self.container]), "true")

    def bytes_sent(self, folder, proxy_path):
        """What a build sends through the daemon's socket."""
        with contextlib.closing(CountingProxy(proxy_path, self.socket_path)) as proxy:
            words = [f"unix://{proxy_path}" if word == f"unix://{self.socket_path}" else word for word in self.words]
            Builder(self.name, words, self.environment).build(folder)
            return proxy.sent


def timed(argv, environment):
    begun = time.monotonic()
    run = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, timeout=STEP_SECONDS, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {run.returncode}: {run.stderr[-800:]}")
    return (time.monotonic() - begun) * 1000


def in_turns(title, builders, measure_once, rounds, until, before_round=None):
    """Prints what `measure_once(builder)` took: {column: ms}, or ms alone. The first round only fills caches. Returns the rounds of each builder that did them all."""
    times, failures = {one.name: [] for one in builders}, {}
    for number in range(rounds + 1):
        if number > 1 and time.monotonic() > until:
            title += f" (no more rounds: {number - 1} of {rounds} in the time there was)"
            break
        if before_round:
            before_round(number)
        for one in builders:
            if one.name in failures:
                continue
            try:
                spent = measure_once(one)
            except (RuntimeError, subprocess.SubprocessError, OSError) as reason:
                failures[one.name] = f"{type(reason).__name__}: {str(reason)[-600:]}"
                continue
            if number > 0:
                times[one.name].append(spent if isinstance(spent, dict) else {"": spent})
    print(title)
    ours = times.get("caisson")
    for name, spent in times.items():
        if name in failures:
            print(f"  {name:8} left out: {failures[name]}")
            continue
        for column in spent[0]:
            values = [one[column] for one in spent]
            ratio = f"  {statistics.median(values) / statistics.median(one[column] for one in ours):.2f} × caisson" if ours and "caisson" not in failures else ""
            print(f"  {name:8}{column and ' ' + format(column, '24')} median {statistics.median(values):8.1f} ms  (min {min(values):.1f}, max {max(values):.1f}){ratio}", flush=True)
    return {one: times[one.name] for one in builders if one.name not in failures}


def changed_row(builders, folder, rounds, until):
    size = write_many_files(folder)
    number_of_change = 0

    def change(_=None):
        nonlocal number_of_change
        number_of_change += 1
        write_text(os.path.join(folder, "d20", "f25"), f"content {number_of_change}\n" * 500)

    left = in_turns(f"one changed file in a context of 2,000 files, {size / 1e6:.1f} MB", builders, lambda one: one.build(folder), rounds, until, change)
    for one in left:
        if one.socket_path:
            change()
            try:
                sent = one.bytes_sent(folder, os.path.join(os.path.dirname(folder), f"{one.name}.sock"))
            except (RuntimeError, subprocess.SubprocessError, OSError) as reason:
                print(f"  {one.name:8} bytes not counted: {reason}")
                continue
            print(f"  {one.name:8} sent {sent:,} bytes through the socket, {sent / size:.3f} × the context's files", flush=True)


def export_rows(builders, folder, options, until):
    size = write_big_files(folder, options.source, options.megabytes)

    def change(row):  # a layer that is known already would be an easier one
        return lambda number: write_text(os.path.join(folder, "big", "round"), f"{row} {number}\n")

    in_turns(f"COPY of {size / 1e6:.0f} MB into a layer, nothing cached", builders, lambda one: one.build(folder, cached=False), options.rounds, until(), change("layer"))
    path = os.path.join(os.path.dirname(folder), "archive-")
    left = in_turns("the same as an archive with gzip layers (buildah: push to oci-archive; docker: save | gzip -6)", builders,
                    lambda one: one.build_archive(folder, path + one.name), options.rounds, until(), change("archive"))
    print("  size of the archives: " + ", ".join(f"{one.name} {os.path.getsize(path + one.name) / 1e6:.1f} MB" for one in left), flush=True)


def run_row(builders, folder, rounds, until):
    def measure_once(one):
        none = one.build(folder, "none", cached=False)
        step = (one.build(folder, "run", cached=False) - none) / RUN_STEPS
        execs = statistics.mean(one.exec_true() for _ in range(RUN_STEPS))
        return {"a RUN step of true": step, "exec of true": execs, "the step above the exec": step - execs, "a build without steps": none}

    left = in_turns(f"RUN beside exec: a build of {RUN_STEPS} steps less one of none, by step", builders, measure_once, rounds, until)
    print("  a RUN step by the exec of the same round, median: " + ", ".join(
        f"{one.name} {statistics.median(spent['a RUN step of true'] / spent['exec of true'] for spent in rounds_of_it):.2f} ×" for one, rounds_of_it in left.items()), flush=True)


def buildah(folder):
    """buildah with a store of its own and `busybox` in it."""
    store = os.path.join(folder, "buildah")
    one = Builder("buildah", ["buildah", "--root", store + "/root", "--runroot", store + "/run", "--storage-driver", "overlay"], dict(os.environ))
    made = subprocess.run([*one.words, "from", "scratch"], capture_output=True, text=True, check=True).stdout.strip()
    archive = os.path.join(folder, "busybox.tar")
    with open(archive, "wb") as file:
        file.write(engines.busybox_tar())
    one.timed("add", "-q", made, archive, "/")
    one.timed("commit", "-q", made, "localhost/busybox")
    return one


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--source", default="/usr")
    parser.add_argument("--only", default="cached,stages,changed,export,run")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - {"cached", "stages", "changed", "export", "run"}:
        parser.error(f"--only: there is no row {', '.join(sorted(unknown))}")
    folder = tempfile.mkdtemp(prefix="caisson-bench-build-")
    contexts = {name: os.path.join(folder, name) for name in ("context", "many", "big")}  # apart from buildah's store, which nobody means to send
    for path in contexts.values():
        os.mkdir(path)
    write_context(contexts["context"])
    opened, builders = [], []
    try:
        ours = engines.caisson(options.build)
        opened.append(ours)
        builders.append(Builder("caisson", [os.path.join(os.environ["CAISSON_BIN"], "caisson"), "-H", ours.host], ours.environment(), ours.socket))
        try:
            docker = engines.dockerd()
            opened.append(docker)
            builders.append(Builder("docker", ["docker", "-H", docker.host], {**docker.environment(), "DOCKER_BUILDKIT": "0"}, docker.host.removeprefix("unix://")))
        except RuntimeError as reason:
            print(f"docker: left out, {reason}")
        if shutil.which("buildah"):
            try:
                builders.append(buildah(folder))
            except (subprocess.SubprocessError, RuntimeError) as reason:
                print(f"buildah: left out, {reason}")
        else:
            print("buildah: left out, it is not installed: tools/dependencies peers")
        end = time.monotonic() + options.minutes * 60
        shares = len(wanted) + wanted.count("export")  # export is two

        def until():
            nonlocal shares
            now = time.monotonic()
            share = max(0, end - now) / max(1, shares)
            shares -= 1
            return now + share

        if "cached" in wanted:
            in_turns("cached rebuild of 20 steps", builders, lambda one: one.build(contexts["context"], "steps"), options.rounds, until())
        if "stages" in wanted:
            in_turns("two independent stages, nothing cached", builders, lambda one: one.build(contexts["context"], "stages", cached=False), options.rounds, until())
        if "changed" in wanted:
            changed_row(builders, contexts["many"], options.rounds, until())
        if "export" in wanted:
            export_rows(builders, contexts["big"], options, until)
        if "run" in wanted:
            run_row(builders, contexts["context"], options.rounds, until())
    finally:
        for engine in opened:
            engine.close()
        subprocess.run(["umount", "-l", os.path.join(folder, "buildah/root/overlay")], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Builds beside docker's classic builder and buildah, in turns: a cached rebuild of 20 steps, and two independent stages from nothing.

usage: bench/build.py [--build build/release] [--rounds 5]
Wall time of the command line as a user types it; every engine is private and has the same base image.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time

import engines


def write_context(folder):
    with open(os.path.join(folder, "f"), "w", encoding="utf-8") as file:
        file.write("x" * 1000)
    steps = "".join(f"RUN echo {n} > /f{n}\n" if n % 2 else f"ENV V{n}={n}\n" for n in range(18))
    with open(os.path.join(folder, "steps"), "w", encoding="utf-8") as file:
        file.write(f"FROM busybox\n{steps}COPY f /copied\n")
    # Half a second of work each, which two processors share when both run at once.
    work = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo $i"
    with open(os.path.join(folder, "stages"), "w", encoding="utf-8") as file:
        file.write(f"FROM busybox AS a\nRUN {work} > /a\nFROM busybox AS b\nRUN {work} > /b\nFROM busybox\nCOPY --from=a /a /a\nCOPY --from=b /b /b\n")


def timed(argv, environment):
    begun = time.monotonic()
    run = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {run.returncode}: {run.stderr[-800:]}")
    return (time.monotonic() - begun) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="caisson-bench-build-")
    context = os.path.join(folder, "context")  # apart from buildah's store, which nobody means to send
    os.mkdir(context)
    write_context(context)
    opened, contenders = [], {}
    try:
        ours = engines.caisson(options.build)
        opened.append(ours)
        binary = os.path.join(os.environ["CAISSON_BIN"], "caisson")
        contenders["caisson"] = (lambda name, cached: [binary, "-H", ours.host, "build", "-q", *([] if cached else ["--no-cache"]), "-f", os.path.join(context, name), context], ours.environment())
        try:
            docker = engines.dockerd()
            opened.append(docker)
            contenders["docker"] = (lambda name, cached: ["docker", "build", "-q", *([] if cached else ["--no-cache"]), "-f", os.path.join(context, name), context],
                                    {**docker.environment(), "DOCKER_BUILDKIT": "0"})
        except RuntimeError as reason:
            print(f"docker: left out, {reason}")
        if shutil.which("buildah"):
            store = os.path.join(folder, "buildah")
            base = ["buildah", "--root", store + "/root", "--runroot", store + "/run", "--storage-driver", "overlay"]
            try:
                made = subprocess.run([*base, "from", "scratch"], capture_output=True, text=True, check=True).stdout.strip()
                archive = os.path.join(folder, "busybox.tar")
                with open(archive, "wb") as file:
                    file.write(engines.busybox_tar())
                subprocess.run([*base, "add", "-q", made, archive, "/"], check=True, capture_output=True)
                subprocess.run([*base, "commit", "-q", made, "localhost/busybox"], check=True, capture_output=True)
                contenders["buildah"] = (lambda name, cached: [*base, "bud", "-q", "--layers", "--isolation", "chroot", *([] if cached else ["--no-cache"]), "--pull-never", "-f", os.path.join(context, name), context], dict(os.environ))
                timed(contenders["buildah"][0]("steps", True), dict(os.environ))
            except (subprocess.CalledProcessError, RuntimeError) as reason:
                contenders.pop("buildah", None)
                print(f"buildah: left out, {reason}")
        rows = (("cached rebuild of 20 steps", "steps", True), ("two independent stages, nothing cached", "stages", False))
        for title, name, cached in rows:
            times = {who: [] for who in contenders}
            for round_number in range(options.rounds + 1):
                for who, (command, environment) in contenders.items():
                    spent = timed(command(name, cached), environment)
                    if round_number > 0:  # the first fills the cache
                        times[who].append(spent)
            print(title)
            for who, spent in times.items():
                ratio = statistics.median(spent) / statistics.median(times["caisson"])
                print(f"  {who:8} median {statistics.median(spent):8.1f} ms  (min {min(spent):.1f}, max {max(spent):.1f})  {ratio:.2f} × caisson")
    finally:
        for engine in opened:
            engine.close()
        subprocess.run(["umount", "-l", os.path.join(folder, "buildah/root/overlay")], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

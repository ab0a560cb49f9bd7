#!/usr/bin/env python3
"""Pull of one large gzip layer from Debian's docker-registry: CPU of Caisson (daemon, fetch, unpack, client) in both forms of layers, of podman, and of `igzip -dc | tar x`.

usage: bench/pull.py [--build build/release] [--rounds 3] [--source /usr]
The registry's own CPU is in nobody's figure. The layer is bench/image.py's.
"""
import argparse
import os
import shutil
import subprocess
import tempfile

import engines  # first: it leads to the end-to-end tests' library
import image
import measure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--source", default="/usr")
    options = parser.parse_args()
    measure.require_root()
    work = tempfile.mkdtemp(prefix="caisson-bench-")
    os.environ["CAISSON_BIN"] = os.path.abspath(os.path.join(options.build, "bin"))
    import caisson  # pylint: disable=import-outside-toplevel
    import registries  # pylint: disable=import-outside-toplevel

    podman = engines.podman()
    # All in podman's network namespace: its registry is then at 127.0.0.1 for everybody.
    namespace = registries.Namespace.__new__(registries.Namespace)
    namespace.name = podman.namespace
    ours = {form: caisson.Engine(options=("--snapshot-form", form)) for form in ("directory", "erofs")}
    registry = None
    try:
        registry = registries.DockerRegistry(namespace)
        for engine in ours.values():
            engine.prefix_command = namespace.command
            engine.start()
        layer = image.make_layer(options.source, 200 << 20)
        archive = os.path.join(work, "archive.tar")
        image.archive(layer, archive, compressed=True)
        subprocess.run(["tar", "-C", work, "-xf", archive, "layer.tar"], check=True)
        name = f"{registry.address}/bench:1"
        first = ours["directory"]
        first.cli("load", "-i", archive, check=0, timeout=300)
        first.cli("tag", "bench:1", name, check=0)
        first.cli("push", name, check=0, timeout=300)
        first.cli("rmi", "bench:1", name, check=0)
        tool = "igzip" if shutil.which("igzip") else "gzip"
        floor, mine, theirs = [], {form: [] for form in ours}, []
        for _ in range(options.rounds):
            target = os.path.join(work, "out")
            os.makedirs(target)
            floor.append(image.timed(["sh", "-c", f"{tool} -dc {work}/layer.tar | tar -C {target} -xf -"]))
            shutil.rmtree(target)
            for form, engine in ours.items():
                before = image.cpu_of(engine.process.pid)
                client = image.timed([os.path.join(caisson.BIN, "caisson"), "-H", engine.host, "pull", name], env=engine.environment(), stderr=subprocess.DEVNULL)
                mine[form].append(image.cpu_of(engine.process.pid) - before + client)
                engine.cli("rmi", name, check=0)
            theirs.append(image.timed(podman.command("pull", "--tls-verify=false", name), env=podman.environment(), stderr=subprocess.DEVNULL))
            podman.podman("rmi", name)
        median = lambda values: sorted(values)[len(values) // 2]
        print(f"layer: {len(layer) / 1e6:.0f} MB, gzip {os.path.getsize(os.path.join(work, 'layer.tar')) / 1e6:.0f} MB; CPU seconds, median of {options.rounds}")
        print(f"{tool} -dc | tar x   {median(floor):.2f}")
        for form, values in mine.items():
            print(f"caisson pull, {form:<9}  {median(values):.2f}   {median(values) / median(floor):.2f} x")
        print(f"podman pull       {median(theirs):.2f}   {median(theirs) / median(floor):.2f} x")
    finally:
        for engine in ours.values():
            engine.close()
        if registry:
            registry.close()
        podman.close()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()

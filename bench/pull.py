#!/usr/bin/env python3
"""Pull of one large gzip layer from Debian's docker-registry: CPU of Caisson (daemon, fetch, unpack, client) in both forms of layers, of podman, and of `igzip -dc | tar x`.

usage: bench/pull.py [--build build/release] [--rounds 3] [--megabytes 200] [--source /usr]
The registry's own CPU is in nobody's figure. The layer is bench/image.py's. At the end a second image on the same layer is pulled, and what the registry then gave.
"""
import argparse
import http.client
import json
import os
import shutil
import subprocess
import tempfile

import engines  # first: it leads to the end-to-end tests' library
import image
import measure


def blobs_of(registry, name):
    """Descriptors of an image's config and layers, as its registry has them."""
    connection = http.client.HTTPConnection("127.0.0.1", registry.port)
    connection.sock = registry.namespace.connect(registry.port)
    repository, _, tag = name.partition("/")[2].rpartition(":")
    connection.request("GET", f"/v2/{repository}/manifests/{tag}", headers={"Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"})
    manifest = json.loads(connection.getresponse().read())
    connection.close()
    return [manifest["config"], *manifest["layers"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=200)
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
        layer = image.make_layer(options.source, options.megabytes << 20)
        archive = os.path.join(work, "archive.tar")
        image.archive(layer, archive, compressed=True)
        subprocess.run(["tar", "-C", work, "-xf", archive, "layer.tar"], check=True)
        name = f"{registry.address}/bench:1"
        first = ours["directory"]
        first.cli("load", "-i", archive, check=0, timeout=300)
        first.cli("tag", "bench:1", name, check=0)
        first.cli("push", name, check=0, timeout=300)
        # Another image on the same layer, with one of its own above.
        first.cli("create", "--name", "second", "bench:1", "none", check=0)
        second = f"{registry.address}/second:1"
        first.cli("cp", os.path.abspath(__file__), "second:/second", check=0)
        first.cli("commit", "second", second, check=0, timeout=300)
        first.cli("push", second, check=0, timeout=300)
        first.cli("rm", "second", check=0)
        first.cli("rmi", "bench:1", name, second, check=0)
        tool = "igzip" if shutil.which("igzip") else "gzip"
        floor, mine, theirs = [], {form: [] for form in ours}, []
        for _ in range(options.rounds):
            target = os.path.join(work, "out")
            os.makedirs(target)
            floor.append(image.timed(["sh", "-c", f"{tool} -dc {work}/layer.tar | tar -C {target} -xf -"]))
            shutil.rmtree(target)
            for form, engine in ours.items():
                before = image.cpu_of(engine.process.pid)
                client = image.timed([os.path.join(caisson.BIN, "caisson"), "-H", engine.host, "pull", name], timeout=image.STEP_SECONDS, env=engine.environment(), stderr=subprocess.DEVNULL)
                mine[form].append(image.cpu_of(engine.process.pid) - before + client)
                engine.cli("rmi", name, check=0)
            theirs.append(image.timed(podman.command("pull", "--tls-verify=false", name), timeout=image.STEP_SECONDS, env=podman.environment(), stderr=subprocess.DEVNULL))
            podman.podman("rmi", name)
            print(f"round {len(floor)}:  {tool} {floor[-1]:.2f}  " + "  ".join(f"{form} {values[-1]:.2f}" for form, values in mine.items()) + f"  podman {theirs[-1]:.2f}", flush=True)
        median = lambda values: sorted(values)[len(values) // 2]
        print(f"layer: {len(layer) / 1e6:.0f} MB, gzip {os.path.getsize(os.path.join(work, 'layer.tar')) / 1e6:.0f} MB; CPU seconds, median of {options.rounds}")
        print(f"{tool} -dc | tar x   {median(floor):.2f}")
        for form, values in mine.items():
            print(f"caisson pull, {form:<9}  {median(values):.2f}   {median(values) / median(floor):.2f} x")
        print(f"podman pull       {median(theirs):.2f}   {median(theirs) / median(floor):.2f} x")
        engine = ours["erofs"]
        engine.cli("pull", name, check=0, timeout=300)
        before = len(registry.requests())
        engine.cli("pull", second, check=0, timeout=300)
        sizes = {blob["digest"]: blob["size"] for blob in blobs_of(registry, second)}
        travelled = [path.rpartition("/")[2] for method, path, _ in registry.requests()[before:] if method == "GET" and "/blobs/" in path]
        print(f"second image on the same layer: {len(travelled)} of {len(sizes)} blobs travel, {sum(sizes[digest] for digest in travelled) / 1e3:.1f} kB of {sum(sizes.values()) / 1e6:.1f} MB")
    finally:
        for engine in ours.values():
            engine.close()
        if registry:
            registry.close()
        podman.close()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()

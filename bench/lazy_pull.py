#!/usr/bin/env python3
"""Time from `pull` to the first output of a container, over a line of so many MB/s, lazily and whole: the same image, which reads a hundredth of what it has.

usage: bench/lazy_pull.py [--build build/release] [--rounds 3] [--line-mb 10] [--layer-mb 120]
The line is shared by all connections, as a real one is. The image is zstd:chunked, pushed by an engine of ours to a registry of ours.
"""
import argparse
import io
import os
import random
import sys
import tarfile
import threading
import time

import engines  # noqa: F401  first: it leads to the end-to-end tests' library
import measure


class Line:
    """Lets so many bytes a second pass, whoever sends them."""

    def __init__(self, bytes_per_s):
        self.lock = threading.Lock()
        self.bytes_per_s = bytes_per_s
        self.free_at = 0.0

    def send(self, file, data):
        for start in range(0, len(data), 65536):
            piece = data[start:start + 65536]
            with self.lock:
                now = time.monotonic()
                self.free_at = max(self.free_at, now) + len(piece) / self.bytes_per_s
                wait = self.free_at - now
            time.sleep(wait)
            file.write(piece)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--line-mb", type=float, default=10)
    parser.add_argument("--layer-mb", type=int, default=120)
    options = parser.parse_args()
    measure.require_root()
    os.environ["CAISSON_BIN"] = os.path.abspath(os.path.join(options.build, "bin"))
    import caisson  # pylint: disable=import-outside-toplevel
    import registries  # pylint: disable=import-outside-toplevel

    noise = random.Random(1)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        caisson.add_file(tar, "srv", mode=0o755, type=tarfile.DIRTYPE)
        for number in range(100):
            caisson.add_file(tar, f"srv/{number}", noise.randbytes((options.layer_mb << 20) // 100))
    namespace = registries.Namespace()
    things = []
    try:
        registry = registries.CaissonRegistry(namespace)
        things.append(registry)
        between = registries.BetweenServer(namespace, registry.port)
        things.append(between)
        line = Line(options.line_mb * 1e6)

        def slowly(handler, body):
            status, headers, data = between.fetch(handler, body)
            handler.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "date"):
                    handler.send_header(name, value)
            handler.end_headers()
            if handler.command != "HEAD":
                line.send(handler.wfile, data)
            return True

        between.on(r"/v2/", slowly, "GET")
        maker = caisson.Engine()
        things.append(maker)
        maker.prefix_command = namespace.command
        maker.start()
        maker.ok("load", stdin=caisson.docker_archive([caisson.busybox_rootfs(), out.getvalue()], {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, ("bench:1",)), text=False, timeout=300)
        maker.ok("tag", "bench:1", f"{registry.address}/bench:1")
        maker.ok("push", "--compression-format", "zstd:chunked", f"{registry.address}/bench:1", timeout=300)
        name = f"{between.address}/bench:1"
        times = {"whole": [], "lazy": []}
        for _ in range(options.rounds):
            for kind in times:
                engine = caisson.Engine()
                engine.prefix_command = namespace.command
                engine.start()
                try:
                    begun = time.monotonic()
                    engine.ok("pull", *(["--lazy"] if kind == "lazy" else []), name, timeout=600)
                    engine.ok("run", "--rm", name, "sh", "-c", "wc -c < /srv/42", timeout=600)
                    times[kind].append(time.monotonic() - begun)
                finally:
                    engine.close()
        print(f"image: {options.layer_mb} MB, line: {options.line_mb:g} MB/s; seconds from pull to the first output, median of {options.rounds}")
        whole, lazy = (sorted(times[kind])[options.rounds // 2] for kind in ("whole", "lazy"))
        print(f"whole  {whole:.2f}\nlazy   {lazy:.2f}   {whole / lazy:.1f} x sooner")
    finally:
        for thing in reversed(things):
            thing.close()
        namespace.close()


if __name__ == "__main__":
    sys.exit(main())

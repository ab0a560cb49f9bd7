#!/usr/bin/env python3
"""A start from layers that are directories and from layers that are EROFS indexes, in turns: all CPU of daemon, launcher, monitor and container.

usage: bench/snapshot_forms.py [--build build/release] [--rounds 30]
Each engine lives in a cgroup of its own, and so do its containers below it; the clients do not. What layers cost when they come is image.py's and pull.py's.
"""
import argparse
import io
import os
import statistics
import tarfile
import time

import engines
import measure

FORMS = ("directory", "erofs")
LAYERS = 12


class Accounted:
    """An engine of one form whose CPU is counted by a cgroup."""

    def __init__(self, build, form):
        v1 = "/sys/fs/cgroup/cpuacct"
        self.is_v1 = os.path.isdir(v1)
        self.folder = os.path.join(v1 if self.is_v1 else "/sys/fs/cgroup", f"caisson-bench-{os.getpid()}-{form}")
        os.mkdir(self.folder)
        members = os.path.join(self.folder, "cgroup.procs")
        os.environ["CAISSON_BIN"] = os.path.abspath(os.path.join(build, "bin"))
        import caisson as library  # pylint: disable=import-outside-toplevel

        self.engine = library.Engine(options=("--snapshot-form", form))
        self.engine.prefix_command = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', members]
        # Relative: below the daemon's own cgroup, which counts what its children have used.
        self.engine.options += ["--cgroup-parent", "containers"]
        self.engine.start()
        self.engine.import_busybox()
        self.engine.ok("load", stdin=library.docker_archive([library.busybox_rootfs(), *map(small_layer, range(1, LAYERS))], {"Env": ["PATH=/bin"]}, ["many:1"]), text=False)

    def cpu_ms(self):
        if self.is_v1:
            with open(os.path.join(self.folder, "cpuacct.usage"), encoding="ascii") as file:
                return int(file.read()) / 1e6
        with open(os.path.join(self.folder, "cpu.stat"), encoding="ascii") as file:
            return int(file.readline().split()[1]) / 1e3

    def start_once(self, image):
        """(CPU, wall) of one start, in ms; with what its removal costs."""
        before, begin = self.cpu_ms(), time.monotonic()
        self.engine.ok("run", "--rm", "--network", "none", image, "/bin/true")
        wall = (time.monotonic() - begin) * 1000
        return self.cpu_ms() - before, wall

    def restart(self):
        self.engine.stop()
        self.engine.start()

    def close(self):
        self.engine.close()
        for folder, _, _ in os.walk(self.folder, topdown=False):
            os.rmdir(folder)


def small_layer(number):
    import caisson as library  # pylint: disable=import-outside-toplevel

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        library.add_file(tar, f"srv/{number}", b"x" * number)
    return out.getvalue()


def show(title, samples):
    print(f"\n## {title}\n{'':12} {'cpu min':>8} {'cpu med':>8} {'wall med':>8}   ms of {len(next(iter(samples.values())))}")
    for form, values in samples.items():
        cpu, wall = zip(*values)
        print(f"{form:12} {min(cpu):8.2f} {statistics.median(cpu):8.2f} {statistics.median(wall):8.2f}")
    pairs = zip(samples["erofs"], samples["directory"])
    print(f"erofs / directory, median of the pairs: {statistics.median(mine[0] / theirs[0] for mine, theirs in pairs):.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    measure.require_root()
    ours = {}
    try:
        for form in FORMS:
            ours[form] = Accounted(options.build, form)
        for image, title in (("busybox", "run --rm --network none busybox /bin/true, one layer"), ("many:1", f"the same, {LAYERS} layers")):
            samples = {form: [] for form in FORMS}
            for index in range(options.rounds + 2):
                for form, engine in ours.items():
                    taken = engine.start_once(image)
                    if index >= 2:
                        samples[form].append(taken)
            show(title, samples)
        samples = {form: [] for form in FORMS}
        for _ in range(max(3, options.rounds // 5)):
            for form, engine in ours.items():
                engine.restart()
                samples[form].append(engine.start_once("many:1"))
        show(f"the first start of {LAYERS} layers after the daemon's: indexes are checked and mounted", samples)
    finally:
        for engine in ours.values():
            engine.close()


if __name__ == "__main__":
    main()

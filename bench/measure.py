"""Runs commands in turns and prints medians and pairwise ratios: the one measuring tool of all benchmarks here."""
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time


class Contender:
    """One command to time. `prepare` and `finish` run outside the measured span, each round."""

    def __init__(self, name, argv, prepare=None, finish=None, env=None, expect=0):
        self.name, self.argv, self.prepare, self.finish, self.env, self.expect = name, argv, prepare, finish, env, expect
        self.wall_ms, self.cpu_ms = [], []
        self.failure = None

    def run_once(self, counted):
        argv = self.argv() if callable(self.argv) else self.argv
        if shutil.which(argv[0]) is None:
            self.failure = f"{argv[0]} is not there"
            return
        if self.prepare:
            self.prepare()
        begin = time.monotonic()
        with open(os.devnull, "r+b") as null:
            process = subprocess.Popen(argv, stdin=null, stdout=null, stderr=subprocess.PIPE, env=self.env)
            errors = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall = (time.monotonic() - begin) * 1000
        if self.finish:
            self.finish()
        if process.returncode != self.expect:
            self.failure = f"exit {process.returncode}: {errors.decode(errors='replace').strip()[-300:]}"
            return
        if counted:
            self.wall_ms.append(wall)
            self.cpu_ms.append((usage.ru_utime + usage.ru_stime) * 1000)


def in_turns(contenders, rounds, warm_up=2):
    """Runs every contender once per round. One that fails is left out from then on, with its reason."""
    for index in range(rounds + warm_up):
        for contender in contenders:
            if contender.failure is None:
                contender.run_once(counted=index >= warm_up)
    return contenders


def report(title, contenders, baseline=None, cpu=True):
    """Prints one row per contender. `baseline` names the contender that the ratios are taken against, pair by pair."""
    print(f"\n## {title}")
    base = next((c for c in contenders if c.name == baseline and c.failure is None), None)
    print(f"{'':28} {'cpu min':>9} {'cpu med':>9} {'wall min':>9} {'wall med':>9} {'x cpu':>7} {'x wall':>7}   (ms; x = median of pairwise ratios to {baseline})")
    for contender in contenders:
        if contender.failure is not None:
            print(f"{contender.name:28} left out: {contender.failure}")
            continue
        cells = [min(contender.cpu_ms), statistics.median(contender.cpu_ms), min(contender.wall_ms), statistics.median(contender.wall_ms)]
        row = f"{contender.name:28} " + " ".join(f"{cell:9.2f}" for cell in cells)
        if base:
            ratio = lambda mine, theirs: statistics.median(a / b for a, b in zip(mine, theirs) if b > 0)
            row += f" {ratio(contender.cpu_ms, base.cpu_ms):7.2f} {ratio(contender.wall_ms, base.wall_ms):7.2f}"
        if not cpu:
            row += "   (cpu: the client's alone)"
        print(row)
    sys.stdout.flush()


def have(program):
    return shutil.which(program) is not None


def pss_kib(pid):
    """Proportional set size of one process, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("Pss:"):
                    return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as line:
        return [int(word) for word in line.read().split()]


def pids_named(name, argument=None):
    """Processes whose program is `name` and whose command line holds `argument`."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as line:
                words = line.read().split(b"\0")
        except OSError:
            continue
        if words and os.path.basename(words[0]).decode(errors="replace") == name:
            if argument is None or any(argument.encode() in word for word in words):
                found.append(int(entry))
    return found


def build_programs(build):
    """The helpers of the benchmarks, from a build tree; a folder with binaries alone (a guest's) is taken as it is."""
    if os.path.exists(os.path.join(build, "CMakeCache.txt")):
        subprocess.run(["cmake", "--build", build, "--target", "bench_programs"], check=True, stdout=subprocess.DEVNULL)


def require_root():
    """Called first by every script. One that is told to end takes its engines down all the same."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.geteuid() != 0:
        sys.exit("benchmarks need root: they start containers of every engine")


def seccomp_profile():
    """podman's default profile when it is installed: the same for all runtimes."""
    path = "/usr/share/containers/seccomp.json"
    return path if os.path.exists(path) else None

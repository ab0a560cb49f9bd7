#!/usr/bin/env python3
"""The embedded DNS of a user-defined network: questions per second and the daemon's CPU time for each, against dockerd in turns.

usage: bench/dns.py [--build build/release] [--rounds 10] [--questions 20000]
Own names are asked by one client with 32 questions under way; "upstream" are names that a server in another container answers (a Python
program: its own speed bounds the rate there, not the daemon's CPU). x is the median of the rounds' ratios, ours to dockerd's.
"""
import argparse
import contextlib
import os
import statistics
import time

import engines  # finds the end-to-end tests' library, too
import measure
from dns_client import Client, Upstream, question

WINDOW = 32
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(pid):
    """User and system time of a process, without its children."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


class Subject:
    """Two containers on a user-defined network of one engine, whose command line is `run(*arguments)`; `daemon` is its pid."""

    def __init__(self, run, daemon):
        self.run, self.daemon = run, daemon
        run("network", "create", "bench-dns")
        run("run", "-d", "--name", "web", "--network", "bench-dns", "busybox", "sleep", "100000")
        address = run("inspect", "-f", '{{(index .NetworkSettings.Networks "bench-dns").IPAddress}}', "web")
        run("run", "-d", "--name", "client", "--network", "bench-dns", "--dns", address, "busybox", "sleep", "100000")
        self.upstream = Upstream(run("inspect", "-f", "{{.State.Pid}}", "web"), "192.0.2.1")
        self.client = Client(run("inspect", "-f", "{{.State.Pid}}", "client"))

    def close(self):
        self.client.close()
        self.upstream.close()

    def measure(self, name, count):
        """(questions per second, CPU microseconds of the daemon per question)"""
        socket = self.client.socket
        before, start = cpu_s(self.daemon), time.monotonic()
        sent = answered = 0
        while answered < count:
            while sent < count and sent - answered < WINDOW:
                socket.send(question(name, number=sent % 65536))
                sent += 1
            if not socket.recv(65535):
                raise RuntimeError("an empty answer")
            answered += 1
        seconds = time.monotonic() - start
        return count / seconds, (cpu_s(self.daemon) - before) / count * 1e6


def report(results, peer):
    print(f"{'':22} {'per second':>12} {'median':>10} {'CPU us':>10} {'min':>8} {'x':>6}")
    for (engine, kind), rows in results.items():
        rates, costs = [rate for rate, _ in rows], [cost for _, cost in rows]
        line = f"{engine + ' ' + kind:22} {max(rates):12.0f} {statistics.median(rates):10.0f} {statistics.median(costs):10.1f} {min(costs):8.1f}"
        if engine == "caisson" and peer:
            line += f" {statistics.median(mine / theirs for mine, (_, theirs) in zip(costs, results[(peer, kind)])):6.2f}"
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--questions", type=int, default=20000)
    options = parser.parse_args()
    measure.require_root()
    with contextlib.ExitStack() as stack:
        ours = engines.caisson(options.build)
        stack.callback(ours.close)
        subjects = {"caisson": Subject(ours.ok, ours.process.pid)}
        stack.callback(subjects["caisson"].close)
        try:
            docker = engines.dockerd()
            stack.callback(docker.close)
            subjects["dockerd"] = Subject(lambda *words: docker.docker(*words, check=0).stdout.decode().strip(), docker.process.pid)
            stack.callback(subjects["dockerd"].close)
        except RuntimeError as reason:
            print(f"dockerd left out: {reason}")
        kinds = {"own name": ("web", options.questions), "upstream": ("example.org", options.questions // 10)}
        results = {(engine, kind): [] for kind in kinds for engine in subjects}
        for index in range(options.rounds + 1):
            for kind, (name, count) in kinds.items():
                for engine, subject in subjects.items():
                    row = subject.measure(name, count)
                    if index > 0:  # the first round only warms up
                        results[(engine, kind)].append(row)
        report(results, "dockerd" if "dockerd" in subjects else None)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""TCP throughput from container to container and to a published port, against plain veths on a plain bridge in namespaces of their own.

usage: bench/throughput.py [--build build/release] [--rounds 10] [--seconds 0.5]
Every round measures all four paths once, in turns; x is the median of the rounds' ratios to the plain path of the same shape.
"""
import argparse
import contextlib
import os
import random
import statistics
import subprocess

import engines
import measure

PORT = 5001


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


class PlainBridge:
    """Namespaces a and b, each with a veth to a bridge in a third namespace: what the kernel gives without any engine."""

    def __init__(self):
        tag = f"cstt{random.SystemRandom().randrange(16**5):05x}"
        self.bridge, self.sender, self.receiver = tag + "-m", tag + "-a", tag + "-b"

    def __enter__(self):
        for name in (self.bridge, self.sender, self.receiver):
            ip("netns", "add", name)
        ip("-n", self.bridge, "link", "add", "br0", "type", "bridge")
        ip("-n", self.bridge, "address", "add", "10.99.0.1/24", "dev", "br0")
        ip("-n", self.bridge, "link", "set", "br0", "up")
        for name, address, port in ((self.sender, "10.99.0.2/24", "va"), (self.receiver, "10.99.0.3/24", "vb")):
            ip("-n", self.bridge, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", self.bridge, "link", "set", port, "master", "br0", "up")
            ip("-n", name, "address", "add", address, "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        return self

    def __exit__(self, *_):
        for name in (self.bridge, self.sender, self.receiver):
            subprocess.run(["ip", "netns", "delete", name], check=False)


class Receiver:
    """A `stream receive` somewhere; rate() is that of the next connection."""

    def __init__(self, argv, env=None):
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=env, text=True)
        line = self.process.stdout.readline()
        if line != "listening\n":
            raise RuntimeError(f"{' '.join(argv)}: {line!r}")

    def rate(self):
        count, seconds = self.process.stdout.readline().split()
        return int(count) * 8 / float(seconds) / 1e9

    def close(self):
        self.process.kill()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    measure.require_root()
    build = os.path.abspath(options.build)
    measure.build_programs(build)
    program = os.path.join(build, "bin", "stream")
    receive = ["receive", str(PORT), "1000000"]
    with contextlib.ExitStack() as stack:
        ours = engines.caisson(options.build)
        stack.callback(ours.close)
        plain = stack.enter_context(PlainBridge())
        volume = ["-v", f"{program}:/stream:ro"]
        ours.ok("run", "-d", "--name", "sender", *volume, "busybox", "sleep", "100000")
        run = [os.path.join(build, "bin", "caisson"), "-H", ours.host, "run", "--rm", "--name", "receiver", "-p", f"127.0.0.1:0:{PORT}", *volume, "busybox"]
        receivers = {"plain": Receiver(["ip", "netns", "exec", plain.receiver, program, *receive]),
                     "caisson": Receiver([*run, "/stream", *receive], ours.environment())}
        for receiver in receivers.values():
            stack.callback(receiver.close)
        network = ours.inspect("receiver")["NetworkSettings"]
        address, port = network["Networks"]["bridge"]["IPAddress"], network["Ports"][f"{PORT}/tcp"][0]["HostPort"]
        duration = str(options.seconds)
        sender = str(ours.inspect("sender")["State"]["Pid"])
        # The sender runs in the container's network namespace, not through `exec`: only the path is measured.
        paths = {
            "plain veth to veth": ("plain", ["ip", "netns", "exec", plain.sender, program, "send", "10.99.0.3", str(PORT), duration]),
            "container to container": ("caisson", ["nsenter", "-t", sender, "-n", program, "send", address, str(PORT), duration]),
            "plain bridge to veth": ("plain", ["ip", "netns", "exec", plain.bridge, program, "send", "10.99.0.3", str(PORT), duration]),
            "host to published port": ("caisson", [program, "send", "127.0.0.1", port, duration]),
        }
        rates = {name: [] for name in paths}
        for index in range(options.rounds + 1):
            for name, (end, argv) in paths.items():
                subprocess.run(argv, check=True)
                rate = receivers[end].rate()
                if index > 0:  # the first round only warms up
                    rates[name].append(rate)
        report(rates, {"container to container": "plain veth to veth", "host to published port": "plain bridge to veth"})


def report(rates, baselines):
    print(f"{'':28} {'min':>8} {'median':>8} {'x':>6}   (Gbit/s; x = median of the rounds' ratios to the plain path)")
    for name, values in rates.items():
        row = f"{name:28} {min(values):8.1f} {statistics.median(values):8.1f}"
        if name in baselines:
            row += f" {statistics.median(mine / theirs for mine, theirs in zip(values, rates[baselines[name]])):6.2f}"
        print(row)


if __name__ == "__main__":
    main()

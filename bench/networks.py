#!/usr/bin/env python3
"""A start with a published port beside many networks and endpoints, against the same start alone; and the daemon's restart beside them.

The engine runs in a network namespace of its own. CAISSON_BIN names the binaries.
"""

import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "e2e"))
import caisson
import test_networks

NETWORKS = 30
CONTAINERS = 10
STARTS = 15


def median_start_ms(engine, network):
    times = []
    for _ in range(STARTS):
        body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": network, "PortBindings": {"80/tcp": [{"HostPort": ""}]}}}
        identifier = json.loads(engine.request("POST", "/containers/create", body)[2])["Id"]
        before = time.perf_counter()
        status, _, answer = engine.request("POST", f"/containers/{identifier}/start")
        times.append((time.perf_counter() - before) * 1000)
        if status != 204:
            raise AssertionError(answer)
        engine.request("POST", f"/containers/{identifier}/wait")
        engine.request("DELETE", f"/containers/{identifier}?force=1")
    return statistics.median(times)


def fill(engine):
    networks = [f"net{number}" for number in range(NETWORKS)]
    for network in networks:
        engine.ok("network", "create", network)
    for number in range(CONTAINERS):
        name = f"full{number}"
        engine.ok("run", "-d", "--name", name, "--network", networks[0], "busybox", "sleep", "100000")
        for network in networks[1:]:
            status, _, answer = engine.request("POST", f"/networks/{network}/connect", {"Container": name})
            if status != 200:
                raise AssertionError(answer)


def main():
    reason = caisson.why_not()
    if reason:
        sys.exit(f"cannot run: {reason}")
    with test_networks.Host() as host:
        engine = caisson.Engine()
        engine.prefix_command = host.enter()
        with engine:
            engine.import_busybox()
            engine.ok("network", "create", "first")
            alone = {network: median_start_ms(engine, network) for network in ("bridge", "first")}
            fill(engine)
            for network, before in alone.items():
                beside = median_start_ms(engine, network)
                print(f"start on {network}: {before:.1f} ms alone, {beside:.1f} ms beside {NETWORKS} networks and {NETWORKS * CONTAINERS} endpoints ({beside / before:.2f} x)")
            engine.kill9()
            before = time.perf_counter()
            engine.start()
            print(f"kill -9 and restart beside them: {time.perf_counter() - before:.2f} s")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""kill -9 of the daemon under running containers: time until it answers again, and whether anything was lost.

usage: bench/recovery.py [--build build/release] [--containers 100]
"""
import argparse
import time

import engines
import measure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--containers", type=int, default=100)
    options = parser.parse_args()
    measure.require_root()
    engine = engines.caisson(options.build)
    try:
        names = [f"r{number}" for number in range(options.containers)]
        for number, name in enumerate(names):
            script = f"i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.1; done; exit {number % 100}"
            engine.cli("run", "-d", "--network", "none", "--name", name, "busybox", "sh", "-c", script, check=0)
        engine.kill9()
        begin = time.monotonic()
        engine.start()
        listed = engine.cli("ps", "-aq", check=0).stdout.split()
        answered = time.monotonic() - begin
        codes = [int(engine.cli("wait", name, check=0).stdout) for name in names]
        wrong = sum(code != number % 100 for number, code in enumerate(codes))
        expected = "".join(f"line {i}\n" for i in range(40))
        torn = sum(engine.cli("logs", name, check=0).stdout != expected for name in names)
        print(f"{options.containers} containers: `ps` answered {answered * 1000:.0f} ms after the new daemon was started; {len(listed)} listed; "
              f"{wrong} wrong exit codes; {torn} logs with lines missing or doubled")
    finally:
        engine.close()


if __name__ == "__main__":
    main()

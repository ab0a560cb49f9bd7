#!/usr/bin/env python3
"""`exec /bin/true` into a running container: raw setns, caisson-runtime, crun and runc in turns.

usage: bench/oci_exec.py [--build build/release] [--rounds 40]
"""
import json
import os
import shutil
import subprocess
import tempfile

import bundle
import measure
import oci_run


def main():
    options = oci_run.parse()
    measure.require_root()
    if not options.inside:
        oci_run.pure_cgroups_again()
    measure.build_programs(options.build)
    binaries = os.path.abspath(os.path.join(options.build, "bin"))
    work = tempfile.mkdtemp(prefix="caisson-bench-")
    folder = bundle.make(os.path.join(work, "bundle"), {"true": os.path.join(binaries, "bench_true"), "busybox": "/bin/busybox"},
                         args=("/bin/busybox", "sleep", "100000"))
    started = {}
    try:
        contenders = []
        for name, path in oci_run.runtimes(binaries).items():
            identifier = f"bench-{os.getpid()}-{name}"
            base = [path, "--root", os.path.join(work, "state-" + name)]
            # The container keeps its standard error: a file, because the end of a pipe would not come before the container's.
            with open(os.devnull, "r+b") as null, open(os.path.join(work, "errors"), "w+b") as errors:
                made = subprocess.run([*base, "run", "--detach", "--bundle", folder, identifier], stdin=null, stdout=null, stderr=errors, check=False)
                errors.seek(0)
                if made.returncode != 0:
                    print(f"{name} left out: {errors.read().decode(errors='replace').strip()[-200:]}")
                    continue
            started[identifier] = base
            if name == "caisson-runtime":
                pid = json.loads(subprocess.run([*base, "state", identifier], capture_output=True, check=True).stdout)["pid"]
                contenders.append(measure.Contender("raw setns", [os.path.join(binaries, "floor"), "exec", str(pid), "/bin/true"]))
                contenders.append(measure.Contender("raw, and into its cgroup", [os.path.join(binaries, "floor"), "join", identifier, str(pid), "/bin/true"]))
            contenders.append(measure.Contender(name, [*base, "exec", identifier, "/bin/true"]))
        measure.in_turns(contenders, options.rounds)
        measure.report("exec /bin/true into a running container", contenders, "raw setns")
    finally:
        for identifier, base in started.items():
            subprocess.run([*base, "delete", "--force", identifier], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""`run` of a static /bin/true with the mounts of `runc spec`: the floor program, caisson-runtime, crun and runc in turns.

usage: bench/oci_run.py [--build build/release] [--rounds 40]
crun refuses the hybrid cgroup layout; the script therefore runs in a private mount namespace without the v2 half there.
"""
import argparse
import os
import shutil
import sys
import tempfile

import bundle
import measure


def parse(rounds=40, starts=None):
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=rounds)
    if starts is not None:
        parser.add_argument("--starts", type=int, default=starts)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def pure_cgroups_again():
    """Starts this script again where /sys/fs/cgroup/unified is not mounted, so that every runtime sees plain v1 (or v2)."""
    command = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\""
    os.execvp("unshare", ["unshare", "-m", "--propagation", "private", "sh", "-c", command, "_", sys.executable, *sys.argv, "--inside"])


def runtimes(binaries):
    """Ours and the peers that are installed: name → path."""
    found = {"caisson-runtime": os.path.join(binaries, "caisson-runtime")}
    for peer in ("crun", "runc"):
        if measure.have(peer):
            found[peer] = shutil.which(peer)
    return found


def main():
    options = parse()
    measure.require_root()
    if not options.inside:
        pure_cgroups_again()
    measure.build_programs(options.build)
    binaries = os.path.abspath(os.path.join(options.build, "bin"))
    work = tempfile.mkdtemp(prefix="caisson-bench-")
    try:
        run(options, binaries, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run(options, binaries, work):
    true = os.path.join(binaries, "bench_true")
    plain = bundle.make(os.path.join(work, "plain"), {"true": true})
    overlay = os.path.join(work, "floor")
    for name in ("upper", "work", "merged"):
        os.makedirs(os.path.join(overlay, name))
    shutil.copytree(os.path.join(plain, "rootfs"), os.path.join(overlay, "lower"))
    state = os.path.join(work, "state")
    counter = iter(range(10**9))
    paths = runtimes(binaries)

    def oci(name, folder):
        return measure.Contender(name, lambda: [paths[name], "--root", state + name, "run", "--bundle", folder, f"bench-{os.getpid()}-{next(counter)}"])

    def floor():
        return measure.Contender("floor", lambda: [os.path.join(binaries, "floor"), "run", overlay, f"bench-floor-{os.getpid()}-{next(counter)}", "/bin/true"])

    contenders = measure.in_turns([floor()] + [oci(name, plain) for name in paths], options.rounds)
    measure.report("run /bin/true, default mounts, no seccomp", contenders, "floor")
    for contender in contenders:
        if contender.failure is None:
            calls = bundle.count_system_calls(contender.argv())
            peak = bundle.peak_memory_mib(os.path.join(binaries, "floor"), contender.argv())
            print(f"{contender.name:28} peak memory {peak:.1f} MiB, system calls {calls if calls is not None else 'unknown (no strace)'}")

    profile = measure.seccomp_profile()
    if profile is None:
        print("\nno seccomp profile at hand (package golang-github-containers-common): that row is left out")
        return
    filtered = bundle.make(os.path.join(work, "filtered"), {"true": true}, seccomp=bundle.oci_seccomp(profile))
    pairs = []
    for name in paths:
        without, with_profile = oci(name, plain), oci(name, filtered)
        with_profile.name = name + " + seccomp"
        pairs += [without, with_profile]
    measure.in_turns(pairs, options.rounds)
    measure.report("the same with podman's default seccomp profile", pairs)
    for without, with_profile in zip(pairs[::2], pairs[1::2]):
        if without.failure is None and with_profile.failure is None:
            extra = sorted(b - a for a, b in zip(without.cpu_ms, with_profile.cpu_ms))[len(without.cpu_ms) // 2]
            print(f"{without.name:28} extra CPU with the profile: {extra:.2f} ms (median of pairs)")


if __name__ == "__main__":
    main()

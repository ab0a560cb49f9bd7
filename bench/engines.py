"""Throw-away engines for the benchmarks: ours (by the end-to-end tests' library), a private dockerd, and podman."""
import contextlib
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "e2e"))


def caisson(build, subnet=None, options=()):
    """Our engine with `busybox` in it, started; close() it. `subnet`: of its bridge, for more containers than a /24 has addresses."""
    os.environ["CAISSON_BIN"] = os.path.abspath(os.path.join(build, "bin"))
    import caisson as library  # pylint: disable=import-outside-toplevel

    reason = library.why_not()
    if reason:
        raise RuntimeError(reason)
    engine = library.Engine(options=options)
    engine.subnet = subnet or engine.subnet
    engine.start()
    engine.import_busybox()
    return engine


def dockerd():
    """A dockerd of its own, started, with `busybox` in it. Errors: RuntimeError with the reason."""
    import peers  # pylint: disable=import-outside-toplevel

    if reason := peers.PrivateDockerd.why_not():
        raise RuntimeError(reason)
    docker = peers.PrivateDockerd()
    try:
        docker.__enter__()
        docker.docker("import", *IMAGE, stdin=busybox_tar(), check=0)
    except AssertionError as failure:
        docker.close()
        raise RuntimeError(str(failure)) from failure
    return docker


def podman():
    """podman with a store of its own and `busybox` in it. Errors: RuntimeError with the reason."""
    import peers  # pylint: disable=import-outside-toplevel

    if reason := peers.PrivatePodman.why_not():
        raise RuntimeError(reason)
    peer = peers.PrivatePodman()
    try:
        peer.podman("import", *IMAGE, stdin=busybox_tar(), check=0)
    except AssertionError as failure:
        peer.close()
        raise RuntimeError(str(failure)) from failure
    return peer


IMAGE = ("--change", 'CMD ["/bin/sh"]', "--change", "ENV PATH=/bin", "-", "busybox")


def busybox_tar():
    import caisson as library  # pylint: disable=import-outside-toplevel

    return library.busybox_rootfs()


@contextlib.contextmanager
def all_of(build):
    """(ours, dockerd or None, podman or None), with the reasons for what is missing printed."""
    opened = []
    try:
        ours = caisson(build)
        opened.append(ours)
        peers = []
        for kind in (dockerd, podman):
            try:
                peers.append(kind())
                opened.append(peers[-1])
            except RuntimeError as reason:
                print(f"{kind.__name__} left out: {reason}")
                peers.append(None)
        yield ours, *peers
    finally:
        for engine in reversed(opened):
            engine.close()


def state_pid(engine, name):
    return json.loads(engine.cli("inspect", name, check=0).stdout)[0]["State"]["Pid"]

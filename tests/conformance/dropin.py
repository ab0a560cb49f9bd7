"""What the drop-in tests share: where the runtime is, its peers' names, and a class that watches what is left on the host."""

import os
import shutil
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import caisson  # noqa: E402
import leaks  # noqa: E402

OURS = os.path.join(caisson.BIN, "caisson-runtime")
PEER = shutil.which("runc")  # crun refuses the hybrid cgroups of many test machines


class WatchedTest(unittest.TestCase):
    """A suite after which nothing may be left on the host. Subclasses set `peer_class`, `runtime` and make `peer` in open_peer."""

    runtime = OURS
    peer_class = None
    peer = None

    @classmethod
    def setUpClass(cls):
        if reason := cls.peer_class.why_not():
            raise unittest.SkipTest(reason)
        if not cls.runtime:
            raise unittest.SkipTest("needs runc beside, to show that the tests are right: tools/dependencies peers")
        cls.watch = leaks.Watch()
        cls.image = os.path.join(caisson.PREFIX + cls.watch.mark + ".tar")
        try:
            with open(cls.image, "wb") as file:
                file.write(caisson.docker_archive([caisson.busybox_rootfs()], {"Cmd": ["sh"], "Env": ["PATH=/bin:/usr/bin"]}, ["busybox:latest"]))
            cls.open_peer()
            cls.watch.also(cls.peer.folder, cls.peer.namespace)
        except BaseException:
            cls.close_peer()
            raise

    @classmethod
    def open_peer(cls):
        raise NotImplementedError

    @classmethod
    def close_peer(cls):
        if cls.peer:
            cls.peer.close()
        cls.peer = None
        if os.path.exists(cls.image):
            os.unlink(cls.image)

    @classmethod
    def tearDownClass(cls):
        cls.close_peer()
        cls.watch.check()

    def name(self):
        return f"{self.watch.mark}-{self._testMethodName[5:30].replace('_', '-').rstrip('-')}"


def has_every_capability():
    with open("/proc/self/status", encoding="utf-8") as file:
        bounding = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd"))
    with open("/proc/sys/kernel/cap_last_cap", encoding="utf-8") as file:
        return bounding == (2 << int(file.read())) - 1


def limits_of(pid):
    """The limits that the tests set, read from the cgroup files of `pid`, whichever version holds them."""
    return {"memory": caisson.read_limit(pid, "memory/memory.limit_in_bytes", "memory.max"),
            "pids": caisson.read_limit(pid, "pids/pids.max", "pids.max"),
            "cpu": caisson.read_limit(pid, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0],
            "cpus": caisson.read_limit(pid, "cpuset/cpuset.cpus", "cpuset.cpus")}

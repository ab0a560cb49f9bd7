#!/usr/bin/env python3
"""What makes starts quick: namespaces kept ready, the shared layer of mount points, and that neither shows, leaks or starves anybody."""

import contextlib
import os
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import caisson  # noqa: E402
from caisson import wait_until  # noqa: E402

POOL = 3
SERVER = ("sh", "-c", "while :; do echo served | nc -l -p 80; done")


def ports_of_bridge(engine, network=None):
    """Host ends of links that hang on the engine's bridge. `network`: what a command line begins with where the bridge is, when nobody can be asked any more."""
    out = subprocess.run([*(network or engine.network_command), "ip", "-o", "link", "show", "master", engine.tag], capture_output=True, text=True, check=False).stdout
    return {line.split(": ")[1].split("@")[0] for line in out.splitlines()}


def address_of(engine, name):
    return engine.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]


def fetched(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        return connection.recv(100)
    return b""


def asked_from(engine, client, server):
    """What container `server`, which runs SERVER, answers to container `client`."""
    return engine.cli("exec", client, "nc", "-w", "3", address_of(engine, server), "80").stdout


class StartsBothWays:
    """The same demands with and without a pool."""

    def test_a_container_has_its_own_namespaces_an_address_and_the_way_out(self):
        for _ in range(3):  # the first is never served from the pool
            first, second = self.run_detached(), self.run_detached(command=SERVER)
            self.assertNotEqual(self.namespaces(first), self.namespaces(second))
            links = self.engine.ok("exec", first, "ip", "-o", "address")
            self.assertIn(f"inet {address_of(self.engine, first)}/24", links)
            self.assertIn("inet 127.0.0.1/8", links)
            self.assertIn("default via", self.engine.ok("exec", first, "ip", "route"))
            wait_until(lambda: asked_from(self.engine, first, second) == "served\n", "one container reaches the other")

    def test_network_none_has_a_loopback_that_is_up_and_nothing_else(self):
        for _ in range(3):
            name = self.run_detached("--network", "none")
            self.assertEqual(len(self.engine.ok("exec", name, "ip", "-o", "link").splitlines()), 1)
            self.assertIn("inet 127.0.0.1/8", self.engine.ok("exec", name, "ip", "-o", "address"))

    def test_published_ports_are_reached_and_free_again_at_once(self):
        for _ in range(3):
            name = self.run_detached("-p", "127.0.0.1:0:80", command=SERVER)
            port = int(self.engine.ok("port", name, "80").rpartition(":")[2])
            wait_until(lambda: fetched(port) == b"served\n", "the server answers")
            self.engine.ok("rm", "-f", name)
            again = self.run_detached("-p", f"127.0.0.1:{port}:80")
            self.engine.ok("rm", "-f", again)

    @caisson.differs_without_root("all containers map the user's one range")
    def test_ids_on_disk_belong_to_one_container_only(self):
        maps = [self.engine.ok("exec", self.run_detached(), "cat", "/proc/self/uid_map").split() for _ in range(6)]
        self.assertEqual(len({line[1] for line in maps}), 6, maps)

    def test_a_wanted_address_is_given_even_when_it_is_kept_ready(self):
        name = self.run_detached()
        base, last = address_of(self.engine, name).rsplit(".", 1)
        for step in (1, 2, 3):
            wanted = f"{base}.{int(last) + step}"
            other = self.run_detached("--ip", wanted)
            self.assertEqual(address_of(self.engine, other), wanted)

    def test_a_container_made_long_before_its_start_works(self):
        names = [self.name_of(number) for number in range(2 * POOL + 1)]
        for name in names:
            self.engine.ok("create", "--name", name, "busybox", *SERVER)
        for name in names:
            self.engine.ok("start", name)
        self.assertEqual(len({address_of(self.engine, name) for name in names}), len(names))
        for name in names:
            wait_until(lambda: asked_from(self.engine, names[0], name) == "served\n", f"{name} is reached")  # pylint: disable=cell-var-from-loop

    def test_a_second_start_has_new_namespaces_and_works(self):
        name = self.run_detached()
        self.engine.ok("restart", "-t", "0", name)
        self.assertIn("inet 127.0.0.1/8", self.engine.ok("exec", name, "ip", "-o", "address"))
        self.assertIn(address_of(self.engine, name), self.engine.ok("exec", name, "ip", "-o", "address"))

    def name_of(self, number):
        name = f"{self._testMethodName[5:25]}-{number}"
        self.addCleanup(lambda: self.engine.cli("rm", "-f", name))
        return name

    def namespaces(self, name):
        pid = self.engine.inspect(name)["State"]["Pid"]
        return os.readlink(f"/proc/{pid}/ns/user"), os.readlink(f"/proc/{pid}/ns/net")


class WithPool(StartsBothWays, caisson.EngineTest):
    engine_options = ("--start-pool", str(POOL))


class WithoutPool(StartsBothWays, caisson.EngineTest):
    engine_options = ("--start-pool", "0")

    def test_nothing_is_kept_ready(self):
        self.run_detached()
        self.assertEqual(len(ports_of_bridge(self.engine)), 1)


class MountPoints(caisson.EngineTest):
    def test_a_start_writes_nothing_into_the_containers_own_layer(self):
        name = self.run_detached()
        upper = os.path.join(self.engine.root, "containers", self.engine.inspect(name)["Id"], "upper")
        self.assertEqual(os.listdir(upper), [])
        self.assertIn(address_of(self.engine, name), self.engine.ok("exec", name, "cat", "/etc/hosts"))

    def test_what_the_image_has_at_a_mount_point_is_kept(self):
        def extra(tar):
            caisson.add_file(tar, "etc/hosts", b"of the image\n")
            caisson.add_file(tar, "etc/own", b"own\n")

        self.engine.import_image(caisson.busybox_rootfs(extra), "withhosts", ["ENV PATH=/bin"])
        name = self.run_detached(image="withhosts")
        self.assertIn(address_of(self.engine, name), self.engine.ok("exec", name, "cat", "/etc/hosts"))
        self.assertEqual(self.engine.ok("exec", name, "cat", "/etc/own"), "own")

    def test_a_read_only_root_needs_no_mount_points_of_its_own(self):
        self.assertNotEqual(self.engine.ok("run", "--rm", "--read-only", "busybox", "cat", "/etc/hostname"), "")


class Starving(unittest.TestCase):
    def test_what_is_kept_ready_gives_way_when_addresses_run_out(self):
        engine = caisson.Engine(options=("--start-pool", str(POOL)))
        engine.subnet = engine.subnet.replace("/24", "/29")  # 5 addresses beside the bridge's own
        self.addCleanup(engine.close)
        engine.start()
        engine.import_busybox()
        for number in range(5):
            engine.ok("run", "-d", "--name", f"c{number}", "busybox", "sleep", "1000")
        refused = engine.cli("run", "-d", "--name", "c5", "busybox", "sleep", "1000")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("no address left", refused.stderr)
        self.assertEqual(len({address_of(engine, f"c{number}") for number in range(5)}), 5)
        engine.ok("rm", "-f", *(f"c{number}" for number in range(5)))


class Ending(unittest.TestCase):
    def engine_with_a_full_pool(self):
        engine = caisson.Engine(options=("--start-pool", str(POOL)))
        self.addCleanup(engine.close)
        engine.start()
        engine.import_busybox()
        engine.ok("run", "--rm", "busybox", "true")
        wait_until(lambda: len(ports_of_bridge(engine)) >= POOL, "the pool is full")
        held = os.open(f"/proc/{engine.own_pid}/ns/net", os.O_RDONLY)
        self.addCleanup(os.close, held)
        self.network = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{held}"]
        return engine

    def test_a_daemon_that_is_killed_leaves_no_link_behind(self):
        engine = self.engine_with_a_full_pool()
        engine.ok("run", "-d", "--name", "survivor", "busybox", "sleep", "1000")
        engine.ok("create", "--name", "unstarted", "busybox", *SERVER)
        engine.kill9()
        wait_until(lambda: len(ports_of_bridge(engine, self.network)) == 1, lambda: f"only the survivor's link is left: {ports_of_bridge(engine, self.network)}")
        engine.start()
        engine.ok("start", "unstarted")
        wait_until(lambda: asked_from(engine, "survivor", "unstarted") == "served\n", "the container of before reaches the new one")
        engine.ok("rm", "-f", "survivor", "unstarted")
        self.assertEqual(engine.stop(), 0)
        self.assertEqual(engine.leftovers(), [])

    def test_an_orderly_end_takes_the_bridge_and_all_links_away(self):
        engine = self.engine_with_a_full_pool()
        self.assertEqual(engine.stop(), 0)
        self.assertEqual(engine.leftovers(), [])
        self.assertEqual(ports_of_bridge(engine, self.network), set())

    def test_a_bridge_that_somebody_removes_is_made_again(self):
        engine = self.engine_with_a_full_pool()
        subprocess.run([*engine.network_command, "ip", "link", "delete", engine.tag], check=True)
        # docker's engine has to be restarted for this; here the first start may fail, because the daemon learns of it then.
        engine.cli("run", "--rm", "busybox", "true")
        engine.ok("run", "-d", "--name", "one", "busybox", "sleep", "1000")
        engine.ok("run", "-d", "--name", "two", "busybox", *SERVER)
        def seen():
            links = subprocess.run([*engine.network_command, "ip", "-o", "link", "show", "type", "veth"], capture_output=True, text=True, check=False).stdout
            return "packets pass over the new bridge; " + "; ".join([
                f"links {links}", *(f"{name}: {engine.cli('exec', name, 'sh', '-c', 'ip addr; ip neigh').stdout}" for name in ("one", "two"))])

        wait_until(lambda: asked_from(engine, "one", "two") == "served\n", seen)
        engine.ok("rm", "-f", "one", "two")


if __name__ == "__main__":
    caisson.main()

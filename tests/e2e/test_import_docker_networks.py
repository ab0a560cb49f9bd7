#!/usr/bin/env python3
"""What a real dockerd's containers wrote and how they were connected is taken over: they start with their changes, addresses and aliases."""

import contextlib
import json
import os
import signal
import subprocess
import unittest

import caisson
import peers
from dns_client import Client
from test_networks import Host

CHANGES = """
echo changed >/etc/passwd.note; rm /etc/not-executable; rm -r /tmp; mkdir -m 1777 /tmp; echo fresh >/tmp/fresh; mkdir -p /srv/empty
echo tool >/bin/tool; chown 1000:1000 /bin/tool; chmod 4755 /bin/tool; ln /bin/tool /bin/again; ln -s tool /bin/soft; mkfifo /srv/fifo; mknod /srv/null c 1 3
chmod 700 /srv
"""


class Imported(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        reason = peers.PrivateDockerd.why_not()
        if reason:
            raise unittest.SkipTest(reason)
        cls.dockerd = peers.PrivateDockerd("--bridge", "none", "--iptables=false")
        cls.dockerd.__enter__()
        cls.addClassCleanup(cls.dockerd.close)
        cls.fill()
        cls.dockerd.process.send_signal(signal.SIGTERM)
        cls.dockerd.process.wait(60)
        cls.host = Host().__enter__()
        cls.addClassCleanup(cls.host.__exit__)
        cls.engine = caisson.Engine()
        cls.addClassCleanup(cls.engine.close)
        cls.engine.prefix_command = cls.host.enter()
        cls.engine.start()
        # As dockerd leaves its bridges on its own host.
        cls.leftover = "br-" + cls.ids["plain"][:12]
        cls.host.run("ip", "link", "add", cls.leftover, "type", "bridge")
        cls.plan = cls.take_over()
        cls.first = cls.take_over("--yes")
        cls.host.run("ip", "link", "delete", cls.leftover)
        cls.second = cls.take_over("--yes")
        cls.engine.ok("start", "web", "peer", "by-id")

    @classmethod
    def tearDownClass(cls):
        ids = cls.engine.ok("ps", "-aq").split()
        cls.engine.ok("rm", "-f", "-v", *ids)
        cls.engine.ok("network", "prune", "-f")
        assert cls.engine.stop() == 0, cls.engine.log_text()[-2000:]
        left = cls.engine.leftovers()
        assert not left, left

    @classmethod
    def fill(cls):
        def docker(*arguments, **options):
            return cls.dockerd.docker(*arguments, check=0, **options).stdout.decode().strip()

        docker("import", "--change", 'CMD ["/bin/sh"]', "--change", "ENV PATH=/bin", "-", "base:1", stdin=caisson.busybox_rootfs())
        cls.ids = {
            "app": docker("network", "create", "--subnet", "10.77.0.0/24", "--gateway", "10.77.0.9", "--ip-range", "10.77.0.128/25", "--aux-address", "printer=10.77.0.5",
                          "--label", "owner=me", "-o", "com.docker.network.driver.mtu=1400", "--attachable", "app"),
            "six": docker("network", "create", "--ipv6", "--subnet", "fd00:77::/64", "--subnet", "10.78.0.0/24", "--internal", "six"),
            "plain": docker("network", "create", "plain"),
            # Many, so that the database's tree has branches.
            **{f"many{i}": docker("network", "create", "--subnet", f"10.79.{i}.0/24", "--label", "text=" + "x" * 300, f"many{i}") for i in range(12)},
        }
        cls.subnet = docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "plain")
        docker("volume", "create", "--label", "kind=cache", "data")
        docker("run", "-d", "--name", "web", "--network", "app", "--ip", "10.77.0.130", "--network-alias", "www", "--restart", "always", "base:1",
               "sh", "-c", CHANGES + "\nexec httpd -f -p 80 -h /tmp")
        docker("network", "connect", "--ip6", "fd00:77::55", "--alias", "w6", "six", "web")
        # Made before its partner's name comes in the alphabet: order matters when they are made again.
        docker("create", "--name", "aside", "--network", "container:web", "base:1", "ip", "addr")
        docker("run", "-d", "--name", "peer", "--network", "app", "--link", "web:front", "base:1", "sleep", "1000")
        docker("run", "-d", "--name", "by-id", "--network", cls.ids["plain"], "base:1", "sleep", "1000")
        docker("run", "-d", "--name", "moved", "--network", "many0", "base:1", "sleep", "1000")
        docker("network", "connect", "many1", "moved")
        docker("network", "disconnect", "many0", "moved")
        caisson.wait_until(lambda: "/srv/null" in docker("diff", "web"), "the changes are made")
        cls.diff = {name: sorted(docker("diff", name).splitlines()) for name in ("web", "peer")}
        cls.networks = {name: json.loads(docker("network", "inspect", name))[0] for name in cls.ids}

    @classmethod
    def take_over(cls, *arguments):
        command = [*cls.host.enter(), os.path.join(caisson.BIN, "caisson"), "-H", cls.engine.host, "import-docker", "--docker-root", f"{cls.dockerd.folder}/data", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=cls.engine.environment(), check=False)

    def execute(self, name, script):
        return self.engine.ok("exec", name, "sh", "-c", script)

    def test_a_bridge_that_dockerd_left_is_named_and_the_next_run_goes_on(self):
        words = f"dockerd's bridge still has its addresses; remove it first: ip link delete {self.leftover}"
        self.assertRegex(self.plan.stdout, f"network +plain +left alone +{words}")
        self.assertIn(f"network plain: {words}", self.first.stderr)
        self.assertEqual(self.first.returncode, 1)
        self.assertEqual((self.second.returncode, self.second.stderr), (0, ""))
        self.assertIn("network plain: taken over", self.second.stdout)

    def test_what_a_container_wrote_is_the_same_change_by_change(self):
        with contextlib.suppress(AssertionError):
            self.engine.ok("stop", "peer")  # a stopped one shows the same
        for name, changes in self.diff.items():
            self.assertEqual(sorted(self.engine.ok("diff", name).splitlines()), changes, name)
        self.engine.ok("start", "peer")

    def test_files_keep_contents_owners_modes_and_links(self):
        self.assertEqual(self.execute("web", "cat /etc/passwd.note /tmp/fresh /bin/soft; stat -c '%u:%g %a %h' /bin/tool; stat -c %a /tmp /srv"),
                         "changed\nfresh\ntool\n1000:1000 4755 2\n1777\n700")
        self.assertEqual(self.execute("web", "ls /tmp; ls -d /srv/empty; test -p /srv/fifo && test -c /srv/null && echo special; test -e /etc/not-executable || echo gone"),
                         "fresh\n/srv/empty\nspecial\ngone")

    def test_networks_keep_addresses_options_and_labels(self):
        for name, before in self.networks.items():
            after = json.loads(self.engine.ok("network", "inspect", name))[0]
            for key in ("Driver", "EnableIPv6", "Internal", "Attachable", "Options", "Labels"):
                self.assertEqual(after[key], before[key], f"{name}: {key}")
            for key in ("Driver", "Options"):
                self.assertEqual(after["IPAM"][key] or {}, before["IPAM"][key] or {}, f"{name}: IPAM.{key}")
            # A gateway that nobody asked for is shown here, and by dockerd only beside a subnet that it chose.
            shown = [{key: config[key] for key in asked} for config, asked in zip(after["IPAM"]["Config"], before["IPAM"]["Config"])]
            self.assertEqual(shown, before["IPAM"]["Config"], f"{name}: IPAM.Config")
            self.assertEqual(len(after["IPAM"]["Config"]), len(shown))
        self.assertEqual(json.loads(self.engine.ok("volume", "inspect", "data"))[0]["Labels"], {"kind": "cache"})

    def test_containers_keep_addresses_and_aliases(self):
        networks = self.engine.inspect("web")["NetworkSettings"]["Networks"]
        self.assertEqual((networks["app"]["IPAddress"], networks["six"]["GlobalIPv6Address"]), ("10.77.0.130", "fd00:77::55"))
        self.assertIn("www", networks["app"]["Aliases"])
        self.assertNotIn("www", networks["six"]["Aliases"] or [])
        self.assertIn("w6", networks["six"]["Aliases"])
        client = Client(self.engine.inspect("peer")["State"]["Pid"])
        self.addCleanup(client.close)
        for name in ("www", "web", "front"):
            self.assertEqual(client.ask(name)[:2], ("NOERROR", ["10.77.0.130"]), name)
        self.assertEqual(self.engine.ok("exec", "peer", "timeout", "10", "wget", "-q", "-O", "-", "http://10.77.0.130/fresh"), "fresh")
        self.assertEqual(self.engine.inspect("web")["HostConfig"]["RestartPolicy"]["Name"], "always")

    def test_a_network_that_was_named_by_its_id_is_found(self):
        info = self.engine.inspect("by-id")
        self.assertEqual(list(info["NetworkSettings"]["Networks"]), ["plain"])
        self.assertTrue(info["NetworkSettings"]["Networks"]["plain"]["IPAddress"].startswith(self.subnet.rpartition(".")[0].rpartition(".")[0]))

    def test_one_that_left_its_first_network_stays_out_of_it(self):
        self.assertEqual(list(self.engine.inspect("moved")["NetworkSettings"]["Networks"]), ["many1"])

    def test_one_in_another_ones_namespace_finds_its_partner(self):
        self.assertIn(self.engine.inspect("aside")["HostConfig"]["NetworkMode"], ("container:web", "container:" + self.engine.inspect("web")["Id"]))
        self.assertIn("10.77.0.130", self.engine.ok("start", "-a", "aside"))

    def test_a_layer_that_was_begun_is_copied_again(self):
        upper = self.engine.inspect("moved")["GraphDriver"]["Data"]["UpperDir"]
        journal = f"{self.engine.root}/import-docker.journal"
        with open(journal, encoding="utf-8") as file:
            lines = file.read().splitlines()
        done = [line for line in lines if line.startswith("done container")]
        self.assertEqual(len(done), 5)
        # As if it had ended in the middle of the last copy: half of it is there.
        identity = next(line.split()[2] for line in done if os.path.exists(f"{self.dockerd.folder}/data/containers/{line.split()[2]}") and self.docker_name(line.split()[2]) == "/moved")
        with open(journal, "w", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines if line != f"done container {identity} from {self.dockerd.folder}/data"))
        with open(f"{upper}/half", "w", encoding="utf-8"):
            pass
        self.assertRegex(self.take_over().stdout, "container +moved +take over +begun before: copied again")
        again = self.take_over("--yes")
        self.assertEqual((again.returncode, again.stdout), (0, "container moved: taken over\n"), again.stderr)
        self.assertFalse(os.path.exists(f"{upper}/half"))

    def docker_name(self, identity):
        with open(f"{self.dockerd.folder}/data/containers/{identity}/config.v2.json", encoding="utf-8") as file:
            return json.load(file)["Name"]


if __name__ == "__main__":
    caisson.main()

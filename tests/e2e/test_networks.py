"""User-defined networks: made, connected and removed through the API, the docker client and our own, with real packets between them.

The engine runs in a network namespace of its own, the "host", with a second one, "outside", on its uplink. At the end nothing may be left in it.
"""

import contextlib
import ipaddress
import json
import random
import subprocess
import unittest

import caisson

REFUSED = "no answer"


def run(*command, check=True):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=check).stdout


def links_by(command):
    """Names of the interfaces that `ip` behind `command` sees."""
    return {line.split(": ")[1].split("@")[0] for line in run(*command, "ip", "-o", "link").splitlines()}


class Host:
    """A network namespace that plays the host, and one that plays the world outside of it (198.51.100.2, 2001:db8::2)."""

    def __init__(self):
        self.name, self.outside = caisson.name_of_namespace("net"), caisson.name_of_namespace("far")

    def __enter__(self):
        for name in (self.name, self.outside):
            caisson.add_network_namespace(name)
        run("ip", "-n", self.name, "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", self.outside)
        for name, link, number in ((self.name, "uplink", 1), (self.outside, "eth0", 2)):
            run("ip", "-n", name, "addr", "add", f"198.51.100.{number}/24", "dev", link)
            run("ip", "-n", name, "addr", "add", f"2001:db8::{number}/64", "dev", link, "nodad")
            run("ip", "-n", name, "link", "set", link, "up")
        run("ip", "-n", self.name, "route", "add", "default", "via", "198.51.100.2")
        run("ip", "-n", self.name, "-6", "route", "add", "default", "via", "2001:db8::2")
        return self

    def __exit__(self, *_):
        for name in (self.name, self.outside):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def enter(self, outside=False):
        return ["nsenter", f"--net=/run/netns/{self.outside if outside else self.name}"]

    def run(self, *command, check=True, outside=False):
        return run(*self.enter(outside), *command, check=check)

    def links(self):
        return links_by(self.enter())


class NetworkTest(unittest.TestCase):
    engine_options = ()

    @classmethod
    def setUpClass(cls):
        cls.cleanup = contextlib.ExitStack()
        cls.host = cls.cleanup.enter_context(Host())
        cls.engine = caisson.Engine(options=cls.engine_options)
        cls.engine.prefix_command = cls.host.enter()
        cls.cleanup.callback(cls.engine.close)
        try:
            cls.links_before = cls.host.links()
            cls.engine.start()
            cls.engine.import_busybox()
        except BaseException:
            cls.cleanup.close()
            raise

    @classmethod
    def tearDownClass(cls):
        try:
            ids = cls.engine.cli("ps", "-aq").stdout.split()
            if ids:
                cls.engine.cli("rm", "-f", "-v", *ids)
            cls.engine.ok("network", "prune", "-f")
            status = cls.engine.stop()
            assert status == 0, f"caissond ended with {status}:\n{cls.engine.log_text()[-2000:]}"
            left = cls.engine.leftovers()
            left += [f"link {name}" for name in cls.host.links() - cls.links_before]
            rules = cls.host.run("nft", "list", "ruleset")
            assert not left and not rules, "left on the host:\n" + "\n".join([*left, rules])
        finally:
            cls.cleanup.close()

    @classmethod
    def links(cls):
        """The interfaces where the engine makes its bridges."""
        return links_by(cls.engine.network_command)

    def name(self, kind="c"):
        return f"{kind}{random.SystemRandom().randrange(16**6):06x}"

    def network(self, *options, driver=None):
        name = self.name("n")
        self.engine.ok("network", "create", *(["-d", driver] if driver else []), *options, name)
        self.addCleanup(lambda: self.engine.cli("network", "rm", name))
        return name

    def container(self, *options, serve=True):
        """A container that answers on port 80 with its name, over IPv4 and IPv6."""
        name = self.name()
        command = ["sh", "-c", f"mkdir -p /tmp/www && echo {name} > /tmp/www/index.html && exec httpd -f -p 80 -h /tmp/www"] if serve else ["sleep", "1000"]
        self.engine.ok("run", "-d", "--name", name, *options, "busybox", *command)
        self.addCleanup(lambda: self.engine.cli("rm", "-f", "-v", name))
        if serve:
            self.wait_for_server(name)
        return name

    def wait_for_server(self, name):
        caisson.wait_until(lambda: self.fetch_inside(name, "127.0.0.1") == name, f"{name} serves")

    def fetch_inside(self, container, address, port=80):
        """What a container gets from a server; REFUSED for nothing."""
        where = f"[{address}]" if ":" in address else address
        answer = self.engine.cli("exec", container, "timeout", "3", "wget", "-q", "-O", "-", f"http://{where}:{port}/")
        return answer.stdout.strip() if answer.returncode == 0 else REFUSED

    def fetch(self, address, port, outside=False):
        where = f"[{address}]" if ":" in address else address
        answer = subprocess.run([*self.host.enter(outside), "busybox", "timeout", "3", "wget", "-q", "-O", "-", f"http://{where}:{port}/"], capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else REFUSED

    def endpoint(self, container, network):
        return self.engine.inspect(container)["NetworkSettings"]["Networks"][network]

    def address(self, container, network):
        return self.endpoint(container, network)["IPAddress"]

    def show(self, network):
        return json.loads(self.engine.ok("network", "inspect", network))[0]

    def status(self, method, path, body=None):
        status, _, text = self.engine.request(method, path, body)
        return status, (json.loads(text)["message"] if status >= 400 else text)


class Definitions(NetworkTest):
    def test_a_network_is_made_shown_and_removed_by_both_command_lines(self):
        for cli in (self.engine.cli, self.engine.docker):
            name = self.name("n")
            made = cli("network", "create", "--subnet", "10.77.0.0/24", "--ip-range", "10.77.0.128/25", "--gateway", "10.77.0.9", "--aux-address", "router=10.77.0.129",
                       "--label", "a=b", "-o", "com.docker.network.driver.mtu=1400", "--internal", "--attachable", name, check=0).stdout.strip()
            shown = self.show(name)
            self.assertEqual(shown["Id"], made)
            self.assertEqual(shown["IPAM"]["Config"], [{"Subnet": "10.77.0.0/24", "IPRange": "10.77.0.128/25", "Gateway": "10.77.0.9",
                                                        "AuxiliaryAddresses": {"router": "10.77.0.129"}}])
            self.assertEqual((shown["Driver"], shown["Scope"], shown["Internal"], shown["Attachable"], shown["EnableIPv6"]), ("bridge", "local", True, True, False))
            self.assertEqual((shown["Labels"], shown["Options"]), ({"a": "b"}, {"com.docker.network.driver.mtu": "1400"}))
            self.assertIn(f"br-{made[:12]}", self.links())
            self.assertIn(name, cli("network", "ls", "--filter", "label=a=b", "--filter", "driver=bridge", "--format", "{{.Name}}", check=0).stdout)
            self.assertNotIn(name, cli("network", "ls", "--filter", "type=builtin", "--format", "{{.Name}}", check=0).stdout)
            cli("network", "rm", name, check=0)
            self.assertNotIn(f"br-{made[:12]}", self.links())
            self.assertNotEqual(cli("network", "inspect", name).returncode, 0)

    def test_wrong_requests_get_dockers_statuses(self):
        name = self.network("--subnet", "10.78.0.0/24")
        for method, path, body, status, text in (
                ("POST", "/networks/create", {"Name": name}, 409, "already exists"),
                ("POST", "/networks/create", {"Name": "bridge"}, 403, "predefined"),
                ("POST", "/networks/create", {"Name": " "}, 400, "name"),
                ("POST", "/networks/create", {"Name": "x", "Driver": "nope"}, 404, 'plugin "nope" not found'),
                ("POST", "/networks/create", {"Name": "x", "Driver": "host"}, 403, "only one instance"),
                ("POST", "/networks/create", {"Name": "x", "IPAM": {"Config": [{"Subnet": "10.78.0.0/16"}]}}, 403, "Pool overlaps"),
                ("POST", "/networks/create", {"Name": "x", "IPAM": {"Config": [{"Subnet": "10.79.0.1/16"}]}}, 400, "10.79.0.1/16"),
                ("POST", "/networks/create", {"Name": "x", "IPAM": {"Config": [{"Gateway": "10.79.0.1"}]}}, 400, "gateway"),
                ("POST", "/networks/create", {"Name": "x", "Options": {"com.docker.network.bridge.enable_icc": "maybe"}}, 400, "enable_icc"),
                ("DELETE", "/networks/bridge", None, 403, "pre-defined"),
                ("DELETE", "/networks/none", None, 403, "pre-defined"),
                ("DELETE", "/networks/nope", None, 404, "network nope not found"),
                ("POST", "/networks/nope/connect", {"Container": "x"}, 404, "x"),
                ("POST", f"/networks/{name}/connect", {"Container": "nope"}, 404, "No such container: nope")):
            answer = self.status(method, path, body)
            self.assertEqual(answer[0], status, (path, body, answer))
            self.assertIn(text, answer[1])

    def test_a_network_in_use_stays_and_prune_takes_only_idle_ones(self):
        used, idle = self.network(), self.network("--label", "keep")
        container = self.container("--network", used, serve=False)
        status, message = self.status("DELETE", f"/networks/{used}")
        self.assertEqual(status, 403)
        self.assertIn("has active endpoints", message)
        self.assertEqual(self.engine.ok("network", "prune", "-f", "--filter", "label!=keep"), "")
        out = self.engine.ok("network", "prune", "-f")
        self.assertIn(idle, out)
        self.assertNotIn(used, out)
        self.engine.ok("rm", "-f", container)
        self.engine.ok("network", "rm", used)

    @caisson.differs_without_root("of the host's routes the engine sees those of its uplink")
    def test_subnets_avoid_each_other_and_the_hosts_routes(self):
        self.host.run("ip", "route", "add", "172.28.0.0/16", "via", "198.51.100.2")
        self.addCleanup(lambda: self.host.run("ip", "route", "del", "172.28.0.0/16"))
        seen = [ipaddress.ip_network("172.28.0.0/16"), ipaddress.ip_network(self.engine.subnet)]
        for _ in range(3):
            subnet = ipaddress.ip_network(self.show(self.network())["IPAM"]["Config"][0]["Subnet"])
            self.assertFalse([other for other in seen if other.overlaps(subnet)], subnet)
            seen.append(subnet)

    def test_events_tell_of_a_networks_life(self):
        name = self.name("n")
        self.engine.ok("network", "create", name)
        container = self.container("--network", name, serve=False)
        identifier = self.engine.inspect(container)["Id"]
        self.engine.ok("rm", "-f", container)
        self.engine.ok("network", "rm", name)
        out = self.engine.ok("events", "--since", "1h", "--until", "0s", "--filter", "type=network", "--filter", f"network={name}", "--format", "{{json .}}")
        events = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([event["Action"] for event in events], ["create", "connect", "disconnect", "destroy"])
        self.assertEqual(events[1]["Actor"]["Attributes"], {"name": name, "type": "bridge", "container": identifier})


class Connections(NetworkTest):
    def test_containers_on_one_network_reach_each_other_and_none_on_another(self):
        a, b = self.network(), self.network()
        one, two, other = self.container("--network", a), self.container("--network", a), self.container("--network", b)
        bridged = self.container()
        self.assertEqual(self.fetch_inside(one, self.address(two, a)), two)
        self.assertEqual(self.fetch_inside(one, self.address(other, b)), REFUSED)
        self.assertEqual(self.fetch_inside(bridged, self.address(one, a)), REFUSED)
        self.assertEqual(self.fetch_inside(one, self.address(bridged, "bridge")), REFUSED)

    def test_a_running_container_is_connected_and_disconnected(self):
        a, b = self.network(), self.network()
        one, two = self.container("--network", a), self.container("--network", b)
        target = self.address(two, b)
        self.assertEqual(self.fetch_inside(one, target), REFUSED)
        for cli in (self.engine.cli, self.engine.docker):
            cli("network", "connect", b, one, check=0)
            self.assertEqual(self.fetch_inside(one, target), two)
            self.assertIn("eth1", self.engine.ok("exec", one, "ip", "addr"))
            self.assertIn(self.address(one, b), self.engine.ok("exec", one, "cat", "/etc/hosts"))
            self.assertIn(self.engine.inspect(one)["Id"], self.show(b)["Containers"])
            cli("network", "disconnect", b, one, check=0)
            self.assertEqual(self.fetch_inside(one, target), REFUSED)
            self.assertNotIn("eth1", self.engine.ok("exec", one, "ip", "addr"))
            self.assertNotIn(b, self.engine.inspect(one)["NetworkSettings"]["Networks"])
        self.assertEqual(self.fetch_inside(one, "127.0.0.1"), one)

    def test_wrong_connects_get_dockers_statuses(self):
        a, b = self.network(), self.network()
        one = self.container("--network", a, serve=False)
        lonely, hosty = self.container("--network", "none", serve=False), self.container("--network", "host", serve=False)
        for path, container, status, text in ((f"/networks/{a}/connect", one, 403, f"endpoint with name {one} already exists in network {a}"),
                                              (f"/networks/{a}/connect", lonely, 400, "private (none) mode"),
                                              ("/networks/host/connect", one, 400, "host network"),
                                              ("/networks/none/connect", one, 400, "none"),
                                              (f"/networks/{a}/connect", hosty, 400, "sharing network namespace"),
                                              (f"/networks/{b}/disconnect", one, 500, f"is not connected to network {b}")):
            answer = self.status("POST", path, {"Container": container})
            self.assertEqual(answer[0], status, (path, answer))
            self.assertIn(text, answer[1])

    def test_a_stopped_container_keeps_its_networks_and_starts_on_them(self):
        a, b = self.network("--subnet", "10.81.0.0/24"), self.network()
        name = self.name()
        self.engine.ok("create", "--name", name, "--network", a, "--ip", "10.81.0.77", "--network-alias", "w", "--mac-address", "02:00:00:00:00:77", "busybox", "sleep", "1000")
        self.addCleanup(lambda: self.engine.cli("rm", "-f", name))
        self.engine.ok("network", "connect", b, name)
        shown = self.engine.inspect(name)["NetworkSettings"]["Networks"]
        self.assertEqual((shown[a]["IPAMConfig"], shown[a]["IPAddress"], shown[a]["Aliases"][0]), ({"IPv4Address": "10.81.0.77"}, "", "w"))
        self.assertEqual(shown[b]["IPAddress"], "")
        self.engine.ok("start", name)
        shown = self.engine.inspect(name)["NetworkSettings"]["Networks"]
        self.assertEqual((shown[a]["IPAddress"], shown[a]["IPPrefixLen"], shown[a]["Gateway"], shown[a]["MacAddress"]), ("10.81.0.77", 24, "10.81.0.1", "02:00:00:00:00:77"))
        self.assertTrue(shown[b]["IPAddress"])
        self.engine.ok("stop", "-t", "0", name)
        stopped = self.engine.inspect(name)["NetworkSettings"]["Networks"]
        self.assertEqual((stopped[a]["IPAddress"], stopped[a]["EndpointID"], stopped[a]["NetworkID"]), ("", "", self.show(a)["Id"]))
        self.engine.ok("network", "disconnect", b, name)
        self.assertEqual(list(self.engine.inspect(name)["NetworkSettings"]["Networks"]), [a])

    def test_create_takes_several_networks(self):
        a, b = sorted([self.network(), self.network()])
        status, _, text = self.engine.request("POST", f"/containers/create?name={self.name()}", {
            "Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": b},
            "NetworkingConfig": {"EndpointsConfig": {a: {"Aliases": ["x"]}, b: {}}}})
        self.assertEqual(status, 201, text)
        identifier = json.loads(text)["Id"]
        self.addCleanup(lambda: self.engine.cli("rm", "-f", identifier))
        self.engine.ok("start", identifier)
        addresses = self.engine.ok("exec", identifier, "ip", "-o", "-4", "addr")
        self.assertRegex(addresses, rf"eth0 .*{self.address(identifier, b)}/")
        self.assertRegex(addresses, rf"eth1 .*{self.address(identifier, a)}/")
        self.assertIn(f"default via {self.endpoint(identifier, a)['Gateway']} dev eth1", self.engine.ok("exec", identifier, "ip", "route"), "docker: the first by name")

    def test_the_default_route_follows_priority_and_what_is_left(self):
        a, b = sorted([self.network(), self.network()])
        name = self.container("--network", b, serve=False)
        gateway = {network: None for network in (a, b)}
        gateway[b] = self.endpoint(name, b)["Gateway"]
        self.assertIn(f"default via {gateway[b]}", self.engine.ok("exec", name, "ip", "route"))
        self.engine.ok("network", "connect", a, name)
        gateway[a] = self.endpoint(name, a)["Gateway"]
        self.assertIn(f"default via {gateway[a]} ", self.engine.ok("exec", name, "ip", "route"))
        self.engine.ok("network", "disconnect", a, name)
        self.assertIn(f"default via {gateway[b]} ", self.engine.ok("exec", name, "ip", "route"))
        self.engine.ok("network", "connect", "--gw-priority", "-5", a, name)
        self.assertIn(f"default via {gateway[b]} ", self.engine.ok("exec", name, "ip", "route"))

    def test_networks_of_a_running_container_outlive_the_daemon(self):
        a, b = self.network(), self.network()
        one = self.container("--network", a, "-p", "18321:80")
        self.engine.ok("network", "connect", b, one)
        two = self.container("--network", b)
        before = self.engine.inspect(one)["NetworkSettings"]
        self.engine.kill9()
        self.assertEqual(self.fetch("198.51.100.1", 18321, outside=True), REFUSED if caisson.ROOTLESS else one, "no daemon is on the way, but the relay of one without root")
        self.engine.start()
        self.assertEqual(self.engine.inspect(one)["NetworkSettings"], before)
        self.assertEqual(self.fetch("198.51.100.1", 18321, outside=True), one)
        self.assertEqual(self.fetch_inside(two, self.address(one, b)), one)
        self.assertEqual(self.fetch_inside(one, self.address(two, b)), two)
        self.engine.ok("network", "disconnect", a, one)
        self.assertEqual(self.fetch("198.51.100.1", 18321, outside=True), one, "another network publishes the ports now")
        self.engine.ok("network", "disconnect", b, one)
        self.assertEqual(self.fetch("198.51.100.1", 18321, outside=True), REFUSED)


class Packets(NetworkTest):
    def test_published_ports_are_reached_through_the_host_alone(self):
        a, b = self.network(), self.network()
        web, other = self.container("--network", a, "-p", "18080:80"), self.container("--network", b)
        self.assertEqual(self.fetch("127.0.0.1", 18080), web)
        self.assertEqual(self.fetch("198.51.100.1", 18080, outside=True), web)
        self.assertEqual(self.fetch_inside(other, "198.51.100.1", 18080), web, "from another network through the host")
        self.assertEqual(self.fetch_inside(web, "198.51.100.1", 18080), web, "hairpin")
        address = self.address(web, a)
        self.host.run("ip", "route", "add", address, "via", "198.51.100.1", outside=True)
        self.assertEqual(self.fetch(address, 80, outside=True), REFUSED, "not by a route to its own address")

    def test_an_internal_network_has_no_way_out_and_publishes_nothing(self):
        inner = self.network("--internal")
        web = self.container("-p", "18081:80")
        one, two = self.container("--network", inner, "-p", "18082:80"), self.container("--network", inner)
        self.assertEqual(self.fetch_inside(two, self.address(one, inner)), one)
        self.assertEqual(self.endpoint(one, inner)["Gateway"], "")
        self.assertNotIn("default", self.engine.ok("exec", one, "ip", "route"))
        self.assertEqual(self.fetch("127.0.0.1", 18082), REFUSED)
        # Even with a route of its own making.
        gateway = self.show(inner)["IPAM"]["Config"][0]["Gateway"]
        pid = self.engine.inspect(one)["State"]["Pid"]
        run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "route", "add", "default", "via", gateway)
        self.assertEqual(self.fetch_inside(one, "198.51.100.1", 18081), REFUSED, "a port that another network publishes")
        server = subprocess.Popen([*self.host.enter(outside=True), "busybox", "httpd", "-f", "-p", "198.51.100.2:18090", "-h", "/etc"])
        self.addCleanup(lambda: (server.kill(), server.wait()))
        caisson.wait_until(lambda: "18090" in self.host.run("ss", "-ltn", outside=True), "the server outside listens")
        self.assertIn("root", self.fetch_inside_path(web, "198.51.100.2", 18090, "passwd"))
        self.assertEqual(self.fetch_inside_path(one, "198.51.100.2", 18090, "passwd"), REFUSED)

    def fetch_inside_path(self, container, address, port, path):
        answer = self.engine.cli("exec", container, "timeout", "3", "wget", "-q", "-O", "-", f"http://{address}:{port}/{path}")
        return answer.stdout.strip() if answer.returncode == 0 else REFUSED

    def test_containers_without_icc_reach_each_other_by_published_ports_alone(self):
        network = self.network("-o", "com.docker.network.bridge.enable_icc=false")
        one, two = self.container("--network", network, "-p", "18083:80"), self.container("--network", network)
        self.assertEqual(self.fetch_inside(two, self.address(one, network)), REFUSED)
        self.assertEqual(self.fetch_inside(two, "198.51.100.1", 18083), one)
        self.assertEqual(self.fetch(self.address(one, network), 80), REFUSED if caisson.ROOTLESS else one, "the host reaches it, where the bridges are the host's")

    def test_options_of_the_bridge_take_effect(self):
        bridge = self.name("br")
        network = self.network("-o", f"com.docker.network.bridge.name={bridge}", "-o", "com.docker.network.driver.mtu=1300",
                               "-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1")
        self.assertIn(bridge, self.links())
        web = self.container("--network", network, "-p", "18084:80")
        self.assertIn("mtu 1300", self.engine.ok("exec", web, "ip", "link", "show", "eth0"))
        self.assertEqual(self.engine.inspect(web)["NetworkSettings"]["Ports"], {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18084"}]})
        self.assertEqual(self.fetch("127.0.0.1", 18084), web)
        self.assertEqual(self.fetch("198.51.100.1", 18084, outside=True), REFUSED)

    def test_ipv6_has_addresses_routes_and_published_ports(self):
        network = self.network("--ipv6")
        config = self.show(network)["IPAM"]["Config"]
        self.assertTrue(config[1]["Subnet"].startswith("fd") and config[1]["Subnet"].endswith("/64"), config)
        web, two = self.container("--network", network, "-p", "18085:80"), self.container("--network", network)
        endpoint = self.endpoint(web, network)
        self.assertIn(ipaddress.ip_address(endpoint["GlobalIPv6Address"]), ipaddress.ip_network(config[1]["Subnet"]))
        self.assertEqual((endpoint["GlobalIPv6PrefixLen"], endpoint["IPv6Gateway"]), (64, config[1]["Gateway"]))
        self.assertEqual(self.fetch_inside(two, endpoint["GlobalIPv6Address"]), web)
        self.assertEqual(self.fetch("2001:db8::1", 18085, outside=True), web)
        self.assertEqual(self.fetch("2001:db8::1", 18085), web)
        self.assertEqual(self.engine.inspect(web)["NetworkSettings"]["Ports"]["80/tcp"], [{"HostIp": "0.0.0.0", "HostPort": "18085"}, {"HostIp": "::", "HostPort": "18085"}])
        server = subprocess.Popen([*self.host.enter(outside=True), "busybox", "httpd", "-f", "-p", "[2001:db8::2]:18091", "-h", "/etc"])
        self.addCleanup(lambda: (server.kill(), server.wait()))
        caisson.wait_until(lambda: "18091" in self.host.run("ss", "-ltn", outside=True), "the server outside listens")
        self.assertIn("root", self.engine.ok("exec", web, "timeout", "3", "wget", "-q", "-O", "-", "http://[2001:db8::2]:18091/passwd"))
        self.host.run("ip", "-6", "route", "add", config[1]["Subnet"], "via", "2001:db8::1", outside=True)
        self.assertEqual(self.fetch(endpoint["GlobalIPv6Address"], 80, outside=True), REFUSED, "not by a route to its own address")

    def test_static_ipv6_and_link_local_addresses_are_used(self):
        network = self.network("--ipv6", "--subnet", "10.82.0.0/24", "--subnet", "fd77::/64")
        name = self.container("--network", network, "--ip", "10.82.0.9", "--ip6", "fd77::99", "--link-local-ip", "169.254.7.7", serve=False)
        addresses = self.engine.ok("exec", name, "ip", "addr", "show", "eth0")
        for address in ("10.82.0.9/24", "fd77::99/64", "169.254.7.7/16"):
            self.assertIn(address, addresses)
        refused = self.engine.cli("run", "--rm", "--network", network, "--ip6", "fd77::99", "busybox", "true")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("Address already in use", refused.stderr)

    @caisson.differs_without_root("the host's interfaces are not the engine's")
    def test_macvlan_puts_containers_on_the_parents_wire(self):
        network = self.network("--subnet", "198.51.100.0/24", "--gateway", "198.51.100.2", "--ip-range", "198.51.100.128/25", "-o", "parent=uplink", driver="macvlan")
        one, two = self.container("--network", network), self.container("--network", network)
        self.assertEqual(self.fetch_inside(one, self.address(two, network)), two)
        self.assertEqual(self.fetch(self.address(one, network), 80, outside=True), one)
        self.assertIn("default via 198.51.100.2", self.engine.ok("exec", one, "ip", "route"))
        self.assertEqual(self.status("POST", "/networks/create", {"Name": "m", "Driver": "macvlan"})[0], 501, "a parent is needed")

    @caisson.differs_without_root("the relay of published ports knows TCP and UDP")
    def test_sctp_ports_are_accepted_and_shown(self):
        name = self.container("-p", "18086:90/sctp", serve=False)
        self.assertEqual(self.engine.inspect(name)["NetworkSettings"]["Ports"], {"90/sctp": [{"HostIp": "0.0.0.0", "HostPort": "18086"}]})
        self.assertIn("sctp . 18086", run(*self.engine.network_command, "nft", "list", "map", "inet", self.engine.tag, "published"))

    def test_a_port_without_an_address_is_answered_on_ipv6s_loopback_too(self):
        web = self.container("-p", "18190:80")
        six = self.container("--network", self.network("--ipv6"), "-p", "18191:80")
        narrow = self.container("-p", "0.0.0.0:18192:80")
        for _ in ("before a crash of the daemon", "after it"):
            for name, port in ((web, 18190), (six, 18191)):
                self.assertEqual(self.fetch("::1", port), name)
                self.assertEqual(self.fetch("127.0.0.1", port), name)
            self.assertEqual(self.fetch("::1", 18192), REFUSED)
            # An IPv4 container has no other way to IPv6: its forwarder would hide who the client is.
            self.assertEqual(self.fetch("2001:db8::1", 18190, outside=True), REFUSED)
            self.assertEqual(self.fetch("2001:db8::1", 18191, outside=True), six)
            self.engine.kill9()
            self.engine.start()
        # Nobody takes what our sockets hold, also not beside the forwarder's.
        taken = self.host.run("python3", "-c", "import socket; s = socket.socket(socket.AF_INET6); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); "
                              "s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1); s.bind(('::', 18191)); s.listen()", check=False)
        self.assertEqual(taken, "")
        server = subprocess.Popen([*self.host.enter(), "busybox", "httpd", "-f", "-p", "[::1]:18193", "-h", "/etc"])
        self.addCleanup(lambda: (server.kill(), server.wait()))
        caisson.wait_until(lambda: "18193" in self.host.run("ss", "-ltn"), "the host's own server listens")
        refused = self.engine.cli("run", "--rm", "-p", "18193:80", "busybox", "true")
        self.assertEqual(refused.returncode, 125)
        self.assertIn("Bind for [::1]:18193 failed: port is already allocated", refused.stderr)
        chosen = self.container("-p", "18193-18194:80")
        self.assertEqual(self.fetch("::1", 18194), chosen)

    def test_links_bring_dockers_variables_and_names_and_are_taken_off(self):
        database = self.container("--expose", "5432", "-e", "POSTGRES_USER=me", serve=False)
        linked = self.container("--link", f"{database}:my-db", "-e", "A=1", serve=False)
        address = self.address(database, "bridge")
        expected = [f"MY_DB_PORT=tcp://{address}:5432", f"MY_DB_PORT_5432_TCP=tcp://{address}:5432", f"MY_DB_PORT_5432_TCP_ADDR={address}", "MY_DB_PORT_5432_TCP_PORT=5432",
                    "MY_DB_PORT_5432_TCP_PROTO=tcp", f"MY_DB_NAME=/{linked}/my-db", "MY_DB_ENV_POSTGRES_USER=me"]
        self.assertEqual([line for line in self.engine.ok("exec", linked, "env").splitlines() if line.startswith("MY_DB")], expected)
        self.assertEqual(self.engine.ok("exec", linked, "sh", "-c", "tr '\\0' '\\n' </proc/1/environ | grep ^MY_DB").splitlines(), expected)
        self.assertEqual(self.engine.inspect(linked)["HostConfig"]["Links"], [f"/{database}:/{linked}/my-db"])
        names = {tuple(container["Names"]) for container in json.loads(self.engine.request("GET", "/containers/json")[2])}
        self.assertIn((f"/{database}", f"/{linked}/my-db"), names)
        self.assertEqual(self.engine.inspect(f"{linked}/my-db")["Name"], f"/{database}")
        # The new address of a container that restarts reaches those that link to it.
        taken = self.container(serve=False)
        self.engine.ok("stop", "-t", "0", database)
        between = self.container(serve=False)
        self.engine.ok("start", database)
        self.assertTrue(taken and between)
        caisson.wait_until(lambda: f"{self.address(database, 'bridge')}\tmy-db" in self.engine.ok("exec", linked, "cat", "/etc/hosts"), "the new address is in /etc/hosts")
        self.assertEqual(self.engine.docker("rm", "--link", f"/{linked}/my-db", check=0).stdout.strip(), f"/{linked}/my-db")
        self.assertNotIn("my-db", self.engine.ok("exec", linked, "cat", "/etc/hosts"))
        self.assertIsNone(self.engine.inspect(linked)["HostConfig"]["Links"])
        self.assertEqual(self.status("DELETE", f"/containers/{linked}?link=1")[0], 500)
        self.assertEqual(self.status("DELETE", f"/containers/{linked}/my-db?link=1")[0], 404)
        other = self.container("--link", database, serve=False)
        self.engine.ok("stop", "-t", "0", database)
        refused = self.engine.cli("restart", "-t", "0", other)
        self.assertIn(f"Cannot link to a non running container: /{database} AS /{other}/{database}", refused.stderr)
        self.engine.ok("rm", "--link", f"{other}/{database}")
        self.engine.ok("start", other)

    def test_links_on_the_default_bridge_are_names_in_hosts(self):
        web = self.container()
        linked = self.container("--link", f"{web}:db", serve=False)
        self.assertEqual(self.fetch_inside(linked, "db"), web)
        self.assertRegex(self.engine.ok("exec", linked, "cat", "/etc/hosts"), rf"{self.address(web, 'bridge')}\s+db {self.engine.inspect(web)['Id'][:12]} {web}")


class Policy(NetworkTest):
    """A host whose administrator says who may reach published ports."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.host.run("ip", "addr", "add", "203.0.113.2/24", "dev", "eth0", outside=True)
        cls.host.run("ip", "addr", "add", "203.0.113.1/24", "dev", "uplink")

    engine_options = ("--published-sources", "203.0.113.0/24")

    def test_only_declared_sources_reach_published_ports(self):
        web, other = self.container("-p", "18087:80"), self.container()
        self.assertEqual(self.fetch("203.0.113.1", 18087, outside=True), web)
        self.assertEqual(self.fetch("198.51.100.1", 18087, outside=True), REFUSED)
        self.assertEqual(self.fetch("127.0.0.1", 18087), web, "the host itself")
        self.assertEqual(self.fetch_inside(other, "198.51.100.1", 18087), web, "containers")


if __name__ == "__main__":
    caisson.main()

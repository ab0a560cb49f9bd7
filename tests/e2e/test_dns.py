#!/usr/bin/env python3
"""The embedded DNS of user-defined networks, by questions from containers' namespaces and with a container's own resolver: names right through every change."""

import json
import os
import random

import caisson
from dns_client import AAAA, MX, PTR, Client, Upstream
from test_networks import NetworkTest

NOBODY = "127.0.0.2"  # refuses at once in a container's namespace, so what is not known here fails quickly and nothing leaves the host


class DnsTest(NetworkTest):
    def member(self, network, *aliases, dns=NOBODY, options=()):
        words = [word for alias in aliases for word in ("--network-alias", alias)]
        return self.container("--network", network, *words, "--dns", dns, *options, serve=False)

    def client(self, name):
        client = Client(self.pid(name))
        self.addCleanup(client.close)
        return client

    def pid(self, name):
        return self.engine.inspect(name)["State"]["Pid"]

    def connect(self, name, network, *aliases):
        self.engine.ok("network", "connect", *[word for alias in aliases for word in ("--alias", alias)], network, name)

    def disconnect(self, name, network):
        self.engine.ok("network", "disconnect", network, name)

    def end(self, name):
        self.engine.ok("kill", name)
        self.engine.ok("wait", name)


class Names(DnsTest):
    def test_names_aliases_and_short_ids_are_known_on_their_network_only(self):
        network, other = self.network(), self.network()
        web = self.member(network, "www", "shared")
        second = self.member(network, "shared")
        far = self.member(other, "www")
        address = self.address(web, network)
        ask = self.client(second).ask
        short_id = self.engine.inspect(web)["Id"][:12]
        for name in (web, web.upper(), "www", short_id, f"{web}.{network}", f"www.{network}"):
            self.assertEqual(ask(name), ("NOERROR", [address], 600), name)
        self.assertEqual(ask("shared")[1], sorted([address, self.address(second, network)]))
        self.assertEqual(ask(second)[1], [self.address(second, network)], "a container knows its own name")
        self.assertEqual(ask(far)[0], "SERVFAIL")
        self.assertEqual(ask(short_id[:11])[0], "SERVFAIL")
        self.assertEqual(ask(web, AAAA)[:2], ("NOERROR", []))
        self.assertEqual(ask(web, MX)[:2], ("NOERROR", []))
        reverse = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
        self.assertEqual(ask(reverse, PTR)[:2], ("NOERROR", [f"{web}.{network}"]))

    def test_the_containers_own_resolver_finds_them(self):
        network = self.network()
        web = self.member(network, "www")
        client = self.member(network)
        self.assertIn("nameserver 127.0.0.11", self.engine.ok("exec", client, "cat", "/etc/resolv.conf"))
        for name in ("www", web):
            self.assertIn(self.address(web, network), self.engine.ok("exec", client, "nslookup", "-type=a", name))

    def test_connect_and_disconnect_take_effect_at_once(self):
        network, other = self.network(), self.network()
        web = self.member(network)
        client = self.member(other)
        ask = self.client(client).ask
        self.assertEqual(ask(web)[0], "SERVFAIL")
        self.connect(web, other, "late")
        self.assertEqual(ask(web)[1], [self.address(web, other)])
        self.assertEqual(ask("late")[1], [self.address(web, other)])
        self.disconnect(web, other)
        self.assertEqual(ask("late")[0], "SERVFAIL")
        self.connect(client, network)
        self.assertEqual(ask(web)[1], [self.address(web, network)])
        self.disconnect(client, network)
        self.assertEqual(ask(web)[0], "SERVFAIL")

    def test_a_stopped_container_has_no_name_and_a_renamed_one_the_new(self):
        network = self.network()
        web = self.member(network)
        ask = self.client(self.member(network)).ask
        self.end(web)
        self.assertEqual(ask(web)[0], "SERVFAIL")
        self.engine.ok("start", web)
        self.assertEqual(ask(web)[1], [self.address(web, network)])
        renamed = self.name()
        self.engine.ok("rename", web, renamed)
        self.addCleanup(lambda: self.engine.cli("rm", "-f", renamed))
        self.assertEqual(ask(renamed)[1], [self.address(renamed, network)])

    def test_other_names_go_to_the_servers_of_the_container_but_not_from_an_internal_network(self):
        network, internal = self.network(), self.network("--internal")
        server = self.member(network)
        self.connect(server, internal)
        with Upstream(self.pid(server), "192.0.2.7") as upstream:
            client = self.member(network, dns=self.address(server, network))
            self.assertEqual(self.client(client).ask("example.org")[1], ["192.0.2.7"])
            self.assertEqual(self.client(server).ask(client)[1], [self.address(client, network)], "its own server on 0.0.0.0:53 works beside")
            closed = self.member(internal, dns=self.address(server, internal))
            self.assertEqual(self.client(closed).ask("example.com")[0], "SERVFAIL")
            self.assertEqual(self.client(closed).ask(server)[1], [self.address(server, internal)])
            self.assertEqual(upstream.asked, ["example.org"])

    def test_a_new_daemon_answers_for_the_containers_that_ran_on(self):
        network = self.network()
        web = self.member(network, "www")
        client = self.client(self.member(network))
        expected = self.address(web, network)
        self.assertEqual(client.ask("www")[1], [expected])
        self.engine.kill9()
        self.engine.start()
        self.assertEqual(client.ask("www")[1], [expected], "the same socket of the client, too")
        self.end(web)
        self.assertEqual(client.ask("www")[0], "SERVFAIL")


class Changes(DnsTest):
    """Random connects, disconnects, restarts and crashes; after each, random questions are answered by what is true then."""

    CONTAINERS, NETWORKS = 6, 3

    def truths(self, asker, name):
        """What `asker` may be told, from what the engine says about everybody: the addresses on one network that both share (dockerd takes the
        first that knows the name), or all of them."""
        found = {}
        for container, details in self.seen.items():
            for network, endpoint in details["NetworkSettings"]["Networks"].items():
                names = {container, details["Id"][:12], *self.aliases.get((container, network), ())}
                if network in self.seen[asker]["NetworkSettings"]["Networks"] and details["State"]["Running"] and name in names:
                    found.setdefault(network, []).append(endpoint["IPAddress"])
        return [sorted(addresses) for addresses in found.values()] + [sorted(sum(found.values(), []))]

    def look(self):
        return {details["Name"].removeprefix("/"): details for details in json.loads(self.engine.ok("inspect", *self.containers))}

    def change(self, pick):
        container, network = pick.choice(self.containers), pick.choice(self.networks)
        connected = set(self.seen[container]["NetworkSettings"]["Networks"])
        kind = pick.random()
        if kind < 0.85 and network in connected and len(connected) > 1:
            self.disconnect(container, network)
            return f"disconnect {container} {network}"
        if kind < 0.85 and network not in connected:
            aliases = pick.sample(["red", "green", "blue"], pick.randrange(3))
            self.connect(container, network, *aliases)
            self.aliases[(container, network)] = aliases
            return f"connect {container} {network} {aliases}"
        if kind < 0.98:
            if container in self.clients:
                self.clients.pop(container).close()
            self.engine.ok("restart", "-t", "0", container)
            return f"restart {container}"
        self.engine.kill9()
        self.engine.start()
        return "crash of the daemon"

    def test_answers_stay_right_through_random_changes(self):
        rounds = 1000 if caisson.FULL else 60
        seed = int(os.environ.get("CAISSON_TEST_SEED", random.SystemRandom().randrange(2**32)))
        pick = random.Random(seed)
        self.networks = [self.network() for _ in range(self.NETWORKS)]
        self.aliases, self.clients, self.seen, history = {}, {}, {}, []
        self.containers = [self.member(self.networks[i % self.NETWORKS]) for i in range(self.CONTAINERS)]
        self.addCleanup(lambda: [client.close() for client in self.clients.values()])
        for number in range(rounds):
            self.seen = self.look()
            history.append(self.change(pick))
            self.seen = self.look()
            for _ in range(4):
                asker = pick.choice(self.containers)
                if asker not in self.clients:
                    self.clients[asker] = Client(self.seen[asker]["State"]["Pid"])
                for name in (pick.choice(self.containers), pick.choice(["red", "green", "blue"]), self.seen[pick.choice(self.containers)]["Id"][:12]):
                    told = self.clients[asker].ask(name)[1]
                    self.assertIn(told, self.truths(asker, name), f"seed {seed}, change {number}, {asker} asks {name}; last changes: {history[-8:]}")


if __name__ == "__main__":
    caisson.main()

#!/usr/bin/env python3
"""docker-compose 1.29 and compose v2 with an application of nginx, PostgreSQL and Redis from Debian packages: build, up, health, names, volumes, scale, down."""

import json
import os
import shutil
import subprocess

import clients

PLUGIN = os.path.join(clients.PROGRAMS, "debian", "usr", "libexec", "docker", "cli-plugins", "docker-compose")
APPLICATION = os.path.join(clients.PROGRAMS, "app.tar")

# PostgreSQL and Redis keep their data on volumes; the web server waits for both to be healthy.
COMPOSE = """
services:
  db:
    image: application
    command: ["sh", "/usr/local/bin/start-db"]
    stop_signal: SIGINT
    volumes: ["dbdata:/data"]
    healthcheck:
      test: ["CMD-SHELL", "/usr/lib/postgresql/15/bin/pg_isready -h 127.0.0.1 -U postgres"]
      interval: 1s
      timeout: 20s
      retries: 60
  cache:
    image: application
    command: redis-server --bind 0.0.0.0 --protected-mode no --save '' --dir /tmp
    networks:
      default:
        aliases: [fast-store]
    healthcheck:
      test: ["CMD", "redis-cli", "ping"]
      interval: 1s
      timeout: 20s
      retries: 60
  web:
    build: ./web
    environment:
      COLOUR: ${COLOUR:-blue}
    depends_on:
      db: {condition: service_healthy}
      cache: {condition: service_healthy}
    ports: ["127.0.0.1:${PORT}:80"]
    networks: [default, front]
  worker:
    image: application
    command: ["sh", "-c", "echo working as $$(hostname); exec sleep 100000"]
    init: true
    networks: [front]
networks:
  front: {}
volumes:
  dbdata: {}
"""

START_DB = """set -e
# The volume's root may be new or kept from the run before.
mkdir -p /data/db && chown postgres /data/db && chmod 700 /data/db
[ -e /data/db/PG_VERSION ] || su postgres -c "/usr/lib/postgresql/15/bin/initdb -D /data/db -A trust -N" >/dev/null
echo "host all all all trust" >> /data/db/pg_hba.conf
exec su postgres -c "exec /usr/lib/postgresql/15/bin/postgres -D /data/db -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off -c shared_buffers=16MB"
"""

DOCKERFILE = """FROM application
ARG PAGE=first
RUN echo "page $PAGE" > /var/www/html/index.html
COPY start /usr/local/bin/start
EXPOSE 80
CMD ["sh", "/usr/local/bin/start"]
"""


class ComposeChecks:
    """The same checks for both generations of compose; subclasses say how to call theirs."""

    command_line = ()
    header = ""
    separator = "-"

    @classmethod
    def needs(cls):
        if not os.path.exists(APPLICATION):
            return "needs the application's image: tools/client-programs"
        return None

    @classmethod
    def load_images(cls):
        cls.command("docker", "import", APPLICATION, "application:base", check=0, timeout=600)
        folder = cls.scratch()
        with open(os.path.join(folder, "start-db"), "w", encoding="utf-8") as file:
            file.write(START_DB)
        with open(os.path.join(folder, "Dockerfile"), "w", encoding="utf-8") as file:
            file.write("FROM application:base\nENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nCOPY start-db /usr/local/bin/start-db\n")
        cls.command("docker", "build", "-q", "-t", "application", folder, check=0, environment={"DOCKER_BUILDKIT": "0"})

    def setUp(self):
        self.port = clients.free_port()
        self.project = self.scratch()
        os.makedirs(os.path.join(self.project, "web"))
        for name, text in (("docker-compose.yml", self.header + COMPOSE), ("web/Dockerfile", DOCKERFILE),
                           ("web/start", 'echo "colour $COLOUR"\nexec nginx -g "daemon off;"\n')):
            with open(os.path.join(self.project, name), "w", encoding="utf-8") as file:
                file.write(text)
        self.addCleanup(self.compose, "down", "-v", "--remove-orphans", "-t", "5", check=None)

    def compose(self, *arguments, check=0, environment=None, **options):
        values = {"PORT": str(self.port), "COMPOSE_HTTP_TIMEOUT": "300", "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0", **(environment or {})}
        return self.command(*self.command_line, "-p", "shop", *arguments, check=check, cwd=self.project, environment=values, timeout=400, **options)

    def containers(self, service):
        return self.docker("ps", "-q", "--filter", "label=com.docker.compose.project=shop", "--filter", f"label=com.docker.compose.service={service}").stdout.split()

    def psql(self, query):
        return self.compose("exec", "-T", "web", "psql", "-h", "db", "-U", "postgres", "-Atc", query).stdout.strip()

    def test_an_application_lives(self):
        self.compose("build")
        self.compose("up", "-d")
        with self.subTest("the published page answers"):
            self.assertEqual(self.fetch(self.port), "page first\n")
        with self.subTest("health was waited for"):
            for service in ("db", "cache"):
                state = json.loads(self.docker("inspect", self.containers(service)[0]).stdout)[0]["State"]
                self.assertEqual(state["Health"]["Status"], "healthy")
        with self.subTest("services find each other by name and alias"):
            self.assertEqual(self.psql("select 40+2"), "42")
            self.assertIn("PONG", self.compose("exec", "-T", "web", "redis-cli", "-h", "cache", "ping").stdout)
            self.assertIn("PONG", self.compose("exec", "-T", "web", "redis-cli", "-h", "fast-store", "ping").stdout)
            self.compose("exec", "-T", "worker", "getent", "hosts", "db", check=2)  # not on its network
        with self.subTest("ps, top and logs"):
            self.assertIn(f"shop{self.separator}web{self.separator}1", self.compose("ps").stdout)
            self.assertIn("nginx", self.compose("top", "web").stdout)
            self.assertIn("colour blue", self.compose("logs", "--no-color", "web").stdout)
        with self.subTest("port"):
            self.assertEqual(self.compose("port", "web", "80").stdout.strip(), f"127.0.0.1:{self.port}")
        with self.subTest("exec gives its exit code"):
            self.compose("exec", "-T", "web", "sh", "-c", "exit 7", check=7)
        with self.subTest("run makes a container beside"):
            self.assertEqual(self.compose("run", "--rm", "-T", "--no-deps", "worker", "echo", "one-off").stdout.strip(), "one-off")
        with self.subTest("scale out and in"):
            self.compose("up", "-d", "--no-recreate", "--scale", "worker=3")
            self.assertEqual(len(self.containers("worker")), 3)
            self.compose("up", "-d", "--no-recreate", "--scale", "worker=1")
            self.assertEqual(len(self.containers("worker")), 1)
        with self.subTest("up again changes nothing"):
            before = self.containers("db") + self.containers("cache") + self.containers("web")
            self.compose("up", "-d")
            self.assertEqual(self.containers("db") + self.containers("cache") + self.containers("web"), before)
        with self.subTest("a changed setting recreates that service only, and its data stay"):
            self.psql("create table kept as select 7 as n")
            web, db = self.containers("web"), self.containers("db")
            self.compose("up", "-d", environment={"COLOUR": "green"})
            self.assertNotEqual(self.containers("web"), web)
            self.assertEqual(self.containers("db"), db)
            self.fetch(self.port)
            self.assertIn("colour green", self.compose("logs", "--no-color", "web").stdout)
            self.assertEqual(self.psql("select n from kept"), "7")
        with self.subTest("restart, pause, stop and start"):
            self.compose("restart", "-t", "5", "worker")
            if not clients.caisson.ROOTLESS:  # pausing needs cgroups that are delegated
                self.compose("pause", "worker")
                self.compose("unpause", "worker")
            self.compose("stop", "-t", "5")
            self.assertEqual(self.containers("web"), [])
            self.compose("start")
            self.fetch(self.port)
        with self.subTest("down removes all but the volume; the next up finds the data"):
            self.compose("down", "-t", "5")
            self.assertEqual(self.docker("ps", "-aq").stdout, "")
            self.assertNotIn("shop", self.docker("network", "ls").stdout)
            self.assertIn("shop_dbdata", self.docker("volume", "ls").stdout)
            self.compose("up", "-d", environment={"COLOUR": "green"})
            self.fetch(self.port)
            self.assertEqual(self.psql("select n from kept"), "7")
            self.compose("down", "-v", "-t", "5")
            self.assertNotIn("shop_dbdata", self.docker("volume", "ls").stdout)

    def test_the_daemon_dies_while_an_application_starts_and_the_next_command_finds_the_truth(self):
        engine = getattr(self.target, "engine", None)
        if engine is None:
            self.skipTest("only our own daemon is killed")
        with open(os.path.join(self.project, "docker-compose.yml"), "w", encoding="utf-8") as file:
            file.write(self.header + "services:\n" + "".join(f"  s{n}:\n    image: application\n    init: true\n    command: sleep 100000\n" for n in range(8)))
        ids = set()
        for wanted in (1, 5):  # killed at its beginning and in its middle
            arguments = [*self.command_line, "-p", "shop", "up", "-d"]
            up = subprocess.Popen(self.target.by_owner(arguments), cwd=self.project, env={**self.environment(), "COMPOSE_HTTP_TIMEOUT": "20"}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                clients.caisson.wait_until(lambda: up.poll() is not None or len(self.docker("ps", "-q").stdout.split()) >= wanted, f"{wanted} services run", 60)
                engine.kill9()
                up.wait(60)
            finally:
                up.kill()
                up.wait()
            engine.start()
            running = set(self.docker("ps", "-q", "--no-trunc").stdout.split())
            self.assertTrue(ids <= running, "what ran before runs on")
            ids = running
        listed = self.compose("ps", "-q").stdout.split()
        self.assertTrue(ids <= set(listed))
        self.compose("up", "-d")
        now = {service: self.containers(f"s{service}") for service in range(8)}
        self.assertEqual({service: len(found) for service, found in now.items()}, {service: 1 for service in range(8)}, "each service once: what was there was found")
        self.assertEqual(self.compose("exec", "-T", "s7", "echo", "alive").stdout.strip(), "alive")
        self.compose("down", "-t", "1")
        self.assertEqual(self.docker("ps", "-aq").stdout.split(), [])

    def test_events_and_config_are_readable(self):
        self.assertIn("dbdata", self.compose("config").stdout)
        self.compose("up", "-d", "--no-deps", "worker")
        self.compose("kill", "worker")
        self.compose("rm", "-f", "worker")
        self.assertEqual(self.containers("worker"), [])
        events = self.docker("events", "--since", "2m", "--until", "0s", "--filter", "type=container", "--format", "{{.Action}}").stdout.split()
        for action in ("create", "start", "kill", "die", "destroy"):
            self.assertIn(action, events)


class ComposeOne(ComposeChecks, clients.ClientTest):
    command_line = ("docker-compose",)
    separator = "_"
    header = 'version: "2.4"\n'

    @classmethod
    def needs(cls):
        return super().needs() or (None if shutil.which("docker-compose") else "needs docker-compose 1.29: tools/dependencies clients")


class ComposeTwo(ComposeChecks, clients.ClientTest):
    command_line = (PLUGIN,)
    separator = "-"
    header = ""

    @classmethod
    def needs(cls):
        return super().needs() or (None if os.access(PLUGIN, os.X_OK) else "needs compose v2: tools/client-programs")


if __name__ == "__main__":
    clients.main()

#!/usr/bin/env python3
"""Every command that docker's command line 28 has outside swarm, one after the other on one engine: exit code and what it prints."""

import os
import re
import shutil

import clients
from terminal import Terminal

ANY = frozenset({0, 1, 125, 255})  # commands that depend on a plugin, on Docker Hub, or on an experimental daemon

# Rows that the client refuses to send to an older server, with the version they need.
NEWER = {"volume prune -f -a": (1, 42)}

# (arguments, exit code or codes, pattern of what is printed). {port}, {registry}, {dir} are filled in. The order matters: a row works on what
# earlier rows made.
PLAIN = [
    ("version", 0, r"Server"),
    ("version -f {{.Server.APIVersion}}", 0, r"^1\.\d\d\n"),
    ("info", 0, r"Containers: \d"),
    ("info -f {{.OSType}}", 0, r"^linux\n"),
    ("image ls", 0, r"busybox\s+latest"),
    ("images -q busybox", 0, r"^[0-9a-f]{12}\n"),
    ("images --filter reference=alpine --format {{.Repository}}:{{.Tag}}", 0, r"^alpine:latest\n"),
    ("images --no-trunc --digests", 0, r"sha256:[0-9a-f]{64}"),
    ("image inspect busybox -f {{.Os}}", 0, r"^linux\n"),
    ("history busybox", 0, r"CREATED"),
    ("tag busybox t/box:1", 0, ""),
    ("rmi t/box:1", 0, r"Untagged: t/box:1"),
    ("run --rm busybox echo hello", 0, r"^hello\n"),
    ("run --rm hello-world", 0, r"^Hello from Docker!\n"),
    ("run --rm busybox sh -c 'exit 7'", 7, ""),
    ("run --rm busybox nosuchprogram", 127, r"executable file not found"),
    ("run --rm nosuchimage:none true", 125, r"nosuchimage"),
    ("run -d --name web --label l=1 -p 127.0.0.1:{port}:8080 busybox httpd -f -p 8080 -h /etc", 0, r"^[0-9a-f]{64}\n"),
    ("create --name made -e A=b -w /tmp busybox sh -c 'pwd; echo $A'", 0, r"^[0-9a-f]{64}\n"),
    ("start -a made", 0, r"^/tmp\nb\n"),
    ("start made", 0, r"^made\n"),
    ("wait made", 0, r"^0\n"),
    ("ps", 0, r"web"),
    ("ps -a --format {{.Names}}", 0, r"made"),
    ("ps -q --filter label=l=1", 0, r"^[0-9a-f]{12}\n$"),
    ("ps -a --filter status=exited --format {{.Names}}", 0, r"^made\n"),
    ("ps -as", 0, r"virtual"),
    ("ps -l", 0, r"CONTAINER ID"),
    ("port web", 0, r"8080/tcp -> 127.0.0.1:{port}\n"),
    ("port web 8080", 0, r"127.0.0.1:{port}\n"),
    ("inspect web -f {{.State.Running}}", 0, r"^true\n"),
    ("inspect --size web", 0, r'"SizeRootFs": \d'),
    ("inspect busybox -f {{.Id}}", 0, r"^sha256:"),
    ("inspect nosuchthing", 1, r"No such object"),
    ("exec web echo in", 0, r"^in\n"),
    ("exec -i web cat", 0, ""),
    ("exec -e X=y -w /etc -u 1000 web sh -c 'echo $X; pwd; id -u'", 0, r"^y\n/etc\n1000\n"),
    ("exec web sh -c 'exit 9'", 9, ""),
    ("exec -d web touch /detached", 0, ""),
    ("exec nosuch true", 1, r"No such container"),
    ("logs made", 0, r"/tmp\nb\n/tmp\nb\n"),
    ("logs -t --tail 1 made", 0, r"^\d{4}-\d\d-\d\dT[0-9:.]+Z b\n"),
    ("logs --since 1h --until 1s made", {0}, r""),
    ("top web", 0, r"httpd"),
    ("top web -o pid,comm", 0, r"PID\s+COMMAND"),
    ("stats --no-stream web", 0, r"web"),
    ("stats --no-stream --format {{.Name}}", 0, r"^web\n"),
    ("diff web", 0, r""),
    ("cp web:/etc/passwd {dir}/passwd", 0, ""),
    ("cp {dir}/passwd web:/tmp/copied", 0, ""),
    ("exec web cat /tmp/copied", 0, r"^root:"),
    ("cp web:/etc {dir}/etc", 0, ""),
    ("cp web:/nosuch {dir}/x", 1, r"(?i)could not find|no such"),
    ("export -o {dir}/web.tar web", 0, ""),
    ("import -c 'CMD [\"sh\"]' -m imported {dir}/web.tar imported:1", 0, r"sha256:"),
    ("run --rm imported:1 cat /tmp/copied", 0, r"^root:"),
    ("commit -c 'ENV Z=1' -m saved -a me web committed:1", 0, r"^sha256:[0-9a-f]{64}\n"),
    ("run --rm committed:1 sh -c 'echo $Z; cat /tmp/copied'", 0, r"^1\nroot:"),
    ("image history committed:1 -q", 0, r""),
    ("save -o {dir}/saved.tar committed:1", 0, ""),
    ("rmi committed:1", 0, r"Untagged: committed:1"),
    ("load -i {dir}/saved.tar", 0, r"Loaded image: committed:1"),
    ("update --memory 64m --memory-swap 64m --restart unless-stopped web", 0, r"web"),
    ("inspect web -f {{.HostConfig.Memory}}:{{.HostConfig.RestartPolicy.Name}}", 0, r"^67108864:unless-stopped\n"),
    ("pause web", 0, r"^web\n"),
    ("ps --filter status=paused --format {{.Status}}", 0, r"Paused"),
    ("exec web true", 1, r"(?i)paused"),
    ("unpause web", 0, r"^web\n"),
    ("unpause web", 1, r"(?i)not paused"),
    ("restart -t 1 web", 0, r"^web\n"),
    ("rename web web2", 0, ""),
    ("rename web2 web", 0, ""),
    ("kill -s USR1 made", 1, r"(?i)not running"),
    ("stop -t 1 web", 0, r"^web\n"),
    ("stop web", 0, r"^web\n"),
    ("start web", 0, r"^web\n"),
    ("kill web", 0, r"^web\n"),
    ("rm made", 0, r"^made\n"),
    ("rm nosuch", 1, r"No such container"),
    ("start web", 0, r"^web\n"),
    ("rm web", 1, r"(?i)running"),
    ("container ls -a --format json", 0, r'"Names":"web"'),
    ("container inspect web", 0, r'"Path": "httpd"'),
    ("container prune -f", 0, r"reclaimed"),

    ("network ls", 0, r"bridge\s+bridge\s+local\n"),
    ("network create n1 --subnet 10.254.77.0/24 --label net=1", 0, r"^[0-9a-f]{64}\n"),
    ("network create n1", 1, r"already exists"),
    ("network inspect n1 -f '{{(index .IPAM.Config 0).Subnet}}'", 0, r"^10.254.77.0/24\n"),
    ("network connect --alias w n1 web", 0, ""),
    ("network connect n1 web", 1, r"already exists"),
    ("run --rm --network n1 busybox wget -qO- http://w:8080/os-release", 0, r"ID="),
    ("run --rm --network n1 --ip 10.254.77.99 busybox ip addr", 0, r"10\.254\.77\.99/24"),
    ("network rm n1", 1, r"active endpoints"),
    ("network disconnect n1 web", 0, ""),
    ("network disconnect n1 web", 1, r"not connected"),
    ("network ls --filter label=net=1 -q", 0, r"^[0-9a-f]{12}\n"),
    ("network rm n1", 0, r"^n1\n"),
    ("network create n2", 0, r"^[0-9a-f]{64}\n"),
    ("network prune -f", 0, r"n2"),
    ("network rm bridge", 1, r"(?i)pre-defined"),

    ("volume create v1 --label vol=1", 0, r"^v1\n"),
    ("volume create", 0, r"^[0-9a-f]{64}\n"),
    ("volume ls -q --filter label=vol=1", 0, r"^v1\n"),
    ("volume inspect v1 -f {{.Driver}}", 0, r"^local\n"),
    ("run --rm -v v1:/data busybox sh -c 'echo kept > /data/f'", 0, ""),
    ("run --rm --mount type=volume,source=v1,target=/d,readonly busybox cat /d/f", 0, r"^kept\n"),
    ("run --name user -v v1:/data busybox true", 0, ""),
    ("volume rm v1", 1, r"(?i)in use"),
    ("rm -v user", 0, ""),
    ("volume rm v1", 0, r"^v1\n"),
    ("volume rm nosuch", 1, r"(?i)no such volume"),
    ("volume prune -f -a", 0, r"reclaimed"),

    ("build -t built:1 --build-arg WHO=me {dir}/context", 0, r"Successfully tagged built:1"),
    ("build -q -t built:2 {dir}/context", 0, r"^sha256:[0-9a-f]{64}\n"),
    ("run --rm built:1", 0, r"^built for me\n"),
    ("build -t broken {dir}/broken", {1, 3}, r"non-zero code: 3"),
    ("image ls --filter label=made=here -q", 0, r"^[0-9a-f]{12}\n"),
    ("builder prune -f", ANY, ""),

    ("tag busybox {registry}/t/box:1", 0, ""),
    ("push {registry}/t/box:1", 0, r"digest: sha256:[0-9a-f]{64}"),
    ("rmi {registry}/t/box:1", 0, r"Untagged"),
    ("pull {registry}/t/box:1", 0, r"Downloaded newer image|Image is up to date"),
    ("pull -q {registry}/t/box:1", 0, r"^{registry}/t/box:1\n"),
    ("run --rm --pull always -q {registry}/t/box:1 echo pulled", 0, r"^pulled\n"),
    ("pull {registry}/t/nosuch", 1, r"(?i)not found|manifest unknown"),
    ("image inspect {registry}/t/box:1 -f '{{index .RepoDigests 0}}'", 0, r"^{registry}/t/box@sha256:"),
    ("login -u a -p b {registry}", 0, r"Login Succeeded"),
    ("logout {registry}", 0, r"Removing login credentials"),
    ("manifest inspect --insecure {registry}/t/box:1", ANY, ""),
    ("search nosuchthing", ANY, ""),

    ("events --since 1h --until 0s --filter type=network", 0, r"network"),
    ("system df", 0, r"Local Volumes"),
    ("system df -v", 0, r"Images space usage"),
    ("system info -f {{.ServerVersion}}", 0, r"\d"),
    ("image prune -f", 0, r"reclaimed"),
    ("rm -f web", 0, r"^web\n"),
    ("system prune -f --volumes", 0, r"reclaimed"),
    ("system prune -f --filter label=nosuch", 0, r"reclaimed"),
    ("image prune -a -f --filter label=made=here", 0, r"reclaimed"),

    ("plugin ls", 0, r"ID"),
    ("plugin inspect nosuch", 1, ""),
    ("context ls", 0, r"default"),
    ("context create other --docker host={host}", 0, r"other"),
    ("--context default ps -q", 0, ""),
    ("context rm other", 0, r"other"),
    ("trust inspect busybox", ANY, ""),
    ("checkpoint ls nosuch", ANY, ""),
    ("swarm leave", 1, r"(?i)not part of a swarm"),
    ("node ls", 1, r"(?i)not a swarm manager"),
    ("service ls", 1, r"(?i)not a swarm manager"),
    ("secret ls", 1, r"(?i)not a swarm manager"),
    ("config ls", 1, r"(?i)not a swarm manager"),
    ("stack ls", 1, r"(?i)not a swarm manager"),
    ("volume update nosuch", 1, ""),
]


def split_words(text):
    """Words of a row: split at spaces, single quotes hold together, nothing is expanded."""
    return [quoted if quoted else plain for quoted, plain in re.findall(r"'([^']*)'|(\S+)", text)]


# Without root, where none are delegated (docs/how-to/rootless.md).
NEEDS_CGROUPS = {row for row, _, _ in PLAIN if row.startswith(("stats ", "update ", "pause ", "unpause ")) or row in ("exec web true", "ps --filter status=paused --format {{.Status}}",
                                                                                                               "inspect web -f {{.HostConfig.Memory}}:{{.HostConfig.RestartPolicy.Name}}")}


class DockerMatrix(clients.ClientTest):
    @classmethod
    def needs(cls):
        return clients.Registry.why_not() or (None if shutil.which("docker") else "needs docker's command line")

    def make_inputs(self):
        self.registry = clients.Registry(self.target).open()
        self.addCleanup(self.registry.close)
        self.port = clients.free_port()
        self.folder = self.scratch()
        for name, text in (("context", "FROM busybox\nARG WHO\nLABEL made=here\nRUN echo built for $WHO > /made\nCOPY Dockerfile /kept\nCMD cat /made\n"),
                           ("broken", "FROM busybox\nRUN exit 3\n")):
            os.makedirs(os.path.join(self.folder, name))
            with open(os.path.join(self.folder, name, "Dockerfile"), "w", encoding="utf-8") as file:
                file.write(text)

    def fill(self, text):
        for name, value in (("{port}", self.port), ("{registry}", self.registry.address), ("{dir}", self.folder), ("{host}", self.target.host)):
            text = text.replace(name, str(value))
        return text

    def api_version(self):
        return tuple(map(int, self.docker("version", "-f", "{{.Server.APIVersion}}").stdout.split(".")))

    def test_every_command_answers_as_with_docker(self):
        self.make_inputs()
        version = self.api_version()
        failures = []
        for row, allowed, pattern in PLAIN:
            if NEWER.get(row, version) > version or (clients.caisson.ROOTLESS and row in NEEDS_CGROUPS):
                continue
            words = split_words(self.fill(row))
            run = self.docker(*words, check=None, environment={"DOCKER_BUILDKIT": "0"})
            text = run.stdout + run.stderr
            codes = {allowed} if isinstance(allowed, int) else allowed
            if run.returncode not in codes:
                failures.append(f"docker {' '.join(words)}: ended with {run.returncode}, not {sorted(codes)}: {text.strip()[-300:]}")
            elif not re.search(self.fill(pattern).replace("127.0.0.1", r"127\.0\.0\.1"), text, re.MULTILINE):
                failures.append(f"docker {' '.join(words)}: {pattern!r} is not in: {text.strip()[-300:]}")
        print(f"{len(PLAIN) - len(failures)} of {len(PLAIN)} commands as expected on {self.target.name}")
        self.assertEqual(failures, [], "\n" + "\n".join(failures))

    def test_a_terminal_in_run_attach_and_exec(self):
        self.docker("run", "-dit", "--name", "term", "busybox", "sh")
        self.addCleanup(self.docker, "rm", "-f", "term")
        for command in (["attach", "--detach-keys", "ctrl-x,y", "term"], ["exec", "-it", "--detach-keys", "ctrl-x,y", "term", "sh"]):
            with self.subTest(command=command):
                terminal = Terminal(self.target.by_owner([shutil.which("docker"), *command]), self.environment())
                terminal.type(b"echo sum $((40+2))\n")
                terminal.read_until(b"sum 42")
                terminal.type(b"\x18y")
                terminal.wait()
        self.assertEqual(self.docker("inspect", "-f", "{{.State.Running}}", "term").stdout, "true\n")

    def test_pipes_carry_archives_both_ways(self):
        self.docker("run", "-d", "--name", "pipes", "busybox", "sleep", "1000")
        self.addCleanup(self.docker, "rm", "-f", "pipes")
        run = self.command("sh", "-c", "docker cp pipes:/etc/passwd - | tar tf - && tar cf - -C /etc hostname | docker cp - pipes:/tmp && docker exec pipes cat /tmp/hostname", check=0)
        self.assertIn("passwd", run.stdout)
        run = self.command("sh", "-c", "docker save busybox | docker load && docker export pipes | docker import - piped:1 && docker run --rm piped:1 cat /tmp/hostname", check=0)
        self.assertIn("Loaded image: busybox:latest", run.stdout)


if __name__ == "__main__":
    clients.main()

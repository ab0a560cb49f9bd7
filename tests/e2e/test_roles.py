#!/usr/bin/env python3
"""Who may do what at the socket: users of its group, roles of a file, tokens, containers that were given the socket, and the audit log."""

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import unittest

import caisson
from caisson import wait_until
from test_tls import Authority

ALICE, BOB = 61001, 61002
GROUP = 61000  # of the socket: both may open it


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(connection, method, path, headers=None):
    """(status, text) of one request."""
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def remove_folder(path):
    """Whether it is still there."""
    with contextlib.suppress(OSError):
        os.rmdir(path)
    return os.path.exists(path)


class RolesTest(unittest.TestCase):
    """One engine; `roles`: the text of its file."""

    roles = None
    options = ()

    @classmethod
    def setUpClass(cls):
        reason = caisson.why_not()
        if reason:
            raise unittest.SkipTest(reason)
        cls.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "roles-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        os.chmod(cls.folder, 0o755)
        options = ["--group", str(GROUP), *cls.options]
        cls.roles_path = os.path.join(cls.folder, "roles.toml")
        if cls.roles is not None:
            with open(cls.roles_path, "w", encoding="utf-8") as file:
                file.write(cls.roles.format(folder=cls.folder))
            options += ["--roles", cls.roles_path]
        # The clone may lie where other users cannot go.
        cls.program = os.path.join(cls.folder, "caisson")
        shutil.copy(os.path.join(caisson.BIN, "caisson"), cls.program)
        cls.more = ()
        cls.prepare()
        cls.engine = caisson.Engine(options=[*options, *cls.more])
        cls.addClassCleanup(cls.engine.close)
        cls.engine.start()
        cls.engine.import_busybox()

    @classmethod
    def prepare(cls):
        """What must be there before the engine."""

    def tearDown(self):
        ids = self.engine.ok("ps", "-aq").split()
        if ids:
            self.engine.ok("rm", "-f", "-v", *ids)

    def as_user(self, uid, *arguments, check=None, typed=""):
        run = subprocess.run([self.program, "-H", self.engine.host, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False, input=typed,
                             user=uid, group=uid, extra_groups=[GROUP], cwd="/", env={**self.engine.environment(), "HOME": "/nonexistent", "DOCKER_CONFIG": "/nonexistent"})
        if check is not None:
            self.assertEqual(run.returncode, check, f"{arguments}\n{run.stdout}\n{run.stderr}\n{self.engine.log_text()[-1500:]}")
        return run

    def refused(self, uid, *arguments, because=""):
        run = self.as_user(uid, *arguments)
        self.assertNotEqual(run.returncode, 0, f"{arguments} was allowed:\n{run.stdout}")
        self.assertIn("does not allow" if not because else because, run.stderr, arguments)
        return run.stderr

    def audit(self):
        with open(os.path.join(self.engine.root, "audit.log"), encoding="utf-8") as file:
            return [json.loads(line) for line in file]


@caisson.differs_without_root("nobody but the user reaches the socket")
class UsersOfTheSocket(RolesTest):
    """Without a file: whoever may open the socket runs ordinary containers, and those are theirs alone."""

    def test_an_ordinary_container_runs(self):
        run = self.as_user(ALICE, "run", "--rm", "-m", "64m", "busybox", "sh", "-c", "id -u; cat /proc/self/uid_map", check=0)
        self.assertEqual(run.stdout.split()[0], "0")
        self.assertNotEqual(run.stdout.split()[2], "0", "its root must be nobody on the host")

    def test_what_reaches_the_host_is_refused_by_name(self):
        run = ("run", "--rm")
        image = ("busybox", "true")
        profile = os.path.join(self.folder, "profile.json")
        with open(profile, "w", encoding="utf-8") as file:
            json.dump({"defaultAction": "SCMP_ACT_ALLOW"}, file)
        attacks = {
            "privileged": ["--privileged"],
            "bind mount of /": ["-v", "/:/host"],
            "bind mount of /etc": ["--mount", "type=bind,src=/etc,dst=/x,readonly"],
            "bind mount of / ": ["-v", "/usr/..:/host"],
            "CAP_SYS_ADMIN": ["--cap-add", "CAP_SYS_ADMIN"],
            "ALL": ["--cap-add", "ALL"],
            "host's pid": ["--pid", "host"],
            "host's network": ["--network", "host"],
            "host's ipc": ["--ipc", "host"],
            "host's uts": ["--uts", "host"],
            "host's cgroup": ["--cgroupns", "host"],
            "host's user": ["--userns", "host"],
            "/dev/kmsg": ["--device", "/dev/kmsg"],
            "device rule": ["--device-cgroup-rule", "b *:* rwm"],
            "seccomp": ["--security-opt", "seccomp=unconfined"],
            "seccomp profile": ["--security-opt", f"seccomp={profile}"],
            "AppArmor": ["--security-opt", "apparmor=unconfined"],
            "uncovered": ["--security-opt", "systempaths=unconfined"],
            "cgroup parent": ["--cgroup-parent", "/"],
            "volume option": ["--mount", "type=volume,dst=/x,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/"],
            "oom-score-adj": ["--oom-score-adj", "-900"],
            "ulimit": ["--ulimit", "rtprio=50"],
            "port 80": ["-p", "80:80"],
            "log driver": ["--log-driver", "syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:1"],
            "annotation": ["--annotation", "org.systemd.property.X=1"],
        }
        for what, arguments in attacks.items():
            with self.subTest(what):
                text = self.refused(ALICE, *run, *arguments, *image)
                self.assertIn(what.strip(), text)
                self.assertIn('role "user" (built in)', text)
        self.assertEqual(self.engine.ok("ps", "-aq"), "", "a refused container was left")

    def test_verbs_that_reach_others_are_refused(self):
        for arguments in (["load", "-i", "/dev/null"], ["tag", "busybox", "debian"], ["rmi", "busybox"], ["build", "-"], ["image", "prune", "-f"], ["builder", "prune", "-f"]):
            with self.subTest(arguments):
                self.refused(ALICE, *arguments)
        self.refused(ALICE, "volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/", "root")
        self.refused(ALICE, "network", "create", "-d", "macvlan", "lan")
        self.refused(ALICE, "network", "create", "--subnet", "8.8.8.0/24", "public")
        self.refused(ALICE, "network", "create", "--subnet", "10.0.0.0/1", "half")
        self.refused(ALICE, "network", "create", "-o", "com.docker.network.bridge.name=eth0", "adopted")

    def test_nobody_touches_what_is_anothers(self):
        theirs = self.as_user(ALICE, "run", "-d", "--name", "theirs", "-v", "theirdata:/data", "busybox", "sleep", "1000", check=0).stdout.strip()
        self.engine.ok("run", "-d", "--name", "roots", "busybox", "sleep", "1000")
        self.as_user(ALICE, "network", "create", "theirnet", check=0)
        self.addCleanup(self.engine.cli, "network", "rm", "theirnet")
        for name in ("theirs", theirs[:12], "roots"):
            for verb in (["inspect"], ["logs"], ["exec", name, "true"], ["stop"], ["kill"], ["rm", "-f"], ["pause"], ["rename", name, "mine"], ["update", "-m", "10m"],
                         ["cp", f"{name}:/etc/hostname", "-"], ["cp", "/etc/hostname", f"{name}:/"], ["diff"], ["top"], ["export"], ["wait"], ["restart"], ["attach"], ["stats", "--no-stream"]):
                with self.subTest(name=name, verb=verb):
                    arguments = verb if len(verb) > 1 and name in " ".join(verb) else [*verb, name]
                    run = self.as_user(BOB, *arguments)
                    self.assertNotEqual(run.returncode, 0, run.stdout)
                    self.assertRegex(run.stderr, "is for objects with caisson.owner=uid:61002|[Nn]o such|HTTP status 403")  # HEAD has no text
        for arguments in (["--network", "container:theirs"], ["--pid", "container:theirs"], ["--ipc", "container:roots"], ["--volumes-from", "theirs"], ["-v", "theirdata:/x"],
                          ["--network", "theirnet"], ["--link", "theirs"]):
            with self.subTest(arguments):
                run = self.as_user(BOB, "run", "--rm", *arguments, "busybox", "true")
                self.assertNotEqual(run.returncode, 0, arguments)
                self.assertRegex(run.stderr, "does not allow|is for objects with")
        self.assertEqual(self.as_user(BOB, "ps", "-aq", check=0).stdout, "")
        self.assertEqual(self.as_user(BOB, "volume", "ls", "-q", check=0).stdout, "")
        self.assertNotIn("theirnet", self.as_user(BOB, "network", "ls", check=0).stdout)
        self.assertNotIn("theirs", self.as_user(BOB, "network", "inspect", "bridge", check=0).stdout)
        self.assertEqual(self.as_user(ALICE, "ps", "-q", "--no-trunc", check=0).stdout.strip(), theirs)
        self.assertEqual(self.as_user(ALICE, "exec", "theirs", "echo", "mine", check=0).stdout, "mine\n")
        self.refused(ALICE, "exec", "--privileged", "theirs", "true")
        self.as_user(BOB, "container", "prune", "-f", check=0)
        self.as_user(BOB, "volume", "prune", "-af", check=0)
        self.assertIn("theirdata", self.engine.ok("volume", "ls", "-q"))
        self.as_user(ALICE, "rm", "-f", "theirs", check=0)
        self.as_user(ALICE, "volume", "rm", "theirdata", check=0)

    def test_a_cgroup_with_a_containers_id_for_its_name_makes_nobody_that_container(self):
        name = self.engine.ok("run", "-d", "--userns", "host", "--name", "roots", "busybox", "sleep", "1000")
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            controllers = [line.split(":")[1] for line in file]
        root = "/sys/fs/cgroup" if controllers == [""] else "/sys/fs/cgroup/pids"
        fake = os.path.join(root, self.engine.tag + "-fake", name)
        os.makedirs(fake)
        self.addCleanup(lambda: [wait_until(lambda path=path: not remove_folder(path), "the cgroup is gone") for path in (fake, os.path.dirname(fake))])
        script = f'echo $$ >{fake}/cgroup.procs && exec setpriv --reuid {BOB} --regid {BOB} --groups {GROUP} "$@"'
        run = subprocess.run(["sh", "-c", script, "sh", self.program, "-H", self.engine.host, "roles", "show"], capture_output=True, text=True, check=False, cwd="/",
                             env={**self.engine.environment(), "HOME": "/nonexistent", "DOCKER_CONFIG": "/nonexistent"})
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn(f"uid:{BOB}", run.stdout)
        self.assertNotIn("container:", run.stdout)

    def test_labels_do_not_lie_about_whose_it_is(self):
        self.refused(ALICE, "run", "-d", "--label", f"caisson.owner=uid:{BOB}", "busybox", "true")
        self.refused(ALICE, "volume", "create", "--label", f"caisson.owner=uid:{BOB}", "gift")
        # An image that says whose its containers are.
        self.engine.import_image(caisson.busybox_rootfs(), "liar:latest", ['CMD ["/bin/sh"]', f"LABEL caisson.owner=uid:{BOB}"])
        self.engine.ok("run", "-d", "--name", "lied", "liar", "sleep", "1000")
        self.assertEqual(self.as_user(BOB, "ps", "-aq", check=0).stdout, "")
        self.assertNotEqual(self.as_user(BOB, "exec", "lied", "true").returncode, 0)

    def test_events_tell_of_ones_own(self):
        process = subprocess.Popen([self.program, "-H", self.engine.host, "events", "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}"], stdout=subprocess.PIPE, text=True,
                                   user=ALICE, group=ALICE, extra_groups=[GROUP], cwd="/", env=self.engine.environment())
        try:
            wait_until(lambda: json.loads(self.engine.request("GET", "/info")[2])["NEventsListener"] > 0, "somebody listens")
            self.engine.ok("run", "--rm", "--name", "roots", "busybox", "true")
            self.as_user(ALICE, "run", "--rm", "--name", "mine", "busybox", "true", check=0)
            for line in process.stdout:
                self.assertNotIn("roots", line)
                if line.startswith("container destroy mine"):
                    break
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def test_every_change_leaves_a_line_that_says_who_and_whether(self):
        self.as_user(ALICE, "run", "--rm", "--name", "told", "busybox", "true", check=0)
        self.refused(BOB, "run", "--privileged", "--name", "untold", "busybox", "true")
        lines = self.audit()
        created = [line for line in lines if line["verb"] == "container.create" and line["object"] == "told"]
        self.assertEqual([(line["who"], line["role"], line["decision"]) for line in created], [(f"uid:{ALICE}", "user", "allowed")])
        self.assertEqual(created[0]["from"], self.engine.host)
        self.assertEqual(created[0]["asks"]["image"], "busybox")
        self.assertEqual(len(created[0]["id"]), 64)
        self.assertTrue([line for line in lines if line["verb"] == "container.start" and line.get("id") == created[0]["id"]])
        denied = [line for line in lines if line["object"] == "untold"]
        self.assertEqual([(line["who"], line["decision"]) for line in denied], [(f"uid:{BOB}", "denied")])
        self.assertIn("privileged", denied[0]["why"])
        self.assertEqual(os.stat(os.path.join(self.engine.root, "audit.log")).st_mode & 0o777, 0o600)

    def test_everybody_can_ask_who_they_are(self):
        shown = self.as_user(ALICE, "roles", "show", check=0).stdout
        self.assertIn(f"uid:{ALICE}", shown)
        self.assertIn("user (built in)", shown)
        self.assertIn(f"caisson.owner=uid:{ALICE}", shown)
        self.assertIn("everything", self.engine.ok("roles", "show"))
        self.assertIn("container.exec", self.engine.ok("roles", "verbs", "-q").split())
        made = self.engine.cli("roles", "token", "ci", check=0)
        self.assertIn(hashlib.sha256(made.stdout.strip().encode()).hexdigest(), made.stderr)
        bad = os.path.join(self.folder, "bad.toml")
        with open(bad, "w", encoding="utf-8") as file:
            file.write("[[who]]\nuser = \"root\"\n")
        self.assertIn("line 1: who: has no role", self.engine.cli("roles", "check", bad, check=1).stderr)

    def test_root_is_admin_and_another_engines_container_is_nobody(self):
        self.engine.ok("run", "--rm", "--privileged", "busybox", "true")
        # What docker's container with our socket would be: root of the host, in a PID namespace of its own.
        run = subprocess.run(["unshare", "--pid", "--fork", self.program, "-H", self.engine.host, "ps"], capture_output=True, text=True, env=self.engine.environment(), check=False)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("none", run.stderr)


class ContainersWithTheSocket(RolesTest):
    """A container that mounts the socket is itself there: its project's containers, in the default box, and never the host."""

    def setUp(self):
        self.mounts = ["-v", f"{self.engine.socket}:/run/caisson.sock", "-v", f"{self.program}:/bin/caisson:ro"]

    def inside(self, name, *arguments):
        return self.engine.cli("exec", name, "caisson", "-H", "unix:///run/caisson.sock", *arguments)

    def test_the_classic_attack_and_its_variants_fail(self):
        self.engine.ok("run", "-d", "--name", "spy", *self.mounts, "busybox", "sleep", "1000")
        self.engine.ok("run", "-d", "--name", "other", "--privileged", "busybox", "sleep", "1000")
        self.assertEqual(self.inside("spy", "run", "--rm", "busybox", "echo", "allowed").stdout, "allowed\n", self.inside("spy", "version").stderr)
        attacks = [["run", "--rm", "-v", "/:/host", "busybox", "cat", "/host/etc/shadow"], ["run", "--rm", "--privileged", "busybox", "true"],
                   ["run", "--rm", "--pid", "host", "--userns", "host", "busybox", "true"], ["run", "--rm", "--network", "host", "busybox", "true"],
                   ["run", "--rm", "--device", "/dev/vda", "busybox", "true"], ["run", "--rm", "--cap-add", "ALL", "busybox", "true"],
                   ["run", "--rm", "--device-cgroup-rule", "a *:* rwm", "busybox", "true"], ["run", "--rm", "--cgroup-parent", "/x", "busybox", "true"],
                   ["run", "--rm", "--security-opt", "seccomp=unconfined", "busybox", "true"],
                   ["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/", "hostroot"],
                   ["run", "--rm", "--mount", "type=volume,dst=/x,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/", "busybox", "true"],
                   ["exec", "other", "true"], ["exec", "--privileged", "spy", "true"], ["run", "--rm", "--pid", "container:other", "busybox", "true"],
                   ["run", "--rm", "--volumes-from", "other", "busybox", "true"], ["cp", "other:/etc/hostname", "-"], ["commit", "other", "stolen"], ["commit", "spy", "busybox"],
                   ["tag", "busybox", "debian"], ["rm", "-f", "other"], ["build", "-"], ["rmi", "-f", "busybox"], ["plugin", "install", "evil"],
                   ["run", "--rm", "--label", "caisson.project=other", "busybox", "true"]]
        for arguments in attacks:
            with self.subTest(arguments):
                run = self.inside("spy", *arguments)
                self.assertNotEqual(run.returncode, 0, run.stdout)
        self.assertEqual(self.inside("spy", "ps", "-q", "--format", "{{.Names}}").stdout.split(), ["spy"])
        lines = [line for line in self.audit() if line["who"].startswith("container:")]
        self.assertTrue([line for line in lines if line["decision"] == "denied" and "/" in line["why"]])

    def test_a_privileged_container_with_the_host_root_is_no_more(self):
        self.engine.ok("run", "-d", "--name", "spy", "--privileged", *self.mounts, "busybox", "sleep", "1000")
        self.assertNotEqual(self.inside("spy", "run", "--rm", "-v", "/:/host", "busybox", "true").returncode, 0)
        self.assertEqual(self.inside("spy", "ps", "--format", "{{.Names}}").stdout.split(), ["spy"])

    def test_a_folder_that_holds_the_socket_gives_no_more_than_the_socket(self):
        self.engine.ok("run", "-d", "--name", "spy", "-v", f"{os.path.dirname(self.engine.socket)}:/host", "-v", f"{self.program}:/bin/caisson:ro", "busybox", "sleep", "1000")
        run = self.engine.cli("exec", "spy", "caisson", "-H", "unix:///host/caisson.sock", "run", "--rm", "--privileged", "busybox", "true")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn('role "container of admin"', run.stderr)

    def test_a_project_is_what_carries_its_name(self):
        label = ["--label", "com.docker.compose.project=shop"]
        self.engine.ok("run", "-d", "--name", "manager", *label, *self.mounts, "busybox", "sleep", "1000")
        self.engine.ok("run", "-d", "--name", "sibling", *label, "busybox", "sleep", "1000")
        self.engine.ok("run", "-d", "--name", "stranger", "busybox", "sleep", "1000")
        self.assertEqual(sorted(self.inside("manager", "ps", "--format", "{{.Names}}").stdout.split()), ["manager", "sibling"])
        self.assertEqual(self.inside("manager", "exec", "sibling", "echo", "hello").stdout, "hello\n")
        self.assertEqual(self.inside("manager", "restart", "-t", "0", "sibling").returncode, 0)
        made = self.inside("manager", "run", "-d", "--name", "made", "busybox", "sleep", "1000")
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertEqual(self.engine.inspect("made")["Config"]["Labels"]["caisson.project"], "shop")
        self.assertNotEqual(self.inside("manager", "stop", "stranger").returncode, 0)

    def test_a_container_made_by_a_container_has_its_project_and_no_more(self):
        self.engine.ok("run", "-d", "--name", "runner", "--label", "caisson.project=ci", *self.mounts, "busybox", "sleep", "1000")
        self.engine.ok("run", "-d", "--name", "stranger", "busybox", "sleep", "1000")
        made = self.inside("runner", "run", "-d", "--name", "job", "-v", f"{self.engine.socket}:/run/caisson.sock", "busybox", "sleep", "1000")
        self.assertEqual(made.returncode, 0, made.stderr)
        self.engine.ok("cp", self.program, "job:/bin/caisson")
        self.assertEqual(sorted(self.inside("job", "ps", "--format", "{{.Names}}").stdout.split()), ["job", "runner"])
        self.assertEqual(self.inside("job", "run", "--rm", "busybox", "echo", "built").stdout, "built\n")
        self.assertNotEqual(self.inside("job", "run", "--rm", "--privileged", "busybox", "true").returncode, 0)
        self.assertNotEqual(self.inside("job", "kill", "stranger").returncode, 0)

    @caisson.differs_without_root("nobody but the user reaches the socket")
    def test_a_users_container_does_not_get_anothers_project_by_its_name(self):
        label = ["--label", "caisson.project=shop"]
        self.engine.ok("run", "-d", "--name", "roots", *label, "busybox", "sleep", "1000")
        run = self.as_user(ALICE, "run", "-d", "--name", "spy", *label, "-v", f"{self.engine.socket}:/run/caisson.sock", "busybox", "sleep", "1000")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.engine.ok("cp", self.program, "spy:/bin/caisson")
        self.assertEqual(self.inside("spy", "ps", "--format", "{{.Names}}").stdout.split(), ["spy"])
        self.assertNotEqual(self.inside("spy", "exec", "roots", "true").returncode, 0)


class RolesOfAFile(RolesTest):
    roles = """
[[who]]
user = "61001"
role = "developer"
[[who]]
token = "ci"
token-sha256 = "%s"
role = "operator"

[roles.developer]
may = ["see", "container.*", "image.pull"]
labels = ["team=web"]
[roles.developer.containers]
binds = ["{folder}/site", "{folder}/keys:ro", "{folder}/own:owners"]
capabilities = ["NET_ADMIN"]
images = ["busybox*"]
users = ["0", "1000-1999"]
memory = "64m"
cpus = 0.5
pids = 50
""" % hashlib.sha256(b"secret").hexdigest()

    @classmethod
    def prepare(cls):
        for name in ("site", "keys", "own"):
            os.mkdir(os.path.join(cls.folder, name))
        for path in ("site/page", "keys/key"):
            with open(os.path.join(cls.folder, path), "w", encoding="utf-8") as file:
                file.write("content\n")

    @classmethod
    def setUpClass(cls):
        cls.options = ("-H", f"tcp://127.0.0.1:{free_port()}", "--tcp-role", "none")
        super().setUpClass()

    def run_as_developer(self, *arguments, check=None):
        return self.as_user(ALICE, "run", "--rm", *arguments, check=check)

    @caisson.differs_without_root("nobody but the user reaches the socket")
    def test_labels_and_limits_of_the_role_are_filled_in(self):
        self.as_user(ALICE, "create", "--name", "made", "busybox", "true", check=0)
        made = self.engine.inspect("made")
        self.assertEqual(made["Config"]["Labels"]["team"], "web")
        self.assertEqual((made["HostConfig"]["Memory"], made["HostConfig"]["NanoCpus"], made["HostConfig"]["PidsLimit"]), (64 << 20, 500_000_000, 50))
        for arguments in (["-m", "65m"], ["--cpus", "0.6"], ["--cpu-quota", "90000"], ["--pids-limit", "51"], ["--memory-swap", "-1"]):
            with self.subTest(arguments):
                self.refused(ALICE, "run", "--rm", *arguments, "busybox", "true")
        self.refused(ALICE, "update", "-m", "1g", "--memory-swap", "2g", "made")
        self.as_user(ALICE, "update", "-m", "32m", "--memory-swap", "64m", "made", check=0)

    @caisson.differs_without_root("nobody but the user reaches the socket")
    def test_objects_of_the_label_are_the_teams_whoever_made_them(self):
        self.engine.ok("run", "-d", "--name", "shared", "--label", "team=web", "busybox", "sleep", "1000")
        self.engine.ok("run", "-d", "--name", "bare", "busybox", "sleep", "1000")
        self.engine.ok("run", "-d", "--name", "strong", "--label", "team=web", "--privileged", "busybox", "sleep", "1000")
        self.assertEqual(sorted(self.as_user(ALICE, "ps", "--format", "{{.Names}}", check=0).stdout.split()), ["shared", "strong"])
        self.as_user(ALICE, "exec", "shared", "true", check=0)
        self.refused(ALICE, "exec", "bare", "true", because="is for objects with team=web")
        self.refused(ALICE, "exec", "strong", "true", because="reaches further than its caller")
        self.refused(ALICE, "exec", "-u", "2000", "shared", "true")

    @caisson.differs_without_root("nobody but the user reaches the socket")
    def test_granted_folders_are_mounted_and_not_left(self):
        site, keys, own = (os.path.join(self.folder, name) for name in ("site", "keys", "own"))
        run = self.run_as_developer("-v", f"{site}:/site", "busybox", "sh", "-c", "cat /site/page; stat -c %u /site/page; touch /site/new", check=None)
        self.assertEqual(run.stdout, "content\n65534\n", "without owners a file of root's belongs to nobody")
        self.assertNotEqual(run.returncode, 0)
        self.refused(ALICE, "run", "--rm", "-v", f"{keys}:/keys", "busybox", "true", because="writing to the bind mount")
        self.run_as_developer("-v", f"{keys}:/keys:ro", "busybox", "cat", "/keys/key", check=0)
        self.run_as_developer("-v", f"{own}:/own", "busybox", "touch", "/own/made", check=0)
        self.assertEqual(os.stat(os.path.join(own, "made")).st_uid, 0)
        self.refused(ALICE, "run", "--rm", "-v", f"{self.folder}:/all", "busybox", "true", because="bind mount of")
        self.refused(ALICE, "run", "--rm", "-v", f"{site}/../keys:/keys", "busybox", "true", because="writing to the bind mount")
        self.refused(ALICE, "run", "--rm", "-v", f"{site}/../../etc:/x", "busybox", "true", because="bind mount of")
        # What a container can write, it can make a link in.
        os.symlink("/etc", os.path.join(own, "out"))
        self.refused(ALICE, "run", "--rm", "-v", f"{own}/out:/etc-of-host", "busybox", "true", because="leads out of")
        os.symlink("../site", os.path.join(own, "beside"))
        self.refused(ALICE, "run", "--rm", "-v", f"{own}/beside:/x", "busybox", "true", because="leads out of")
        # Judged at create, and again by what is there at the start.
        os.mkdir(os.path.join(own, "late"))
        self.as_user(ALICE, "create", "--name", "late", "-v", f"{own}/late:/x", "busybox", "cat", "/x/hostname", check=0)
        os.rmdir(os.path.join(own, "late"))
        os.symlink("/etc", os.path.join(own, "late"))
        run = self.as_user(ALICE, "start", "-a", "late")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("leads out of", run.stderr)

    @caisson.differs_without_root("nobody but the user reaches the socket")
    def test_bounds_of_images_users_and_capabilities(self):
        self.engine.import_image(caisson.busybox_rootfs(), "secret:latest", ['CMD ["/bin/sh"]'])
        self.refused(ALICE, "run", "--rm", "secret", "true")
        self.refused(ALICE, "pull", "example.invalid/secret")
        self.run_as_developer("--cap-add", "NET_ADMIN", "busybox", "true", check=0)
        self.refused(ALICE, "run", "--rm", "--cap-add", "NET_RAW", "busybox", "true")
        self.run_as_developer("-u", "1500", "busybox", "true", check=0)
        self.refused(ALICE, "run", "--rm", "-u", "2000", "busybox", "true")
        self.refused(ALICE, "run", "--rm", "-u", "nobody", "busybox", "true", because="by name")

    def tcp(self, method, path, token=None):
        connection = http.client.HTTPConnection("127.0.0.1", int(self.options[1].rsplit(":", 1)[1]), timeout=30)
        return ask(connection, method, path, {"Authorization": f"Bearer {token}"} if token else {})

    def test_a_token_has_its_role_and_a_wrong_one_none(self):
        self.engine.ok("run", "-d", "--name", "web", "busybox", "sleep", "1000")
        self.assertEqual(self.tcp("GET", "/containers/json")[0], 403)
        for verb in ("restart?t=0", *(() if caisson.ROOTLESS else ("pause", "unpause"))):  # these need cgroups
            self.assertEqual(self.tcp("POST", f"/containers/web/{verb}", "secret")[0], 204)
        status, text = self.tcp("DELETE", "/containers/web?force=1", "secret")
        self.assertEqual(status, 403)
        self.assertIn('role \\"operator\\" (built in) does not allow container.remove', text)
        self.assertEqual(self.tcp("GET", "/containers/json", "wrong")[0], 403)
        self.assertEqual(self.engine.request("GET", "/containers/json", headers={"Authorization": "Bearer wrong"})[0], 403)
        self.assertIn("token:ci", {line["who"] for line in self.audit()})

    def test_a_new_file_holds_from_the_signal_on_and_a_bad_one_changes_nothing(self):
        with open(self.roles_path, encoding="utf-8") as file:
            before = file.read()

        def reload(text, said):
            count = self.engine.log_text().count(said)
            with open(self.roles_path, "w", encoding="utf-8") as file:
                file.write(text)
            self.engine.process.send_signal(1)
            wait_until(lambda: self.engine.log_text().count(said) > count, said)

        def with_role(role):
            token = f'token = "later"\ntoken-sha256 = "{hashlib.sha256(b"later").hexdigest()}"'
            return before + "".join(f'[[who]]\n{who}\nrole = "{role}"\n' for who in ('user = "61002"', token))

        def tagged(name):
            return self.tcp("POST", f"/images/busybox/tag?repo={name}", "later")[0]

        def is_refused():
            self.assertEqual(tagged("mine"), 403)
            if not caisson.ROOTLESS:  # nobody else reaches the socket then
                self.refused(BOB, "tag", "busybox", "mine")

        def is_allowed(name):
            self.assertEqual(tagged(name), 201)
            if not caisson.ROOTLESS:
                self.as_user(BOB, "tag", "busybox", name, check=0)

        is_refused()
        reload(with_role("admin"), "are in force")
        is_allowed("mine")
        reload(with_role("king"), "there is no role")
        is_allowed("mine2")
        reload(before, "are in force")
        is_refused()


@unittest.skipUnless(shutil.which("openssl"), "needs openssl(1)")
class RolesOfCertificates(RolesTest):
    roles = """
[[who]]
certificate = "*.ci"
role = "viewer"
[[who]]
certificate = "*"
role = "none"
"""

    @classmethod
    def prepare(cls):
        authority = Authority(cls.folder, "good")
        certificate, key = authority.sign("daemon", "IP:127.0.0.1")
        caisson.own(key)
        cls.clients = {name: authority.sign(name) for name in ("runner.ci", "stranger")}
        cls.ca = authority.ca
        cls.port = free_port()
        cls.more = ("-H", f"tcp://127.0.0.1:{cls.port}", "--tlsverify", "--tlscacert", authority.ca, "--tlscert", certificate, "--tlskey", key)

    def answer_to(self, client, method, path):
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(*self.clients[client])
        return ask(http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=30), method, path)

    def test_the_name_in_a_certificate_decides(self):
        self.engine.ok("run", "-d", "--name", "web", "busybox", "sleep", "1000")
        self.assertEqual(self.answer_to("runner.ci", "GET", "/containers/web/json")[0], 200)
        self.assertEqual(self.answer_to("runner.ci", "POST", "/containers/web/kill")[0], 403)
        self.assertEqual(self.answer_to("stranger", "GET", "/containers/json")[0], 403)
        status, text = self.answer_to("runner.ci", "GET", "/caisson/v1/identity")
        self.assertEqual((status, json.loads(text)["Who"]), (200, "certificate:runner.ci"))


class Files(unittest.TestCase):
    def test_a_daemon_does_not_start_with_a_file_that_it_cannot_understand(self):
        reason = caisson.why_not()
        if reason:
            self.skipTest(reason)
        with caisson.temporary_folder() as folder:
            path = os.path.join(folder, "roles.toml")
            with open(path, "w", encoding="utf-8") as file:
                file.write("[roles.x]\nmay = [\"container.fly\"]\n")
            for given, said in ((path, "line 2: roles.x.may: \"container.fly\" is no verb"), (os.path.join(folder, "missing"), "missing")):
                engine = caisson.Engine(options=["--roles", given])
                self.addCleanup(engine.close)
                with self.assertRaises(AssertionError) as caught:
                    engine.start()
                self.assertIn(said, str(caught.exception))


if __name__ == "__main__":
    caisson.main()

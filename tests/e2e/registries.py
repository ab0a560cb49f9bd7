"""Registries for tests: Debian's docker-registry in a network namespace of its own, and a server between that can be made to misbehave."""

import base64
import contextlib
import ctypes
import hashlib
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest
import urllib.parse

import caisson
from caisson import wait_until

CLONE_NEWNET = 0x40000000
# bcrypt of "secret" with a fixed salt: docker-registry takes no other form.
HTPASSWD = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"


def why_not():
    return None if shutil.which("docker-registry") else "needs docker-registry: tools/dependencies peers"


def why_not_fetch():
    """Why nothing can be fetched from a registry."""
    return None if os.access(os.path.join(caisson.BIN, "caisson-fetch"), os.X_OK) else "caisson-fetch was not built: libcurl4-openssl-dev"


def in_namespace(name, call):
    """What `call()` returns in a thread that lives in the network namespace `name`: a socket made there stays there."""
    result = {}

    def run():
        try:
            with open(f"/run/netns/{name}", "rb") as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            result["value"] = call()
        except BaseException as error:  # told to the caller below
            result["error"] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if "error" in result:
        raise result["error"]
    return result["value"]


class Namespace:
    """A network namespace with a loopback interface, for an engine and its registries."""

    address = "127.0.0.1"  # where its servers listen

    def __init__(self, for_engines_network=False):
        """`for_engines_network`: the engine's own network reaches `address`, which without root is more than what it fetches by its supervisor."""
        self.name = caisson.name_of_namespace("r")
        caisson.add_network_namespace(self.name)
        self.has_uplink = for_engines_network and caisson.ROOTLESS
        if self.has_uplink:
            # An uplink takes the address of the default route's interface for its own: servers need another one.
            for words in (("link", "add", "way-out", "type", "veth", "peer", "name", "outside"), ("link", "set", "outside", "up"), ("address", "add", "198.51.100.1/24", "dev", "way-out"), ("link", "set", "way-out", "up"), ("route", "add", "default", "via", "198.51.100.2")):
                subprocess.run(["ip", "-n", self.name, *words], check=True)
            self.address = caisson.HostAddress(self.command).text  # goes with the namespace

    @property
    def engine_options(self):
        """An ordinary user's engine fetches from where its supervisor is; an uplink has no way out of here."""
        return ["--rootless-network", "none"] if caisson.ROOTLESS and not self.has_uplink else []

    @property
    def command(self):
        # `ip netns exec` would remount /sys and hide the cgroups; nsenter does not.
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def connect(self, port):
        return in_namespace(self.name, lambda: socket.create_connection((self.address, port), timeout=30))

    def close(self):
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)


class NamespaceTest(unittest.TestCase):
    """Tests alone in a network namespace. What open() makes and gives to `cleanups` is closed at the end, also when opening fails."""

    for_engines_network = False

    @classmethod
    def why_not(cls):
        """The reason why the class cannot run, or None."""
        return caisson.why_not()

    @classmethod
    def open(cls):
        """Makes what all tests of the class share."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if reason := cls.why_not():
            raise unittest.SkipTest(reason)
        cls.cleanups = contextlib.ExitStack()
        try:
            cls.namespace = Namespace(cls.for_engines_network)
            cls.cleanups.callback(cls.namespace.close)
            cls.open()
        except BaseException:
            cls.cleanups.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.cleanups.close()
        super().tearDownClass()

    @classmethod
    def kept(cls, thing):
        """The thing, which is closed at the end."""
        cls.cleanups.callback(thing.close)
        return thing

    @classmethod
    def new_engine(cls, *options):
        engine = cls.kept(caisson.Engine(options=[*cls.namespace.engine_options, *options]))
        engine.prefix_command = cls.namespace.command
        return engine.start()


class CaissonRegistryTest(NamespaceTest):
    """The same, with registries of ours and engines that speak to them."""

    @classmethod
    def why_not(cls):
        return super().why_not() or CaissonRegistry.why_not() or why_not_fetch()


class DockerRegistry:
    """docker-registry on a port of a namespace, with its access log."""

    def __init__(self, namespace, port=5000, htpasswd=False, tls=None, more=""):
        self.namespace = namespace
        self.port = port
        self.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "registry-")
        self.address = f"{namespace.address}:{port}"
        self.log_path = os.path.join(self.folder, "log")
        config = f"""version: 0.1
log: {{level: info}}
storage: {{filesystem: {{rootdirectory: {self.folder}/data}}, delete: {{enabled: true}}}}
http:
  addr: {self.address}
"""
        if tls:
            config += f"  tls: {{certificate: {tls[0]}, key: {tls[1]}}}\n"
        if htpasswd:
            with open(os.path.join(self.folder, "htpasswd"), "w", encoding="utf-8") as file:
                file.write(HTPASSWD)
            config += f"auth: {{htpasswd: {{realm: test, path: {self.folder}/htpasswd}}}}\n"
        self.config = os.path.join(self.folder, "config.yml")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(config + more)
        self.process = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self):
        with open(self.log_path, "ab") as log:
            environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
            self.process = subprocess.Popen([*self.namespace.command, "docker-registry", "serve", self.config], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, env=environment)

        def answers():
            if self.process.poll() is not None:
                raise AssertionError("docker-registry ended: " + self.log_text()[-2000:])
            with contextlib.suppress(OSError):
                self.namespace.connect(self.port).close()
                return True
            return False

        wait_until(answers, "docker-registry answers", 60)

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def requests(self):
        """(method, path, status) of every request so far."""
        return [(m[1], m[2], int(m[3])) for m in re.finditer(r'"(GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) HTTP/[\d.]+" (\d+)', self.log_text())]

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class CaissonRegistry:
    """Our own registry server on a port of a namespace. `config` is registry.toml's text; the log holds every request."""

    READY = " is ready, as user "

    def __init__(self, namespace, port=5005, config="", options=(), folder=None):
        self.namespace = namespace
        self.port = port
        self.address = f"{namespace.address}:{port}"
        self.options = list(options)
        self.owns_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix=caisson.PREFIX + "registry-")
        os.chmod(self.folder, 0o711)  # the server is another user, and its data lie below
        self.root = os.path.join(self.folder, "data")
        self.log_path = os.path.join(self.folder, "log")
        self.config = os.path.join(self.folder, "registry.toml")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(config)
        self.process = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def why_not():
        if not os.access(os.path.join(caisson.BIN, "caisson-registry"), os.X_OK):
            return f"caisson-registry not built in {caisson.BIN}"
        return None if os.geteuid() == 0 else "needs root: its network namespaces"

    def command(self, *words):
        return [os.path.join(caisson.BIN, "caisson-registry"), words[0], "--config", self.config, "--root", self.root, *words[1:]]

    def start(self, environment=None):
        began = self.log_text().count(self.READY) if os.path.exists(self.log_path) else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.namespace.command, *self.command("serve", "--listen", self.address, "--access-log", *self.options)],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **(environment or {})})

        def answers():
            if self.process.poll() is not None:
                raise AssertionError("caisson-registry ended: " + self.log_text()[-2000:])
            return self.log_text().count(self.READY) > began  # it listens before it has given up its rights and locked its folder

        wait_until(answers, "caisson-registry answers", 60)

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def admin(self, *words, check=0):
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=60, check=False)
        if check is not None and done.returncode != check:
            raise AssertionError(f"{words}: exit {done.returncode}: {done.stderr}{done.stdout}")
        return done

    def request(self, method, path, body=None, headers=None, timeout=30):
        """(status, headers with names in lower case, body) of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.sock = self.namespace.connect(self.port)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def stop(self):
        """The orderly end; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def close(self):
        self.kill()
        if self.owns_folder:
            shutil.rmtree(self.folder, ignore_errors=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out as two writes: the second would wait for the first one's delayed acknowledgement

    def log_message(self, *_):
        pass

    def handle_any(self):
        owner = self.server.owner
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        with owner.lock:
            owner.seen.append((self.command, self.path, dict(self.headers)))
        try:
            if not owner.respond(self, body):
                owner.forward(self, body)
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name in (headers or {})):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner, listener):
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.owner = owner

    def handle_error(self, *_):
        pass  # clients that we cut off are the point


class BetweenServer:
    """An HTTP server in the namespace. `respond(handler, body)` answers what it wants and returns True; the rest goes to `upstream_port`."""

    def __init__(self, namespace, upstream_port=5000, address=None):
        self.namespace = namespace
        address = address or namespace.address
        self.upstream_port = upstream_port
        self.lock = threading.Lock()
        self.seen = []
        self.faults = []  # (matches(handler), act(handler, body) -> has answered), the latest first
        listener = in_namespace(namespace.name, lambda: socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET, backlog=64))
        self.port = listener.getsockname()[1]
        self.address = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        self.server = Server(self, listener)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def respond(self, handler, body):
        for matches, act in list(self.faults):
            if matches(handler) and act(handler, body):
                return True
        return False

    def on(self, pattern, act, method=None):
        """`act(handler, body)` for requests whose path matches; it returns False to leave them to what was set before, or to the registry behind."""
        self.faults.insert(0, (lambda handler: re.search(pattern, handler.path) and method in (None, handler.command), act))

    def fetch(self, handler, body=b"", headers=None):
        """(status, headers, body) of the request at the registry behind."""
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream_port)
        connection.sock = self.namespace.connect(self.upstream_port)
        sent = {name: value for name, value in handler.headers.items() if name.lower() not in ("host", "content-length", "connection")}
        sent["Host"] = handler.headers["Host"]
        sent.update(headers or {})
        try:
            connection.request(handler.command, handler.path, body=body or None, headers=sent)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def forward(self, handler, body):
        status, headers, data = self.fetch(handler, body)
        kept = {name: value for name, value in headers.items() if name.lower() not in ("connection", "transfer-encoding", "date")}
        handler.answer(status, data, kept)

    def paths(self, method=None):
        with self.lock:
            return [path for seen_method, path, _ in self.seen if method in (None, seen_method)]

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class TokenServer(BetweenServer):
    """The registry behind, with a token server in front: Bearer challenges, scopes, refresh tokens."""

    def __init__(self, namespace, upstream_port=5000):
        self.granted = []   # (scopes, how)
        self.tokens = {}
        super().__init__(namespace, upstream_port)

    def give(self, handler, scopes, how):
        token = hashlib.sha256(os.urandom(8)).hexdigest()
        self.tokens[token] = scopes
        self.granted.append((scopes, how))
        handler.answer(200, json.dumps({"token": token, "expires_in": 60, "refresh_token": "refresh-1"}).encode(), {"Content-Type": "application/json"})
        return True

    def respond(self, handler, body):
        url = urllib.parse.urlsplit(handler.path)
        if url.path == "/token" and handler.command == "GET":
            query = urllib.parse.parse_qs(url.query)
            wanted = "Basic " + base64.b64encode(b"user:secret").decode()
            given = handler.headers.get("Authorization")
            if given is not None and given != wanted:
                handler.answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}')
                return True
            # Without a password only "public" may be read.
            scopes = [scope for scope in query.get("scope", []) if given or (scope.split(":")[1].startswith("public/") and scope.endswith(":pull"))]
            return self.give(handler, scopes, "basic" if given else "anonymous")
        if url.path == "/token":
            form = urllib.parse.parse_qs(body.decode())
            if form.get("refresh_token") != ["refresh-1"]:
                handler.answer(401, b"{}")
                return True
            return self.give(handler, form["scope"][0].split(" "), "refresh")
        given = handler.headers.get("Authorization", "")
        scopes = self.tokens.get(given[len("Bearer "):]) if given.startswith("Bearer ") else None
        repository = re.match(r"/v2/(.+?)/(manifests|blobs|tags)/", url.path)
        action = "pull" if handler.command in ("GET", "HEAD") else "push"
        needed = f"repository:{repository[1]}:{action}" if repository else ""
        allowed = scopes is not None and (not repository or any(scope.rpartition(":")[0] == f"repository:{repository[1]}" and action in scope.rpartition(":")[2].split(",")
                                                                for scope in scopes))
        if allowed:
            return super().respond(handler, body)
        challenge = f'Bearer realm="http://{self.address}/token",service="test"' + (f',scope="{needed}"' if needed else "")
        code = "DENIED" if scopes is not None else "UNAUTHORIZED"
        handler.answer(401, json.dumps({"errors": [{"code": code, "message": "requested access to the resource is denied"}]}).encode(),
                       {"WWW-Authenticate": challenge, "Content-Type": "application/json"})
        return True

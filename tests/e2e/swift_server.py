"""OpenStack Swift with its S3 middleware, in a network namespace: one replica of everything on one folder, by an unprivileged user, from Debian's python3-swift alone."""

import contextlib
import hashlib
import http.client
import os
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.parse
from datetime import datetime, timezone

import caisson
import s3_server
from caisson import wait_until

PYTHON = "/usr/bin/python3"  # which has Debian's modules
ACCESS_KEY = "images:writer"  # account and user, as tempauth names them
USER = "nobody"
PAGE = 7
PROXY_PORT, ACCOUNT_PORT, CONTAINER_PORT, OBJECT_PORT = 8080, 6202, 6201, 6200
# What /usr/bin/swift-*-server do, with a folder of our own in place of /etc/swift; and what tempauth does not do without, in place of memcached.
RUN = """
import sys
class Cache(dict):
    def __bool__(self):
        return True
    def set(self, key, value, **_):
        self[key] = value
    def delete(self, key, **_):
        self.pop(key, None)
def cache(_, **__):
    kept = Cache()
    def filter(app):
        def call(environ, start_response):
            environ["swift.cache"] = kept
            return app(environ, start_response)
        return call
    return filter
from swift.common import utils
utils.set_swift_dir(sys.argv[1])
from swift.common.wsgi import run_wsgi
sys.exit(run_wsgi(sys.argv[2], sys.argv[3], verbose=True))
"""
RINGS = """
import sys
from swift.common import utils
utils.set_swift_dir(sys.argv[1])
from swift.common.ring import RingBuilder
for kind, port in (("account", {account}), ("container", {container}), ("object", {object})):
    builder = RingBuilder(4, 1, 0)
    builder.add_dev(dict(id=0, region=1, zone=1, ip="127.0.0.1", port=port, device="disk", weight=1, replication_ip="127.0.0.1", replication_port=port))
    builder.rebalance()
    builder.get_ring().save("%s/%s.ring.gz" % (sys.argv[1], kind))
""".format(account=ACCOUNT_PORT, container=CONTAINER_PORT, object=OBJECT_PORT)
STORAGE = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
log_address = /nowhere
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
# s3api's pages are as small as our own service's, so that lists have several.
PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
log_address = /nowhere
[pipeline:main]
pipeline = catch_errors gatekeeper proxy-logging cache listing_formats bulk s3api tempauth slo proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:cache]
paste.filter_factory = __main__:cache
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = {region}
storage_domain = localhost
max_bucket_listing = {page}
[filter:tempauth]
use = egg:swift#tempauth
user_{account} = {secret} .admin
[filter:slo]
use = egg:swift#slo
"""


def why_not():
    """The reason why no Swift can run here, or None."""
    if not os.access(PYTHON, os.X_OK):
        return f"needs Debian's {PYTHON}"
    found = subprocess.run([PYTHON, "-I", "-B", "-c", "import swift.proxy.server, swift.obj.server, swift.container.server, swift.account.server, swift.common.middleware.s3api.s3api"],
                           capture_output=True, text=True, check=False)
    if found.returncode != 0:
        return "needs OpenStack Swift: tools/dependencies s3"
    with tempfile.NamedTemporaryFile(prefix=caisson.PREFIX) as file:
        try:
            os.setxattr(file.name, "user.test", b"1")
        except OSError as error:
            return f"Swift keeps what it knows of objects in attributes, which {tempfile.gettempdir()} has none of: {error}"
    return None


class Objects:
    """The bucket as a mapping: key → bytes."""

    def __init__(self, swift):
        self.swift = swift

    def __contains__(self, key):
        return self.swift.request("HEAD", key)[0] == 200

    def __getitem__(self, key):
        status, _, body = self.swift.request("GET", key)
        if status != 200:
            raise KeyError(key)
        return body

    def __setitem__(self, key, data):
        status, _, body = self.swift.request("PUT", key, data)
        assert status == 200, body


class Swift:
    """The service on 127.0.0.1 of a namespace, with an empty bucket."""

    def __init__(self, namespace):
        self.namespace = namespace
        self.port = PROXY_PORT
        self.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "swift-")
        self.objects = Objects(self)
        self.processes = {}
        os.chmod(self.folder, 0o711)
        self.credentials = os.path.join(self.folder, "credentials")
        self.write("credentials", f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {s3_server.SECRET_KEY}\n")
        self.write("swift.conf", "[swift-hash]\nswift_hash_path_suffix = test\n[storage-policy:0]\nname = one\ndefault = yes\n")
        values = {"folder": self.folder, "user": USER, "region": s3_server.REGION, "page": PAGE, "account": ACCESS_KEY.replace(":", "_"), "secret": s3_server.SECRET_KEY}
        for kind, port in (("account", ACCOUNT_PORT), ("container", CONTAINER_PORT), ("object", OBJECT_PORT)):
            self.write(f"{kind}-server.conf", STORAGE.format(kind=kind, port=port, **values))
        self.write("proxy-server.conf", PROXY.format(port=self.port, **values))
        os.makedirs(os.path.join(self.folder, "devices", "disk"))
        shutil.chown(os.path.join(self.folder, "devices", "disk"), USER)
        try:
            subprocess.run([PYTHON, "-I", "-B", "-c", RINGS, self.folder], check=True, capture_output=True)
            for kind in ("account", "container", "object", "proxy"):
                self.start(kind)
            wait_until(lambda: self.request("PUT", "")[0] == 200, lambda: "the bucket is made\n" + self.log_text()[-3000:], 60)
        except BaseException:
            self.close()
            raise

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            file.write(text)

    def log_text(self):
        with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def start(self, kind):
        port = {"account": ACCOUNT_PORT, "container": CONTAINER_PORT, "object": OBJECT_PORT, "proxy": self.port}[kind]
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.processes[kind] = subprocess.Popen([*self.namespace.command, "setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups", "--inh-caps=-all", PYTHON, "-I", "-B", "-c", RUN, self.folder,
                                                     os.path.join(self.folder, f"{kind}-server.conf"), f"{kind}-server"],
                                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/")

        def answers():
            if self.processes[kind].poll() is not None:
                raise AssertionError(f"Swift's {kind} server ended: " + self.log_text()[-3000:])
            with contextlib.suppress(OSError):
                self.namespace.connect(port).close()
                return True
            return False

        wait_until(answers, f"Swift's {kind} server answers", 60)

    def kill(self, kind):
        self.processes[kind].send_signal(signal.SIGKILL)
        self.processes[kind].wait()

    def request(self, method, key, body=b"", query=()):
        """(status, headers with names in lower case, body) of a signed request for an object, or for the bucket."""
        path = f"/{s3_server.BUCKET}" + (f"/{key}" if key else "")
        time = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        payload_hash = hashlib.sha256(body).hexdigest()
        scope = f"{time[:8]}/{s3_server.REGION}/s3/aws4_request"
        headers = [("host", f"127.0.0.1:{self.port}"), ("x-amz-content-sha256", payload_hash), ("x-amz-date", time)]
        signature = s3_server.signature_of(method, path, query, headers, payload_hash, time, scope)
        sent = dict(headers, Authorization=f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope},SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature={signature}")
        text = urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.sock = self.namespace.connect(self.port)
        try:
            connection.request(method, s3_server.quoted(path, "/-_.~") + (f"?{text}" if text else ""), body=body, headers=sent)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def uploads(self):
        """(key, id) of uploads in parts that nobody has completed."""
        text = self.request("GET", "", query=[("uploads", "")])[2].decode()
        return re.findall(r"<Upload>.*?<Key>(.*?)</Key><UploadId>(.*?)</UploadId>.*?</Upload>", text, re.S)

    def begin_upload(self, key):
        status, _, body = self.request("POST", key, query=[("uploads", "")])
        assert status == 200, body
        return re.search(r"<UploadId>(.*?)</UploadId>", body.decode())[1]

    def config(self, prefix="registry/", host="127.0.0.1", **more):
        """registry.toml's section for a registry that keeps its blobs here."""
        return s3_server.storage_section(f"http://{host}:{self.port}", self.credentials, prefix, **more)

    def close(self):
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

"""A small S3 service in memory for tests: checks every signature by its own reading of AWS's description, keeps objects, and misbehaves on demand."""

import hashlib
import hmac
import http.server
import os
import shutil
import socket
import tempfile
import threading
import urllib.parse
import xml.sax.saxutils
from datetime import datetime, timezone

import caisson
import registries

ACCESS_KEY = "TESTKEY"
SECRET_KEY = "test/secret+key"
REGION = "test-region"
BUCKET = "images"
EMPTY_HASH = hashlib.sha256(b"").hexdigest()


def quoted(text, safe="-_.~"):
    return urllib.parse.quote(text, safe=safe)


def signature_of(method, path, query, headers, payload_hash, time, scope):
    """As "Signature Version 4 signing process" describes it. `path` and `query` (pairs) are decoded."""
    pairs = sorted((quoted(name), quoted(value)) for name, value in query)
    lines = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in headers)
    names = ";".join(name for name, _ in headers)
    canonical = "\n".join([method, quoted(path, "/-_.~"), "&".join(f"{name}={value}" for name, value in pairs), lines, names, payload_hash])
    text = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + SECRET_KEY).encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def storage_section(endpoint, credentials, prefix, **more):
    """registry.toml's section for a registry that keeps its blobs in the bucket at `endpoint`."""
    lines = "".join(f"{name} = {str(value).lower() if isinstance(value, bool) else chr(34) + str(value) + chr(34)}\n" for name, value in more.items())
    return (f'[storage.s3]\nendpoint = "{endpoint}"\nregion = "{REGION}"\nbucket = "{BUCKET}"\nprefix = "{prefix}"\n'
            f'credentials_file = "{credentials}"\n{lines}')


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out as two writes: the second would wait for the first one's delayed acknowledgement

    def log_message(self, *_):
        pass

    def serve(self):
        owner = self.server.owner
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        if len(self.body) != length:  # whoever sent it is gone
            self.close_connection = True
            return
        url = urllib.parse.urlsplit(self.path)
        self.path_text = urllib.parse.unquote(url.path)
        self.query = urllib.parse.parse_qsl(url.query, keep_blank_values=True)
        try:
            with owner.lock:
                owner.seen.append((self.command, self.path))
                faults = list(owner.faults)
            for fault in faults:
                if fault(self):
                    return
            problem = self.problem()
            if problem:
                with owner.lock:
                    owner.refused.append((self.command, self.path, problem))
                self.fault(403, "SignatureDoesNotMatch", problem)
                return
            with owner.lock:
                self.dispatch(owner)
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve

    # -- signatures
    def problem(self):
        """Why the request is not signed as it should be, or None."""
        query = dict(self.query)
        now = datetime.now(timezone.utc)
        if "X-Amz-Signature" in query:
            time, scope = query["X-Amz-Date"], query["X-Amz-Credential"].split("/", 1)
            age = (now - datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)).total_seconds()
            if self.command != "GET" or not -900 < age < int(query["X-Amz-Expires"]):
                return "expired, or not to read"
            unsigned = [pair for pair in self.query if pair[0] != "X-Amz-Signature"]
            wanted = signature_of("GET", self.path_text, unsigned, [("host", self.headers["Host"])], "UNSIGNED-PAYLOAD", time, scope[1])
            return self.scope_problem(scope, time) or (None if wanted == query["X-Amz-Signature"] else "the query's signature is another")
        authorization = self.headers.get("Authorization", "")
        if not authorization.startswith("AWS4-HMAC-SHA256 "):
            return "not signed"
        fields = dict(field.strip().split("=", 1) for field in authorization.split(" ", 1)[1].split(","))
        names = fields["SignedHeaders"].split(";")
        if names != sorted(names) or "host" not in names or any(name.startswith("x-amz-") and name not in names for name in map(str.lower, self.headers.keys())):
            return "headers that have to be signed are not"
        payload_hash, time = self.headers["x-amz-content-sha256"], self.headers["x-amz-date"]
        if payload_hash != hashlib.sha256(self.body).hexdigest():
            return "the body's hash is another"
        if abs((now - datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)).total_seconds()) > 900:
            return "the time is too far away"
        scope = fields["Credential"].split("/", 1)
        wanted = signature_of(self.command, self.path_text, self.query, [(name, self.headers[name]) for name in names], payload_hash, time, scope[1])
        return self.scope_problem(scope, time) or (None if wanted == fields["Signature"] else "the signature is another")

    @staticmethod
    def scope_problem(scope, time):
        return None if scope == [ACCESS_KEY, f"{time[:8]}/{REGION}/s3/aws4_request"] else f"another key or scope: {scope}"

    # -- answers
    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fault(self, status, code, message=""):
        self.answer(status, f"<Error><Code>{code}</Code><Message>{xml.sax.saxutils.escape(message)}</Message></Error>".encode(), {"Content-Type": "application/xml"})

    def document(self, root, content):
        self.answer(200, f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{content}</{root}>'.encode(), {"Content-Type": "application/xml"})

    # -- operations
    def dispatch(self, owner):
        host = self.headers["Host"].split(":")[0]
        path = self.path_text
        if host.startswith(BUCKET + "."):
            owner.virtual_hosts += 1
            path = f"/{BUCKET}{path}"
        bucket, _, key = path[1:].partition("/")
        if bucket != BUCKET:
            return self.fault(404, "NoSuchBucket")
        query = dict(self.query)
        if not key:
            return self.list_uploads(owner, query) if "uploads" in query else self.list_objects(owner, query)
        if "uploads" in query and self.command == "POST":
            owner.next_id += 1
            owner.uploads[(key, f"id{owner.next_id}")] = {}
            return self.document("InitiateMultipartUploadResult", f"<UploadId>id{owner.next_id}</UploadId>")
        if "uploadId" in query:
            return self.upload(owner, key, query)
        if self.command == "PUT":
            owner.objects[key] = self.body
            return self.answer(200, headers={"ETag": '"%s"' % hashlib.md5(self.body).hexdigest()})
        if self.command == "DELETE":
            owner.objects.pop(key, None)
            return self.answer(204)
        if key not in owner.objects:
            return self.fault(404, "NoSuchKey")
        return self.give(owner.objects[key])

    def give(self, data):
        wanted = self.headers.get("Range")
        if not wanted:
            return self.answer(200, data)
        first, last = (int(end) for end in wanted.removeprefix("bytes=").split("-"))
        return self.answer(206, data[first:last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def upload(self, owner, key, query):
        parts = owner.uploads.get((key, query["uploadId"]))
        if parts is None:
            return self.fault(404, "NoSuchUpload")
        if self.command == "PUT":
            etag = '"%s"' % hashlib.md5(self.body).hexdigest()
            parts[int(query["partNumber"])] = (etag, self.body)
            return self.answer(200, headers={"ETag": etag})
        if self.command == "POST":
            wanted = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag.replace(chr(34), '&quot;')}</ETag></Part>" for number, (etag, _) in sorted(parts.items()))
            if self.body.decode() != f"<CompleteMultipartUpload>{wanted}</CompleteMultipartUpload>":
                return self.fault(400, "InvalidPart")
            owner.objects[key] = b"".join(data for _, (_, data) in sorted(parts.items()))
            owner.multipart += 1
        del owner.uploads[(key, query["uploadId"])]
        return self.document("CompleteMultipartUploadResult", "") if self.command == "POST" else self.answer(204)

    def list_objects(self, owner, query):
        if query.get("list-type") != "2":
            return self.fault(400, "InvalidArgument")
        keys = [key for key in sorted(owner.objects) if key.startswith(query.get("prefix", "")) and key > query.get("continuation-token", "")]
        page = keys[:owner.page_size]
        more = len(keys) > len(page)
        content = "".join(f"<Contents><Key>{xml.sax.saxutils.escape(key)}</Key><Size>{len(owner.objects[key])}</Size><LastModified>2024-05-06T07:08:09.000Z</LastModified></Contents>" for key in page)
        return self.document("ListBucketResult", f"<IsTruncated>{str(more).lower()}</IsTruncated>{content}" + (f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""))

    def list_uploads(self, owner, query):
        content = "".join(f"<Upload><Key>{key}</Key><UploadId>{name}</UploadId><Initiated>2024-05-06T07:08:09.000Z</Initiated></Upload>"
                          for key, name in sorted(owner.uploads) if key.startswith(query.get("prefix", "")))
        return self.document("ListMultipartUploadsResult", f"<IsTruncated>false</IsTruncated>{content}")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner, listener):
        super().__init__(listener.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.owner = owner

    def handle_error(self, *_):
        pass  # connections that a fault cuts are the point


class S3:
    """The service on 127.0.0.1:PORT of a namespace. `faults`: functions of the handler that answer in its place and return True, or return False."""

    def __init__(self, namespace):
        self.lock = threading.RLock()
        self.objects = {}
        self.uploads = {}
        self.seen = []
        self.refused = []
        self.faults = []
        self.page_size = 7
        self.next_id = 0
        self.multipart = 0
        self.virtual_hosts = 0
        listener = registries.in_namespace(namespace.name, lambda: socket.create_server(("127.0.0.1", 0), backlog=128))
        self.port = listener.getsockname()[1]
        self.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "s3-")
        self.credentials = os.path.join(self.folder, "credentials")
        with open(self.credentials, "w", encoding="utf-8") as file:
            file.write(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
        self.server = Server(self, listener)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def config(self, prefix="registry/", host="127.0.0.1", **more):
        """registry.toml's section for a registry that keeps its blobs here."""
        return storage_section(f"http://{host}:{self.port}", self.credentials, prefix, **more)

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        shutil.rmtree(self.folder, ignore_errors=True)

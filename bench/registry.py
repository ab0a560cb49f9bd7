#!/usr/bin/env python3
"""Push and pull throughput of our registry server with 8 clients, in turns with Debian's docker-registry: wall time, and the server's own CPU.

usage: bench/registry.py [--build build/release] [--rounds 5] [--clients 8] [--megabytes 64] [--folder /tmp]
Each client pushes one blob of its own (POST, PATCH by sendfile, PUT) and pulls it (GET; the kernel throws the bytes away), so that servers are what is measured.
Our server syncs every blob before it says 201, docker-registry syncs nothing. A synced figure depends on the disk: --folder /dev/shm takes it out.
"""
import argparse
import hashlib
import os
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time

import engines  # noqa: F401  first: it leads to the end-to-end tests' library
import image
import measure

RECEIVE_BYTES = 1 << 20


class Client:
    """One connection that speaks just enough HTTP."""

    def __init__(self, namespace, port):
        self.socket = namespace.connect(port)
        self.buffer = bytearray(RECEIVE_BYTES)

    def head(self, method, path, headers=""):
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: bench\r\n{headers}\r\n".encode())

    def answer(self):
        """(status, headers, bytes of the body that came with the head)."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.socket.recv(65536)
            if not more:
                raise OSError("the server closed the connection")
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}, len(rest)

    def drop_body(self, headers, have):
        left = int(headers.get("content-length", 0)) - have
        while left > 0:
            # MSG_TRUNC on TCP: counted, not copied (tcp(7)).
            count = self.socket.recv_into(self.buffer, min(left, RECEIVE_BYTES), socket.MSG_TRUNC)
            if count == 0:
                raise OSError("the answer was cut off")
            left -= count

    def call(self, method, path, headers=""):
        self.head(method, path, headers)
        status, answered, have = self.answer()
        self.drop_body(answered, have)
        return status, answered

    @staticmethod
    def local(location):
        return "/" + location.split("/", 3)[3] if "://" in location else location

    def push(self, repository, path, size, digest):
        status, headers = self.call("POST", f"/v2/{repository}/blobs/uploads/", "Content-Length: 0\r\n")
        assert status == 202, status
        self.head("PATCH", self.local(headers["location"]), f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n")
        with open(path, "rb") as file:
            self.socket.sendfile(file)
        status, headers, have = self.answer()
        self.drop_body(headers, have)
        assert status == 202, status
        location = self.local(headers["location"])
        status, _ = self.call("PUT", location + ("&" if "?" in location else "?") + "digest=" + digest, "Content-Length: 0\r\n")
        assert status == 201, status

    def pull(self, repository, digest):
        status, headers = self.call("GET", f"/v2/{repository}/blobs/{digest}")
        assert status == 200, status
        return int(headers["content-length"])


def side_by_side(calls):
    """Seconds until all are done; the first failure is raised."""
    failures = []
    start = threading.Barrier(len(calls) + 1)

    def run(call):
        try:
            start.wait()
            call()
        except BaseException as error:  # raised below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    start.wait()
    begin = time.monotonic()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--folder", default="/tmp")
    options = parser.parse_args()
    measure.require_root()
    os.environ["CAISSON_BIN"] = os.path.abspath(os.path.join(options.build, "bin"))
    import caisson  # pylint: disable=import-outside-toplevel
    caisson.PREFIX = os.path.join(options.folder, "caisson-bench-")
    import registries  # pylint: disable=import-outside-toplevel

    if registries.why_not():
        sys.exit(registries.why_not())
    source = tempfile.mkdtemp(prefix="caisson-bench-", dir="/dev/shm")
    namespace = registries.Namespace()
    servers = {}
    size = options.megabytes << 20
    # name → what → list of (MB/s, CPU ms per GB)
    results = {name: {"push": [], "pull": []} for name in ("caisson-registry", "docker-registry")}
    try:
        servers["caisson-registry"] = registries.CaissonRegistry(namespace, port=5005)
        servers["docker-registry"] = registries.DockerRegistry(namespace, port=5000)
        for number in range(options.rounds + 1):  # the first warms up
            blobs = []
            for client in range(options.clients):
                path = os.path.join(source, f"blob{client}")
                data = os.urandom(1 << 20) * options.megabytes
                data = os.urandom(64) + data[64:]
                with open(path, "wb") as file:
                    file.write(data)
                blobs.append((path, "sha256:" + hashlib.sha256(data).hexdigest()))
            for name, server in servers.items():
                def measured(what, call):
                    clients = [Client(namespace, server.port) for _ in blobs]
                    before = image.cpu_of(server.process.pid)
                    seconds = side_by_side([lambda one=one, blob=blob, index=index: call(one, index, blob) for index, (one, blob) in enumerate(zip(clients, blobs))])
                    cpu = image.cpu_of(server.process.pid) - before
                    for client in clients:
                        client.socket.close()
                    total = size * len(blobs)
                    if number > 0:
                        results[name][what].append((total / 1e6 / seconds, cpu * 1000 / (total / 1e9)))

                measured("push", lambda one, index, blob: one.push(f"bench/{index}", blob[0], size, blob[1]))
                measured("pull", lambda one, index, blob: one.pull(f"bench/{index}", blob[1]))
        print(f"{options.clients} clients, a blob of {options.megabytes} MiB each, medians of {options.rounds} rounds in turns; data in {options.folder}")
        print(f"{'':18} {'push MB/s':>10} {'CPU ms/GB':>10} {'pull MB/s':>10} {'CPU ms/GB':>10}")
        median = lambda name, what, column: statistics.median(row[column] for row in results[name][what])
        for name in results:
            print(f"{name:18} {median(name, 'push', 0):10.0f} {median(name, 'push', 1):10.0f} {median(name, 'pull', 0):10.0f} {median(name, 'pull', 1):10.0f}")
        for what in ("push", "pull"):
            pairs = list(zip(results["caisson-registry"][what], results["docker-registry"][what]))
            print(f"{what}: {statistics.median(a[0] / b[0] for a, b in pairs):.2f} x the throughput, {statistics.median(b[1] / a[1] for a, b in pairs if a[1] > 0):.2f} x less CPU (medians of pairwise ratios)")
    finally:
        for server in servers.values():
            server.close()
        namespace.close()
        shutil.rmtree(source, ignore_errors=True)


if __name__ == "__main__":
    main()

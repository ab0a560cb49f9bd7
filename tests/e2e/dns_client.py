"""A DNS client and an upstream server inside network namespaces, for tests and benchmarks of the embedded DNS."""

import contextlib
import ctypes
import os
import socket
import struct
import threading

CLONE_NEWNET = 0x40000000
A, PTR, MX, AAAA = 1, 12, 15, 28
CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN"}


def in_network_of(pid, action):
    """Runs `action()` on a thread that has entered the network namespace of `pid`, or the one at that path; returns what it returns. A socket made there
    stays there."""
    outcome = []

    def enter():
        fd = os.open(pid if isinstance(pid, str) else f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(fd, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            outcome.append((action(), None))
        except OSError as failure:
            outcome.append((None, failure))
        finally:
            os.close(fd)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    value, failure = outcome[0]
    if failure:
        raise failure
    return value


def question(name, kind=A, number=0x4242):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def read_name(message, at):
    labels, end = [], None
    while True:
        size = message[at]
        if size >= 0xC0:
            end = end or at + 2
            at = struct.unpack_from(">H", message, at)[0] & 0x3FFF
        elif size == 0:
            return ".".join(labels), end or at + 1
        else:
            labels.append(message[at + 1:at + 1 + size].decode())
            at += 1 + size


def answers(message):
    """(code, sorted addresses and names, smallest TTL) of an answer."""
    _, flags, _, count, _, _ = struct.unpack_from(">HHHHHH", message)
    _, at = read_name(message, 12)
    at += 4
    found, ttls = [], []
    for _ in range(count):
        _, at = read_name(message, at)
        kind, _, ttl, size = struct.unpack_from(">HHIH", message, at)
        at += 10
        if kind == A:
            found.append(socket.inet_ntop(socket.AF_INET, message[at:at + size]))
        elif kind == AAAA:
            found.append(socket.inet_ntop(socket.AF_INET6, message[at:at + size]))
        elif kind == PTR:
            found.append(read_name(message, at)[0])
        ttls.append(ttl)
        at += size
    return CODES.get(flags & 15, str(flags & 15)), sorted(found), min(ttls, default=None)


class Client:
    """Asks `server` in the network namespace of `pid` with one socket, which takes answers of that server alone. close() it: an open socket keeps the
    namespace alive."""

    def __init__(self, pid, timeout_s=15, server="127.0.0.11"):
        self.socket = in_network_of(pid, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.settimeout(timeout_s)
        self.socket.connect((server, 53))
        self.number = 0

    def ask(self, name, kind=A):
        """As answers(). A question that is lost (while a daemon starts anew) is asked again, as resolvers do it."""
        self.number = (self.number + 1) % 65536
        message = question(name, kind, self.number)
        last = None
        for _ in range(3):
            try:
                self.socket.send(message)
                while True:
                    answer = self.socket.recv(65535)
                    if answer[:2] == message[:2]:
                        return answers(answer)
            except OSError as failure:
                last = failure
        raise AssertionError(f"no answer to {name}: {last}")

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Upstream:
    """A server on port 53 of `at` in the network namespace of `pid` that answers every A question with `address`, by UDP."""

    def __init__(self, pid, address, at="0.0.0.0"):
        self.address = socket.inet_aton(address)
        self.asked = []
        self.socket = in_network_of(pid, lambda: self.bind(at))
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    @staticmethod
    def bind(at):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((at, 53))
        return server

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                message, client = self.socket.recvfrom(65535)
                if not message:
                    return
                name, end = read_name(message, 12)
                self.asked.append(name)
                answer = message[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0) + message[12:end + 4]
                self.socket.sendto(answer + struct.pack(">HHHIH", 0xC00C, A, 1, 60, 4) + self.address, client)

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes recvfrom, though nothing is connected
        self.thread.join()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

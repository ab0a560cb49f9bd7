"""One HTTP request on a unix socket, for a process of another user: a line of JSON and the body on standard input, a line of JSON and the body back."""

import http.client
import json
import socket
import sys


def main():
    path, method, target, headers, timeout, has_body = json.loads(sys.stdin.buffer.readline())
    body = sys.stdin.buffer.read()
    connection = http.client.HTTPConnection("localhost", timeout=timeout)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(timeout)
    connection.sock.connect(path)
    connection.request(method, target, body=body if has_body else None, headers=headers)
    answer = connection.getresponse()
    data = answer.read()
    sys.stdout.buffer.write(json.dumps([answer.status, answer.getheaders()]).encode() + b"\n" + data)


CLOSED = 3  # the exit code when the other end closed without an answer

if __name__ == "__main__":
    try:
        main()
    except ConnectionError:
        sys.exit(CLOSED)

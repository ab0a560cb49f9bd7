"""A program on a pseudo terminal, for tests that type and read what is printed."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time


class Terminal:
    """A program on a pseudo terminal of 33 rows."""

    def __init__(self, command, environment, columns=99):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 33, columns, 0, 0))
            os.execvpe(command[0], command, environment)
        self.seen = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.fd, text)

    def read_until(self, mark, timeout_s=20):
        deadline = time.monotonic() + timeout_s
        while mark not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError(f"{mark!r} was not printed: {self.seen!r}")
            try:
                piece = os.read(self.fd, 4096)
            except OSError:  # EIO: the program has ended
                piece = b""
            if not piece:
                raise AssertionError(f"ended before {mark!r}: {self.seen!r}")
            self.seen += piece
        at = self.seen.index(mark) + len(mark)
        before, self.seen = self.seen[:at], self.seen[at:]
        return before

    def ask_size_until(self, size, timeout_s=20, signal_again=False):
        """The client tells the daemon about a resize in its own time, so the question is repeated. `signal_again`: so is the window's signal,
        for a client that may not watch for it yet."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.type(b"size\n")
            self.read_until(b"size\r\n")
            answer = self.read_until(b"\n").strip()
            if answer == size:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"the size stayed {answer!r}")
            if signal_again:
                os.kill(self.pid, signal.SIGWINCH)

    def wait(self):
        """The rest of the output, and the exit code."""
        with contextlib.suppress(OSError):
            while True:
                piece = os.read(self.fd, 4096)
                if not piece:
                    break
                self.seen += piece
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return self.seen, os.waitstatus_to_exitcode(status)

"""What clients of a daemon send it, counted."""
import socket
import threading


class CountingProxy:
    """A socket in front of a daemon's that counts what clients send."""

    def __init__(self, path, target):
        self.path, self.target, self.sent = path, target, 0
        self.lock = threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            daemon = socket.socket(socket.AF_UNIX)
            daemon.connect(self.target)
            threading.Thread(target=self.serve, args=(client, daemon), daemon=True).start()

    def serve(self, client, daemon):
        with client, daemon:
            back = threading.Thread(target=self.carry, args=(daemon, client, False))
            back.start()
            self.carry(client, daemon, True)
            back.join()

    def carry(self, source, target, counts):
        try:
            while piece := source.recv(1 << 16):
                if counts:
                    with self.lock:
                        self.sent += len(piece)
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def taken(self):
        with self.lock:
            sent, self.sent = self.sent, 0
        return sent

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

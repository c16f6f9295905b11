"""A non-blocking echo server on selectors: one thread, any number of connections.

What a peer does not read is kept for it, at most PENDING_BYTES; beyond that we stop reading
from that peer, so a slow one costs bounded memory.
"""

from __future__ import annotations

import argparse
import contextlib
import selectors
import socket

PENDING_BYTES = 256 * 1024
READ_BYTES = 65536


class Connection:
    """One peer: its socket, what it has still to receive, and whether it has finished sending."""

    __slots__ = ("events", "finished", "pending", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pending = bytearray()
        self.finished = False
        self.events = selectors.EVENT_READ


class EchoServer:
    """Owns the listener, the selector and every connection."""

    def __init__(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self.listener = listener
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)

    def run(self) -> None:
        """Serves for ever."""
        while True:
            for key, events in self.selector.select():
                connection = key.data
                if connection is None:
                    self.accept()
                elif events & selectors.EVENT_WRITE:
                    self.write(connection)
                else:
                    self.read(connection)

    def accept(self) -> None:
        """Takes every connection that waits."""
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # it was reset while it waited in the queue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(sock, selectors.EVENT_READ, Connection(sock))

    def read(self, connection: Connection) -> None:
        """One recv; the reply goes out at once as far as the peer takes it."""
        try:
            data = connection.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            self.close(connection)
            return
        if data and not connection.pending:
            try:
                sent = connection.sock.send(data)
            except BlockingIOError:
                sent = 0
            except ConnectionError:
                self.close(connection)
                return
            if sent == len(data):
                return
            data = data[sent:]
        if not data:
            connection.finished = True
        connection.pending += data
        self.update(connection)

    def write(self, connection: Connection) -> None:
        """Sends what waits."""
        try:
            sent = connection.sock.send(connection.pending)
        except BlockingIOError:
            return
        except ConnectionError:
            self.close(connection)
            return
        del connection.pending[:sent]
        self.update(connection)

    def update(self, connection: Connection) -> None:
        """Waits for what the connection can use next: data, room, or nothing any more."""
        events = 0
        if connection.pending:
            events |= selectors.EVENT_WRITE
        if not connection.finished and len(connection.pending) < PENDING_BYTES:
            events |= selectors.EVENT_READ
        if not events:
            self.close(connection)
        elif events != connection.events:
            connection.events = events
            self.selector.modify(connection.sock, events, connection)

    def close(self, connection: Connection) -> None:
        """Forgets the connection."""
        self.selector.unregister(connection.sock)
        connection.sock.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Non-blocking echo server on selectors.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    with socket.create_server((args.host, args.port), family=family, backlog=1024) as listener:
        print(f"listening on {args.host} port {listener.getsockname()[1]}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how this program is meant to end
            EchoServer(listener).run()


if __name__ == "__main__":
    main()

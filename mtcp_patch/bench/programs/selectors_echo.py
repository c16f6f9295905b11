"""A non-blocking echo on `selectors`."""

import argparse
import selectors
import socket

selector = selectors.DefaultSelector()


def accept(listener: socket.socket) -> None:
    try:
        sock, _ = listener.accept()
    except BlockingIOError:
        return
    sock.setblocking(False)
    selector.register(sock, selectors.EVENT_READ, echo)


def echo(sock: socket.socket) -> None:
    try:
        data = sock.recv(4096)
    except BlockingIOError:
        return
    except ConnectionError:
        data = b""
    if data:
        sock.send(data)  # a reply of the size of what was read fits: the peer waits for it
    else:
        selector.unregister(sock)
        sock.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    with socket.create_server((args.host, args.port), backlog=4096) as server:
        server.setblocking(False)
        selector.register(server, selectors.EVENT_READ, accept)
        while True:
            for key, _ in selector.select():
                key.data(key.fileobj)


if __name__ == "__main__":
    main()

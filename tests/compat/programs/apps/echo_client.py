"""A stock client of the echo servers: ``echo_client.py PORT KILOBYTES``."""

import socket
import sys
import threading

port, total = int(sys.argv[1]), int(sys.argv[2]) * 1000
data = b"".join(b"%09d\n" % number for number in range(total // 10))


def exactly(sock, count):
    parts = []
    while count and (part := sock.recv(min(count, 65536))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


for _ in range(2):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        for number in range(200):
            sock.sendall(b"%050d" % number)
            assert exactly(sock, 50) == b"%050d" % number
writer = None
with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
    writer = threading.Thread(target=sock.sendall, args=(data,))
    writer.start()
    assert exactly(sock, len(data)) == data
    writer.join()
    sock.shutdown(socket.SHUT_WR)
    assert sock.recv(1) == b""
print("the same")

"""pyOpenSSL's Connection on both stacks: given a socket, it reads it; without one, it works on memory BIOs."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

BODY = """
import hashlib, os, select, socket, sys, threading
from OpenSSL import SSL

directory, stack = sys.argv[1:]
data = os.urandom(2_000_000)

def context():
    made = SSL.Context(SSL.TLS_METHOD)
    made.use_certificate_file(f"{directory}/cert.pem")
    made.use_privatekey_file(f"{directory}/key.pem")
    return made

listener = socket.create_server(("127.0.0.1", 0))

def echo():
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock,), daemon=True).start()

def serve(sock):
    tls = SSL.Connection(context(), sock)
    tls.set_accept_state()
    try:
        while part := tls.recv(65536):
            tls.sendall(part)
    except SSL.ZeroReturnError:
        tls.shutdown()
        tls.close()
    except SSL.SysCallError:
        pass  # of the client that goes away in the middle

threading.Thread(target=echo, daemon=True).start()

def connected():
    sock = socket.create_connection(listener.getsockname())
    assert (sock.fileno() >= 2**30) == (stack == "ours")
    tls = SSL.Connection(context(), sock)
    assert tls.fileno() == sock.fileno() and tls.getpeername() == sock.getpeername()
    tls.set_connect_state()
    return sock, tls

sock, tls = connected()
tls.do_handshake()
assert tls.get_protocol_version_name().startswith("TLS")
writer = threading.Thread(target=tls.sendall, args=(data[:300_000],))
writer.start()
received = b""
while len(received) < 300_000:
    received += tls.recv(65536)
writer.join()
assert received == data[:300_000]
buffer = bytearray(10)
assert tls.send(b"0123456789") == 10 and tls.recv_into(buffer) and tls.shutdown() in (True, False)
try:
    while True:
        tls.recv(100)
except SSL.ZeroReturnError:
    pass
tls.close()

sock, tls = connected()  # non-blocking, in select()
sock.setblocking(False)
while True:
    try:
        tls.do_handshake()
        break
    except SSL.WantReadError:
        assert select.select([sock], [], [], 10)[0]
try:
    tls.recv(1)
except SSL.WantReadError:
    pass
else:
    raise AssertionError("nothing was sent")
sent, got = 0, b""
while len(got) < len(data):
    writable = [sock] if sent < len(data) else []
    readable, writable, _ = select.select([sock], writable, [], 20)
    assert readable or writable, (sent, len(got))
    try:
        if writable:
            sent += tls.send(data[sent : sent + 10_000])
    except (SSL.WantReadError, SSL.WantWriteError):
        pass
    try:
        got += tls.recv(65536)
        while tls.pending():
            got += tls.recv(65536)
    except SSL.WantReadError:
        pass
assert got == data

sock, tls = connected()  # a peer that ends without close_notify, as ours is ended
tls.do_handshake()
sock.shutdown(socket.SHUT_WR)
try:
    tls.recv(1)
except SSL.Error:
    pass  # "alert decode error" from the peer, or an unexpected end, as the versions of OpenSSL have it
else:
    raise AssertionError("the stream ended without close_notify")

sock = socket.create_connection(listener.getsockname(), 10)
pumped = SSL.Connection(context(), None)
pumped.set_connect_state()
while True:
    try:
        pumped.do_handshake()
        break
    except SSL.WantReadError:
        try:
            sock.sendall(pumped.bio_read(65536))
        except SSL.WantReadError:
            pumped.bio_write(sock.recv(65536))
print("done")
"""


@pytest.mark.parametrize("stack", ["kernel", "ours"])
def test_a_connection_given_a_socket(certificate: pathlib.Path, stack: str) -> None:
    """Blocking, non-blocking in select(), the end, the socket's own methods; and memory BIOs as before."""
    pytest.importorskip("OpenSSL")
    launcher = ["-m", "mtcp_patch", "--device", "memory"] if stack == "ours" else []
    done = subprocess.run(
        [sys.executable, *launcher, "-c", BODY, str(certificate), stack],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", ""), done.stderr

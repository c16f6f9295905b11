"""Every call below gives the same result, or the same exception with the same text, on both stacks.

Each case is run on a kernel socket and on one of ours and the two outcomes are compared with each other: the kernel
and CPython are the specification, nothing is written down here.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from .conftest import KERNEL, OURS, Sockets

Body = Callable[[socket.socket, socket.socket], Any]


class Index:
    """An int by __index__ only."""

    def __index__(self) -> int:
        return 3


class Broken:
    """Raises where an int is wanted."""

    def __index__(self) -> int:
        raise ZeroDivisionError("from __index__")


def outcome(body: Callable[..., Any], *args: Any) -> tuple[str, Any]:
    """What a call does, in a form that can be compared."""
    try:
        return "returned", body(*args)
    except BaseException as error:  # noqa: BLE001 (also what is no Exception is an outcome)
        return type(error).__name__, (error.args, getattr(error, "errno", None))


def each_recv_after_a_reset(s: socket.socket, peer: socket.socket) -> list[tuple[str, Any]]:
    """What three reads give, without blocking, once the peer has aborted."""
    s.recv(100)
    s.setblocking(False)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    assert select.select([s], [], [], 10)[0]
    return [outcome(s.recv, 10) for _ in range(3)]


# On a fresh socket, `s`, which is not connected.
FRESH: dict[str, Callable[[socket.socket], Any]] = {
    "attributes": lambda s: (s.family, s.type, s.proto, s.timeout, s.gettimeout(), s.getblocking()),
    "getsockname": lambda s: s.getsockname(),
    "getpeername": lambda s: s.getpeername(),
    "recv unconnected": lambda s: s.recv(10),
    "recv 0": lambda s: s.recv(0),
    "recvfrom unconnected": lambda s: s.recvfrom(10),
    "recvmsg unconnected": lambda s: s.recvmsg(10),
    "send unconnected": lambda s: s.send(b"x"),
    "sendall unconnected": lambda s: s.sendall(b"x"),
    "sendmsg unconnected": lambda s: s.sendmsg([b"x"]),
    "sendto unconnected": lambda s: s.sendto(b"x", ("127.0.0.1", 9)),
    "shutdown unconnected": lambda s: s.shutdown(socket.SHUT_RDWR),
    "accept unbound": lambda s: s.accept(),
    "_accept with argument": lambda s: s._accept(1),  # type: ignore[attr-defined]
    "close with argument": lambda s: socket.SocketType.close(s, 1),  # type: ignore[call-arg]
    "listen negative": lambda s: s.listen(-1),
    "listen float": lambda s: s.listen(1.5),  # type: ignore[arg-type]
    "listen str": lambda s: s.listen("1"),  # type: ignore[arg-type]
    "listen twice": lambda s: (s.listen(1), s.listen(2)),
    "bind str": lambda s: s.bind("127.0.0.1"),
    "bind list": lambda s: s.bind(["127.0.0.1", 0]),  # type: ignore[arg-type]
    "bind one": lambda s: s.bind(("127.0.0.1",)),
    "bind three": lambda s: s.bind(("127.0.0.1", 0, 0)),
    "bind port str": lambda s: s.bind(("127.0.0.1", "0")),
    "bind port float": lambda s: s.bind(("127.0.0.1", 0.0)),
    "bind port -1": lambda s: s.bind(("127.0.0.1", -1)),
    "bind port 65536": lambda s: s.bind(("127.0.0.1", 65536)),
    "bind port 2**40": lambda s: s.bind(("127.0.0.1", 2**40)),
    "bind host None": lambda s: s.bind((None, 0)),
    "bind host int": lambda s: s.bind((1, 0)),
    "bind host bytes": lambda s: (s.bind((b"127.0.0.1", 0)), s.getsockname()[0])[1],
    "bind host bytearray": lambda s: (s.bind((bytearray(b"127.0.0.1"), 0)), s.getsockname()[0])[1],
    "bind host with null": lambda s: s.bind(("127.0.0.1\0", 0)),
    "bind host surrogate": lambda s: s.bind(("\udc80", 0)),
    "bind host empty": lambda s: (s.bind(("", 0)), s.getsockname()[0])[1],
    "bind host name": lambda s: (s.bind(("localhost", 0)), s.getsockname()[0])[1],
    "bind host short": lambda s: (s.bind(("127.1", 0)), s.getsockname()[0])[1],
    "bind host unknown": lambda s: s.bind(("no-such-host.invalid", 0)),
    "bind host v6": lambda s: s.bind(("::1", 0)),
    "bind broadcast": lambda s: s.bind(("<broadcast>", 0)),
    "bind not ours": lambda s: s.bind(("192.0.2.1", 0)),
    "bind twice": lambda s: (s.bind(("127.0.0.1", 0)), s.bind(("127.0.0.1", 0))),
    "bind port Index": lambda s: s.bind(("192.0.2.1", Index())),
    "bind port Broken": lambda s: s.bind(("127.0.0.1", Broken())),
    "connect str": lambda s: s.connect("127.0.0.1"),
    "connect port 70000": lambda s: s.connect(("127.0.0.1", 70000)),
    "connect_ex port 70000": lambda s: s.connect_ex(("127.0.0.1", 70000)),
    "connect unknown": lambda s: s.connect(("no-such-host.invalid", 1)),
    "connect_ex unknown": lambda s: s.connect_ex(("no-such-host.invalid", 1)),
    "connect refused": lambda s: s.connect(("127.0.0.1", refused_port())),
    "connect_ex refused": lambda s: s.connect_ex(("127.0.0.1", refused_port())),
    "connect no arguments": lambda s: s.connect(),  # type: ignore[call-arg]
    "connect two arguments": lambda s: s.connect(("127.0.0.1", 1), 2),  # type: ignore[call-arg]
    "settimeout str": lambda s: s.settimeout("1"),  # type: ignore[arg-type]
    "settimeout negative": lambda s: s.settimeout(-1),
    "settimeout tiny": lambda s: (s.settimeout(1e-12), s.gettimeout())[1],
    "settimeout third": lambda s: (s.settimeout(1 / 3), s.gettimeout())[1],
    "settimeout nan": lambda s: s.settimeout(float("nan")),
    "settimeout inf": lambda s: s.settimeout(float("inf")),
    "settimeout beyond poll": lambda s: (s.settimeout(2**31), s.gettimeout())[1],  # taken from 3.14 on
    "settimeout huge": lambda s: s.settimeout(1e12),
    "settimeout huge int": lambda s: s.settimeout(10**30),
    "settimeout True": lambda s: (s.settimeout(True), s.gettimeout())[1],
    "settimeout 0": lambda s: (s.settimeout(0), s.gettimeout(), s.getblocking())[1:],
    "settimeout None": lambda s: (s.settimeout(None), s.gettimeout(), s.getblocking())[1:],
    "setblocking False": lambda s: (s.setblocking(False), s.gettimeout(), s.timeout)[1:],
    "setblocking str": lambda s: (s.setblocking("x"), s.gettimeout())[1],  # type: ignore[arg-type]
    "shutdown 7": lambda s: s.shutdown(7),
    "shutdown str": lambda s: s.shutdown("1"),  # type: ignore[arg-type]
    "getsockopt type": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE),
    "getsockopt error": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
    "getsockopt domain": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN),
    "getsockopt protocol": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL),
    "getsockopt acceptconn": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
    "getsockopt linger": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8),
    "getsockopt bytes": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE, 16),
    "getsockopt short": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE, 2),
    "getsockopt buflen -1": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE, -1),
    "getsockopt buflen 1025": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE, 1025),
    "getsockopt str": lambda s: s.getsockopt(socket.SOL_SOCKET, "x"),  # type: ignore[call-overload]
    "getsockopt unknown": lambda s: s.getsockopt(socket.IPPROTO_TCP, 9999),
    "setsockopt reuse": lambda s: [
        s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR),
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
        s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR),
    ],
    "setsockopt nodelay": lambda s: [
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
    ],
    "setsockopt keepalive": lambda s: [
        s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True),
        s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77),
        s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    ],
    "setsockopt linger": lambda s: [
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3)),
        s.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8),
    ],
    "setsockopt short bytes": lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, b"\1"),
    "setsockopt None": lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, None, 4),
    "setsockopt None short": lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, None, 0),
    "setsockopt None alone": lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, None),  # type: ignore[call-overload]
    "setsockopt str": lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, "1"),  # type: ignore[call-overload]
    "setsockopt 2**31": lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 2**31),
    "setsockopt unknown": lambda s: s.setsockopt(socket.IPPROTO_TCP, 9999, 1),
    "setsockopt two": lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR),  # type: ignore[call-overload]
    "closed recv": lambda s: (s.close(), s.recv(1)),
    "closed send": lambda s: (s.close(), s.send(b"")),
    "closed getsockname": lambda s: (s.close(), s.getsockname()),
    "closed settimeout": lambda s: (s.close(), s.settimeout(1)),
    "closed twice": lambda s: (s.close(), s.close(), s.fileno()),
    "pickle": lambda s: __import__("pickle").dumps(s),
    "copy": lambda s: __import__("copy").copy(s),
    "attribute": lambda s: setattr(s, "some_attribute", 1),
    "recv_into closed buffer": lambda s: s.recv_into(memoryview(b"x")),  # type: ignore[arg-type]
    "init keyword": lambda s: socket.SocketType.__init__(s, fumble=1),  # type: ignore[call-arg]
    "init five": lambda s: socket.SocketType.__init__(s, 1, 2, 3, 4, 5),  # type: ignore[call-arg, arg-type]
    "init str": lambda s: socket.SocketType.__init__(s, "x"),  # type: ignore[arg-type]
    "init fileno float": lambda s: socket.socket(fileno=1.5),  # type: ignore[arg-type]
    "init fileno str": lambda s: socket.socket(fileno="x"),  # type: ignore[arg-type]
    "init fileno -1": lambda s: socket.socket(fileno=-1),
    "init fileno 999999": lambda s: socket.socket(fileno=999999),
    "init family": lambda s: socket.socket(9999),
    "init proto": lambda s: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 9999),
}

# On a connected pair; the peer has sent b"hello world".
CONNECTED: dict[str, Body] = {
    "attributes": lambda s, _: (s.family, s.type, s.proto, s.getsockname()[0], s.getpeername()[0]),
    "recv": lambda s, _: s.recv(5),
    "recv after a reset": each_recv_after_a_reset,
    "recv True": lambda s, _: s.recv(True),
    "recv Index": lambda s, _: s.recv(Index()),  # type: ignore[arg-type]
    "recv Broken": lambda s, _: s.recv(Broken()),  # type: ignore[arg-type]
    "recv 0": lambda s, _: s.recv(0),
    "recv negative": lambda s, _: s.recv(-1),
    "recv float": lambda s, _: s.recv(1.0),  # type: ignore[arg-type]
    "recv str": lambda s, _: s.recv("1"),  # type: ignore[arg-type]
    "recv huge": lambda s, _: s.recv(2**70),
    "recv nothing": lambda s, _: s.recv(),  # type: ignore[call-arg]
    "recv three": lambda s, _: s.recv(1, 2, 3),  # type: ignore[call-arg]
    "recv keyword": lambda s, _: s.recv(bufsize=1),  # type: ignore[call-arg]
    "recv flags str": lambda s, _: s.recv(1, "x"),  # type: ignore[arg-type]
    "recv flags 2**31": lambda s, _: s.recv(1, 2**31),
    "recv peek": lambda s, _: (s.recv(5, socket.MSG_PEEK), s.recv(5), s.recv(99)),
    "recv dontwait": lambda s, _: s.recv(5, socket.MSG_DONTWAIT),
    "recv waitall": lambda s, _: s.recv(11, socket.MSG_WAITALL),
    "recv all": lambda s, p: (p.close(), s.recv(99), s.recv(99), s.recv(99))[1:],
    "recvfrom": lambda s, _: s.recvfrom(5),
    "recvfrom 0": lambda s, _: s.recvfrom(0),
    "recvfrom negative": lambda s, _: s.recvfrom(-1),
    "recv_into": lambda s, _: (lambda b: (s.recv_into(b), b))(bytearray(5)),
    "recv_into nbytes": lambda s, _: (lambda b: (s.recv_into(b, 2), b))(bytearray(5)),
    "recv_into keywords": lambda s, _: (lambda b: (s.recv_into(buffer=b, nbytes=2, flags=0), b))(bytearray(5)),
    "recv_into bad keyword": lambda s, _: s.recv_into(buffer=bytearray(1), size=2),  # type: ignore[call-arg]
    "recv_into twice": lambda s, _: s.recv_into(bytearray(1), buffer=bytearray(1)),  # type: ignore[misc]
    "recv_into no buffer": lambda s, _: s.recv_into(nbytes=2),  # type: ignore[call-arg]
    "recv_into empty": lambda s, _: s.recv_into(bytearray()),
    "recv_into small": lambda s, _: s.recv_into(bytearray(1), 2),
    "recv_into negative": lambda s, _: s.recv_into(bytearray(1), -2),
    "recv_into bytes": lambda s, _: s.recv_into(b"12345"),  # type: ignore[arg-type]
    "recv_into str": lambda s, _: s.recv_into("12345"),  # type: ignore[arg-type]
    "recv_into array": lambda s, _: s.recv_into(__import__("array").array("i", [0, 0, 0])),
    "recv_into strided": lambda s, _: s.recv_into(memoryview(bytearray(10))[::2]),
    "recv_into waitall": lambda s, _: s.recv_into(bytearray(11), 11, socket.MSG_WAITALL),
    "recvfrom_into": lambda s, _: (lambda b: (s.recvfrom_into(b), b))(bytearray(5)),
    "recvfrom_into keywords": lambda s, _: s.recvfrom_into(bytearray(5), nbytes=2),
    "recvfrom_into small": lambda s, _: s.recvfrom_into(bytearray(1), 2),
    "recvmsg": lambda s, _: s.recvmsg(5),
    "recvmsg peek": lambda s, _: s.recvmsg(5, 0, socket.MSG_PEEK),
    "recvmsg ancillary": lambda s, _: s.recvmsg(99, 1024),
    "recvmsg ancillary -1": lambda s, _: s.recvmsg(5, -1),
    "recvmsg ancillary huge": lambda s, _: s.recvmsg(5, 2**40),
    "recvmsg inq": lambda s, _: (s.setsockopt(socket.IPPROTO_TCP, 36, 1), s.recvmsg(5, 1024)),
    "recvmsg inq without room": lambda s, _: (s.setsockopt(socket.IPPROTO_TCP, 36, 1), s.recvmsg(5), s.recvmsg(5, 18)),
    "recvmsg negative": lambda s, _: s.recvmsg(-5),
    "recvmsg nothing": lambda s, _: s.recvmsg(),  # type: ignore[call-arg]
    "recvmsg_into": lambda s, _: (lambda a, b: (s.recvmsg_into([a, b]), a, b))(bytearray(5), bytearray(9)),
    "recvmsg_into generator": lambda s, _: s.recvmsg_into(bytearray(3) for _ in range(3)),
    "recvmsg_into none": lambda s, _: s.recvmsg_into([]),
    "recvmsg_into int": lambda s, _: s.recvmsg_into(5),  # type: ignore[arg-type]
    "recvmsg_into bytes": lambda s, _: s.recvmsg_into([b"12345"]),  # type: ignore[list-item]
    "send": lambda s, p: (s.send(b"abc"), p.recv(9)),
    "send flags": lambda s, p: (s.send(b"abc", 0), p.recv(9)),
    "send bytearray": lambda s, p: (s.send(bytearray(b"abc")), p.recv(9)),
    "send memoryview": lambda s, p: (s.send(memoryview(b"abcdef")[2:4]), p.recv(9)),
    "send array": lambda s, p: (s.send(__import__("array").array("H", [1, 2])), p.recv(9)),
    "send strided": lambda s, _: s.send(memoryview(b"abcdef")[::2]),
    "send empty": lambda s, _: s.send(b""),
    "send str": lambda s, _: s.send("abc"),  # type: ignore[arg-type]
    "send None": lambda s, _: s.send(None),  # type: ignore[arg-type]
    "send nothing": lambda s, _: s.send(),  # type: ignore[call-arg]
    "send keyword": lambda s, _: s.send(data=b"x"),  # type: ignore[call-arg]
    "send flags str": lambda s, _: s.send(b"x", "y"),  # type: ignore[arg-type]
    "sendall": lambda s, p: (s.sendall(b"abc"), p.recv(9)),
    "sendall empty": lambda s, _: s.sendall(b""),
    "sendall str": lambda s, _: s.sendall("abc"),  # type: ignore[arg-type]
    "sendto": lambda s, p: (s.sendto(b"abc", ("127.0.0.1", 9)), p.recv(9)),
    "sendto flags": lambda s, p: (s.sendto(b"abc", 0, ("127.0.0.1", 9)), p.recv(9)),
    "sendto one": lambda s, _: s.sendto(b"abc"),  # type: ignore[call-overload]
    "sendto four": lambda s, _: s.sendto(b"abc", 0, ("127.0.0.1", 9), 4),  # type: ignore[call-overload]
    "sendto port": lambda s, _: s.sendto(b"abc", ("127.0.0.1", 99999)),
    "sendto address": lambda s, _: s.sendto(b"abc", 0, "x"),
    "sendto flags str": lambda s, _: s.sendto(b"abc", "x", ("127.0.0.1", 9)),  # type: ignore[call-overload]
    "sendto str": lambda s, _: s.sendto("abc", ("127.0.0.1", 9)),  # type: ignore[call-overload]
    "sendmsg": lambda s, p: (s.sendmsg([b"ab", b"", b"cd"]), p.recv(9)),
    "sendmsg empty ancillary": lambda s, p: (s.sendmsg([b"ab"], []), p.recv(9)),
    "sendmsg generator": lambda s, p: (s.sendmsg(x for x in (b"ab", b"cd")), p.recv(9)),
    "sendmsg bad generator": lambda s, _: s.sendmsg(x for x in (b"ab", "cd")),  # type: ignore[misc]
    "sendmsg none": lambda s, _: s.sendmsg([]),
    "sendmsg empty": lambda s, _: s.sendmsg([b""]),
    "sendmsg int": lambda s, _: s.sendmsg(5),  # type: ignore[arg-type]
    "sendmsg str": lambda s, _: s.sendmsg(["x"]),  # type: ignore[list-item]
    "sendmsg ancillary int": lambda s, _: s.sendmsg([b"x"], 5),  # type: ignore[arg-type]
    "sendmsg address": lambda s, p: (s.sendmsg([b"ab"], [], 0, ("127.0.0.1", 9)), p.recv(9)),
    "sendmsg address None": lambda s, p: (s.sendmsg([b"ab"], [], 0, None), p.recv(9)),
    # The kernel takes one more connect() after a waited-for connection for a look at the outcome.
    "connect again": lambda s, p: (outcome(s.connect, ("127.0.0.1", 9)), s.connect(("127.0.0.1", 9)))[1],
    "connect_ex again": lambda s, p: (outcome(s.connect, ("127.0.0.1", 9)), s.connect_ex(("127.0.0.1", 9)))[1],
    "bind connected": lambda s, _: s.bind(("127.0.0.1", 0)),
    "listen connected": lambda s, _: s.listen(),
    "accept connected": lambda s, _: s.accept(),
    "urgent data inline": lambda s, p: [
        (c.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1), c.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE))
        for c in (s, p)
    ],
    "shutdown read": lambda s, _: (s.shutdown(socket.SHUT_RD), s.recv(99), s.recv(99)),
    "shutdown write": lambda s, p: (s.shutdown(socket.SHUT_WR), p.recv(9), outcome(s.send, b"x")),
    "shutdown write sendall": lambda s, _: (s.shutdown(socket.SHUT_WR), s.sendall(b"x")),
    "shutdown both": lambda s, p: (s.shutdown(socket.SHUT_RDWR), p.recv(9)),
    "shutdown twice": lambda s, p: (s.shutdown(socket.SHUT_WR), s.shutdown(socket.SHUT_WR)),
    "acceptconn": lambda s, _: s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
    "set back to blocking": lambda s, _: (s.setblocking(True), s.recv(99)),
    "non-blocking": lambda s, _: (
        s.recv(99),
        s.setblocking(False),
        outcome(s.recv, 1),
        outcome(s.recv_into, bytearray(2)),
    ),
    "timed out": lambda s, _: (s.recv(99), s.settimeout(0.01), outcome(s.recv, 1), outcome(s.recvfrom, 1)),
    "dontwait blocking": lambda s, _: (s.recv(99), s.settimeout(None), outcome(s.recv, 1, socket.MSG_DONTWAIT)),
    "dontwait timeout": lambda s, _: (s.recv(99), s.settimeout(0.01), outcome(s.recv, 1, socket.MSG_DONTWAIT)),
    "makefile": lambda s, p: (p.sendall(b"\nsecond\n"), s.makefile("rb").readline(), s.makefile("r").encoding),
    "detach": lambda s, _: (lambda fd: (s.fileno(), repr(s).split(",")[0], socket.socket(fileno=fd).recv(5)))(
        s.detach()
    ),
    "dup": lambda s, p: (lambda d: (d.family, d.type, d.proto, d.gettimeout(), d.recv(5), d.close(), s.recv(9)))(
        s.dup()
    ),
    "fileno=": lambda s, _: (lambda d: (d.family, d.type, d.proto, d.gettimeout(), d.detach() == s.fileno()))(
        socket.socket(fileno=s.fileno())
    ),
    "fromfd": lambda s, _: (lambda d: (d.recv(5), d.close()))(
        socket.fromfd(s.fileno(), socket.AF_INET, socket.SOCK_STREAM)
    ),
    "get_inheritable": lambda s, _: (s.get_inheritable(), s.set_inheritable(True), s.get_inheritable()),
    "context manager": lambda s, _: (lambda: [s.__enter__() is s, s.__exit__(None, None, None), s.fileno()])(),
    "repr": lambda s, _: repr(s).split("fd=")[0] + repr(s).split(", family")[1].split("laddr")[0],
}


def refused_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def on_both(body: Callable[[str], Any]) -> dict[str, Any]:
    """Runs `body` without and with the stack installed."""
    import mtcp_patch

    results = {KERNEL: body(KERNEL)}
    mtcp_patch.install(device=["memory"])
    try:
        results[OURS] = body(OURS)
    finally:
        mtcp_patch.uninstall()
    return results


@pytest.mark.parametrize("name", FRESH)
def test_a_fresh_socket_does_what_the_kernels_does(name: str) -> None:
    def body(stack: str) -> Any:
        sockets = Sockets(stack)
        try:
            return outcome(FRESH[name], sockets.tcp())
        finally:
            sockets.close()

    results = on_both(body)
    assert results[OURS] == results[KERNEL]


@pytest.mark.parametrize("name", FRESH)
def test_a_fresh_ipv6_socket_does_what_the_kernels_does(name: str) -> None:
    def body(stack: str) -> Any:
        sockets = Sockets(stack)
        try:
            return outcome(FRESH[name], sockets.tcp(socket.AF_INET6))
        finally:
            sockets.close()

    results = on_both(body)
    assert results[OURS] == results[KERNEL]


@pytest.mark.parametrize("name", CONNECTED)
def test_a_connected_socket_does_what_the_kernels_does(name: str) -> None:
    def body(stack: str) -> Any:
        sockets = Sockets(stack)
        try:
            client, server = sockets.pair()
            server.sendall(b"hello world")
            with suppress(TimeoutError):
                assert client.recv(11, socket.MSG_PEEK) == b"hello world"
            return outcome(CONNECTED[name], client, server)
        finally:
            sockets.close()

    results = on_both(body)
    assert results[OURS] == results[KERNEL]


V6_ADDRESSES: dict[str, tuple[Any, ...]] = {
    "two": ("::1", 0),
    "three": ("::1", 0, 7),
    "four": ("::1", 0, 7, 0),
    "five": ("::1", 0, 0, 0, 0),
    "flowinfo too big": ("::1", 0, 2**20, 0),
    "flowinfo negative": ("::1", 0, -1, 0),
    "flowinfo str": ("::1", 0, "x", 0),
    "scope str": ("::1", 0, 0, "x"),
    "scope of lo": ("::1", 0, 0, 1),
    "empty": ("", 0),
    "v4": ("127.0.0.1", 0),
    "v4-mapped": ("::ffff:127.0.0.1", 0),
    "name": ("ip6-localhost", 0),
    "localhost": ("localhost", 0),
    "port": ("::1", -1),
    "spelled long": ("0:0:0:0:0:0:0:1", 0),
    "not ours": ("2001:db8::1", 0),
}


@pytest.mark.parametrize("name", V6_ADDRESSES)
def test_an_ipv6_address_is_taken_as_the_kernels_socket_takes_it(name: str) -> None:
    def body(stack: str) -> Any:
        sockets = Sockets(stack)
        try:
            sock = sockets.tcp(socket.AF_INET6)
            bound = outcome(sock.bind, V6_ADDRESSES[name])
            host, _port, flowinfo, scope_id = sock.getsockname()
            return bound, host, flowinfo, scope_id
        finally:
            sockets.close()

    results = on_both(body)
    assert results[OURS] == results[KERNEL]

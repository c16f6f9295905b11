"""pyOpenSSL given one of our sockets: its Connection works on memory BIOs, which are pumped as ``ssl``'s are.

``OpenSSL.SSL.Connection(context, sock)`` hands the descriptor to OpenSSL, which reads it by system calls of its own.
For a virtual descriptor the connection is made without the socket (memory BIOs), gets it back for everything else, and
each call that moves bytes goes through ``tls_pump``. A Connection without a socket, as Twisted makes it, or with one of
the kernel's is left alone.

Who calls it: ``patcher``, once ``OpenSSL.SSL`` has been imported. What never happens here: a wait that pyOpenSSL would
not make. It reads a socket with a timeout as a non-blocking one, and raises WantReadError; so does this.
"""

from __future__ import annotations

import errno
import functools
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .stack import _native
from .tls_pump import Pump

if TYPE_CHECKING:
    from types import ModuleType

    from .patcher import Patcher

TARGETS = ("OpenSSL.SSL",)

_BIO_BYTES = 65536
# What moves bytes, and is called with the connection's own arguments.
_MOVING = ("do_handshake", "recv", "read", "recv_into", "shutdown", "renegotiate")


def patch(patcher: Patcher) -> None:
    """See the module's text."""
    from OpenSSL import SSL

    connection = SSL.Connection
    real_init, real_send = connection.__init__, connection.send

    @functools.wraps(real_init)
    def __init__(self: Any, context: Any, socket: Any = None) -> None:
        if socket is None or socket.fileno() < _native.VFD_BASE:
            real_init(self, context, socket)
            return
        real_init(self, context, None)
        self._socket = socket
        self._mtcp_pump = _Pump(SSL, self, functools.partial(real_send, self))

    @functools.wraps(real_send)
    def send(self: Any, buf: Any, flags: int = 0) -> int:
        pump = vars(self).get("_mtcp_pump")
        return real_send(self, buf, flags) if pump is None else pump.run(pump.write, buf)

    real_sendall = connection.sendall

    @functools.wraps(real_sendall)
    def sendall(self: Any, buf: Any, flags: int = 0) -> int:
        if "_mtcp_pump" not in vars(self):
            return real_sendall(self, buf, flags)
        view = memoryview(buf).cast("B")
        total = len(view)
        while len(view):
            view = view[self.send(view) :]
        return total

    patcher.replace(connection, "__init__", __init__)
    for name, function in (("send", send), ("write", send), ("sendall", sendall)):
        patcher.replace(connection, name, function)
    for name in _MOVING:
        patcher.replace(connection, name, _pumped(getattr(connection, name)))


def _pumped(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def function(self: Any, *args: Any, **more: Any) -> Any:
        pump = vars(self).get("_mtcp_pump")
        if pump is None:
            return method(self, *args, **more)
        return pump.run(pump.move, functools.partial(method, self, *args, **more))

    return function


class _Bios:
    """The two memory BIOs of a Connection, with the methods of ``ssl.MemoryBIO``."""

    def __init__(self, SSL: ModuleType, connection: Any) -> None:
        self._SSL, self._connection = SSL, connection

    def write(self, data: bytes) -> None:
        while data:
            data = data[self._connection.bio_write(data) :]

    def write_eof(self) -> None:
        self._connection.bio_shutdown()

    def read(self) -> bytes:
        parts = []
        try:
            while True:
                parts.append(self._connection.bio_read(_BIO_BYTES))
        except self._SSL.WantReadError:
            return b"".join(parts)


class _Waiting:
    """The socket as the pump sees it: blocking only if it has no timeout at all."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.fileno = sock.fileno

    def gettimeout(self) -> float | None:
        return None if self._sock.gettimeout() is None else 0.0


class _Pump(Pump):
    """With pyOpenSSL's exceptions outside and ``ssl``'s within."""

    def __init__(self, SSL: ModuleType, connection: Any, send: Callable[[Any], int]) -> None:
        bios = _Bios(SSL, connection)
        self._waiting = _Waiting(connection._socket)
        self._begin(self._waiting, bios, bios)
        self._SSL, self._send = SSL, send

    def write(self, data: Any) -> int:
        """Encrypt and send a part of the data; how much."""
        return self._write(data, self._send)

    def move(self, call: Callable[[], Any]) -> Any:
        """A call of the connection's, with what it needs read and what it says sent."""
        return self._operate("read", self._translated, call)

    def _translated(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except self._SSL.WantReadError:
            raise ssl.SSLWantReadError from None

    def run(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """``function(argument)`` with errors as pyOpenSSL has them."""
        try:
            return function(argument)
        except ssl.SSLWantReadError:
            raise self._SSL.WantReadError from None
        except ssl.SSLWantWriteError:
            raise self._SSL.WantWriteError from None
        except OSError as error:
            raise self._SSL.SysCallError(error.errno, errno.errorcode.get(error.errno or 0)) from None

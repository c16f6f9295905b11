"""``ssl`` over virtual descriptors: OpenSSL works on two memory BIOs, pumped through the socket (``tls_pump``).

It owns the object that ``ssl.SSLSocket`` keeps as its ``_sslobj`` when the socket is virtual. ``ssl.SSLContext`` makes
it (``_wrap_socket``), as it makes a ``_ssl._SSLSocket`` for a kernel descriptor, so ``ssl.SSLSocket`` itself,
``http.client``, ``requests`` and gevent see no difference. asyncio works on memory BIOs and never comes here.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from .stack import _native
from .tls_pump import Pump

if TYPE_CHECKING:
    from .patcher import Patcher

TARGETS = ("ssl",)


def patch(patcher: Patcher) -> None:
    """Have contexts wrap virtual descriptors with :class:`PumpedTLS`."""
    original = ssl.SSLContext._wrap_socket  # type: ignore[attr-defined]

    def _wrap_socket(
        self: Any,
        sock: Any,
        server_side: bool,
        server_hostname: str | bytes | None = None,
        *,
        owner: Any = None,
        session: Any = None,
    ) -> Any:
        if sock.fileno() < _native.VFD_BASE:
            return original(self, sock, server_side, server_hostname, owner=owner, session=session)
        return PumpedTLS(self, sock, server_side, server_hostname, owner, session)

    patcher.replace(ssl.SSLContext, "_wrap_socket", _wrap_socket)


_OWN = frozenset((*Pump.__slots__, "_object"))


class PumpedTLS(Pump):
    """The interface of ``_ssl._SSLSocket`` over a virtual descriptor.

    Blocking follows the socket's timeout as there: none waits, zero raises ``SSLWantReadError`` or
    ``SSLWantWriteError``, a number of seconds raises TimeoutError when they have passed.
    """

    __slots__ = ("_object",)

    def __init__(
        self, context: Any, sock: Any, server_side: bool, hostname: str | bytes | None, owner: Any, session: Any
    ) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        owner = sock if owner is None else owner
        self._object = context._wrap_bio(incoming, outgoing, server_side, hostname, owner=owner, session=session)
        self._begin(sock, incoming, outgoing)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._object, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            super().__setattr__(name, value)
        else:  # context, session, owner
            setattr(self._object, name, value)

    # --- what ssl.SSLSocket calls --------------------------------------------------------------------------------

    def do_handshake(self) -> None:
        """Make the handshake."""
        self._operate("handshake", self._object.do_handshake)

    def read(self, *args: Any) -> Any:
        """``read(len)`` or ``read(len, buffer)``."""
        return self._operate("read", self._object.read, *args)

    def write(self, data: Any) -> int:
        """Encrypt and send what of ``data`` one record holds and the send buffer has room for; how much that was."""
        return self._write(data, self._object.write)

    def shutdown(self) -> Any:
        """Say and hear ``close_notify``; the socket, for plaintext again."""
        self._operate("shutdown", self._object.shutdown)
        return self._socket()

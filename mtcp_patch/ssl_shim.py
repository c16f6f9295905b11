"""TLS over virtual descriptors: OpenSSL works on two memory BIOs, which are pumped through the socket.

It owns the object that ``ssl.SSLSocket`` keeps as its ``_sslobj`` when the socket is virtual. ``ssl.SSLContext`` makes
it (``_wrap_socket``), as it makes a ``_ssl._SSLSocket`` for a kernel descriptor, so ``ssl.SSLSocket`` itself,
``http.client``, ``requests`` and gevent see no difference. asyncio works on memory BIOs and never comes here.

Three rules, each found by a failure of CPython's own tests (DESIGN section 6):

1. Nothing beyond the current TLS record is taken off the socket: what is read ahead lies in the BIO, where ``select``
   on the descriptor cannot see it, and after ``unwrap()`` it would be lost plaintext.
2. Nothing is encrypted that the send buffer has no room for: an encrypted record cannot be taken back.
3. What OpenSSL has to say (alerts, tickets) leaves after every call, also after a failed one, and a failure to say it
   does not turn a good read into an error.
"""

from __future__ import annotations

import select
import ssl
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .stack import _native

if TYPE_CHECKING:
    from .patcher import Patcher

TARGETS = ("ssl",)

_HEADER_BYTES = 5  # type, version, length (RFC 8446 section 5.1)
_MAX_PLAINTEXT_BYTES = 16384  # of one record
_OVERHEAD_BYTES = 512  # more than any cipher suite adds to a record, and a pending alert or ticket beside it
_CONTENT_TYPES = range(20, 25)


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


def _want(kind: type[ssl.SSLError], code: int, what: str) -> ssl.SSLError:
    return kind(code, f"The operation did not complete ({what})")


class PumpedTLS:
    """The interface of ``_ssl._SSLSocket`` over a virtual descriptor.

    Blocking follows the socket's timeout as there: none waits, zero raises ``SSLWantReadError`` or
    ``SSLWantWriteError``, a number of seconds raises TimeoutError when they have passed.
    """

    __slots__ = ("__weakref__", "_header", "_incoming", "_object", "_outgoing", "_record_left", "_sock", "_unsent")

    _header: bytes
    _record_left: int
    _unsent: bytes

    def __init__(
        self, context: Any, sock: Any, server_side: bool, hostname: str | bytes | None, owner: Any, session: Any
    ) -> None:
        set_slot = super().__setattr__
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        set_slot("_incoming", incoming)
        set_slot("_outgoing", outgoing)
        owner = sock if owner is None else owner
        set_slot("_object", context._wrap_bio(incoming, outgoing, server_side, hostname, owner=owner, session=session))
        set_slot("_sock", weakref.ref(sock))
        set_slot("_header", b"")  # the part of a record's header that has arrived
        set_slot("_record_left", 0)  # bytes of the current record that have not
        set_slot("_unsent", b"")  # encrypted, and not taken by the send buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._object, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in PumpedTLS.__slots__:
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
        sock = self._socket()
        deadline = _deadline(sock)
        self._flush(sock, "write", deadline)
        view = memoryview(data).cast("B") if memoryview(data).nbytes else b""
        while len(view) and (room := _native.fd_send_room(sock.fileno()) - _OVERHEAD_BYTES) <= 0:
            self._wait(sock, select.POLLOUT, "write", deadline)
        part = view[: min(room, _MAX_PLAINTEXT_BYTES)] if len(view) else view
        written: int = self._pump(sock, "write", deadline, self._object.write, part)
        return written

    def shutdown(self) -> Any:
        """Say and hear ``close_notify``; the socket, for plaintext again."""
        self._operate("shutdown", self._object.shutdown)
        return self._socket()

    # --- the pump ------------------------------------------------------------------------------------------------

    def _socket(self) -> Any:
        sock = self._sock()
        if sock is None:
            raise ssl.SSLError("Underlying socket connection gone")
        return sock

    def _operate(self, what: str, call: Callable[..., Any], *args: Any) -> Any:
        sock = self._socket()
        return self._pump(sock, what, _deadline(sock), call, *args)

    def _pump(self, sock: Any, what: str, deadline: float | None, call: Callable[..., Any], *args: Any) -> Any:
        if self._unsent:
            self._flush(sock, what, deadline)
        while True:
            try:
                result = call(*args)
            except ssl.SSLWantReadError:
                self._flush(sock, what, deadline)
                self._fill(sock, what, deadline)
            except BaseException:
                self._try_to_flush(sock)
                raise
            else:
                if what == "read":
                    self._try_to_flush(sock)
                else:
                    self._finish_flush(sock, what, deadline)
                return result

    def _fill(self, sock: Any, what: str, deadline: float | None) -> None:
        """Give OpenSSL the next piece of the current record, at most to its end."""
        wanted = self._record_left or _HEADER_BYTES - len(self._header)
        while (data := _native.fd_recv_nowait(sock.fileno(), wanted)) is None:
            self._wait(sock, select.POLLIN, what, deadline)
        if not data:
            self._incoming.write_eof()
            return
        self._incoming.write(data)
        if self._record_left:
            self._record_left -= len(data)
            return
        header = self._header + data
        if len(header) < _HEADER_BYTES:
            self._header = header
            return
        self._header = b""
        # What is no TLS at all is OpenSSL's to complain of; it needs no more than the header for that.
        self._record_left = int.from_bytes(header[3:5], "big") if header[0] in _CONTENT_TYPES else 0

    def _flush(self, sock: Any, what: str, deadline: float | None) -> None:
        """Send everything that OpenSSL has produced."""
        while self._send_some(sock):
            self._wait(sock, select.POLLOUT, what, deadline)

    def _finish_flush(self, sock: Any, what: str, deadline: float | None) -> None:
        """As ``_flush``, after a success: what a non-blocking socket cannot take goes with the next call."""
        if sock.gettimeout() == 0:
            self._send_some(sock)
        else:
            self._flush(sock, what, deadline)

    def _try_to_flush(self, sock: Any) -> None:
        """What can be said now is; the caller has something more important to report than that it cannot."""
        try:
            self._send_some(sock)
        except OSError:
            self._unsent = b""  # the connection is gone; the next call on it says so

    def _send_some(self, sock: Any) -> bool:
        """Send what there is room for; whether something is left."""
        data = self._unsent + self._outgoing.read()
        while data and (taken := _native.fd_send_nowait(sock.fileno(), data)):
            data = data[taken:]
        self._unsent = data
        return bool(data)

    def _wait(self, sock: Any, events: int, what: str, deadline: float | None) -> None:
        if sock.gettimeout() == 0:
            if events == select.POLLIN:
                raise _want(ssl.SSLWantReadError, ssl.SSL_ERROR_WANT_READ, "read")
            raise _want(ssl.SSLWantWriteError, ssl.SSL_ERROR_WANT_WRITE, "write")
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not _native.fd_wait(sock.fileno(), events, left) and deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"The {what} operation timed out")


def _deadline(sock: Any) -> float | None:
    """When the socket's timeout is over, counted from now; ``None`` without one."""
    timeout = sock.gettimeout()
    return None if not timeout else time.monotonic() + timeout

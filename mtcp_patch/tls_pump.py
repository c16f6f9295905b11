"""The pump between OpenSSL's memory BIOs and a virtual descriptor, for ``ssl_shim`` and ``openssl_shim``.

Three rules, each found by a failure of CPython's own tests (DESIGN section 6):

1. Nothing beyond the current TLS record is taken off the socket: what is read ahead lies in the BIO, where ``select``
   on the descriptor cannot see it, and after ``unwrap()`` it would be lost plaintext.
2. Nothing is encrypted that the send buffer has no room for: an encrypted record cannot be taken back.
3. What OpenSSL has to say (alerts, tickets) leaves after every call, also after a failed one, and a failure to say it
   does not turn a good read into an error.
"""

from __future__ import annotations

import _thread
import select
import ssl
import time
import weakref
from collections.abc import Callable
from typing import Any

from .stack import _native

_HEADER_BYTES = 5  # type, version, length (RFC 8446 section 5.1)
_MAX_PLAINTEXT_BYTES = 16384  # of one record
_OVERHEAD_BYTES = 512  # more than any cipher suite adds to a record, and a pending alert or ticket beside it
_CONTENT_TYPES = range(20, 25)


def _want(kind: type[ssl.SSLError], code: int, what: str) -> ssl.SSLError:
    return kind(code, f"The operation did not complete ({what})")


class Pump:
    """Moves records between two BIOs, which have the methods of ``ssl.MemoryBIO``, and a socket, which it holds weakly.

    Blocking follows the socket's timeout: none waits, zero raises ``SSLWantReadError`` or ``SSLWantWriteError``, more
    than zero TimeoutError once so many seconds have passed.
    """

    __slots__ = ("__weakref__", "_header", "_incoming", "_lock", "_outgoing", "_record_left", "_sock", "_unsent")

    def _begin(self, sock: Any, incoming: Any, outgoing: Any) -> None:
        self._sock = weakref.ref(sock)
        self._incoming, self._outgoing = incoming, outgoing
        # One thread may read while another writes. OpenSSL's object is not made for that, and on memory BIOs it answers
        # at once and often "want read", whose reason it keeps in one place for both. Never held in a wait.
        self._lock = _thread.RLock()
        self._header = b""  # the part of a record's header that has arrived
        self._record_left = 0  # bytes of the current record that have not
        self._unsent = b""  # encrypted, and not taken by the send buffer

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
                with self._lock:
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

    def _write(self, data: Any, encrypt: Callable[[Any], int]) -> int:
        """Encrypt and send ``data``, record by record; how much that was.

        All of it, as OpenSSL does without SSL_MODE_ENABLE_PARTIAL_WRITE; on a non-blocking socket what the send buffer
        has room for, or ``SSLWantWriteError`` if that is nothing.
        """
        sock = self._socket()
        deadline = _deadline(sock)
        self._flush(sock, "write", deadline)
        view = memoryview(data).cast("B") if memoryview(data).nbytes else b""
        if not view:
            nothing: int = self._pump(sock, "write", deadline, encrypt, view)
            return nothing
        written = 0
        while written < len(view):
            room = 0 if self._unsent else _native.fd_send_room(sock.fileno()) - _OVERHEAD_BYTES
            if room > 0:
                part = view[written : written + min(room, _MAX_PLAINTEXT_BYTES)]
                written += self._pump(sock, "write", deadline, encrypt, part)
            elif written and sock.gettimeout() == 0:
                break
            else:
                self._wait(sock, select.POLLOUT, "write", deadline)
                self._flush(sock, "write", deadline)
        return written

    def _fill(self, sock: Any, what: str, deadline: float | None) -> None:
        """Give OpenSSL the next piece of the current record, at most to its end."""
        while not self._take_piece(sock):
            self._wait(sock, select.POLLIN, what, deadline)

    def _take_piece(self, sock: Any) -> bool:
        """Take what there is of the piece; whether there was anything, the end included."""
        with self._lock:
            wanted = self._record_left or _HEADER_BYTES - len(self._header)
            data = _native.fd_recv_nowait(sock.fileno(), wanted)
            if data is None:
                return False
            if not data:
                self._incoming.write_eof()
                return True
            self._incoming.write(data)
            if self._record_left:
                self._record_left -= len(data)
                return True
            self._header += data
            if len(self._header) == _HEADER_BYTES:
                header, self._header = self._header, b""
                # What is no TLS at all is OpenSSL's to complain of; it needs no more than the header for that.
                self._record_left = int.from_bytes(header[3:5], "big") if header[0] in _CONTENT_TYPES else 0
            return True

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
        with self._lock:
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

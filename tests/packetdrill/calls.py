"""The script's system calls, made through Python's `socket`, `select`, `os` and `fcntl` as mtcp_patch patched them.

Every descriptor is non-blocking underneath; whether the script's descriptor blocks is kept here (`Handle.blocking`),
and a call that would block raises `WouldBlock`: the runner tries it again whenever something has happened.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import constants
from .files import Files
from .flow import Failure
from .syntax import Applied, Call, Flags, Struct, Word
from .wire import Unsupported

#: Room for control messages.
CONTROL_BYTES = 1024


class WouldBlock(Exception):
    """Nothing to return yet."""


@dataclass
class Handle:
    """A descriptor of the script."""

    sock: Any
    blocking: bool = True
    connecting: bool = False


@dataclass
class Addresses:
    """Where unnamed addresses lead: the script says `bind(3, ..., ...)`."""

    family: int
    local: str
    remote: str
    bind_port: int = 8080
    connect_port: int = 8080


Attempt = Callable[[], int]


@dataclass
class Calls:
    """The script's descriptors and the calls on them; `now` gives the virtual time in microseconds."""

    addresses: Addresses
    names: constants.Names
    now: Callable[[], int]
    #: Whether an option has made a descriptor the kernel's.
    is_pinned: Callable[[int], bool]
    handles: dict[int, Handle] = field(default_factory=dict)
    #: Descriptors whose number the script has given to another.
    nameless: list[Handle] = field(default_factory=list)
    #: What the runner must know: "listen", "connect", "socket".
    seen: list[str] = field(default_factory=list)
    #: What the script made with shell commands.
    files: Files = field(default_factory=Files)
    #: The descriptor whose connection `%{ }%` looks at.
    subject: Handle | None = None
    #: TCP_CONGESTION of a new socket, where a sysctl has changed it.
    congestion: str | None = None
    #: What was done otherwise than the script says.
    notes: list[str] = field(default_factory=list)
    #: There has been a connect() or an accept().
    connected: bool = False

    def attempt(self, call: Call) -> Attempt:
        """The call, ready to be tried. Raises Unsupported when it is none of ours."""
        method = getattr(self, f"_{call.name}", None)
        if method is None:
            raise Unsupported(f"the call {call.name}()")
        made: Attempt = method(call, *call.arguments)
        return made

    def close_all(self) -> None:
        """End of the script."""
        for handle in (*self.handles.values(), *self.nameless):
            with contextlib.suppress(OSError):
                handle.sock.close()
        self.handles.clear()
        self.files.close()

    # --- arguments --------------------------------------------------------------------------------------------------

    def number(self, value: Any) -> int:
        """The number that an argument stands for."""
        match value:
            case int():
                return value
            case Word(name):
                return self.names.value(name)
            case Flags(_, parts):
                result = 0
                for part in parts:
                    result |= self.number(part)
                return result
            case [single]:
                return self.number(single)
            case Applied("htons", (port,)):
                return self.number(port)
            case Applied("sizeof", _):
                return 4
        raise Unsupported(f"the argument {value!r}")

    def handle(self, value: Any) -> Handle:
        """The descriptor; OSError EBADF as the kernel has it."""
        found = self.handles.get(self.number(value))
        if found is None:
            raise OSError(errno.EBADF, "not a descriptor of the script")
        return found

    def _new(self, call: Call, handle: Handle) -> int:
        """Gives a descriptor the number that the script expects."""
        expected = call.result if isinstance(call.result, int) and call.result >= 0 else None
        number = expected if expected is not None else max(self.handles, default=2) + 1
        if number in self.handles:
            # As in packetdrill: the name goes to the newer one, and the older stays open without a name.
            self.nameless.append(self.handles[number])
        self.handles[number] = handle
        return number

    def address(self, value: Any, local: bool) -> tuple[str, int]:
        """A socket address argument; `...` is the one of the test."""
        if value is ...:
            if local:
                return self.addresses.local, self.addresses.bind_port
            return self.addresses.remote, self.addresses.connect_port
        if not isinstance(value, Struct) or "sin_port" not in value.fields:
            raise Unsupported(f"the address {value!r}")
        if value.fields.get("sa_family") == Word("AF_UNSPEC"):
            raise Unsupported("connect() to AF_UNSPEC")
        host = value.fields["sin_addr"]
        port = self.number(value.fields["sin_port"])
        return str(host.arguments[0]), port

    def _flags(self, value: Any) -> tuple[int, bool]:
        """Flags for Python's call, and whether the script says MSG_DONTWAIT."""
        flags = self.number(value)
        if flags & getattr(socket, "MSG_FASTOPEN", 0x20000000):
            raise Unsupported("TCP Fast Open")
        if flags & 0x4000000:
            raise Unsupported("MSG_ZEROCOPY")
        return flags, bool(flags & socket.MSG_DONTWAIT)

    @staticmethod
    def _retry(handle: Handle, dont_wait: bool, function: Attempt) -> Attempt:
        """`function`, with EAGAIN as WouldBlock where the script's descriptor blocks."""

        def tried() -> int:
            try:
                return function()
            except BlockingIOError:
                if handle.blocking and not dont_wait:
                    raise WouldBlock from None
                raise

        return tried

    # --- making and ending ------------------------------------------------------------------------------------------

    def _socket(self, call: Call, _family: Any, kind: Any, protocol: Any) -> Attempt:
        number = self.number(kind)
        if number & 0xF != socket.SOCK_STREAM or self.number(protocol) not in (0, socket.IPPROTO_TCP):
            raise Unsupported("a socket that is not TCP")
        family = self.addresses.family if _family is ... else self.number(_family)

        def made() -> int:
            sock = socket.socket(family, socket.SOCK_STREAM, self.number(protocol))
            sock.setblocking(False)
            if self.congestion is not None:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self.congestion.encode())
            handle = Handle(sock, blocking=not number & socket.SOCK_NONBLOCK)
            self.subject = handle
            self.seen.append("socket")
            return self._new(call, handle)

        return made

    def _bind(self, _call: Call, fd: Any, address: Any, _length: Any) -> Attempt:
        def made() -> int:
            host, port = self.address(address, local=True)
            handle = self.handle(fd)
            for tried in range(port, port + 64):
                try:
                    handle.sock.bind((host, tried))
                except OSError as error:
                    # the port is another program's on this machine: the script does not mean that
                    if error.errno != errno.EADDRINUSE or tried == port + 63:
                        raise
                else:
                    break
            return 0

        return made

    def _listen(self, _call: Call, fd: Any, backlog: Any) -> Attempt:
        def made() -> int:
            handle = self.handle(fd)
            handle.sock.listen(self.number(backlog))
            self.addresses.bind_port = handle.sock.getsockname()[1]
            self.seen.append("listen")
            self._must_be_ours(handle)
            return 0

        return made

    def _must_be_ours(self, handle: Handle) -> None:
        if self.is_pinned(handle.sock.fileno()):
            raise Unsupported("a socket option that only the kernel has")

    def _accept(self, call: Call, fd: Any, _address: Any, _length: Any, flags: Any = 0) -> Attempt:
        handle = self.handle(fd)

        def made() -> int:
            sock, _peer = handle.sock.accept()
            sock.setblocking(False)
            new = Handle(sock, blocking=not self.number(flags) & socket.SOCK_NONBLOCK)
            self.subject = new
            self.connected = True
            return self._new(call, new)

        return self._retry(handle, False, made)

    _accept4 = _accept

    def _connect(self, _call: Call, fd: Any, address: Any, _length: Any) -> Attempt:
        handle = self.handle(fd)
        target = self.address(address, local=False)

        def made() -> int:
            if handle.connecting and handle.blocking:
                if not self._is_writable(handle):
                    raise WouldBlock
                handle.connecting = False
                number = handle.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            else:
                self.seen.append("connect")
                self.connected = True
                self.subject = handle
                self._must_be_ours(handle)
                number = handle.sock.connect_ex(target)
                if number == errno.EINPROGRESS and handle.blocking:
                    handle.connecting = True
                    raise WouldBlock
            if number:
                raise OSError(number, os.strerror(number))
            return 0

        return made

    def _close(self, _call: Call, fd: Any) -> Attempt:
        def made() -> int:
            handle = self.handle(fd)
            del self.handles[self.number(fd)]
            handle.sock.close()
            return 0

        return made

    def _shutdown(self, _call: Call, fd: Any, how: Any) -> Attempt:
        def made() -> int:
            self.handle(fd).sock.shutdown(self.number(how))
            return 0

        return made

    # --- data -------------------------------------------------------------------------------------------------------

    def _receive(self, fd: Any, count: int, flags: Any) -> Attempt:
        handle = self.handle(fd)
        number, dont_wait = self._flags(flags)
        return self._retry(handle, dont_wait, lambda: len(handle.sock.recv(count, number)))

    def _read(self, _call: Call, fd: Any, _buffer: Any, count: Any) -> Attempt:
        return self._receive(fd, self.number(count), 0)

    def _recv(self, _call: Call, fd: Any, _buffer: Any, count: Any, flags: Any) -> Attempt:
        return self._receive(fd, self.number(count), flags)

    def _recvfrom(self, _call: Call, fd: Any, _buffer: Any, count: Any, flags: Any, *_address: Any) -> Attempt:
        return self._receive(fd, self.number(count), flags)

    def _lengths(self, vector: Any) -> list[int]:
        return [self.number(part.bare[1]) for part in vector]

    def _readv(self, _call: Call, fd: Any, vector: Any, _count: Any) -> Attempt:
        return self._receive(fd, sum(self._lengths(vector)), 0)

    def _message(self, message: Any) -> list[int]:
        vector: Any = next((value for key, value in message.fields.items() if key.startswith("msg_iov")), [])
        return self._lengths(vector)

    def _control(self, message: Any) -> list[tuple[int, int, int]]:
        """The control messages of a `struct msghdr`: level, type and a number. Raises Unsupported."""
        written = next((value for key, value in message.fields.items() if str(key).startswith("msg_control")), None)
        names = ("cmsg_level", "cmsg_type", "cmsg_data")
        found = []
        for entry in written or []:
            if not isinstance(entry, Struct) or set(entry.fields) != set(names):
                raise Unsupported("control messages of this kind")
            level, kind, value = (self.number(entry.fields[name]) for name in names)
            found.append((level, kind, value))
        return found

    def _recvmsg(self, _call: Call, fd: Any, message: Any, flags: Any) -> Attempt:
        count, control = sum(self._message(message)), self._control(message)
        handle = self.handle(fd)
        number, dont_wait = self._flags(flags)

        def made() -> int:
            data, ancillary, *_ = handle.sock.recvmsg(count, CONTROL_BYTES, number)
            actual = [(level, kind, int.from_bytes(value, sys.byteorder)) for level, kind, value in ancillary]
            if actual != control:
                raise Failure(f"control messages: expected {control}, actual {actual}")
            return len(data)

        return self._retry(handle, dont_wait, made)

    @staticmethod
    def _is_writable(handle: Handle) -> bool:
        poller = select.poll()
        poller.register(handle.sock, select.POLLOUT)
        return bool(poller.poll(0))

    def _transmit(self, fd: Any, count: int, flags: Any) -> Attempt:
        handle = self.handle(fd)
        number, dont_wait = self._flags(flags)
        sent: int = 0
        waiting = False

        def made() -> int:
            nonlocal sent, waiting
            # as the kernel's and ours, a blocked writer goes on when it could poll for it, not when a byte fits
            if waiting and not self._is_writable(handle):
                raise WouldBlock
            while True:
                try:
                    sent += handle.sock.send(bytes(count - sent), number)
                except BlockingIOError:
                    if handle.blocking and not dont_wait:
                        waiting = True
                        raise WouldBlock from None
                    if sent:
                        return sent
                    raise
                # a blocking write returns when all was taken
                if sent >= count or not handle.blocking or dont_wait:
                    return sent

        return made

    def _write(self, _call: Call, fd: Any, _buffer: Any, count: Any) -> Attempt:
        return self._transmit(fd, self.number(count), 0)

    def _send(self, _call: Call, fd: Any, _buffer: Any, count: Any, flags: Any) -> Attempt:
        return self._transmit(fd, self.number(count), flags)

    def _sendto(self, _call: Call, fd: Any, _buffer: Any, count: Any, flags: Any, *_address: Any) -> Attempt:
        if not self.connected:
            raise Unsupported("sendto() that connects (TCP Fast Open)")
        return self._transmit(fd, self.number(count), flags)

    def _writev(self, _call: Call, fd: Any, vector: Any, _count: Any) -> Attempt:
        return self._transmit(fd, sum(self._lengths(vector)), 0)

    def _sendmsg(self, _call: Call, fd: Any, message: Any, flags: Any) -> Attempt:
        if self._control(message):
            raise Unsupported("control messages to send")
        return self._transmit(fd, sum(self._message(message)), flags)

    # --- options ----------------------------------------------------------------------------------------------------

    def _fcntl(self, _call: Call, fd: Any, command: Any, argument: Any = 0) -> Attempt:
        def made() -> int:
            handle = self.handle(fd)
            match command:
                case Word("F_GETFL"):
                    return os.O_RDWR | (0 if handle.blocking else os.O_NONBLOCK)
                case Word("F_SETFL"):
                    handle.blocking = not self.number(argument) & os.O_NONBLOCK
                    return 0
            raise Unsupported(f"fcntl {command!r}")

        return made

    def _ioctl(self, _call: Call, fd: Any, request: Any, argument: Any = None) -> Attempt:
        def made() -> int:
            handle = self.handle(fd)
            match request:
                case Word("SIOCINQ" | "FIONREAD"):
                    answer = fcntl.ioctl(handle.sock, termios.FIONREAD, struct.pack("i", 0))
                    self._expect("FIONREAD", argument, struct.unpack("i", answer)[0])
                    return 0
                case Word("FIONBIO"):
                    handle.blocking = not self.number(argument)
                    return 0
            raise Unsupported(f"ioctl {request!r}")

        return made

    def _expect(self, what: str, expected: Any, actual: int) -> None:
        value = expected[0] if isinstance(expected, list) and len(expected) == 1 else expected
        if value is ... or value is None:
            return
        if (self.number(value) - actual) % (1 << 32):
            raise Failure(f"{what}: expected {self.number(value)}, actual {actual}")

    def _setsockopt(self, _call: Call, fd: Any, level: Any, name: Any, value: Any, length: Any) -> Attempt:
        def made() -> int:
            handle = self.handle(fd)
            if name == Word("SO_DEBUG"):
                self.notes.append("SO_DEBUG left out: its trace shows in no packet")
                return 0
            if name == Word("TCP_KEEPINIT"):
                self.notes.append("TCP_KEEPINIT taken for TCP_USER_TIMEOUT, which goes on once there is a connection")
                milliseconds = self.number(value) * 1000
                handle.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
                return 0
            option = self.names.option(level, name)
            if name.name in constants.NOT_OURS:
                raise Unsupported(f"the socket option {name.name}: {constants.NOT_OURS[name.name]}")
            if isinstance(value, Struct):
                fields = [self.number(field) for field in value.fields.values()]
                data = struct.pack(f"{len(fields)}i", *fields)
            elif isinstance(value, str):
                data = value.encode()
            elif value is ... or (isinstance(value, list) and value == [...]):
                raise Unsupported("setsockopt() with an unknown value")
            else:
                data = struct.pack("I", self.number(value) & 0xFFFFFFFF)
            size = self.number(length)
            handle.sock.setsockopt(*option, data.ljust(size, b"\0")[:size])
            return 0

        return made

    def _getsockopt(self, _call: Call, fd: Any, level: Any, name: Any, value: Any, length: Any) -> Attempt:
        def made() -> int:
            handle = self.handle(fd)
            option = self.names.option(level, name)
            if isinstance(value, Struct):
                data = handle.sock.getsockopt(*option, 4 * len(value.fields))
                for (field_name, expected), actual in zip(
                    value.fields.items(), struct.unpack(f"{len(value.fields)}i", data), strict=True
                ):
                    self._expect(f"{name.name}.{field_name}", expected, actual)
                return 0
            if isinstance(value, str):
                text = handle.sock.getsockopt(*option, 16).split(b"\0")[0].decode()
                if text != value:
                    raise Failure(f"{name.name}: expected {value!r}, actual {text!r}")
                return 0
            actual = self.names.seen(name.name, handle.sock.getsockopt(*option))
            if name.name == "TCP_MAXSEG":
                actual = self.names.shown_mss(actual, self._has_timestamps(handle))
            self._expect(name.name, value, actual)
            self._expect(f"{name.name}'s length", length, 4)
            return 0

        return made

    @staticmethod
    def _has_timestamps(handle: Handle) -> bool:
        """Whether the connection, if there is one, has agreed on timestamps."""
        try:
            info = constants.tcp_info(handle.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256))
        except OSError:
            return False
        return bool(info["tcpi_options"] & constants.INFO_OPTIONS["TIMESTAMPS"])

    # --- readiness --------------------------------------------------------------------------------------------------

    def _until(self, timeout_ms: int) -> int | None:
        return None if timeout_ms < 0 else self.now() + timeout_ms * 1000

    def _poll(self, _call: Call, entries: Any, _count: Any, timeout: Any) -> Attempt:
        until = self._until(self.number(timeout))

        def made() -> int:
            poller = select.poll()
            for entry in entries:
                poller.register(self.handle(entry.fields["fd"]).sock, self.number(entry.fields["events"]))
            found = dict(poller.poll(0))
            if not found and (until is None or self.now() < until):
                raise WouldBlock
            for entry in entries:
                actual = found.get(self.handle(entry.fields["fd"]).sock.fileno(), 0)
                self._expect("revents", entry.fields.get("revents", 0), actual)
            return len(found)

        return made

    def _epoll_create(self, call: Call, _size: Any) -> Attempt:
        return lambda: self._new(call, Handle(select.epoll()))

    _epoll_create1 = _epoll_create

    def _epoll_ctl(self, _call: Call, epfd: Any, operation: Any, fd: Any, event: Any = None) -> Attempt:
        def made() -> int:
            epoll, sock = self.handle(epfd).sock, self.handle(fd).sock
            match operation:
                case Word("EPOLL_CTL_ADD"):
                    epoll.register(sock, self.number(event.fields["events"]))
                case Word("EPOLL_CTL_MOD"):
                    epoll.modify(sock, self.number(event.fields["events"]))
                case Word("EPOLL_CTL_DEL"):
                    epoll.unregister(sock)
                case _:
                    raise Unsupported(f"epoll_ctl {operation!r}")
            return 0

        return made

    def _epoll_wait(self, _call: Call, epfd: Any, events: Any, most: Any, timeout: Any) -> Attempt:
        until = self._until(self.number(timeout))

        def made() -> int:
            found = self.handle(epfd).sock.poll(0, self.number(most))
            if not found and (until is None or self.now() < until):
                raise WouldBlock
            wanted = events if isinstance(events, list) else [events]
            for entry, (_fd, actual) in zip(wanted, found, strict=False):
                if isinstance(entry, Struct):
                    self._expect("events", entry.fields["events"], actual)
            return len(found)

        return made

    # --- files ------------------------------------------------------------------------------------------------------

    def _open(self, call: Call, path: Any, *_flags: Any) -> Attempt:
        def made() -> int:
            own = self.files.find(path) if isinstance(path, str) else None
            file = open(own or "/dev/zero", "rb")  # noqa: SIM115 (closed by the script's close() or at its end)
            return self._new(call, Handle(file))

        return made

    def _sendfile(self, _call: Call, out: Any, source: Any, offset: Any, count: Any) -> Attempt:
        handle = self.handle(out)
        at = self.number(offset) if not isinstance(offset, (list, type(...))) else 0

        def made() -> int:
            return os.sendfile(handle.sock.fileno(), self.handle(source).sock.fileno(), at, self.number(count))

        return self._retry(handle, False, made)

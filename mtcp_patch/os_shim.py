"""``os`` and ``fcntl`` on virtual descriptors.

It owns the table of functions that take a descriptor, with what each does for a virtual one. A native dispatcher
(``_native.fd_dispatch``) stands under each name: it hands every call for a kernel descriptor to the original,
arguments untouched, and costs that call about 10 ns.

Who calls it: ``patcher``, once. What never happens here: a virtual number reaching the kernel; a silent no-op, but for
the inheritable flag, which the kernel would act on only at exec, where our descriptors do not survive.

What cannot work raises an OSError that says so: ``dup2`` onto or from a kernel descriptor, ``os.fdopen`` (use
``socket.makefile``). ``open(fd)`` and ``os.stat(fd)`` are not patched and give the kernel's EBADF. What leaves the
process is ``processes_shim``'s.

The runtime has kernel descriptors of its own. ``close`` and ``closerange`` answer for them as for numbers that are not
open: a daemon closes all that it does not know. ``dup2`` onto one is refused: our epolls know it by its number.
"""

from __future__ import annotations

import errno
import os

from .patcher import named_after
from .stack import _native

TYPE_CHECKING = False  # as typing has it; loading typing would cost every child process some ms
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType
    from typing import Any

    from .patcher import Patcher

TARGETS = ("os",)

VFD_BASE: int = _native.VFD_BASE

# Not exported by fcntl or termios on every Python.
_FIONREAD = 0x541B
_SIOCOUTQ = 0x5411
_SIOCOUTQNSD = 0x894B
_SIOCATMARK = 0x8905
_FIONBIO = 0x5421
# Requests about interfaces and routes (SIOCGIFADDR …): any kernel socket answers them alike.
_SIOC_INTERFACE = range(0x8910, 0x8A00)


def _refusal(what: str, why: str) -> OSError:
    return OSError(errno.EOPNOTSUPP, f"{what}: not possible with a user-level TCP descriptor (mtcp_patch): {why}")


def _require_open(fd: int) -> None:
    if not _native.fd_is_open(fd):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


# --- os -------------------------------------------------------------------------------------------------------------


def _dup2(fd: int, fd2: int, inheritable: bool = True) -> int:
    if fd == fd2:
        _require_open(fd)
        return fd
    if fd >= VFD_BASE and fd2 >= VFD_BASE:
        _native.fd_dup2(fd, fd2)
        if not inheritable:
            _native.fd_set_inheritable(fd2, False)
        return fd2
    if fd2 < VFD_BASE and fd < VFD_BASE:
        raise OSError(errno.EBUSY, f"dup2: descriptor {fd2} is the TCP stack's own (mtcp_patch)")
    raise _refusal("dup2", "the two kinds of descriptor cannot take each other's number")


def _readv(fd: int, buffers: Sequence[Any], /) -> int:
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    data: bytes = _native.fd_read(fd, sum(map(len, views)))
    start = 0
    for view in views:
        part = data[start : start + len(view)]
        view[: len(part)] = part
        start += len(part)
    return len(data)


def _writev(fd: int, buffers: Sequence[Any], /) -> int:
    written: int = _native.fd_write(fd, b"".join(buffers))
    return written


def _fstat(fd: int) -> os.stat_result:
    import stat

    _require_open(fd)
    return os.stat_result((stat.S_IFSOCK | 0o777, fd, 8, 1, os.getuid(), os.getgid(), 0, 0, 0, 0))


def _isatty(fd: int, /) -> bool:
    return False


def _set_inheritable(fd: int, inheritable: int, /) -> None:
    _native.fd_set_inheritable(fd, bool(inheritable))


def _set_blocking(fd: int, blocking: object, /) -> None:
    _native.fd_set_blocking(fd, bool(blocking))


def _fails(number: int) -> Callable[..., Any]:
    """A function that answers as the kernel does for a socket: EBADF if closed, else ``number``."""

    def fail(fd: int, *_args: Any, **_kwargs: Any) -> Any:
        _require_open(fd)
        raise OSError(number, os.strerror(number))

    return fail


_OS_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "read": _native.fd_read,
    "write": _native.fd_write,
    "readv": _readv,
    "writev": _writev,
    "close": _native.fd_close,
    "dup": _native.fd_dup,
    "fstat": _fstat,
    "isatty": _isatty,
    "ttyname": _fails(errno.ENOTTY),
    "lseek": _fails(errno.ESPIPE),
    "pread": _fails(errno.ESPIPE),
    "pwrite": _fails(errno.ESPIPE),
    "fsync": _fails(errno.EINVAL),
    "ftruncate": _fails(errno.EINVAL),
    "splice": _fails(errno.EINVAL),
    "set_blocking": _set_blocking,
    "get_blocking": _native.fd_get_blocking,
    "set_inheritable": _set_inheritable,
    "get_inheritable": _native.fd_get_inheritable,
    "sendfile": _native.fd_sendfile,
}


def _patch_os(patcher: Patcher) -> None:
    import posix  # os takes its functions from there, and pickle looks for them there

    functions = [(name, virtual, "close" if name == "close" else "first") for name, virtual in _OS_FUNCTIONS.items()]
    functions.append(("dup2", _dup2, "two"))
    for name, virtual, looks in functions:
        original = getattr(os, name, None)
        if original is not None:
            new = _native.fd_dispatch(original, virtual, looks)
            patcher.replace(os, name, new)
            if getattr(posix, name, None) is original:
                patcher.replace(posix, name, new)
    _patch_closerange(patcher)
    _patch_fdopen(patcher)


def _patch_closerange(patcher: Patcher) -> None:
    real = os.closerange

    @named_after(real)
    def closerange(fd_low: int, fd_high: int, /) -> None:
        low = fd_low
        for own in _native.runtime_fds(fd_low, fd_high):
            real(low, own)
            low = own + 1
        real(low, fd_high)
        if fd_high > VFD_BASE:
            for fd in _native.open_descriptors():
                if fd_low <= fd < fd_high:
                    _native.fd_close(fd)

    patcher.replace(os, "closerange", closerange)


def _patch_fdopen(patcher: Patcher) -> None:
    real = os.fdopen

    @named_after(real)
    def fdopen(fd: int, *args: Any, **kwargs: Any) -> Any:
        if isinstance(fd, int) and fd >= VFD_BASE:
            raise _refusal("fdopen", "io reads the descriptor by itself; use socket.makefile()")
        return real(fd, *args, **kwargs)

    patcher.replace(os, "fdopen", fdopen)


# --- fcntl ----------------------------------------------------------------------------------------------------------


def _number_of(fd: Any) -> int:
    number: int = fd if isinstance(fd, int) else fd.fileno()
    return number


def _fcntl(fd: Any, cmd: int, arg: Any = 0, /) -> Any:
    import fcntl

    number = _number_of(fd)
    _require_open(number)
    if cmd == fcntl.F_GETFL:
        return os.O_RDWR | (0 if _native.fd_get_blocking(number) else os.O_NONBLOCK)
    if cmd == fcntl.F_SETFL:
        _native.fd_set_blocking(number, not arg & os.O_NONBLOCK)
        return 0
    if cmd == fcntl.F_GETFD:
        return 0 if _native.fd_get_inheritable(number) else fcntl.FD_CLOEXEC
    if cmd == fcntl.F_SETFD:
        _native.fd_set_inheritable(number, not arg & fcntl.FD_CLOEXEC)
        return 0
    if cmd in (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC):
        new = _native.fd_dup(number)
        _native.fd_set_inheritable(new, cmd == fcntl.F_DUPFD)
        return new
    raise _refusal(f"fcntl command {cmd}", "only flags and duplicates exist there")


def _ioctl(fd: Any, request: int, arg: Any = 0, mutate_flag: bool = True, /) -> Any:
    number = _number_of(fd)
    _require_open(number)
    if request in (_FIONREAD, _SIOCOUTQ, _SIOCOUTQNSD, _SIOCATMARK):
        return _store_int(_native.fd_ioctl_int(number, request), arg, mutate_flag)
    if request == _FIONBIO and not isinstance(arg, int):
        import struct

        (on,) = struct.unpack_from("i", arg)
        _native.fd_set_blocking(number, not on)
        return arg if isinstance(arg, bytes) else 0
    if request in _SIOC_INTERFACE:
        import fcntl
        import socket

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            return fcntl.ioctl(any_socket, request, arg, mutate_flag)
    raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))


def _store_int(value: int, arg: Any, mutate: bool) -> Any:
    """The answer of an ioctl whose argument is an ``int *``, in the form in which ``arg`` was given."""
    if isinstance(arg, int):  # taken as an address, which the kernel cannot write to
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
    import struct

    size = struct.calcsize("i")
    view = memoryview(arg).cast("B")
    if len(view) < size:
        raise ValueError("ioctl argument is smaller than an int")
    if view.readonly or not mutate:
        return struct.pack("i", value) + bytes(view[size:])
    view[:size] = struct.pack("i", value)
    return 0


def _patch_fcntl(patcher: Patcher, fcntl: ModuleType) -> None:
    for name, virtual in (("fcntl", _fcntl), ("ioctl", _ioctl)):
        patcher.replace(fcntl, name, _native.fd_dispatch(getattr(fcntl, name), virtual, "fileno"))


def patch(patcher: Patcher) -> None:
    """Put a dispatcher under each function of ``os`` and ``fcntl`` that takes a descriptor."""
    _patch_os(patcher)
    patcher.when_imported("fcntl", lambda fcntl: _patch_fcntl(patcher, fcntl))

"""`socket`: AF_INET and AF_INET6 streams go to the stack, every other socket to the kernel.

The classes stay what they are. A native type with the memory layout of `_socket.socket` is put *under* them
(`socket.socket.__bases__`), so that names imported earlier, subclasses made before and after, `isinstance`, ssl and
gevent's unbound calls all hold. The virtual descriptor (from 2^30) stands where the kernel's would.

Who calls it: `patcher.add_shim`, once `socket` has been imported. All methods are native
(`stack/binding/src/socket/`); here are the module's names and what cannot work.
What never happens here: no method of a socket is wrapped in Python, and threading is not touched.
"""

from __future__ import annotations

import functools

from .stack import _native

TYPE_CHECKING = False  # as typing has it; loading typing would cost every child process some ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .patcher import Patcher

TARGETS = ("socket",)


def patch(patcher: Patcher) -> None:
    """Put the native type under every socket class.

    Raises ImportError in a Python whose socket object has another layout. (Sub-interpreters and free-threaded builds
    do not get here: there `_native` does not load.)
    """
    import _socket
    import socket

    native_type = _native.make_socket_type(_socket.socket)
    original = _socket.socket
    for name in ("socket", "SocketType"):
        patcher.replace(_socket, name, native_type)
    patcher.replace(socket, "SocketType", native_type)
    _rebase(patcher, original, native_type)
    _replace_default(patcher, socket.socket._real_close, original, native_type)  # type: ignore[attr-defined]
    _patch_functions(patcher)


def _rebase(patcher: Patcher, original: type, native_type: type) -> None:
    """Make `native_type` the base of every class that has `original` as one: `socket.socket`, gevent's own."""
    subclasses: list[type] = type.__subclasses__(original)
    for cls in subclasses:
        if cls is native_type:
            continue
        before = cls.__bases__
        try:
            cls.__bases__ = tuple(native_type if base is original else base for base in before)
        except TypeError as error:
            patcher.keep_on_kernel(f"{cls.__module__}.{cls.__qualname__}", f"its base cannot be changed ({error})")
            continue
        patcher.on_restore(functools.partial(setattr, cls, "__bases__", before))


def _replace_default(patcher: Patcher, function: Any, original: object, new: object) -> None:
    """Exchange an object that `function` captured as a default: `_real_close(self, _ss=_socket.socket)`."""
    before = function.__defaults__
    if before and original in before:
        function.__defaults__ = tuple(new if value is original else value for value in before)
        patcher.on_restore(functools.partial(setattr, function, "__defaults__", before))


def _patch_functions(patcher: Patcher) -> None:
    """The module's functions on descriptors. `fromfd`, `fromshare` and `socket.socket.dup` go through `dup`."""
    import _socket
    import socket

    for name, virtual, looks in (("dup", _native.fd_dup, "first"), ("close", _native.fd_close, "close")):
        function = _native.fd_dispatch(getattr(_socket, name), virtual, looks)
        patcher.replace(_socket, name, function)
        patcher.replace(socket, name, function)
    patcher.replace(socket, "send_fds", _sending_kernels(socket.send_fds))


def _sending_kernels(send_fds: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(send_fds)
    def function(sock: Any, buffers: Any, fds: Iterable[int], flags: int = 0, address: Any = None) -> int:
        from .processes_shim import to_kernel

        return send_fds(sock, buffers, [to_kernel(fd) for fd in fds], flags, address)

    return function

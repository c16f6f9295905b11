"""Sockets on their way to another process: ``subprocess``, ``multiprocessing``, descriptors sent over AF_UNIX.

A connection of ours cannot leave: its state lives in this process, and the attempt raises an OSError that says so. A
listener that has served nobody, or a socket that is neither listening nor connected, can: it becomes the kernel's,
which both processes share, and the other one has it under a virtual descriptor of its own, so that it behaves as any
other (reloaders, ``uvicorn --workers``, a listener as an argument of ``multiprocessing.Process``).

How the other process gets it:

| way                              | what is sent                                                                      |
|----------------------------------|-----------------------------------------------------------------------------------|
| pickled by multiprocessing       | the kernel descriptor; ``_rebuild_socket`` adopts it                              |
| ``pass_fds``, ``close_fds=False``| the kernel descriptor, and in ``INHERITED_VARIABLE`` the number that the program  |
| exec                             | knows it by (Werkzeug and gunicorn tell the next so): adopted under that number   |
| SCM_RIGHTS                       | the kernel descriptor, as which it arrives                                        |
| fork after accept()              | nothing can be: the listener of a ``socketserver.ForkingMixIn`` is the kernel's   |

Who calls it: ``patcher`` once, and ``mtcp_patch.install()``, which adopts. What never happens here: a virtual number
in a message to another process.
"""

from __future__ import annotations

import errno
import functools
import os

from .config import INHERITED_VARIABLE
from .stack import _native

TYPE_CHECKING = False  # as typing has it; loading typing would cost every child process some ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import ModuleType
    from typing import Any

    from .patcher import Patcher

TARGETS = ("subprocess", "socketserver", "multiprocessing.reduction", "multiprocessing.connection")

VFD_BASE: int = _native.VFD_BASE

# Where the arguments of _posixsubprocess.fork_exec stand, the same in 3.11 to 3.14.
_CLOSE_FDS, _FDS_TO_KEEP, _ENVIRONMENT = 2, 3, 5
_STANDARD_STREAMS = slice(6, 12)
_CLOSEFROM = getattr(os, "POSIX_SPAWN_CLOSEFROM", None)  # 3.13: how posix_spawn closes the rest


def to_kernel(fd: int, where: str = "another process") -> int:
    """The kernel descriptor behind a virtual one, which becomes the kernel's; others unchanged.

    Raises OSError for a connection of ours, and for a listener that has served some.
    """
    if fd < VFD_BASE:
        return fd
    try:
        number: int = _native.fd_give_to_kernel(fd)
    except OSError as error:
        if error.errno == errno.EBUSY:
            why = "this listener has accepted connections, which live in this process"
        elif error.errno == errno.EOPNOTSUPP:
            why = "the connection lives in this process"
        else:
            raise
        raise _refusal(fd, where, why) from None
    return number


def _refusal(fd: int, where: str, why: str) -> OSError:
    text = f"descriptor {fd} to {where}: not possible with a user-level TCP descriptor (mtcp_patch): {why}"
    return OSError(errno.EOPNOTSUPP, text)


def move_to_kernel(sock: Any) -> None:
    """Make a socket object of ours one of the kernel's, in place: from now on it has a kernel descriptor of its own.

    Raises OSError for a connection of ours, and for a listener that has served some.
    """
    import _socket

    virtual = sock.fileno()
    if virtual < VFD_BASE:
        return
    kernel = os.dup(to_kernel(virtual, "code that makes its own system calls"))
    timeout, kind = sock.gettimeout(), (sock.family, sock.type, sock.proto)
    os.close(_socket.socket.detach(sock))
    _socket.socket.__init__(sock, *kind, kernel)
    sock.settimeout(timeout)


# --- by exec --------------------------------------------------------------------------------------------------------


def adopt_inherited() -> None:
    """Take over what the parent process left to this one. Called once, when the stack is installed."""
    for pair in os.environ.pop(INHERITED_VARIABLE, "").split(","):
        virtual, _equals, kernel = pair.partition("=")
        if not (virtual.isdecimal() and kernel.isdecimal()):
            continue
        try:
            _native.fd_adopt(int(kernel), int(virtual))
        except OSError:
            continue  # closed by a process in between: then the program's own use of the number says EBADF


def _patch_subprocess(patcher: Patcher, subprocess: ModuleType) -> None:
    real = subprocess._fork_exec

    @functools.wraps(real)
    def _fork_exec(*args: Any) -> Any:
        for fd in args[_STANDARD_STREAMS]:
            if fd >= VFD_BASE:
                raise _refusal(fd, "a child process", "its standard streams are read by system calls")
        left = _left_to_child(args[_FDS_TO_KEEP], close_fds=args[_CLOSE_FDS])
        if not left:
            return real(*args)
        words = list(args)
        words[_FDS_TO_KEEP] = tuple(sorted({*(n for n in args[_FDS_TO_KEEP] if n < VFD_BASE), *left.values()}))
        words[_ENVIRONMENT] = _with_inherited(args[_ENVIRONMENT], left)
        return real(*words)

    patcher.replace(subprocess, "_fork_exec", _fork_exec)
    for name in ("posix_spawn", "posix_spawnp"):  # what subprocess uses with close_fds=False, from 3.13 on always
        patcher.replace(os, name, _spawning(getattr(os, name)))


def _spawning(spawn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(spawn)
    def function(path: Any, argv: Any, env: Any, /, **more: Any) -> Any:
        actions = list(more.get("file_actions") or ())
        for action in actions:
            if action[0] == os.POSIX_SPAWN_DUP2 and action[1] >= VFD_BASE:
                raise _refusal(action[1], "a child process", "its standard streams are read by system calls")
        left = _left_to_child((), close_fds=any(action[0] == _CLOSEFROM for action in actions))
        if left:
            # dup2 onto itself clears close-on-exec in the child alone (posix_spawn_file_actions_adddup2(3)).
            actions += [(os.POSIX_SPAWN_DUP2, number, number) for number in left.values()]
            more["file_actions"] = actions
            env = dict(os.environ if env is None else env) | {INHERITED_VARIABLE: _pairs(left)}
        return spawn(path, argv, env, **more)

    return function


def _left_to_child(fds_to_keep: Iterable[int], *, close_fds: bool) -> dict[int, int]:
    """Virtual descriptor -> kernel descriptor, of all that the child inherits."""
    left = {fd: to_kernel(fd, "a child process") for fd in fds_to_keep if fd >= VFD_BASE}
    if close_fds:
        return left
    for fd in _native.inheritable_descriptors():
        if fd not in left:
            try:
                left[fd] = to_kernel(fd)
            except OSError:
                continue  # inheritable, but not named: the program need not mean the child to have it
    return left


def leave_to_next_program(environment: Any) -> None:
    """What is inheritable goes on under its number in the program that takes this one's place, if that is Python.

    ``environment`` is exec's, None for this process's own. It is changed, as the caller does not live to see.
    """
    left = _left_to_child((), close_fds=False)
    if not left:
        return
    copies = {virtual: os.dup(kernel) for virtual, kernel in left.items()}  # the runtime closes its own at the end
    for number in copies.values():
        os.set_inheritable(number, True)
    (os.environ if environment is None else environment)[INHERITED_VARIABLE] = _pairs(copies)


def _with_inherited(environment: Sequence[bytes] | None, left: dict[int, int]) -> list[bytes]:
    """The child's environment with what it is to adopt."""
    name = INHERITED_VARIABLE.encode()
    if environment is None:
        environment = [key + b"=" + value for key, value in os.environb.items()]
    kept = [entry for entry in environment if not entry.startswith(name + b"=")]
    return [*kept, name + b"=" + _pairs(left).encode()]


def _pairs(left: dict[int, int]) -> str:
    return ",".join(f"{virtual}={kernel}" for virtual, kernel in left.items())


# --- by SCM_RIGHTS and pickle ---------------------------------------------------------------------------------------


def _patch_reduction(patcher: Patcher, reduction: ModuleType) -> None:
    real_send, real_dup, real_rebuild = reduction.sendfds, reduction.DupFd, reduction._rebuild_socket

    @functools.wraps(real_send)
    def sendfds(sock: Any, fds: Iterable[int]) -> None:
        real_send(sock, [to_kernel(fd) for fd in fds])

    @functools.wraps(real_dup)
    def DupFd(fd: int) -> Any:
        return real_dup(to_kernel(fd))

    @functools.wraps(real_rebuild)
    def _rebuild_socket(*args: Any) -> Any:
        return _adopted(real_rebuild(*args))

    patcher.replace(reduction, "sendfds", sendfds)
    patcher.replace(reduction, "DupFd", DupFd)
    patcher.replace(reduction, "_rebuild_socket", _rebuild_socket)


def _adopted(sock: Any) -> Any:
    """A socket that is neither connected nor another kind's, under a virtual descriptor; others as they are.

    What another process of ours has given away is non-blocking, which a program that expects to block must not see.
    """
    import socket

    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        return sock
    try:
        sock.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            return sock
        return socket.socket(sock.family, sock.type, sock.proto, fileno=_native.fd_adopt(sock.detach()))
    return sock


def _patch_connection(patcher: Patcher, connection: ModuleType) -> None:
    """``multiprocessing.connection`` copied os.read, write and close into its defaults when it was imported."""
    target = connection.Connection
    defaults: dict[str, Any] = {"_close": os.close, "_send": os.write, "_recv": os.read}
    for name, function in defaults.items():
        method = vars(target)[name]
        if method.__defaults__ != (function,):
            before, method.__defaults__ = method.__defaults__, (function,)
            patcher.on_restore(functools.partial(setattr, method, "__defaults__", before))


# --- by fork --------------------------------------------------------------------------------------------------------


def _patch_socketserver(patcher: Patcher, socketserver: ModuleType) -> None:
    """Keep the listener of a forking server on the kernel: each of its connections goes to a child of its own."""
    forking = getattr(socketserver, "ForkingMixIn", None)
    real = socketserver.TCPServer.server_activate

    @functools.wraps(real)
    def server_activate(self: Any) -> None:
        if forking is not None and isinstance(self, forking):
            to_kernel(self.socket.fileno())
        real(self)

    patcher.replace(socketserver.TCPServer, "server_activate", server_activate)


def patch(patcher: Patcher) -> None:
    """Put translations under what sends a descriptor to another process."""
    patcher.when_imported("socketserver", functools.partial(_patch_socketserver, patcher))
    patcher.when_imported("subprocess", functools.partial(_patch_subprocess, patcher))
    patcher.when_imported("multiprocessing.reduction", functools.partial(_patch_reduction, patcher))
    patcher.when_imported("multiprocessing.connection", functools.partial(_patch_connection, patcher))

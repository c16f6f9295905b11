"""Extension modules that make their own system calls: seen when they are imported, named once, left to the kernel.

No patch of Python's reaches them. What can be done is done: uvicorn's own choice of a loop is steered from uvloop to
asyncio's, and sockets that go from Python into uvloop are made the kernel's, so that it keeps working. The line on
stderr says what is lost and what to do; ``--info`` lists the ones that are installed.

Who calls it: ``patcher``, when the first of them is imported; ``info`` reads the table. What never happens here: an
import of any of them, a refusal, a word about one that a parent process has named already.
"""

from __future__ import annotations

import functools
import os
import sys

from .config import NAMED_VARIABLE

TYPE_CHECKING = False  # as typing has it; loading typing would cost every child process some ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from .patcher import Patcher

# Module: why its connections are the kernel's; what to use to have them on the stack.
BYPASSING = {
    "uvloop": ("libuv makes its own system calls", "asyncio's own event loop is on the stack"),
    "grpc": ("its C core makes its own system calls", "grpclib, on asyncio, would be on the stack"),
    "psycopg": ("libpq makes its own system calls", "pg8000 and asyncpg are on the stack"),
    "psycopg2": ("libpq makes its own system calls", "pg8000 and asyncpg are on the stack"),
    "zmq": ("libzmq makes its own system calls", "it has no transport in Python"),
    "pycurl": ("libcurl makes its own system calls", "requests, urllib3, httpx and aiohttp are on the stack"),
    "curl_cffi": ("libcurl makes its own system calls", "requests, urllib3, httpx and aiohttp are on the stack"),
    "MySQLdb": ("libmysqlclient makes its own system calls", "PyMySQL is on the stack"),
    "mariadb": ("MariaDB Connector/C makes its own system calls", "PyMySQL is on the stack"),
    "pyodbc": ("ODBC drivers make their own system calls", "a driver in Python would be on the stack"),
    "confluent_kafka": ("librdkafka makes its own system calls", "aiokafka and kafka-python would be on the stack"),
    "pynng": ("libnng makes its own system calls", "it has no transport in Python"),
    "granian": ("its server is native and makes its own system calls", "uvicorn and hypercorn are on the stack"),
    "bjoern": ("its server is native and makes its own system calls", "waitress and gevent are on the stack"),
}

TARGETS = (*BYPASSING, "uvicorn.config")

# What uvicorn's loop "auto" is under us, in its table before and since 0.36.
_UVICORN_TABLES = {
    "LOOP_FACTORIES": "uvicorn.loops.asyncio:asyncio_loop_factory",
    "LOOP_SETUPS": "uvicorn.loops.asyncio:asyncio_setup",
}
# Methods of uvloop's Loop that take a socket of Python's.
_TAKE_SOCKETS = (
    "create_server", "create_connection", "connect_accepted_socket", "sock_accept", "sock_connect", "sock_recv",
    "sock_recv_into", "sock_sendall", "add_reader", "add_writer", "remove_reader", "remove_writer",
)  # fmt: skip


def sentence(name: str) -> str:
    """What is lost, why, and what to do."""
    why, instead = BYPASSING[name]
    return f"its connections stay on the kernel, because {why}; {instead}"


def _name_once(patcher: Patcher, name: str, _module: ModuleType) -> None:
    patcher.keep_on_kernel(name, sentence(name))
    named = os.environ.get(NAMED_VARIABLE, "").split(",")
    if name in named:
        return
    os.environ[NAMED_VARIABLE] = ",".join(filter(None, [*named, name]))
    sys.stderr.write(f"mtcp_patch: {name} is used here: {sentence(name)}\n")


def _steer_uvicorn(patcher: Patcher, config: ModuleType) -> None:
    """Have ``--loop auto``, the default, mean asyncio's loop; ``--loop uvloop`` still means uvloop."""
    for attribute, ours in _UVICORN_TABLES.items():
        table = getattr(config, attribute, None)
        if table is not None and "auto" in table:
            patcher.on_restore(functools.partial(table.__setitem__, "auto", table["auto"]))
            table["auto"] = ours


# --- uvloop ---------------------------------------------------------------------------------------------------------


def _kernel_socket_class() -> type:
    """``socket.socket`` on the kernel whatever its family, for whoever makes sockets for libuv.

    Any socket counts as an instance: uvloop asks only to know whether it must count references.
    """
    import socket

    from .processes_shim import move_to_kernel

    class AnySocket(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, socket.socket)

    class KernelSocket(socket.socket, metaclass=AnySocket):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            move_to_kernel(self)

    return KernelSocket


def while_uvloop_is_imported() -> Callable[[], None]:
    """Have it capture a class whose sockets are the kernel's: it makes them for its servers, and libuv opens them."""
    import asyncio.sslproto  # noqa: F401  with it all else that subclasses socket.socket
    import socket

    before = socket.socket
    socket.socket = _kernel_socket_class()  # type: ignore[misc, assignment]

    def leave() -> None:
        socket.socket = before  # type: ignore[misc]

    return leave


def _patch_uvloop(patcher: Patcher, uvloop: ModuleType) -> None:
    """Make sockets that Python code hands to the loop the kernel's, on the way in."""
    for name in _TAKE_SOCKETS:
        method = getattr(uvloop.Loop, name, None)
        if method is not None:
            patcher.replace(uvloop.Loop, name, _taking_kernel_sockets(method))


def _taking_kernel_sockets(method: Callable[..., Any]) -> Callable[..., Any]:
    import socket

    from .processes_shim import move_to_kernel

    @functools.wraps(method)
    def function(self: Any, *args: Any, **more: Any) -> Any:
        for value in (*args, *more.values()):
            if isinstance(value, socket.socket):
                move_to_kernel(value)
        return method(self, *args, **more)

    return function


def patch(patcher: Patcher) -> None:
    """Wait for each of them."""
    for name in BYPASSING:
        patcher.when_imported(name, functools.partial(_name_once, patcher, name))
    patcher.when_imported("uvicorn.config", lambda config: _steer_uvicorn(patcher, config))
    patcher.when_imported("uvloop", lambda uvloop: _patch_uvloop(patcher, uvloop))

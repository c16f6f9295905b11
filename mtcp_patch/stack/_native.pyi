"""The native part of mtcp_patch: what `binding/src/lib.rs` exports. Times are in seconds unless said otherwise."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, final

from _typeshed import FileDescriptorLike, ReadableBuffer

_F = TypeVar("_F", bound=Callable[..., Any])

VFD_BASE: int
"""The first virtual descriptor; every number from here on is the stack's."""
DEBUG_BUILD: bool
"""Built with debug assertions: no figure of such a build means anything."""

def bench_end(arguments: list[str]) -> None:
    """Runs a native end of the bench (`load`, `serve`, `scale`) until it is done; RuntimeError: no figure, and why."""

def make_socket_type(base: type) -> type:
    """The native socket type on CPython's original `_socket.socket`, one a process.

    ImportError if `base` has another memory layout than CPython 3.11 to 3.13.
    """

# --- waiting (selectors_shim, gevent_shim) ---------------------------------------------------------------------------

@final
class epoll:
    """`select.epoll` over both kinds of descriptor."""

    def __new__(cls, sizehint: int = -1, flags: int = 0) -> epoll: ...
    @staticmethod
    def fromfd(fd: FileDescriptorLike, /) -> epoll: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...
    def fileno(self) -> int: ...
    def register(self, fd: FileDescriptorLike, eventmask: int = ...) -> None: ...
    def modify(self, fd: FileDescriptorLike, eventmask: int) -> None: ...
    def unregister(self, fd: FileDescriptorLike) -> None: ...
    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]: ...
    def __enter__(self) -> epoll: ...
    def __exit__(self, *exc: object) -> None: ...

def poll() -> Any:
    """A `select.poll` object over both kinds of descriptor."""

def select(
    rlist: Iterable[Any], wlist: Iterable[Any], xlist: Iterable[Any], timeout: float | None = None, /
) -> tuple[list[Any], list[Any], list[Any]]:
    """`select.select` over both kinds of descriptor."""

def epoll_select(selector: type) -> Any:
    """A native method in place of `selectors.EpollSelector.select`."""

@final
class Watcher:
    """An interest set for a foreign event loop, with an eventfd that is readable while something is ready."""

    def __new__(cls) -> Watcher: ...
    def add(self, vfd: int, mask: int) -> None: ...
    def modify(self, vfd: int, mask: int) -> None: ...
    def remove(self, vfd: int) -> None: ...
    def collect(self, max: int) -> list[tuple[int, int]]: ...
    def fileno(self) -> int: ...
    def turn(self) -> None: ...
    def sleep_begin(self) -> None: ...
    def sleep_end(self) -> None: ...
    def device_fds(self) -> list[int]: ...
    def close(self) -> None: ...

# --- functions on virtual descriptors (os_shim, socket_shim) ----------------------------------------------------------

def fd_dispatch(original: _F, virtual_: Callable[..., Any], looks: str) -> _F:
    """A builtin that calls `virtual_` for virtual descriptors and `original` for all others.

    `looks`: "first" (the first argument is an int), "fileno" (or has fileno()), "close" (it would be closed: the
    runtime's kernel descriptors count too), "two" (either of the first two, the second of which would be overwritten).
    """

def call_before(original: _F, first: Callable[..., object]) -> _F:
    """A builtin that calls `first`, then `original`, with the same arguments, and leaves no frame in a traceback."""

def fd_read(vfd: int, n: int, /) -> bytes: ...
def fd_write(vfd: int, data: ReadableBuffer, /) -> int: ...
def fd_close(fd: int) -> None: ...
def fd_dup(vfd: int, /) -> int: ...
def fd_dup2(vfd: int, vfd2: int, /) -> None: ...
def runtime_fds(low: int, high: int, /) -> list[int]:
    """The runtime's kernel descriptors in ``range(low, high)``, ascending."""

def fd_is_open(vfd: int) -> bool: ...
def fd_give_to_kernel(vfd: int, /) -> int:
    """Make the socket the kernel's for good. The kernel descriptor behind it, non-blocking, is still the runtime's.

    OSError EOPNOTSUPP for a connection of ours, EBUSY for a listener that has served some.
    """

def fd_adopt(fd: int, at: int | None = None, /) -> int:
    """Take over a kernel TCP socket, which the kernel goes on serving; its virtual descriptor, `at` if given."""

def fd_set_blocking(vfd: int, blocking: bool) -> None: ...
def fd_get_blocking(vfd: int) -> bool: ...
def fd_set_inheritable(vfd: int, inheritable: bool, /) -> None: ...
def fd_get_inheritable(vfd: int, /) -> bool: ...
def fd_ioctl_int(vfd: int, request: int) -> int: ...
def fd_recv_nowait(vfd: int, n: int, /) -> bytes | None:
    """At most `n` bytes, empty at the end of the stream, None when there is nothing yet."""

def fd_send_nowait(vfd: int, data: bytes, /) -> int:
    """How many bytes were taken, 0 when there is no room."""

def fd_send_room(vfd: int, /) -> int:
    """Bytes that a send would take now."""

def fd_wait(vfd: int, events: int, timeout: float | None, /) -> bool:
    """Whether one of poll's `events` came within `timeout` seconds (None: however long it takes)."""

def fd_sendfile(out_fd: int, in_fd: int, offset: int | None, count: int) -> int: ...

# --- the process (lifecycle, info, the launcher) ----------------------------------------------------------------------

def configure(settings: dict[str, Any]) -> None:
    """Hand the stack its settings before its first use. ValueError names one that it does not know."""

def open_devices() -> None:
    """Open the devices now. OSError says which could not be opened, and why."""

def open_descriptors() -> list[int]:
    """The open virtual descriptors, ascending."""

def inheritable_descriptors() -> list[int]:
    """The virtual descriptors that are not close-on-exec, ascending; it starts no stack."""

def socket_options() -> list[tuple[int, int, str, str, str]]:
    """The table of socket options: (level, number, name, what becomes of it, note)."""

def status_json() -> str:
    """Devices, listeners, connections and counters, as the control socket serves them."""

def shutdown_process() -> None:
    """Close every connection, wait a bounded time, give devices, ports and sysctls back."""

def before_fork() -> None:
    """Before a fork: listeners that have served nobody yet go to the kernel, where children can accept."""

def after_fork_parent() -> None:
    """In the parent after before_fork(), also when the fork failed."""

def after_fork_child() -> None:
    """In a forked child: start with an empty stack."""

def restore_sysctls() -> list[str]:
    """Restore the sysctls that killed processes left changed; one text for each."""

def wakeup_begin(set_wakeup_fd: Callable[..., int], /) -> None:
    """From now on the stack's sleeps end by signals that came before them. The argument is CPython's own function."""

def wakeup_replaced(fd: int, before: int, /) -> int:
    """The program has put `fd` where `before` was: what to tell it was there."""

def wakeup_end() -> None:
    """Undo `wakeup_begin`."""

# --- test support (tests/packetdrill) ---------------------------------------------------------------------------------

@final
class VirtualHost:
    """The process's stack as a host in virtual time whose wire is this object. Times are in microseconds.

    OSError EBUSY when the stack already runs in real time; ValueError for a setting that the engine does not have.
    """

    def __new__(cls, settings: dict[str, Any], addresses: list[str], mtu: int = 1500) -> VirtualHost: ...
    @staticmethod
    def defaults() -> dict[str, Any]: ...
    def inject(self, frame: bytes, *more: bytes) -> None: ...
    def refuse(self, on: bool) -> None: ...
    def configure(self, settings: dict[str, Any]) -> None: ...
    def take(self) -> list[tuple[int, bytes]]: ...
    def now(self) -> int: ...
    def next_timer(self) -> int | None: ...
    def advance(self, until_us: int) -> None: ...
    def connection(self, vfd: int) -> dict[str, Any] | None: ...
    def is_pinned(self, vfd: int) -> bool: ...

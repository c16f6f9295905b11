"""gevent's loop over virtual and kernel descriptors at once.

It owns a subclass of whichever loop gevent is configured to use (libev in C, libev or libuv over cffi): its ``io()``
gives a software watcher for a virtual descriptor and the loop's own for a kernel one. One interest set of the stack
(``_native.Watcher``) stands behind each loop.

One iteration of the loop, in this order:

1. gevent's own callbacks (``run_callback``) run;
2. the stack is driven and ready software watchers run, again and again while there are any: no system call;
3. ``sleep_begin``, the loop's system call (kernel descriptors, the stack's eventfd, the devices), ``sleep_end``.

Who calls it: ``patcher``, once gevent's configuration exists and before any hub does. What never happens here: a real
watcher on a virtual number; a loop of a program that uses no virtual descriptor becoming slower (everything is set up
by the first ``io()`` on one).
"""

from __future__ import annotations

import errno
import functools
import os
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .stack import _native

if TYPE_CHECKING:
    from types import TracebackType

    from .patcher import Patcher

TARGETS = ("gevent._config",)

# gevent's event bits, the same for libev and libuv.
_READ, _WRITE = 1, 2
_ERROR = -1  # gevent.select.poll makes POLLNVAL of negative events, which libev gives for a bad descriptor
_EVENTS_OF_LIBEV_INIT = 0x80  # EV__IOFDSET, which libev's own watchers show as well

# What is asked for, and what counts as an answer: as libev's epoll backend has it.
_ASK = (0, select.EPOLLIN, select.EPOLLOUT, select.EPOLLIN | select.EPOLLOUT)
_IS_READ = select.EPOLLIN | select.EPOLLERR | select.EPOLLHUP | 0x2000  # EPOLLRDHUP
_IS_WRITE = select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP

# Ready descriptors taken at a time, and how often in a row before kernel descriptors and timers have their turn.
_BATCH = 512
_ROUNDS = 32


def patch(patcher: Patcher) -> None:
    """Make gevent's ``loop`` setting answer with our subclass of the class it names."""
    from gevent import _config

    hub_local = sys.modules.get("gevent._hub_local")
    if hub_local is not None and hub_local.get_hub_if_exists() is not None:
        import warnings

        patcher.keep_on_kernel("gevent", "its hub was made before mtcp_patch.install()")
        warnings.warn("mtcp_patch: gevent's hub exists already; install() before gevent is used", stacklevel=2)
        return
    setting = _config.Loop
    validate = setting.validate

    def validate_loop(self: Any, value: Any) -> Any:
        return virtual_loop(validate(self, value))

    patcher.replace(setting, "validate", validate_loop)
    current = _config.config.settings["loop"]
    if "value" in vars(current):
        base = current.value
        current.value = virtual_loop(base)
        patcher.on_restore(lambda: setattr(current, "value", base))


_loops: dict[type, type] = {}


def virtual_loop(base: type) -> type:
    """The subclass of ``base``, one of gevent's loop classes, that knows virtual descriptors."""
    if issubclass(base, _LoopMixin):
        return base
    if base not in _loops:
        # gevent.core takes the names of the module that the loop says it is from.
        namespace = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
        mixin = _FfiLoop if hasattr(base, "_run_callbacks") else _LoopMixin
        _loops[base] = type(base.__name__, (mixin, base), namespace)
    return _loops[base]


class SoftwareWatcher:
    """What ``loop.io()`` gives for a virtual descriptor: the interface of gevent's own io watchers, level-triggered."""

    __slots__ = (
        "__weakref__",
        "_args",
        "_callback",
        "_events",
        "_fd",
        "_interest",
        "_poller",
        "_priority",
        "_ref",
        "active",
        "loop",
        "pass_events",
        "pending",
    )

    def __init__(self, poller: _Poller, fd: int, events: int, ref: bool, priority: int | None) -> None:
        if events & ~(_READ | _WRITE | _EVENTS_OF_LIBEV_INIT):
            raise ValueError(f"illegal event mask: {events!r}")
        self.loop = poller.loop
        self._poller = poller
        self._fd = fd
        self._interest = poller.interest(fd)
        self._events = events & (_READ | _WRITE)
        self._ref = bool(ref)
        self._priority = priority or 0
        self._callback: Callable[..., Any] | None = None
        self._args: tuple[Any, ...] | None = None
        self.pass_events = False
        self.active = False
        self.pending = False

    # --- what gevent's primitives call ---------------------------------------------------------------------------

    def start(self, callback: Callable[..., Any], *args: Any, pass_events: bool = False) -> None:
        """Call ``callback(*args)`` in every iteration in which the descriptor is ready, until ``stop()``."""
        if not callable(callback):
            raise TypeError(f"Expected callable, not {callback!r}")
        self._callback = callback
        self._args = args
        self.pass_events = pass_events
        if not self.active:
            self.active = True
            interest = self._interest
            interest.active.append(self)
            if self._ref:
                self._poller.hold()
            if self._events & ~interest.registered:
                self._poller.register(self._fd, interest, interest.registered | self._events)

    def stop(self) -> None:
        """Call back no more; stopping twice is no error."""
        if self.active:
            self.active = False
            self._interest.active.remove(self)
            if self._ref:
                self._poller.let_go()
        self._callback = self._args = None
        self.pending = False

    def close(self) -> None:
        """Stop for good."""
        self.stop()

    def feed(self, revents: int, callback: Callable[..., Any], *args: Any, pass_events: bool = False) -> None:
        """Call ``callback`` once in the next iteration, as if ``revents`` had happened."""
        self.callback = callback
        self._args = args
        self.pass_events = pass_events
        self.pending = True
        self.loop.run_callback(self.fire, revents)

    def fire(self, revents: int) -> None:
        """Run the callback. An exception goes to the loop's error handler and stops the watcher."""
        callback, args = self._callback, self._args
        self.pending = False
        if callback is None or args is None:
            return
        try:
            if self.pass_events:
                callback(revents, *args)
            else:
                callback(*args)
        except BaseException:  # noqa: BLE001  whatever it is, gevent's handler decides
            self.loop.handle_error(self, *sys.exc_info())
            self.stop()
        else:
            if not self.active:
                self.stop()

    # --- attributes ----------------------------------------------------------------------------------------------

    def _check_inactive(self, name: str) -> None:
        if self.active:
            raise AttributeError(f"'io' watcher attribute '{name}' is read-only while watcher is active")

    @property
    def fd(self) -> int:
        return self._fd

    @fd.setter
    def fd(self, fd: int) -> None:
        self._check_inactive("fd")
        self._fd = fd
        self._interest = self._poller.interest(fd)

    @property
    def events(self) -> int:
        return self._events

    @events.setter
    def events(self, events: int) -> None:
        self._check_inactive("events")
        self._events = events & (_READ | _WRITE)

    @property
    def priority(self) -> int:
        return self._priority

    @priority.setter
    def priority(self, priority: int) -> None:
        if self.active:
            raise AttributeError("Cannot set priority of an active watcher")
        self._priority = priority

    @property
    def callback(self) -> Callable[..., Any] | None:
        return self._callback

    @callback.setter
    def callback(self, callback: Callable[..., Any] | None) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"Expected callable, not {callback!r}")
        self._callback = callback

    @property
    def args(self) -> tuple[Any, ...] | None:
        return self._args

    @args.setter
    def args(self, args: tuple[Any, ...] | None) -> None:
        self._args = args

    @property
    def ref(self) -> bool:
        return self._ref

    @ref.setter
    def ref(self, ref: bool) -> None:
        if self.active and bool(ref) != self._ref:
            (self._poller.hold if ref else self._poller.let_go)()
        self._ref = bool(ref)

    @property
    def events_str(self) -> str:
        return "|".join(name for bit, name in ((_READ, "READ"), (_WRITE, "WRITE")) if self._events & bit)

    def __repr__(self) -> str:
        state = " active" if self.active else ""
        if self._callback is not None:
            state += f" callback={self._callback!r} args={self._args!r}"
        return f"<io at {id(self):#x} virtual fd={self._fd} events={self.events_str}{state}>"

    def __enter__(self) -> SoftwareWatcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class _Interest:
    """One number of a virtual descriptor in one loop; kept from one descriptor of that number to the next."""

    __slots__ = ("active", "registered")

    def __init__(self) -> None:
        # The events that the stack was asked for. May be more than the active watchers want: dropping an event at each
        # stop() would cost a call each; it is dropped when it comes and nobody waits for it.
        self.registered = 0
        self.active: list[SoftwareWatcher] = []


class _Poller:
    """Everything virtual of one loop. Made by its first ``io()`` on a virtual descriptor."""

    def __init__(self, loop: Any, kernel_io: Callable[..., Any]) -> None:
        self.loop = loop
        self._kernel_io = kernel_io
        self._interests: dict[int, _Interest] = {}
        self._references = 0
        # Descriptors whose close gevent has put off to the end of the iteration, and how often to look yet.
        self._closing: dict[int, int] = {}
        self._device_fds: list[int] = []
        self._device_watchers: list[Any] = []
        self._sleeping = False
        self._open()
        self._check = loop.check(ref=False)
        self._check.start(self._woken)
        self._prepare: Any = None
        self._at_once: Any = None
        if isinstance(loop, _FfiLoop):
            self._do_not_block: Callable[[], None] = loop.do_not_block
        else:
            # The lowest priority: after gevent's own callbacks, just before the system call.
            self._prepare = loop.prepare(ref=False, priority=loop.MINPRI)
            self._prepare.start(self.run)
            self._at_once = loop.timer(0, ref=False)
            self._do_not_block = functools.partial(self._at_once.start, _do_nothing)
        # This iteration may be past the point where `run` would be called.
        self._do_not_block()

    def _open(self) -> None:
        self._native = _native.Watcher()
        # It only ends the system call; what is ready is collected in `run`. It keeps the loop alive on behalf of all
        # referenced software watchers.
        self._wake = self._kernel_io(self._native.fileno(), _READ, self._references > 0)
        self._wake.start(_do_nothing)

    def watcher(self, fd: int, events: int, ref: bool, priority: int | None) -> SoftwareWatcher:
        """A new watcher. Raises OSError EBADF if ``fd`` is not open, as libev does."""
        if not _native.fd_is_open(fd):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        interest = self.interest(fd)
        if not interest.active:
            # The number may have been closed and given out again since: the stack has forgotten it then.
            interest.registered = 0
        return SoftwareWatcher(self, fd, events, ref, priority)

    def interest(self, fd: int) -> _Interest:
        """What this loop knows of a number."""
        interest = self._interests.get(fd)
        if interest is None:
            interest = self._interests[fd] = _Interest()
        return interest

    def hold(self) -> None:
        """One more referenced watcher is active: with the first one the loop is kept running."""
        self._references += 1
        if self._references == 1:
            self._wake.ref = True

    def let_go(self) -> None:
        """One fewer."""
        self._references -= 1
        if self._references == 0:
            self._wake.ref = False

    def register(self, fd: int, interest: _Interest, wanted: int) -> None:
        """Ask the stack for ``wanted`` events of a descriptor."""
        interest.registered = wanted
        try:
            try:
                self._native.add(fd, _ASK[wanted])
            except FileExistsError:
                self._native.modify(fd, _ASK[wanted])
        except OSError:
            # Closed under an active watcher: its callback finds out, as with libev.
            interest.registered = 0
            for watcher in interest.active:
                self.loop.run_callback(watcher.fire, watcher.events)

    def run(self) -> None:
        """One turn, just before the loop sleeps."""
        try:
            self._turn()
        except BaseException:  # noqa: BLE001  a signal's handler raised, by chance in code of ours
            self._report_soon(sys.exc_info())

    def _report_soon(self, error: Any) -> None:
        """Gives gevent the exception of a signal's handler, at a point from which the loop can go on.

        From here the hub would throw it into the main greenlet at once, and, when that came back to wait, the loop
        would go to sleep without a look at its callbacks. A timer keeps it awake and runs in the next iteration.
        """
        timer = self.loop.timer(0)

        def report() -> None:
            timer.stop()
            timer.close()
            self.loop.handle_error(None, *error)

        timer.start(report)

    def _turn(self) -> None:
        """Drive the stack and run what is ready, until nothing is; then get ready to sleep."""
        if self._closing:
            self._end_waits_for_closed()
        callbacks, interests = self.loop._callbacks, self._interests
        for _round in range(_ROUNDS):
            ready = self._native.collect(_BATCH)  # another one after a fork in a callback
            if not ready:
                break
            for fd, mask in ready:
                interest = interests.get(fd)
                if interest is not None and fd not in self._closing:
                    self._deliver(fd, interest, mask)
            if callbacks:
                break
        if callbacks:
            # Greenlets were spawned or woken after gevent looked for them in this iteration.
            self._do_not_block()
        else:
            self._watch_devices()
            self._sleeping = True
            self._native.sleep_begin()

    def _deliver(self, fd: int, interest: _Interest, mask: int) -> None:
        events = (_READ if mask & _IS_READ else 0) | (_WRITE if mask & _IS_WRITE else 0)
        active = interest.active
        watchers = active if len(active) == 1 else tuple(active)  # a list of one ends after its one callback
        wanted = 0
        for watcher in watchers:
            wanted |= watcher._events
        if events & interest.registered & ~wanted:
            # Before the callbacks: they may close the descriptor, and its number may be given out again.
            self._narrow(fd, interest, wanted)
        for watcher in watchers:
            # An earlier callback may have stopped it.
            if watcher.active and watcher._events & events:
                watcher.fire(watcher._events & events)
                if watchers is active:
                    break

    def _narrow(self, fd: int, interest: _Interest, wanted: int) -> None:
        """Something came that nobody waits for: ask only for what the active watchers want."""
        interest.registered = wanted
        try:
            if wanted:
                self._native.modify(fd, _ASK[wanted])
            else:
                self._native.remove(fd)
        except OSError:
            interest.registered = 0  # closed in the meantime

    def _watch_devices(self) -> None:
        """Real watchers on the devices; they are opened by the first listen or connect."""
        fds = self._native.device_fds()
        if fds != self._device_fds:
            self._forget_devices()
            self._device_fds = fds
            for fd in fds:
                watcher = self._kernel_io(fd, _READ, False)
                watcher.start(_do_nothing)
                self._device_watchers.append(watcher)

    def _forget_devices(self) -> None:
        for watcher in self._device_watchers:
            watcher.stop()
            watcher.close()
        self._device_watchers = []
        self._device_fds = []

    def _woken(self) -> None:
        try:
            if self._sleeping:
                self._native.sleep_end()
                self._sleeping = False
        except BaseException:  # noqa: BLE001  a signal ended the sleep, and its handler runs in the first code after it
            self._native.sleep_end()
            self._sleeping = False
            self._report_soon(sys.exc_info())

    def closing(self, fd: int) -> bool:
        """The descriptor is about to be closed: wake who waits for it. True if somebody does."""
        interest = self._interests.get(fd)
        if interest is None:
            return False
        interest.registered = 0
        if not interest.active:
            return False
        self._closing[fd] = 2
        for watcher in tuple(interest.active):
            self._fire_after_close(watcher)
        return True

    def _fire_after_close(self, watcher: SoftwareWatcher) -> None:
        """Gevent closes in a check watcher, libev fires after those: who is woken finds the number closed.

        A callback could run at once, while the number is still open.
        """
        timer = self.loop.timer(0)
        timer.priority = self.loop.MAXPRI  # before the timeout of whoever waits

        def fire() -> None:
            timer.stop()
            timer.close()
            watcher.fire(watcher.events)

        timer.start(fire)

    def _end_waits_for_closed(self) -> None:
        """Watchers that were started between ``closing`` and the close: libev, too, fires them, with an error."""
        for fd, looks in list(self._closing.items()):
            if looks == 0:
                del self._closing[fd]  # somebody else has the number now
            elif _native.fd_is_open(fd):
                self._closing[fd] = looks - 1
            else:
                del self._closing[fd]
                for watcher in tuple(self.interest(fd).active):
                    self.loop.run_callback(watcher.fire, _ERROR)

    def reinit(self) -> None:
        """After a fork, in the child: the stack is a new one, and what was watched is registered anew."""
        self._forget_devices()
        self._wake.stop()
        self._wake.close()
        self._native.close()
        self._sleeping = False
        self._open()
        for fd, interest in list(self._interests.items()):
            wanted = 0
            for watcher in interest.active:
                wanted |= watcher.events
            interest.registered = 0
            if wanted:
                self.register(fd, interest, wanted)

    def close(self) -> None:
        """The loop is going to be destroyed."""
        for interest in self._interests.values():
            for watcher in tuple(interest.active):
                watcher.stop()
        self._interests.clear()
        self._forget_devices()
        for watcher in (self._wake, self._check, self._prepare, self._at_once):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._woken()
        self._native.close()


def _do_nothing() -> None:
    """The callback of watchers that only end the system call."""


class _LoopMixin:
    """The methods that differ from gevent's loop. Stands before it in the order of bases."""

    _poller: _Poller | None = None

    def io(self, fd: int, events: int, ref: bool = True, priority: int | None = None) -> Any:
        """A watcher for ``fd``, of whichever kind it is."""
        if fd < _native.VFD_BASE:
            return super().io(fd, events, ref, priority)  # type: ignore[misc]
        if self._poller is None:
            self._poller = _Poller(self, super().io)  # type: ignore[misc]
        return self._poller.watcher(fd, events, ref, priority)

    def closing_fd(self, fd: int) -> bool:
        """Wake the watchers of a descriptor before it goes; True if the close must wait for the next iteration."""
        if fd < _native.VFD_BASE:
            return bool(super().closing_fd(fd))  # type: ignore[misc]
        return self._poller is not None and self._poller.closing(fd)

    def reinit(self) -> Any:
        """After a fork, in the child."""
        result = super().reinit()  # type: ignore[misc]
        if self._poller is not None:
            self._poller.reinit()
        return result

    def destroy(self) -> Any:
        """End the loop."""
        if self._poller is not None:
            self._poller.close()
            self._poller = None
        return super().destroy()  # type: ignore[misc]


class _FfiLoop(_LoopMixin):
    """gevent's loops over cffi run their callbacks in a method; libuv's prepare watchers know no priorities."""

    def _run_callbacks(self) -> None:
        super()._run_callbacks()  # type: ignore[misc]
        if self._poller is not None:
            self._poller.run()

    def do_not_block(self) -> None:
        """Let this iteration's system call return at once."""
        self._start_callback_timer()  # type: ignore[attr-defined]

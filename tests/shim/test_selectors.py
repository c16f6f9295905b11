"""Waiting: the same body on both stacks, with select, poll and epoll, and every kind of descriptor in one call."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import need

from .conftest import OURS, Sockets

# Long enough for any machine; a test that needs it has failed.
ENOUGH_S = 10.0

Fds = list[int]


class Select:
    """select.select in the form of a selector object."""

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}

    def register(self, fd: int, mask: int) -> None:
        self._masks[fd] = mask

    def unregister(self, fd: int) -> None:
        del self._masks[fd]

    def poll(self, timeout_s: float | None) -> dict[int, int]:
        wanted = [[fd for fd, mask in self._masks.items() if mask & bit] for bit in (1, 4)]
        readable, writable, _ = select.select(*wanted, [], timeout_s)
        return {fd: (1 if fd in readable else 0) | (4 if fd in writable else 0) for fd in {*readable, *writable}}


class Poll:
    """select.poll, masks reduced to what select knows."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.register, self.unregister = self._poll.register, self._poll.unregister

    def poll(self, timeout_s: float | None) -> dict[int, int]:
        found = self._poll.poll(None if timeout_s is None else timeout_s * 1000)
        return {fd: mask & 5 for fd, mask in found if mask & 5}


class Epoll:
    """select.epoll, likewise."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.register, self.unregister = self._epoll.register, self._epoll.unregister

    def poll(self, timeout_s: float | None) -> dict[int, int]:
        return {fd: mask & 5 for fd, mask in self._epoll.poll(timeout_s) if mask & 5}


@pytest.fixture(params=[Select, Poll, Epoll])
def waiter(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """The three ways to wait."""
    made: Callable[[], Any] = request.param
    return made


@pytest.fixture
def epoll(stack: str) -> Iterator[Any]:
    """An epoll object, of whichever stack."""
    with contextlib.closing(select.epoll()) as made:
        yield made


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A kernel pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def until(waiting: Any, fd: int, bit: int) -> dict[int, int]:
    """Polls until `fd` reports `bit`; AssertionError when it never does."""
    end = time.monotonic() + ENOUGH_S
    while time.monotonic() < end:
        found: dict[int, int] = waiting.poll(max(0.0, end - time.monotonic()))
        if found.get(fd, 0) & bit:
            return found
    raise AssertionError(f"{fd} never reported {bit}")


# --- every way to wait -----------------------------------------------------------------------------------------------


def test_connected_pair_is_writable_and_becomes_readable(sockets: Sockets, waiter: Callable[[], Any]) -> None:
    client, server = sockets.pair()
    waiting = waiter()
    waiting.register(server.fileno(), 1 | 4)
    assert waiting.poll(0) == {server.fileno(): 4}
    client.sendall(b"x")
    assert until(waiting, server.fileno(), 1) == {server.fileno(): 5}
    assert server.recv(10) == b"x"
    assert waiting.poll(0) == {server.fileno(): 4}


def test_a_listener_is_readable_when_a_connection_waits(sockets: Sockets, waiter: Callable[[], Any]) -> None:
    listener = sockets.listener()
    waiting = waiter()
    waiting.register(listener.fileno(), 1)
    assert waiting.poll(0) == {}
    client = sockets.tcp()
    client.setblocking(False)
    assert client.connect_ex(listener.getsockname()) != 0
    assert until(waiting, listener.fileno(), 1) == {listener.fileno(): 1}
    sockets.keep(listener.accept()[0])
    assert waiting.poll(0) == {}


def test_end_of_stream_is_readable(sockets: Sockets, waiter: Callable[[], Any]) -> None:
    client, server = sockets.pair()
    waiting = waiter()
    waiting.register(server.fileno(), 1)
    client.close()
    until(waiting, server.fileno(), 1)
    assert server.recv(10) == b""


def test_pipe_udp_unix_and_tcp_in_one_call(sockets: Sockets, waiter: Callable[[], Any], pipe: tuple[int, int]) -> None:
    client, server = sockets.pair()
    near, far = (sockets.keep(end) for end in socket.socketpair())
    udp = sockets.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.bind(("127.0.0.1", 0))
    sends: dict[int, Callable[[], object]] = {
        server.fileno(): lambda: client.send(b"1"),
        near.fileno(): lambda: far.send(b"2"),
        udp.fileno(): lambda: udp.sendto(b"3", udp.getsockname()),
        pipe[0]: lambda: os.write(pipe[1], b"4"),
    }
    waiting = waiter()
    for fd in sends:
        waiting.register(fd, 1)
    assert waiting.poll(0) == {}
    expected: dict[int, int] = {}
    for fd, send in sends.items():
        send()
        expected[fd] = 1
        until(waiting, fd, 1)
        assert waiting.poll(ENOUGH_S).items() >= {fd: 1}.items()
    end = time.monotonic() + ENOUGH_S
    while waiting.poll(0) != expected:
        assert time.monotonic() < end, "not all four in one call"


def test_the_timeout_passes(sockets: Sockets, waiter: Callable[[], Any]) -> None:
    _client, server = sockets.pair()
    waiting = waiter()
    waiting.register(server.fileno(), 1)
    before = time.monotonic()
    assert waiting.poll(0.05) == {}
    assert time.monotonic() - before >= 0.05


def test_another_thread_wakes_the_wait(sockets: Sockets, waiter: Callable[[], Any]) -> None:
    client, server = sockets.pair()
    waiting = waiter()
    waiting.register(server.fileno(), 1)
    thread = threading.Timer(0.05, client.send, [b"x"])
    thread.start()
    until(waiting, server.fileno(), 1)
    thread.join()


def test_a_kernel_descriptor_wakes_the_wait(sockets: Sockets, waiter: Callable[[], Any], pipe: tuple[int, int]) -> None:
    _client, server = sockets.pair()
    waiting = waiter()
    waiting.register(server.fileno(), 1)
    waiting.register(pipe[0], 1)
    thread = threading.Timer(0.05, os.write, [pipe[1], b"x"])
    thread.start()
    assert until(waiting, pipe[0], 1) == {pipe[0]: 1}
    thread.join()


def test_a_kernel_descriptor_does_not_starve(
    sockets: Sockets, waiter: Callable[[], Any], pipe: tuple[int, int]
) -> None:
    """A virtual descriptor that is always ready must not hide a pipe."""
    _client, server = sockets.pair()
    waiting = waiter()
    waiting.register(server.fileno(), 4)
    waiting.register(pipe[0], 1)
    for _ in range(100):
        assert server.fileno() in waiting.poll(0)
    os.write(pipe[1], b"x")
    until(waiting, pipe[0], 1)


def test_a_signal_handler_runs_and_the_wait_goes_on(sockets: Sockets, waiter: Callable[[], Any]) -> None:
    client, server = sockets.pair()
    waiting = waiter()
    waiting.register(server.fileno(), 1)
    before = signal.signal(signal.SIGALRM, lambda *_: client.send(b"x"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert waiting.poll(ENOUGH_S) == {server.fileno(): 1}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_exception_of_a_signal_handler_ends_the_wait(sockets: Sockets, waiter: Callable[[], Any]) -> None:
    _client, server = sockets.pair()
    waiting = waiter()
    waiting.register(server.fileno(), 1)

    def handler(*_: object) -> None:
        raise ZeroDivisionError

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(ZeroDivisionError):
            waiting.poll(ENOUGH_S)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_two_threads_wait_for_one_socket(sockets: Sockets, waiter: Callable[[], Any]) -> None:
    """Level-triggered: one event wakes both."""
    client, server = sockets.pair()
    found: list[dict[int, int]] = []

    def wait() -> None:
        waiting = waiter()
        waiting.register(server.fileno(), 1)
        found.append(until(waiting, server.fileno(), 1))

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    client.send(b"x")
    for thread in threads:
        thread.join(ENOUGH_S)
    assert found == [{server.fileno(): 1}] * 2


# --- select ----------------------------------------------------------------------------------------------------------


def test_select_returns_the_objects_themselves(sockets: Sockets) -> None:
    _client, server = sockets.pair()
    readable, writable, _ = select.select([server], [server, server.fileno()], [server], ENOUGH_S)
    assert readable == []
    assert writable[0] is server and writable[1] == server.fileno()


def test_select_of_a_closed_descriptor_is_an_error(sockets: Sockets) -> None:
    _client, server = sockets.pair()
    number = server.fileno()
    server.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        select.select([number], [], [], 0)


def test_select_survives_a_list_that_its_items_change(sockets: Sockets) -> None:
    _client, server = sockets.pair()

    class Shrinks:
        def fileno(self) -> int:
            del items[-1]
            return server.fileno()

    items: list[Any] = [Shrinks()] * 10
    assert select.select([], items, [], ENOUGH_S) == ([], items[:5], [])


# --- poll ------------------------------------------------------------------------------------------------------------


def test_poll_reports_a_closed_descriptor(sockets: Sockets) -> None:
    _client, server = sockets.pair()
    polling = select.poll()
    polling.register(server, select.POLLIN)
    number = server.fileno()
    server.close()
    assert polling.poll(0) == [(number, select.POLLNVAL)]


def test_poll_refuses_to_run_twice_at_once(sockets: Sockets) -> None:
    client, server = sockets.pair()
    polling = select.poll()
    polling.register(server, select.POLLIN)
    thread = threading.Thread(target=polling.poll)
    thread.start()
    try:
        end = time.monotonic() + ENOUGH_S
        while time.monotonic() < end:
            try:
                polling.poll(0)
            except RuntimeError as error:
                assert "concurrent poll" in str(error)
                break
        else:
            raise AssertionError("two polls at once")
    finally:
        client.send(b"x")
        thread.join()


def test_poll_results_come_in_the_order_of_registration(sockets: Sockets, pipe: tuple[int, int]) -> None:
    client, server = sockets.pair()
    polling = select.poll()
    for fd in (server, pipe[1], client):
        polling.register(fd, select.POLLOUT)
    order = [server.fileno(), pipe[1], client.fileno()]
    assert polling.poll() == [(fd, select.POLLOUT) for fd in order]
    polling.unregister(pipe[1])
    polling.register(pipe[1], select.POLLOUT)
    assert polling.poll() == [(fd, select.POLLOUT) for fd in (order[0], order[2], order[1])]
    polling.modify(server, 0)
    assert [fd for fd, _ in polling.poll()] == [order[2], order[1]]


# --- epoll -----------------------------------------------------------------------------------------------------------


def wait_events(epoll: Any, timeout_s: float = ENOUGH_S) -> dict[int, int]:
    """One answer of epoll, as a dictionary."""
    return dict(epoll.poll(timeout_s))


def test_epoll_edge_reports_once_and_again_on_news(sockets: Sockets, epoll: Any) -> None:
    client, server = sockets.pair()
    epoll.register(server, select.EPOLLIN | select.EPOLLET)
    client.send(b"x")
    assert wait_events(epoll) == {server.fileno(): select.EPOLLIN}
    assert wait_events(epoll, 0) == {}
    client.send(b"y")
    assert wait_events(epoll) == {server.fileno(): select.EPOLLIN}
    assert wait_events(epoll, 0) == {}


def test_epoll_level_reports_until_it_is_read(sockets: Sockets, epoll: Any) -> None:
    client, server = sockets.pair()
    epoll.register(server, select.EPOLLIN)
    client.send(b"x")
    assert wait_events(epoll) == wait_events(epoll) == {server.fileno(): select.EPOLLIN}
    server.recv(10)
    assert wait_events(epoll, 0) == {}


def test_epoll_one_shot_is_silent_until_modified(sockets: Sockets, epoll: Any) -> None:
    client, server = sockets.pair()
    epoll.register(server, select.EPOLLIN | select.EPOLLONESHOT)
    client.send(b"x")
    assert wait_events(epoll) == {server.fileno(): select.EPOLLIN}
    client.send(b"y")
    assert wait_events(epoll, 0.05) == {}
    epoll.modify(server, select.EPOLLIN | select.EPOLLONESHOT)
    assert wait_events(epoll) == {server.fileno(): select.EPOLLIN}


def test_epoll_modify_changes_what_is_reported(sockets: Sockets, epoll: Any) -> None:
    _client, server = sockets.pair()
    epoll.register(server, select.EPOLLIN)
    assert wait_events(epoll, 0) == {}
    epoll.modify(server, select.EPOLLOUT)
    assert wait_events(epoll, 0) == {server.fileno(): select.EPOLLOUT}
    epoll.unregister(server)
    assert wait_events(epoll, 0) == {}


def test_epoll_half_close_is_rdhup(sockets: Sockets, epoll: Any) -> None:
    client, server = sockets.pair()
    rdhup = 0x2000
    epoll.register(server, select.EPOLLIN | rdhup)
    client.shutdown(socket.SHUT_WR)
    assert wait_events(epoll) == {server.fileno(): select.EPOLLIN | rdhup}


def test_epoll_errors_are_the_kernels(sockets: Sockets, epoll: Any) -> None:
    _client, server = sockets.pair()
    with pytest.raises(FileNotFoundError):
        epoll.modify(server, select.EPOLLIN)
    with pytest.raises(FileNotFoundError):
        epoll.unregister(server)
    epoll.register(server, select.EPOLLIN)
    with pytest.raises(FileExistsError):
        epoll.register(server, select.EPOLLIN)
    number = server.fileno()
    server.close()
    for call in (epoll.register, lambda fd: epoll.modify(fd, 1), epoll.unregister):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call(number)


def test_epoll_forgets_a_closed_descriptor(sockets: Sockets, epoll: Any) -> None:
    """A number given out again must not bring the events of the one before (trio's lesson)."""
    client, server = sockets.pair()
    epoll.register(server, select.EPOLLIN)
    number = server.fileno()
    client.send(b"x")
    assert wait_events(epoll) == {number: select.EPOLLIN}
    server.close()
    assert wait_events(epoll, 0) == {}
    client.close()
    client, server = sockets.pair()
    client.send(b"x")
    select.select([server], [], [], ENOUGH_S)
    assert wait_events(epoll, 0) == {}
    epoll.register(server, select.EPOLLIN)
    assert wait_events(epoll) == {server.fileno(): select.EPOLLIN}


def test_epoll_nests_in_another_one(sockets: Sockets, epoll: Any) -> None:
    client, server = sockets.pair()
    epoll.register(server, select.EPOLLIN)
    with select.epoll() as outer:
        outer.register(epoll, select.EPOLLIN)
        assert outer.poll(0) == []
        client.send(b"x")
        assert outer.poll(ENOUGH_S) == [(epoll.fileno(), select.EPOLLIN)]
        assert wait_events(epoll) == {server.fileno(): select.EPOLLIN}
        server.recv(10)
        assert wait_events(epoll, 0) == {}
        assert outer.poll(0) == []


def test_epoll_that_was_nested_before_it_had_anything(sockets: Sockets, epoll: Any) -> None:
    client, server = sockets.pair()
    with select.epoll() as outer:
        outer.register(epoll, select.EPOLLIN)
        epoll.register(server, select.EPOLLIN)
        client.send(b"x")
        assert outer.poll(ENOUGH_S) == [(epoll.fileno(), select.EPOLLIN)]


def test_epoll_maxevents_goes_round(sockets: Sockets, epoll: Any, pipe: tuple[int, int]) -> None:
    pairs = [sockets.pair() for _ in range(5)]
    for client, server in pairs:
        client.send(b"x")
        select.select([server], [], [], ENOUGH_S)
        epoll.register(server, select.EPOLLIN)
    os.write(pipe[1], b"x")
    epoll.register(pipe[0], select.EPOLLIN)
    seen = set()
    for _ in range(50):
        found = epoll.poll(ENOUGH_S, maxevents=2)
        assert 1 <= len(found) <= 2
        seen.update(fd for fd, _ in found)
    assert seen == {pipe[0], *(server.fileno() for _, server in pairs)}


def test_epoll_registered_while_another_thread_polls(sockets: Sockets, epoll: Any) -> None:
    client, server = sockets.pair()
    idle, _other = sockets.pair()
    epoll.register(idle, select.EPOLLIN)
    client.send(b"x")
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(epoll.poll(ENOUGH_S)))
    thread.start()
    time.sleep(0.05)
    epoll.register(server, select.EPOLLIN)
    thread.join()
    assert found == [(server.fileno(), select.EPOLLIN)]


def test_epoll_object_is_what_cpython_has(stack: str) -> None:
    assert select.epoll.__module__ == "select" and select.epoll.__qualname__ == "epoll"
    assert "select.poll object" in repr(select.poll())
    with pytest.raises(TypeError, match=r"cannot create 'select\.poll' instances"):
        type(select.poll())()
    made = select.epoll()
    assert not made.closed and made.fileno() >= 0
    made.close()
    made.close()
    assert made.closed
    for call in (made.fileno, made.__enter__, lambda: made.poll(0), lambda: made.register(0)):
        with pytest.raises(ValueError, match="I/O operation on closed epoll object"):
            call()


# --- selectors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DefaultSelector", "EpollSelector", "PollSelector", "SelectSelector"])
def test_selectors_echo(sockets: Sockets, name: str, pipe: tuple[int, int]) -> None:
    """The echo server of the documentation, a pipe beside it to end it."""
    selector: selectors.BaseSelector = getattr(selectors, name)()
    listener = sockets.listener()
    listener.setblocking(False)

    def accept() -> None:
        connection = sockets.keep(listener.accept()[0])
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, lambda: echo(connection))

    def echo(connection: socket.socket) -> None:
        data = connection.recv(1000)
        if data:
            connection.sendall(data)
        else:
            selector.unregister(connection)
            connection.close()

    def serve() -> None:
        with selector:
            selector.register(listener, selectors.EVENT_READ, accept)
            selector.register(pipe[0], selectors.EVENT_READ)
            while True:
                for key, _mask in selector.select():
                    if key.fd == pipe[0]:
                        return
                    key.data()

    server = threading.Thread(target=serve)
    server.start()
    clients = []
    for number in range(20):
        client = sockets.tcp()
        client.settimeout(ENOUGH_S)
        client.connect(listener.getsockname())
        clients.append((client, b"%d" % number * 10))
    for _ in range(3):
        for client, text in clients:
            client.sendall(text)
        for client, text in clients:
            assert client.recv(1000) == text
    os.write(pipe[1], b"x")
    server.join(ENOUGH_S)
    assert not server.is_alive()


def test_every_way_to_wait_is_patched_and_restored() -> None:
    import mtcp_patch

    names = ("select", "poll", "epoll")
    before = [getattr(select, name) for name in names]
    captured = [
        lambda: selectors.EpollSelector._selector_cls,  # type: ignore[attr-defined]
        lambda: selectors.PollSelector._selector_cls,  # type: ignore[attr-defined]
        lambda: selectors.SelectSelector._select,  # type: ignore[attr-defined]
    ]
    held = [get() for get in captured]
    mtcp_patch.install(device=["memory"])
    try:
        assert all(getattr(select, name) is not old for name, old in zip(names, before, strict=True))
        assert all(get() is not old for get, old in zip(captured, held, strict=True))
        assert mtcp_patch.original("select.epoll") is before[2]
    finally:
        mtcp_patch.uninstall()
    assert [getattr(select, name) for name in names] == before
    assert [get() for get in captured] == held


def test_a_patched_epoll_serves_a_program_without_virtual_descriptors(stack: str, pipe: tuple[int, int]) -> None:
    with select.epoll() as epoll:
        epoll.register(pipe[0], select.EPOLLIN)
        assert epoll.poll(0) == []
        os.write(pipe[1], b"x")
        assert epoll.poll(ENOUGH_S) == [(pipe[0], select.EPOLLIN)]
        epoll.modify(pipe[0], 0)
        assert epoll.poll(0.01) == []
        again = select.epoll.fromfd(os.dup(epoll.fileno()))
        again.modify(pipe[0], select.EPOLLIN)
        assert again.poll(ENOUGH_S) == [(pipe[0], select.EPOLLIN)]
        again.close()


def test_eventlet_gets_our_select(run_python: Callable[..., Any]) -> None:
    need.module("eventlet")
    run_python(
        """
        import eventlet, socket
        listener = eventlet.listen(("127.0.0.1", 0))
        assert listener.fileno() >= 2**30
        def serve():
            connection, _ = listener.accept()
            connection.sendall(connection.recv(10).upper())
        eventlet.spawn(serve)
        client = eventlet.connect(listener.getsockname())
        client.sendall(b"hello")
        assert client.recv(10) == b"HELLO"
        """,
        OURS,
    )

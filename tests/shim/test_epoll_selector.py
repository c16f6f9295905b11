"""``selectors.EpollSelector`` with its native ``select``: what programs do with the class still holds."""

from __future__ import annotations

import os
import select
import selectors
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import OURS, Sockets

pytestmark = pytest.mark.parametrize("stack", [OURS], indirect=True)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A kernel pipe with a byte in it."""
    ends = os.pipe()
    os.write(ends[1], b"x")
    yield ends
    for end in ends:
        os.close(end)


def filled(selector: selectors.BaseSelector, pipe: tuple[int, int]) -> selectors.BaseSelector:
    """The selector with both ends registered."""
    selector.register(pipe[0], selectors.EVENT_READ, "read end")
    selector.register(pipe[1], selectors.EVENT_READ | selectors.EVENT_WRITE, "write end")
    return selector


def answers(selector: Any, *args: Any, **kwargs: Any) -> list[tuple[str, int]]:
    """What select() returns, as data and events."""
    return sorted((key.data, events) for key, events in selector.select(*args, **kwargs))


BOTH = [("read end", selectors.EVENT_READ), ("write end", selectors.EVENT_WRITE)]


def test_timeouts_in_every_form(stack: str, pipe: tuple[int, int]) -> None:
    with filled(selectors.EpollSelector(), pipe) as selector:
        for arguments in ((), (None,), (0,), (-1,), (0.5,), (1,), (True,)):
            assert answers(selector, *arguments) == BOTH
        assert answers(selector, timeout=0) == BOTH
        with pytest.raises(TypeError):
            selector.select("x")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            selector.select(0, 1)  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            selector.select(timout=0)  # type: ignore[call-arg]
        with pytest.raises(OverflowError):
            selector.select(1e300)
        with pytest.raises(ValueError):
            selector.select(float("nan"))


def test_virtual_and_kernel_keys(sockets: Sockets, pipe: tuple[int, int]) -> None:
    client, server = sockets.pair()
    with filled(selectors.EpollSelector(), pipe) as selector:
        key = selector.register(server, selectors.EVENT_READ, "socket")
        client.send(b"x")
        select.select([server], [], [], 10)
        found = selector.select(10)
        assert next(k for k, _ in found if k.data == "socket") is key
        while answers(selector, 0) != sorted([*BOTH, ("socket", 1)]):
            pass


def test_a_subclass_with_its_own_methods(stack: str, pipe: tuple[int, int]) -> None:
    seen: list[int] = []

    class Looks(selectors.EpollSelector):
        def _key_from_fd(self, fd: int) -> Any:
            seen.append(fd)
            return super()._key_from_fd(fd)  # type: ignore[misc]

    class Counts(selectors.EpollSelector):
        calls = 0

        def select(self, timeout: float | None = None) -> Any:
            self.calls += 1
            return super().select(timeout)

    with filled(Looks(), pipe) as selector:
        assert answers(selector, 0) == BOTH
        assert sorted(seen) == sorted(pipe)
    counting = Counts()
    with filled(counting, pipe):
        assert answers(counting, 0) == BOTH
        assert counting.calls == 1


def test_another_selector_object_inside(stack: str, pipe: tuple[int, int]) -> None:
    class Interrupted:
        def poll(self, timeout: float, maxevents: int) -> Any:
            raise InterruptedError

    class Tells:
        def poll(self, timeout: float, maxevents: int) -> Any:
            return [(pipe[0], select.EPOLLIN), (12345, select.EPOLLIN)]

    with filled(selectors.EpollSelector(), pipe) as selector:
        kept = selector._selector  # type: ignore[attr-defined]
        selector._selector = Interrupted()  # type: ignore[attr-defined]
        assert answers(selector, 0) == []
        selector._selector = Tells()  # type: ignore[attr-defined]
        assert answers(selector, 0) == [("read end", selectors.EVENT_READ)]
        selector._selector = kept  # type: ignore[attr-defined]


def test_a_descriptor_registered_behind_its_back(stack: str, pipe: tuple[int, int]) -> None:
    """In the epoll, but without a key: left out."""
    with selectors.EpollSelector() as selector:
        selector._selector.register(pipe[0], select.EPOLLIN)  # type: ignore[attr-defined]
        assert answers(selector, 0) == []


def test_closed(stack: str) -> None:
    selector = selectors.EpollSelector()
    selector.close()
    with pytest.raises((ValueError, TypeError)):
        selector.select(0)
    with pytest.raises(TypeError):
        selectors.EpollSelector.select(object())  # type: ignore[arg-type]

"""One call on a TLS socket has one deadline, however many waits it is made of; in a time of the test's own."""

from __future__ import annotations

import contextlib
import types
from typing import Any

import pytest

from mtcp_patch import ssl_shim, tls_pump

TIMEOUT_S = 1.0


class Clock:
    """Stands for `time`: it goes on only while somebody waits."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class SlowPeer:
    """Stands for `_native`: room for a record after most of the timeout, and then none for what it became."""

    def __init__(self, clock: Clock, room_after_s: float) -> None:
        self.clock = clock
        self.room_at = clock.now + room_after_s

    def fd_send_room(self, _vfd: int) -> int:
        return 65536 if self.clock.now >= self.room_at else 0

    def fd_send_nowait(self, _vfd: int, _data: bytes) -> int:
        return 0

    def fd_wait(self, _vfd: int, _events: int, left: float) -> bool:
        before = self.clock.now
        self.clock.now = min(before + left, self.room_at) if before < self.room_at else before + left
        return self.clock.now < before + left


@pytest.mark.parametrize("room_after_s", [0.0, 0.9, 2.0])
def test_write_waits_no_longer_than_the_timeout(monkeypatch: pytest.MonkeyPatch, room_after_s: float) -> None:
    """Waiting for room and waiting for the record to go are one wait."""
    clock = Clock()
    monkeypatch.setattr(tls_pump, "time", clock)
    monkeypatch.setattr(tls_pump, "_native", SlowPeer(clock, room_after_s))
    sock = types.SimpleNamespace(gettimeout=lambda: TIMEOUT_S, fileno=lambda: 1 << 30)
    outgoing = bytearray()

    def encrypt(data: Any) -> int:
        outgoing.extend(data)
        return len(data)

    def take() -> bytes:
        taken = bytes(outgoing)
        outgoing.clear()
        return taken

    tls = ssl_shim.PumpedTLS.__new__(ssl_shim.PumpedTLS)
    state = {
        "_sock": lambda: sock,
        "_lock": contextlib.nullcontext(),
        "_object": types.SimpleNamespace(write=encrypt),
        "_outgoing": types.SimpleNamespace(read=take),
        "_unsent": b"",
    }
    for name, value in state.items():
        setattr(tls, name, value)
    began = clock.now
    with pytest.raises(TimeoutError, match="The write operation timed out"):
        tls.write(b"data")
    assert clock.now - began == pytest.approx(TIMEOUT_S)

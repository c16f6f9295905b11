"""What a script presumes of its author's machine, and says by nothing but the first SYN that it expects.

A script that sets no receive buffer, say, was right on a kernel with some default or after somebody's sysctl. That
first SYN or SYN-ACK tells which; everything after it is checked. What is presumed is printed with the result, and
nothing is presumed that the script or its set-up sets itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import syntax
from .constants import TIMESTAMPS_BYTES

#: Linux before 5.0 opened with 20 segments at most, twice the initial congestion window.
OLD_INITIAL_RWND = 20
#: Half of Linux's default `tcp_rmem`, the window that it opens with.
LINUX_WINDOW = 65_536


def _first_syn(script: syntax.Script) -> tuple[syntax.Tcp | None, syntax.Tcp | None]:
    """The first SYN that the script sends, if it comes before the first that it expects, and that one."""
    sent = None
    for event in script.events:
        packet = event.action
        if not isinstance(packet, syntax.Packet) or not isinstance(packet.body, syntax.Tcp):
            continue
        if "S" not in packet.body.flags:
            continue
        if not packet.inbound:
            return sent, packet.body
        sent = sent or packet.body
    return sent, None


def _names(segment: syntax.Tcp) -> set[Any]:
    return {option[0] for option in segment.options or ()}


def presume(settings: dict[str, Any], script: syntax.Script, freebsd: bool) -> Iterator[str]:
    """Adds to `settings` what the script presumes; yields it in words."""
    sent, syn = _first_syn(script)
    if syn is None or not syn.options:
        return
    if freebsd:
        yield from _presume_options(settings, syn, sent)
    for option in syn.options:
        if option[0] == "wscale" and len(option) == 2 and "recv_buffer_bytes" not in settings:
            scale = int(option[1])
            settings["recv_buffer_bytes"] = 65_535 << min(scale, 14)
            yield f"a receive buffer for the window scale {scale}, as the script sets none"
    if not freebsd:
        yield from _presume_window(settings, syn, sent is not None)


def _presume_options(settings: dict[str, Any], syn: syntax.Tcp, sent: syntax.Tcp | None) -> Iterator[str]:
    """Options that FreeBSD was told not to use; its older scripts were written one after the other on one machine."""
    offered, shown = None if sent is None else _names(sent), _names(syn)
    for name, setting, what in (
        ("sackOK", "sack", "no SACK"),
        ("TS", "timestamps", "no timestamps"),
        ("wscale", "window_scaling", "no window scale"),
    ):
        # A SYN-ACK has what the SYN has had, at most.
        asked = offered is None or name in offered
        if asked and name not in shown and setting not in settings:
            settings[setting] = False
            yield f"{what}, as the script's first SYN shows none and nothing sets it"


def _presume_window(settings: dict[str, Any], syn: syntax.Tcp, passive: bool) -> Iterator[str]:
    """Which Linux's initial window the script knows, where it says one."""
    mss = next((int(option[1]) for option in syn.options or () if option[0] == "mss" and len(option) == 2), None)
    if syn.window is None or mss is None:
        return
    if passive and "TS" in _names(syn):
        mss -= TIMESTAMPS_BYTES
    if syn.window == OLD_INITIAL_RWND * mss and "initial_rwnd" not in settings:
        settings["initial_rwnd"] = OLD_INITIAL_RWND
        yield f"a first window of {OLD_INITIAL_RWND} segments, as on Linux before 5.0"
    elif syn.window == LINUX_WINDOW - LINUX_WINDOW % mss and "recv_buffer_initial_bytes" not in settings:
        settings["recv_buffer_initial_bytes"] = LINUX_WINDOW
        yield "the receive buffer of a Linux host without sysctls"

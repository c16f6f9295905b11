"""The table to reach (issue 6): what is to hold, in which setting, and the ceiling that was measured for it.

A ratio is the kernel's figure divided by ours: server CPU a request in K and M, CPU of the whole machine a request
in X. In K the rate counts as well, where the server's core was busy on both stacks: the lower of the two ratios.
"""

from __future__ import annotations

from dataclasses import dataclass

from .run import Load, Server


@dataclass(frozen=True)
class Row:
    """One line of the table and how it is measured."""

    id: str
    title: str
    server: Server
    load: Load
    # Ratios to reach, by setting.
    goals: dict[str, float]
    ceiling: str
    saturates: bool = True
    quick: bool = True


SHORT = Load(messages=1, spread=4)
KEPT = Load()
HTTP = Load(http=True)
ONE_HTTP = Load(http=True, connections=1)

ROWS = (
    Row(
        "native", "native 64 B echo, keep-alive", Server("native"), KEPT, {"K": 1.5, "X": 2, "M": 20}, "25–40"
    ),
    Row(
        "native-short", "native, one 64 B message a connection", Server("native"), SHORT, {"K": 1.8, "X": 3, "M": 25},
        "82",
    ),
    Row(
        "selectors", "selectors echo, 64 connections", Server("selectors_echo"), KEPT, {"K": 1.8, "X": 2.2, "M": 6},
        "10",
    ),
    Row(
        "asyncio-protocol", "asyncio Protocol echo (warm)", Server("asyncio_protocol_echo"), KEPT,
        {"K": 1.6, "X": 1.9, "M": 4}, "5.5",
    ),
    Row(
        "asyncio-streams", "asyncio Streams echo", Server("asyncio_streams_echo"), KEPT,
        {"K": 1.6, "X": 1.7, "M": 2.6}, "3.0", quick=False,
    ),
    Row(
        "gevent", "gevent StreamServer echo", Server("gevent_echo"), KEPT, {"K": 1.8, "X": 2.0, "M": 4},
        "3.1 with today's hub",
    ),
    Row(
        "threading", "ThreadingTCPServer echo", Server("threading_echo"), KEPT, {"K": 1.2, "X": 1.3, "M": 1.6}, "1.9"
    ),
    Row(
        "selectors-short", "selectors, one message a connection", Server("selectors_echo"), SHORT,
        {"K": 1.7, "X": 2.2, "M": 4.5}, "6.4", quick=False,
    ),
    Row(
        "gevent-short", "gevent, one message a connection", Server("gevent_echo"), SHORT,
        {"K": 1.6, "X": 1.8, "M": 3}, "4.1", quick=False,
    ),
    Row(
        "http-nodelay", "http.server keep-alive, both with NODELAY", Server("http_keepalive", ("--nodelay",)), HTTP,
        {"K": 1.2, "X": 1.3, "M": 1.7}, "2.1",
    ),
    Row(
        "http-as-shipped", "http.server keep-alive as shipped, requests a second of one connection",
        Server("http_keepalive"), ONE_HTTP, {"K": 25, "X": 25, "M": 25}, "–", saturates=False, quick=False,
    ),
    Row(
        "pywsgi", "gevent.pywsgi, both with NODELAY", Server("pywsgi_hello", ("--nodelay",)), HTTP,
        {"K": 1.25, "X": 1.3, "M": 1.8}, "2.2", quick=False,
    ),
)  # fmt: skip

# Rows whose ratio is that of the rates, whatever the setting.
BY_RATE = frozenset({"http-as-shipped"})

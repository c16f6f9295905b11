"""Commands by which a script looks at the kernel's list of connections: `sockstat`, `netstat`, `ss`, and a grep."""

from __future__ import annotations

import json
import re
from typing import Any

from mtcp_patch.stack import _native

from .flow import Failure

# FreeBSD's words for the states that it calls otherwise than our status does.
_FREEBSD_WORDS = {"ESTAB": "ESTABLISHED", "SYN-RECV": "SYN_RCVD", "CLOSE": "CLOSED"}

_COUNT = re.compile(r"(sockstat|netstat)\b.*grep -c (\w+) *\| *grep (\d+)$")
_LISTING = re.compile(r"ss ((?:(?:-|--)\S+ ?)+)(?:state (\S+) ?)?([^|]*)\| grep (.*)")


def check(part: str, running: bool) -> bool:
    """Whether `part` is such a command; `running`: there is a host. Raises Failure when it would not find it so."""
    count = _COUNT.search(part)
    listing = _LISTING.fullmatch(part)
    if count:
        _count(part, running, count[2], int(count[3]))
    elif listing:
        _list(part, running, listing[2], listing[4])
    return bool(count or listing)


def _connections(running: bool) -> list[dict[str, Any]]:
    """All connections, closed sockets of the script included."""
    return list(json.loads(_native.status_json())["connections"]) if running else []


def _count(part: str, running: bool, state: str, expected: int) -> None:
    states = [_FREEBSD_WORDS.get(conn["state"], conn["state"].replace("-", "_")) for conn in _connections(running)]
    actual = states.count(state)
    if actual != expected:
        raise Failure(f"{part}: actual {actual} ({', '.join(states) or 'no connection'})")


def _list(part: str, running: bool, state: str | None, patterns: str) -> None:
    """Whether some connection's line has all that is looked for; a filter by port chooses what grep does."""
    # `ss` wrote IPv6 addresses without brackets before 2017; a mapped one is an IPv4 connection here.
    wanted = [pattern.strip("'\"").removeprefix("::ffff:") for pattern in re.split(r"\s*\|\s*grep ", patterns.strip())]
    lines = [
        f"{conn['state']} {conn['local']} {conn['remote']}".replace("[", "").replace("]", "")
        for conn in _connections(running)
        if state is None or conn["state"].upper() == state.upper()
    ]
    if not any(all(pattern in line for pattern in wanted) for line in lines):
        raise Failure(f"{part}: actual {', '.join(lines) or 'no connection'}")

"""What is measured: one file a sub-command, each with ``run(plan) -> list of results``."""

from __future__ import annotations

from collections.abc import Callable

from ..plan import Plan, Results
from . import bulk, connections, convoy, latency, layout, messages, scale, servers, startup

COMMANDS: dict[str, Callable[[Plan], Results]] = {
    "servers": servers.run,
    "startup": startup.run,
    "convoy": convoy.run,
    "latency": latency.run,
    "messages": messages.run,
    "bulk": bulk.run,
    "connections": connections.run,
    "scale": scale.run,
    "layout": layout.run,
}

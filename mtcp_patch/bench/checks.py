"""What makes a figure void, and what must be said beside one that is not. Each check names the trap it closes.

Closed elsewhere: attribution (a run always has both ends' CPU and the machine's: `run.figures_of`); asyncio's cold
start (the load's first connection); Nagle against delayed acknowledgments (the native ends set TCP_NODELAY, and the
rows without it stand on lines of their own); one process for client and server (`_end.py`); debug builds (`stamp.py`).
"""

from __future__ import annotations

from typing import Any

from .children import BenchError
from .figures import KERNEL, OURS, spread
from .namespaces import Namespace

# Below this share of its core a server in a closed loop was not what limited the rate.
SATURATED = 0.9
# Other programs' share of the cores during a run that is said on the page.
FOREIGN = 0.05
STEAL = 0.02
LEAST_PAIRS = 5


def port_is_outside(namespace: Namespace, port: int) -> None:
    """A server port in the ephemeral range is taken by a client now and then. Its namespace, and so it, is fresh."""
    low, high = namespace.sysctl("net.ipv4.ip_local_port_range").split()
    if int(low) <= port <= int(high):
        raise BenchError(f"port {port} lies in the ephemeral range {low}-{high}")


def carried(carrier: str, wanted: str) -> None:
    """A run that quietly went by another stack measures nothing."""
    if carrier != wanted and not (wanted == "memory" and carrier.startswith("memory")):
        raise BenchError(f"the load's connections went by {carrier}, not by {wanted}")


def served_by_ours(listing: dict[str, Any], told: dict[str, Any]) -> None:
    """The server's stack must have seen at least the bytes that the load says it sent."""
    moved = int(listing["bytes_in"]) + int(listing["bytes_out"])
    if moved < int(told["bytes"]):
        raise BenchError(f"our stack moved {moved} bytes of {told['bytes']}: the kernel served the rest")


def remarks(result: dict[str, Any], *, quick: bool) -> list[str]:
    """What must be said beside a case's figures."""
    pairs, said = result["pairs"], []
    if len(pairs) < LEAST_PAIRS and not quick:
        said.append(f"only {len(pairs)} pairs")
    for stack in (OURS, KERNEL):
        busy = spread(pairs, stack, "server_core")
        if result["saturates"] and busy and busy.median < SATURATED:
            said.append(f"{stack}: the server's core was busy to {busy.median:.2f} only, so its rate was the load's")
        foreign, steal = spread(pairs, stack, "foreign"), spread(pairs, stack, "steal")
        if foreign and foreign.median > FOREIGN:
            said.append(f"{stack}: other work took {foreign.median:.0%} of both cores")
        if steal and steal.median > STEAL:
            said.append(f"{stack}: the hypervisor took {steal.median:.0%}")
    return said

#!/usr/bin/env python3
"""Makes docs/socket-options.md from the table in the native module; with --check, says whether it is current.

The table is `host/src/runtime/options/table.rs`. Build the native module first, then run this from the checkout.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "socket-options.md"

Row = tuple[int, int, str, str, str]

LEVELS = {
    socket.SOL_SOCKET: "SOL_SOCKET",
    socket.IPPROTO_IP: "IPPROTO_IP",
    socket.IPPROTO_IPV6: "IPPROTO_IPV6",
    socket.IPPROTO_TCP: "IPPROTO_TCP",
}
PREFIXES = {"SO": socket.SOL_SOCKET, "IP": socket.IPPROTO_IP, "IPV6": socket.IPPROTO_IPV6, "TCP": socket.IPPROTO_TCP}
# Values of options, constants and options of other families; a second name of one number.
NOT_OPTIONS = {
    "IP_DEFAULT_MULTICAST_LOOP",
    "IP_DEFAULT_MULTICAST_TTL",
    "IP_MAX_MEMBERSHIPS",
    "IP_RECVRETOPTS",
    "IPV6_RTHDR_TYPE_0",
}
OTHER_FAMILIES = ("SO_J1939_", "SO_VM_SOCKETS_")

HEAD = """\
# Socket options

Made by `scripts/socket_options.py` from `mtcp_patch/stack/host/src/runtime/options/table.rs`; do not edit.
`tests/shim/test_socket_options.py` compares every option with the kernel's on fresh, listening, connected and accepted
sockets, and checks that no option that Python's `socket` module names is missing here.

| word | what it means |
|---|---|
| honoured | our stack acts on it, before connecting and after |
| answered | read only; the answer is about our connection |
| port | concerns the reservation of the port, which is a kernel socket's |
| inert | the kernel takes it on a TCP socket and does nothing with it there; so do we |
| kernel | only the kernel has it: set on a fresh socket it makes the whole socket the kernel's, set on a listener or a connection of ours it is refused with `ENOPROTOOPT` |
| refused | the kernel refuses it on a TCP socket (or without a privilege); its errno is ours |

Values are checked and rounded by the kernel: by the socket that reserves the port or by one made for the purpose.
An option that is not listed is treated as *kernel*.
"""  # noqa: E501

TAIL = """
## Buffers and memory

Buffers grow with what a connection needs and are given back when they stay empty; an idle connection has none. The
limits are those of `engine/src/limits.rs`: of a connection `recv_buffer_bytes` and `send_buffer_bytes`, of the process
`max_memory_bytes` for all buffers together. When that is used up, windows close and writers wait: every connection
still gets `GUARANTEED_BUFFER_BYTES`, so that the most a process holds is `max_memory_bytes` plus twice that for each of
`max_connections`. `SO_RCVBUF` and `SO_SNDBUF` fix a buffer (within those limits) and end its growth.

## TCP_INFO

Linux's `struct tcp_info`, as long as the running kernel's, cut to the caller's buffer. Of a listener: the kernel's,
with the accept queues of both stacks. Zero, because our stack does not know or have them: `ca_state`, `sacked`, `lost`,
`retrans`, `fackets`, `last_ack_sent` (nor does Linux), `reordering`, `rcv_rtt`, `rcv_space`, `delivery_rate`,
`delivered`, `delivered_ce`, `dsack_dups`, `reord_seen`, the Fast Open and application-limited flags, and whatever
follows `rcv_wnd`. `pacing_rate` and `max_pacing_rate` are ~0: nothing is paced. `unacked` is the bytes in flight in
segments of the present size.
"""


def unnamed(rows: list[Row]) -> list[str]:
    """The options that Python names and the table lacks, or has by another number."""
    known = {(level, number) for level, number, *_ in rows}
    found = []
    for name in dir(socket):
        level = PREFIXES.get(name.split("_")[0])
        if level is None or name in NOT_OPTIONS or name.startswith(OTHER_FAMILIES) or "_" not in name:
            continue
        if (level, getattr(socket, name)) not in known:
            found.append(name)
    return found


def document(rows: list[Row]) -> str:
    """The whole text."""
    parts = [HEAD]
    for level, title in LEVELS.items():
        parts.append(f"\n## {title}\n\n| option | here | |\n|---|---|---|\n")
        parts += [f"| `{label}` | {word} | {note} |\n" for at, _, label, word, note in rows if at == level]
    return "".join([*parts, TAIL])


def main() -> int:
    """Writes the document, or compares it."""
    sys.path.insert(0, str(ROOT))
    from mtcp_patch.stack import _native

    text = document(_native.socket_options())
    if "--check" in sys.argv[1:]:
        return 0 if DOCUMENT.read_text() == text else 1
    DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

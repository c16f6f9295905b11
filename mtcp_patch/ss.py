"""``python -m mtcp_patch.ss``: the stack's connections and listeners, in the columns of ``ss -tn`` plus the device.

Every patched process serves one JSON document on an AF_UNIX socket that only its owner may open; this program reads
them all, prints them and removes the socket files of dead processes. With ``--json`` it prints a list of these
documents, one a process, as they came.
What never happens here: no stack is started, no other user's directory is read or written.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import stat
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from .config import RUNTIME_DIR_VARIABLE

# A process answers natively, even while its program computes; one that does not within this time is stopped.
ANSWER_TIMEOUT_S = 2.0
MAX_DOCUMENT_BYTES = 256 << 20

Document = dict[str, Any]

_COLUMNS = ("State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "Device", "Process")
_RIGHT_ALIGNED = {3, 4}


class Refused(Exception):
    """The directory of control sockets cannot be trusted; the text says why."""


def runtime_directory() -> str:
    """Where the control sockets of this user's processes are."""
    named = os.environ.get(RUNTIME_DIR_VARIABLE)
    if named:
        return named
    user = os.environ.get("XDG_RUNTIME_DIR")
    if user:
        return os.path.join(user, "mtcp_patch")
    return f"/tmp/mtcp_patch-{os.getuid()}"


def collect(directory: str, only_pid: int | None = None) -> tuple[list[Document], list[str]]:
    """Ask every process with a socket in ``directory``. Returns the documents by pid, and what went wrong.

    Raises Refused if the directory belongs to somebody else or is open to others.
    """
    documents: list[Document] = []
    problems: list[str] = []
    for pid in _pids_in(directory):
        if only_pid is not None and pid != only_pid:
            continue
        path = os.path.join(directory, f"{pid}.sock")
        try:
            documents.append(_read_document(path))
        except (ConnectionRefusedError, FileNotFoundError):
            _remove_if_stale(path, pid)
        except TimeoutError:
            problems.append(f"process {pid} does not answer within {ANSWER_TIMEOUT_S:g} s (is it stopped?)")
        except (OSError, ValueError) as error:
            problems.append(f"process {pid}: {error}")
    return documents, problems


def _pids_in(directory: str) -> list[int]:
    try:
        facts = os.stat(directory)
    except FileNotFoundError:
        return []  # no patched process has run yet
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise Refused(
            f"{directory} is not a directory that only you (uid {os.getuid()}) may use; nothing in it is read"
        )
    stems = (name.removesuffix(".sock") for name in os.listdir(directory) if name.endswith(".sock"))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def _read_document(path: str) -> Document:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_TIMEOUT_S)
        connection.connect(path)
        content = bytearray()
        while part := connection.recv(1 << 16):
            content += part
            if len(content) > MAX_DOCUMENT_BYTES:
                raise ValueError(f"its answer is longer than {MAX_DOCUMENT_BYTES} bytes")
    if not content:
        raise ValueError("it closed the connection without an answer")
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError("its answer is not a JSON object")
    return document


def _remove_if_stale(path: str, pid: int) -> None:
    """Remove a socket file that nobody listens on and whose process is gone.

    Both must hold: a process between bind() and listen() refuses as well, and one in another pid namespace (a
    container that shares the directory) looks dead from here.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return  # somebody else cleaned up
    except PermissionError:
        return


# --- text -----------------------------------------------------------------------------------------------------------


def table(documents: Iterable[Document]) -> list[str]:
    """Listeners and connections as lines, the header first."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for document in documents:
        process = f"pid={document.get('pid', '?')}"
        for listener in document.get("listeners", []):
            rows.append(_row(listener, "LISTEN", _any_address(str(listener.get("local", ""))), process))
        for connection in document.get("connections", []):
            rows.append(
                _row(connection, str(connection.get("state", "?")), str(connection.get("remote", "?")), process)
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_cells(row, widths)).rstrip() for row in rows]


def _row(item: Document, state: str, remote: str, process: str) -> tuple[str, ...]:
    queues = (str(item.get("recv_q", 0)), str(item.get("send_q", 0)))
    return (state, *queues, str(item.get("local", "?")), remote, str(item.get("device", "?")), process)


def _any_address(local: str) -> str:
    """What ss shows as a listener's peer: any address of its family, any port."""
    return "[::]:*" if local.startswith("[") else "0.0.0.0:*"


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if index in _RIGHT_ALIGNED else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def process_lines(document: Document) -> list[str]:
    """One process: its command, devices and counters."""
    counters = document.get("counters", {})

    def count(name: str) -> str:
        return f"{counters.get(name, 0):,}"

    lines = [f"pid {document.get('pid', '?')}: {' '.join(map(str, document.get('argv', [])))}"]
    for device in document.get("devices", []):
        notes = "".join(f"; {note}" for note in device.get("notes", []))
        queues = device.get("queues")
        lines.append(f"  device       {device.get('name')} ({device.get('mode', '?')}, {queues} queue(s){notes})")
    lines += [
        f"  in           {count('packets_in')} packets, {count('bytes_in')} bytes",
        f"  out          {count('packets_out')} packets, {count('bytes_out')} bytes",
        f"  retransmits  {count('retransmits')}",
        f"  syscalls     {count('syscalls')} made by the stack",
    ]
    drops = {reason: number for reason, number in counters.get("drops", {}).items() if number}
    lines.append(f"  drops        {', '.join(f'{reason} {number:,}' for reason, number in drops.items()) or 'none'}")
    lines += [f"  message      {message}" for message in document.get("messages", [])]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns an exit status: 1 if a named process has no stack, or a process did not answer."""
    parser = argparse.ArgumentParser(
        prog="python -m mtcp_patch.ss",
        description="List the TCP connections and listeners of running patched processes, and their counters.",
    )
    parser.add_argument("--pid", type=int, metavar="N", help="only process N")
    parser.add_argument("--json", action="store_true", help="print a JSON list, one document a process")
    options = parser.parse_args(arguments)
    try:
        documents, problems = collect(runtime_directory(), options.pid)
    except Refused as error:
        documents, problems = [], [str(error)]
    if options.pid is not None and not documents and not problems:
        problems.append(f"process {options.pid} has no stack of mtcp_patch (or has not used it yet)")
    if options.json:
        json.dump(documents, sys.stdout, indent=1)
        print()
    else:
        print("\n".join(table(documents)))
        for document in documents:
            print()
            print("\n".join(process_lines(document)))
    for problem in problems:
        print(f"mtcp_patch.ss: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # ss | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

"""``make demo``: the standard library's web server on the user-level stack, stock curl as its client.

It starts ``python -m mtcp_patch -m http.server`` on a free port, fetches a page over IPv4 and IPv6, shows a running
download in our own listing and the absence of its server half from the kernel's, stops the server and checks that
nothing is left. Exit status 0 means that all of that was seen. Without privileges the kernel serves the same requests;
the demo then says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

START_TIMEOUT_S = 20.0
STEP_TIMEOUT_S = 30.0
DOWNLOAD_BYTES = 1 << 28  # far more than both buffers hold: the server must not come to its end while it is looked at
DOWNLOAD_RATE = "2M"


def say(text: str) -> None:
    """One step of the demonstration."""
    print(f"\n== {text}", flush=True)


def show(words: Sequence[str], after: str = "") -> None:
    """A command as one would type it."""
    name = "python" if words[0] == sys.executable else words[0]
    print(f"$ {shlex.join([name, *words[1:]])}{after}", flush=True)


def fail(text: str) -> NoReturn:
    """End with a reason."""
    sys.exit(f"demo: {text}")


def run(*words: str) -> str:
    """Run a command, show it, and return its output. Ends the demo if it fails."""
    show(words)
    done = subprocess.run(words, capture_output=True, text=True, timeout=STEP_TIMEOUT_S, check=False)
    if done.returncode != 0:
        fail(f"{words[0]} failed with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def free_port() -> int:
    """A port that is free on both families just now."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def server(directory: Path, port: int, require: bool) -> Iterator[subprocess.Popen[bytes]]:
    """``http.server`` on the stack; stopped as by Ctrl-C on the way out."""
    options = ["--require"] if require else []
    words = [sys.executable, "-m", "mtcp_patch", *options, "-m", "http.server", str(port), "--bind", "::"]
    show(words, f"   # in {directory}")
    # Its log of requests goes to stderr, which we keep for a failure.
    with (
        open(directory / "server.log", "wb") as log,
        subprocess.Popen(words, cwd=directory, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STEP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                fail("the server did not stop on SIGINT")


def wait_until_it_listens(process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
    """Until curl gets an answer; ends the demo if the server dies or stays silent."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            fail(f"the server ended with status {process.returncode}:\n{(directory / 'server.log').read_text()}")
        probe = ["curl", "-s", "-o", os.devnull, "--max-time", "2", f"http://127.0.0.1:{port}/"]
        if subprocess.run(probe, timeout=STEP_TIMEOUT_S, check=False).returncode == 0:
            return
        time.sleep(0.1)
    fail(f"the server does not answer within {START_TIMEOUT_S:g} s:\n{(directory / 'server.log').read_text()}")


def our_listing(pid: int) -> dict[str, Any]:
    """What ``mtcp_patch.ss --json`` says of the server."""
    words = [sys.executable, "-m", "mtcp_patch.ss", "--pid", str(pid), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=STEP_TIMEOUT_S, check=False)
    documents = json.loads(done.stdout or "[]")
    if not documents:
        fail(f"our listing is empty: {done.stderr.strip()}")
    document: dict[str, Any] = documents[0]
    return document


def kernel_lines(port: int) -> tuple[list[str], list[str]]:
    """The kernel's established connections with our port: (those with it at the local end, at the remote end)."""
    lines = run("ss", "-Htn", f"( sport = :{port} or dport = :{port} )").splitlines()
    here = [line for line in lines if line.split()[3].endswith(f":{port}") and line.startswith("ESTAB")]
    there = [line for line in lines if line.split()[4].endswith(f":{port}") and line.startswith("ESTAB")]
    return here, there


def show_pages(port: int) -> None:
    """Fetch the page over both families."""
    for family, host in (("-4", "127.0.0.1"), ("-6", "[::1]"), ("-4", "localhost")):
        status = run(
            "curl", "-sS", family, "-o", os.devnull, "-w", "%{http_code} %{size_download}", f"http://{host}:{port}/"
        )
        print(f"  HTTP {status.split()[0]}, {status.split()[1]} bytes", flush=True)
        if not status.startswith("200"):
            fail("no page")


def show_connection(pid: int, port: int, on_stack: bool) -> None:
    """During a slow download: who holds which half of the connection?"""
    url = f"http://127.0.0.1:{port}/big"
    words = ["curl", "-sS", "--limit-rate", DOWNLOAD_RATE, "-o", os.devnull, url]
    show(words, " &")
    with subprocess.Popen(words) as download:
        try:
            time.sleep(1.0)
            print(run(sys.executable, "-m", "mtcp_patch.ss", "--pid", str(pid)), flush=True)
            ours = [item for item in our_listing(pid)["connections"] if item["state"] == "ESTAB"]
            here, there = kernel_lines(port)
            print("\n".join(["the kernel's established connections with that port:", *here, *there]), flush=True)
            if download.poll() is not None:
                fail("the download ended before it could be looked at")
        finally:
            download.terminate()
    if on_stack and (not ours or here or not there):
        counts = f"ours {len(ours)}, kernel's {len(here)}, client's {len(there)}"
        fail(f"expected the server's half on our stack only: {counts}")
    if on_stack:
        print("  the client's half is the kernel's; the server's half is ours, and unknown to the kernel", flush=True)


def main() -> None:
    """The demonstration."""
    # A shell starts what runs in its background deaf to Ctrl-C, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    privileged = os.geteuid() == 0
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="mtcp_patch-demo-") as name:
        directory = Path(name)
        (directory / "index.html").write_text("<h1>Served by a TCP stack in a Python process</h1>\n")
        with open(directory / "big", "wb") as big:
            big.truncate(DOWNLOAD_BYTES)
        say("an unmodified web server, on the user-level stack")
        with server(directory, port, require=privileged) as process:
            wait_until_it_listens(process, port, directory)
            devices = {device["name"] for device in our_listing(process.pid)["devices"]}
            on_stack = any(device.startswith("xdp:") for device in devices)
            if not on_stack:
                print("  no AF_XDP without root: connections from other programs are served by the kernel", flush=True)
            say("stock curl fetches a page, over IPv4 and IPv6")
            show_pages(port)
            say("a slow download: who holds the connection?")
            show_connection(process.pid, port, on_stack)
            say("stop the server (Ctrl-C)")
        if any(f":{port} " in line for line in run("ss", "-Htln").splitlines()):
            fail(f"port {port} is still listened on")
    print("  stopped; port free again\n\ndemo: all of it worked", flush=True)


if __name__ == "__main__":
    main()

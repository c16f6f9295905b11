"""asyncio transports and protocols: the loop calls us, no coroutine a connection."""

from __future__ import annotations

import argparse
import asyncio
import contextlib


class Echo(asyncio.Protocol):
    """Sends everything back; stops reading while the peer does not take it."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport of a TCP connection reads and writes."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Called with what arrived."""
        self.transport.write(data)

    def pause_writing(self) -> None:
        """The transport's buffer is above its high-water mark."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """And below its low-water mark again."""
        self.transport.resume_reading()


async def serve(host: str, port: int) -> None:
    """Serves for ever."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, host, port, backlog=1024)
    print(f"listening on {host} port {server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how this program is meant to end
        asyncio.run(serve(args.host, args.port))


if __name__ == "__main__":
    main()

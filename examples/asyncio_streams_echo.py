"""asyncio Streams: one coroutine a connection."""

from __future__ import annotations

import argparse
import asyncio
import contextlib


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends everything back until the peer closes its direction."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
    except ConnectionError:
        writer.close()


async def serve(host: str, port: int) -> None:
    """Serves for ever."""
    server = await asyncio.start_server(echo, host, port, backlog=1024)
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

"""An echo over WebSocket: ``websocket_server.py asyncio|threads PORT``."""

import asyncio
import sys

kind, port = sys.argv[1], int(sys.argv[2])
if kind == "asyncio":
    from websockets.asyncio.server import serve

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    async def main():
        async with serve(echo, "127.0.0.1", port) as server:
            await server.serve_forever()

    asyncio.run(main())
else:
    from websockets.sync.server import serve as serve_in_threads

    def echo_in_thread(connection):
        for message in connection:
            connection.send(message)

    with serve_in_threads(echo_in_thread, "127.0.0.1", port) as server:
        server.serve_forever()

"""Talks to the echo over WebSocket: ``websocket_client.py PORT [threads|asyncio]``."""

import asyncio
import sys

from websockets.asyncio.client import connect as connect_asyncio
from websockets.sync.client import connect

where = f"ws://127.0.0.1:{sys.argv[1]}"
large = bytes(range(256)) * 4000


async def with_asyncio():
    async with connect_asyncio(where, compression=None) as connection:
        for number in range(200):
            await connection.send(str(number))
            assert await connection.recv() == str(number)
        await connection.send(large)
        assert await connection.recv() == large
        await (await connection.ping())


def with_threads():
    with connect(where, compression=None) as connection:
        for number in range(200):
            connection.send(str(number))
            assert connection.recv(timeout=60) == str(number)
        connection.send(large)
        assert connection.recv(timeout=20) == large
        connection.ping().wait(10)


if sys.argv[2:] == ["asyncio"]:
    asyncio.run(with_asyncio())
else:
    with_threads()
print("the same")

"""Echo servers, one for each event loop: ``echo_servers.py KIND PORT [BACKEND]``."""

import asyncio
import socket
import sys

CHUNK = 65536
HOST = "127.0.0.1"
kind, port = sys.argv[1], int(sys.argv[2])


def asyncio_streams():
    async def echo(reader, writer):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main():
        async with await asyncio.start_server(echo, HOST, port) as server:
            await server.serve_forever()

    asyncio.run(main())


def asyncio_sock():
    async def echo(loop, sock):
        buffer = bytearray(CHUNK)
        with sock:
            while count := await loop.sock_recv_into(sock, buffer):
                await loop.sock_sendall(sock, memoryview(buffer)[:count])

    async def main():
        loop = asyncio.get_running_loop()
        tasks = set()
        with socket.create_server((HOST, port)) as listener:
            listener.setblocking(False)
            while True:
                sock, _ = await loop.sock_accept(listener)
                tasks.add(task := loop.create_task(echo(loop, sock)))
                task.add_done_callback(tasks.discard)

    asyncio.run(main())


def with_trio():
    import trio

    async def echo(stream):
        async for data in stream:
            await stream.send_all(data)

    trio.run(trio.serve_tcp, echo, port)


def with_anyio():
    import anyio

    async def echo(stream):
        async with stream:
            async for data in stream:
                await stream.send(data)

    async def main():
        listener = await anyio.create_tcp_listener(local_host=HOST, local_port=port)
        await listener.serve(echo)

    anyio.run(main, backend=sys.argv[3])


def with_curio():
    import curio

    async def echo(client, _address):
        while data := await client.recv(CHUNK):
            await client.sendall(data)

    curio.run(curio.tcp_server, HOST, port, echo)


{
    "asyncio": asyncio_streams,
    "asyncio_sock": asyncio_sock,
    "trio": with_trio,
    "anyio": with_anyio,
    "curio": with_curio,
}[kind]()

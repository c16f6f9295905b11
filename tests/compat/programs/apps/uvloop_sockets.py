"""uvloop with sockets that Python made: a listener, a client's socket, an accepted one, a reader."""

import asyncio
import socket

import uvloop


async def main():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uvloop.Loop)
    listener = socket.create_server(("127.0.0.1", 8000))

    async def echo(reader, writer):
        writer.write(await reader.readexactly(100_000))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, sock=listener)
    data = b"0123456789" * 10_000
    for way in ("streams", "own socket", "sock calls"):
        if way == "sock calls":
            sock = socket.socket()
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", 8000))
            await loop.sock_sendall(sock, data)
            back = b""
            while part := await loop.sock_recv(sock, 65536):
                back += part
            sock.close()
        else:
            made = {"host": "127.0.0.1", "port": 8000}
            if way == "own socket":
                sock = socket.socket()
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", 8000))
                made = {"sock": sock}
            reader, writer = await asyncio.open_connection(**made)
            writer.write(data)
            back = await reader.read(-1)
            writer.close()
        assert back == data, way
    server.close()

    fresh = socket.create_server(("127.0.0.1", 0))
    fresh.setblocking(False)
    readable = asyncio.Event()
    loop.add_reader(fresh, readable.set)
    client = socket.socket()
    client.setblocking(False)
    await loop.sock_connect(client, fresh.getsockname())
    await asyncio.wait_for(readable.wait(), 10)
    client.close()
    loop.remove_reader(fresh)
    fresh.close()


uvloop.run(main())
print("the same")

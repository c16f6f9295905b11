"""pyzmq over TCP: blocking REQ and REP in threads, then zmq.asyncio."""

import asyncio
import threading

import zmq
import zmq.asyncio

LARGE = bytes(range(256)) * 4000


def answer(socket):
    for _ in range(51):
        socket.send(socket.recv())


with zmq.Context() as context, context.socket(zmq.REP) as rep, context.socket(zmq.REQ) as req:
    port = rep.bind_to_random_port("tcp://127.0.0.1")
    thread = threading.Thread(target=answer, args=(rep,))
    thread.start()
    req.connect(f"tcp://127.0.0.1:{port}")
    for message in [b"%d" % number for number in range(50)] + [LARGE]:
        req.send(message)
        assert req.recv() == message
    thread.join(20)


async def main():
    with zmq.asyncio.Context() as context, context.socket(zmq.REP) as rep, context.socket(zmq.REQ) as req:
        port = rep.bind_to_random_port("tcp://127.0.0.1")
        req.connect(f"tcp://127.0.0.1:{port}")
        for number in range(50):
            await req.send(b"%d" % number)
            await rep.send(await rep.recv())
            assert await req.recv() == b"%d" % number


asyncio.run(main())
print("the same")

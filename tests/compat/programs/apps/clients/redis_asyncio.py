"""redis.asyncio: fifty tasks on a pool, large values, a subscription."""

import asyncio
import sys

import redis.asyncio as redis


async def main():
    client = redis.Redis(port=int(sys.argv[1]))

    async def work(number):
        value = b"%09d" % number * 1000
        for _ in range(5):
            await client.set(f"k{number}", value)
            assert await client.get(f"k{number}") == value

    await asyncio.gather(*map(work, range(50)))
    async with client.pubsub() as subscription:
        await subscription.subscribe("news")
        assert (await subscription.get_message(timeout=60))["type"] == "subscribe"
        await client.publish("news", "now")
        assert (await subscription.get_message(timeout=60))["data"] == b"now"
    await client.aclose()


asyncio.run(main())
print("done")

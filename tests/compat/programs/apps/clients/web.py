"""An HTTP client library against nginx: ``web.py PORT LIBRARY http|https [CERTIFICATE]``.

A small page many times on one connection, a large one, and twenty at once.
"""

import asyncio
import concurrent.futures
import ssl
import sys

port, library, scheme, *trust = sys.argv[1:]
base = f"{scheme}://localhost:{port}"
context = ssl.create_default_context(cafile=trust[0]) if trust else None
BIG_BYTES = 2_000_000


def check(fetch):
    """fetch(path) -> bytes; the last part at once, in threads."""
    for _ in range(20):
        assert (body := fetch("/index.html")) == b"hello\n", body[:300]
    assert len(fetch("/big")) == BIG_BYTES
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert list(pool.map(fetch, ["/index.html"] * 50)) == [b"hello\n"] * 50
        assert [len(body) for body in pool.map(fetch, ["/big"] * 2)] == [BIG_BYTES] * 2


async def check_async(fetch, gather):
    for _ in range(20):
        assert (body := await fetch("/index.html")) == b"hello\n", body[:300]
    assert len(await fetch("/big")) == BIG_BYTES
    assert await gather(fetch, ["/index.html"] * 50) == [b"hello\n"] * 50
    assert [len(body) for body in await gather(fetch, ["/big"] * 2)] == [BIG_BYTES] * 2


async def gather_asyncio(fetch, paths):
    return list(await asyncio.gather(*map(fetch, paths)))


async def gather_trio(fetch, paths):
    import trio

    results = [b""] * len(paths)

    async def one(index, path):
        results[index] = await fetch(path)

    async with trio.open_nursery() as nursery:
        for index, path in enumerate(paths):
            nursery.start_soon(one, index, path)
    return results


def with_urllib():
    import urllib.request

    def fetch(path):
        with urllib.request.urlopen(base + path, timeout=20, context=context) as reply:
            return reply.read()

    check(fetch)


def with_requests():
    import requests

    with requests.Session() as session:
        session.trust_env = False  # REQUESTS_CA_BUNDLE would come first
        session.verify = trust[0] if trust else None
        check(lambda path: session.get(base + path, timeout=20).content)


def with_urllib3():
    import urllib3

    with urllib3.PoolManager(maxsize=10, ca_certs=trust[0] if trust else None) as pool:
        check(lambda path: pool.request("GET", base + path, timeout=20).data)


def with_httpx():
    import httpx

    with httpx.Client(verify=context or True, timeout=20) as session:
        check(lambda path: session.get(base + path).content)


async def httpx_async(gather):
    import httpx

    async with httpx.AsyncClient(verify=context or True, timeout=20) as session:

        async def fetch(path):
            return (await session.get(base + path)).content

        await check_async(fetch, gather)


def with_httpx_trio():
    import trio

    trio.run(httpx_async, gather_trio)


async def with_aiohttp():
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def fetch(path):
            async with session.get(base + path, ssl=context or True) as reply:
                return await reply.read()

        await check_async(fetch, gather_asyncio)


{
    "urllib": with_urllib,
    "requests": with_requests,
    "urllib3": with_urllib3,
    "httpx": with_httpx,
    "httpx_asyncio": lambda: asyncio.run(httpx_async(gather_asyncio)),
    "httpx_trio": with_httpx_trio,
    "aiohttp": lambda: asyncio.run(with_aiohttp()),
}[library]()
print("the same")

"""psycopg 3 or 2 with PostgreSQL: ``with_psycopg.py PORT psycopg|psycopg2``."""

import asyncio
import importlib
import sys

port, name = sys.argv[1:]
library = importlib.import_module(name)
where = f"host=127.0.0.1 port={port} user=probe dbname=postgres connect_timeout=20"
connection = library.connect(where)
cursor = connection.cursor()
cursor.execute("SELECT n, repeat('x', 100) FROM generate_series(1, 2000) n")
assert cursor.fetchall()[-1] == (2000, "x" * 100)
connection.close()


async def with_asyncio():
    async with await library.AsyncConnection.connect(where) as connection:
        cursor = await connection.execute("SELECT n FROM generate_series(1, 2000) n")
        assert (await cursor.fetchall())[-1] == (2000,)


if name == "psycopg":
    asyncio.run(with_asyncio())
print("the same")

"""redis-py in twenty greenlets."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

import redis  # noqa: E402
from gevent.pool import Pool  # noqa: E402

client = redis.Redis(port=int(sys.argv[1]), max_connections=20)


def work(number):
    value = b"%09d" % number * 1000
    for _ in range(5):
        client.set(f"k{number}", value)
        assert client.get(f"k{number}") == value
    return number


assert Pool(20).map(work, range(60)) == list(range(60))
print("done")

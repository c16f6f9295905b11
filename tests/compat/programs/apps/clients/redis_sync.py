"""redis-py: a pipeline, a large value, a blocking pop with a timeout, publish and subscribe in a thread."""

import sys
import threading

import redis

client = redis.Redis(port=int(sys.argv[1]), socket_timeout=20)
assert client.ping()
with client.pipeline() as pipe:
    for number in range(1000):
        pipe.set(f"key{number}", number)
    assert pipe.execute() == [True] * 1000
assert client.mget("key1", "key999", "none") == [b"1", b"999", None]
large = bytes(range(256)) * 4000
client.set("large", large)
assert client.get("large") == large
assert client.blpop("empty", timeout=1) is None

heard = threading.Event()
subscription = client.pubsub()
subscription.subscribe(news=lambda message: heard.set() if message["data"] == b"now" else None)
thread = subscription.run_in_thread(sleep_time=0.1)
while client.pubsub_numsub("news")[0][1] == 0:
    pass
assert client.publish("news", "now") == 1
assert heard.wait(10)
thread.stop()
thread.join(10)
client.close()
print("done")

"""requests in greenlets, over TLS: ``gevent_requests.py PORT CERTIFICATE``."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

import requests  # noqa: E402
from gevent.pool import Pool  # noqa: E402

port, certificate = sys.argv[1:]
session = requests.Session()
session.trust_env = False  # REQUESTS_CA_BUNDLE would come first
session.verify = certificate
session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=20))


def size(path):
    return len(session.get(f"https://localhost:{port}{path}", timeout=20).content)


pool = Pool(20)
assert pool.map(size, ["/index.html"] * 100) == [6] * 100
assert pool.map(size, ["/big"] * 3) == [2_000_000] * 3
print("the same")

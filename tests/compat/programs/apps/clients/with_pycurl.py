"""pycurl against nginx: ``with_pycurl.py PORT``."""

import io
import sys

import pycurl

for path, size in (("index.html", 6), ("big", 2_000_000)):
    body = io.BytesIO()
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, f"http://127.0.0.1:{sys.argv[1]}/{path}")
    curl.setopt(pycurl.WRITEDATA, body)
    curl.setopt(pycurl.TIMEOUT, 20)
    curl.perform()
    assert curl.getinfo(pycurl.RESPONSE_CODE) == 200
    curl.close()
    assert len(body.getvalue()) == size
print("the same")

"""A Tornado application on its own event loop: /, /big, and a POST that comes back."""

import asyncio
import ssl
import sys

import tornado.web
from content import BIG, HELLO


class Root(tornado.web.RequestHandler):
    def get(self):
        self.write(HELLO)

    def post(self):
        self.write(self.request.body)


class Big(tornado.web.RequestHandler):
    def get(self):
        self.write(BIG)


app = tornado.web.Application([("/", Root), ("/big", Big)])


async def main(port, *certificate):
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    app.listen(int(port), address="127.0.0.1", ssl_options=context)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

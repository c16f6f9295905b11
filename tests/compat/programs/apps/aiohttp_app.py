"""An aiohttp application: /, /big, and a POST that comes back; TLS with certificate and key as arguments."""

import ssl
import sys

from aiohttp import web
from content import BIG, HELLO

routes = web.RouteTableDef()


@routes.get("/")
async def hello(_request):
    return web.Response(body=HELLO)


@routes.get("/big")
async def big(_request):
    return web.Response(body=BIG)


@routes.post("/")
async def echo(request):
    return web.Response(body=await request.read())


@routes.get("/file")
async def file(_request):  # by loop.sendfile
    return web.FileResponse(sys.argv[0])


app = web.Application()
app.add_routes(routes)

if __name__ == "__main__":
    context = None
    if sys.argv[2:]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[2:])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, ssl_context=context)

"""A CherryPy application on its own engine and cheroot: /, /big, and a POST that comes back."""

import sys

import cherrypy
from content import BIG, HELLO


class Root:
    @cherrypy.expose
    def index(self):
        return cherrypy.request.body.read() if cherrypy.request.method == "POST" else HELLO

    @cherrypy.expose
    def big(self):
        return BIG


cherrypy.config.update(
    {"server.socket_host": "127.0.0.1", "server.socket_port": int(sys.argv[1]), "request.body.processors": {}}
)
cherrypy.config.update({"tools.response_headers.on": True, "engine.autoreload.on": False})
cherrypy.quickstart(Root(), config={"/": {"request.body.processors": {}}})

"""twisted.web on a reactor of choice: ``twisted_app.py REACTOR PORT [CERTIFICATE KEY]``."""

import importlib
import sys

from content import BIG, HELLO

name, port, *certificate = sys.argv[1:]
importlib.import_module(f"twisted.internet.{name}reactor").install()

from twisted.internet import endpoints, reactor  # noqa: E402
from twisted.web import resource, server  # noqa: E402


class Root(resource.Resource):
    def getChild(self, path, request):
        return self

    def render_GET(self, request):
        return BIG if request.path == b"/big" else HELLO

    def render_POST(self, request):
        return request.content.read()


where = f"tcp:{port}:interface=127.0.0.1"
if certificate:
    where = f"ssl:{port}:interface=127.0.0.1:certKey={certificate[0]}:privateKey={certificate[1]}"
endpoints.serverFromString(reactor, where).listen(server.Site(Root()))
reactor.run()

"""SimpleXMLRPCServer with two functions."""

from xmlrpc.server import SimpleXMLRPCServer

server = SimpleXMLRPCServer(("127.0.0.1", 8000), logRequests=False, allow_none=True)
server.register_function(lambda text: text[::-1], "reverse")
server.register_function(pow)
server.register_introspection_functions()
server.register_multicall_functions()
server.serve_forever()

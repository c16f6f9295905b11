"""grpcio without generated code: a server and a client in one process."""

import concurrent.futures

import grpc


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/probe/echo":
            return grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
        return None


server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=(Echo(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    call = channel.unary_unary("/probe/echo")
    for number in range(50):
        assert call(b"%09d" % number, timeout=20) == b"%09d" % number
    large = bytes(range(256)) * 4000
    assert call(large, timeout=20) == large
server.stop(0).wait(10)
print("the same")

"""xmlrpc.client: long strings, a multicall, a fault."""

from xmlrpc.client import Fault, MultiCall, ServerProxy

with ServerProxy("http://127.0.0.1:8000") as server:
    assert server.reverse("abc" * 100_000) == "cba" * 100_000
    assert "pow" in server.system.listMethods()
    many = MultiCall(server)
    for number in range(50):
        many.pow(number, 2)
    assert list(many()) == [number**2 for number in range(50)]
    try:
        server.nothing()
    except Fault as fault:
        assert "not supported" in fault.faultString
    else:
        raise AssertionError

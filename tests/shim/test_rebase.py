"""The native type under `socket.socket`: every way in which programs reach a socket class gets the stack."""

from __future__ import annotations

import pytest

from .conftest import Run

VIRTUAL = "assert sock.fileno() >= 1 << 30, sock; sock.bind(('127.0.0.1', 0)); sock.listen(); sock.close()"

# Before install(): the program is run plain, and installs after these lines.
EARLY = {
    "from socket import socket": "from socket import socket as S\n",
    "from _socket import socket": "import socket\nfrom _socket import socket as S\n",
    "SocketType": "from socket import SocketType as S\n",
    "subclass": "import socket\nclass S(socket.socket): pass\n",
    "subclass with slots": "import socket\nclass S(socket.socket):\n    __slots__ = ('x',)\n",
    "subclass of _socket.socket": "import socket, _socket\nclass S(_socket.socket): pass\n",
    "ssl imported": "import ssl\nfrom socket import socket as S\n",
    "asyncio imported": "import asyncio\nfrom socket import socket as S\n",
}


@pytest.mark.parametrize("way", EARLY)
def test_a_name_from_before_installation_gives_virtual_sockets(run_python: Run, way: str) -> None:
    program = EARLY[way] + "import mtcp_patch\nmtcp_patch.install(device=['memory'])\nsock = S()\n" + VIRTUAL
    run_python(program, "kernel")


LATE = {
    "socket.socket": "sock = socket.socket()",
    "_socket.socket": "sock = _socket.socket()",
    "SocketType": "sock = socket.SocketType()",
    "keywords": "sock = socket.socket(family=socket.AF_INET, type=socket.SOCK_STREAM, proto=0)",
    "IPPROTO_TCP": "sock = socket.socket(proto=socket.IPPROTO_TCP)",
    "SOCK_CLOEXEC": "sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)",
    "subclass": "sock = type('S', (socket.socket,), {})()",
    "create_server": "sock = socket.create_server(('127.0.0.1', 0)); sock.close(); sock = socket.socket()",
    "new and init": "sock = socket.socket.__new__(socket.socket); sock.__init__()",
    "mro init": "sock = _socket.socket.__new__(_socket.socket); _socket.socket.__init__(sock, 2, 1, 0)",
}


@pytest.mark.parametrize("way", LATE)
def test_every_way_to_a_tcp_socket_gives_a_virtual_one(run_python: Run, way: str) -> None:
    run_python(f"import socket, _socket\n{LATE[way]}\n{VIRTUAL}")


KERNELS = {
    "UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "UDP over IPv6": "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
    "AF_UNIX": "socket.socket(socket.AF_UNIX)",
    "socketpair": "socket.socketpair()[0]",
    "raw": "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "fileno of the kernel": "socket.socket(fileno=socket.socketpair()[0].detach())",
}


@pytest.mark.parametrize("kind", KERNELS)
def test_other_sockets_stay_the_kernels(run_python: Run, kind: str) -> None:
    done = run_python(
        f"""
        import socket
        try:
            sock = {KERNELS[kind]}
        except PermissionError:
            raise SystemExit("not permitted here")
        assert 0 <= sock.fileno() < 1 << 30
        assert type(sock) is socket.socket and isinstance(sock, socket.SocketType)
        sock.close()
        """,
        check=False,
    )
    if "not permitted here" in done.stderr:
        pytest.skip("not permitted here")
    assert done.returncode == 0, done.stderr


def test_kernel_sockets_work_through_the_native_type(run_python: Run) -> None:
    run_python(
        """
        import os, socket
        a, b = socket.socketpair()
        a.sendall(b"one"); assert b.recv(10) == b"one"
        assert a.send(b"two") == 3 and b.recv_into(bytearray(9)) == 3
        a.sendmsg([b"thr", b"ee"]); assert b.recvmsg(9)[0] == b"three"
        r, w = os.pipe()
        socket.send_fds(a, [b"fd"], [w]); data, fds, _, _ = socket.recv_fds(b, 9, 1)
        os.write(fds[0], b"passed"); assert os.read(r, 9) == b"passed"
        for fd in (r, w, *fds): os.close(fd)
        b.settimeout(0.01)
        try: b.recv(1)
        except TimeoutError as error: assert str(error) == "timed out"
        else: raise SystemExit("no timeout")
        a.close(); b.close()
        u = socket.socket(type=socket.SOCK_DGRAM); u.bind(("127.0.0.1", 0)); v = u.dup()
        assert u.sendto(b"x", v.getsockname()) == 1 and v.recvfrom(9) == (b"x", u.getsockname())
        u.close(); v.close()
        """
    )


def test_classes_stay_what_they_are(run_python: Run) -> None:
    run_python(
        """
        import socket, _socket, ssl
        sock = socket.socket()
        assert type(sock) is socket.socket
        assert isinstance(sock, (socket.socket, socket.SocketType)) and isinstance(sock, _socket.socket)
        assert issubclass(ssl.SSLSocket, socket.socket) and issubclass(socket.socket, _socket.socket)
        assert _socket.socket is _socket.SocketType is socket.SocketType is socket.socket.__base__
        assert repr(_socket.socket) == "<class '_socket.socket'>"
        raw = _socket.socket(fileno=sock.fileno())
        assert repr(raw) == f"<socket object, fd={raw.fileno()}, family=2, type=1, proto=6>", repr(raw)
        raw.detach()
        try: _socket.socket.recv = None
        except TypeError: pass
        else: raise SystemExit("the type is mutable")
        sock.close()
        """
    )


def test_methods_have_the_originals_docs(run_python: Run) -> None:
    run_python(
        """
        import _socket, mtcp_patch
        original = mtcp_patch.original("_socket.socket")
        for name, method in vars(_socket.socket).items():
            if callable(method) and name in vars(original):
                assert method.__doc__ == getattr(original, name).__doc__, name
                assert method.__text_signature__ == getattr(original, name).__text_signature__, name
        """
    )


def test_descriptors_are_the_lowest_free(run_python: Run) -> None:
    run_python(
        """
        import socket
        a, b, c = (socket.socket() for _ in range(3))
        assert [s.fileno() - (1 << 30) for s in (a, b, c)] == [0, 1, 2]
        b.close()
        b = socket.socket()
        assert b.fileno() - (1 << 30) == 1
        for s in (a, b, c): s.close()
        """
    )


def test_an_unclosed_socket_warns_and_is_closed(run_python: Run) -> None:
    run_python(
        """
        import socket, warnings
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            text = f"unclosed {sock!r}"
            del sock
        assert [str(w.message) for w in seen] == [text], seen
        assert seen[0].category is ResourceWarning
        again = socket.socket()
        assert again.fileno() == 1 << 30, "the descriptor was not given back"
        again.close()
        """
    )


def test_a_warning_turned_into_an_error_does_not_leak(run_python: Run) -> None:
    done = run_python(
        """
        import socket, warnings
        warnings.simplefilter("error")
        sock = socket.socket()
        del sock
        again = socket.socket()
        assert again.fileno() == 1 << 30
        again.close()
        """
    )
    assert "ResourceWarning: unclosed <socket.socket" in done.stderr


def test_default_timeout_and_flags(run_python: Run) -> None:
    run_python(
        """
        import os, socket
        socket.setdefaulttimeout(7.5)
        sock = socket.socket()
        assert sock.gettimeout() == 7.5 and not os.get_blocking(sock.fileno())
        sock.close()
        socket.setdefaulttimeout(None)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        assert sock.gettimeout() == 0.0 and sock.type == socket.SOCK_STREAM
        assert not os.get_blocking(sock.fileno())
        sock.setblocking(True)
        assert os.get_blocking(sock.fileno()) and sock.gettimeout() is None
        os.set_blocking(sock.fileno(), False)
        sock.bind(("127.0.0.1", 0)); sock.listen()
        try: sock.accept()
        except BlockingIOError: pass
        else: raise SystemExit("accepted")
        sock.close()
        """
    )


def test_audit_events_are_cpythons(run_python: Run) -> None:
    program = """
        import socket, sys
        events = []
        sys.addaudithook(lambda name, args: name.startswith("socket.") and events.append((name, args[1:])))
        listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen()
        port = listener.getsockname()[1]
        client = socket.socket(); client.connect(listener.getsockname())
        server = listener.accept()[0]
        client.sendto(b"x", ("127.0.0.1", 9)); client.sendmsg([b"x"]); client.sendmsg([b"x"], [], 0, ("127.0.0.1", 9))
        dup = client.dup()
        client.connect_ex(listener.getsockname())
        for s in (listener, client, server, dup): s.close()
        print(repr(events).replace(str(port), "PORT"))
        """
    assert run_python(program, "ours").stdout == run_python(program, "kernel").stdout


def test_an_audit_hook_can_refuse(run_python: Run) -> None:
    run_python(
        """
        import socket, sys
        refused = set()
        def hook(name, args):
            if name in refused: raise LookupError(name)
        sys.addaudithook(hook)
        sock = socket.socket()
        for event, call in {
            "socket.bind": lambda: sock.bind(("127.0.0.1", 0)),
            "socket.connect": lambda: sock.connect(("127.0.0.1", 1)),
            "socket.__new__": socket.socket,
        }.items():
            refused.add(event)
            try: call()
            except LookupError as error: assert str(error) == event
            else: raise SystemExit(event)
        sock.close()
        """
    )


def test_ancillary_data_is_refused_by_name(run_python: Run) -> None:
    run_python(
        """
        import array, errno, socket
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        a, b = socket.socketpair()
        for call in (
            lambda: client.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]),
            lambda: socket.send_fds(a, [b"x"], [client.fileno()]),
        ):
            try: call()
            except OSError as error: assert error.errno == errno.EOPNOTSUPP and "mtcp_patch" in str(error), error
            else: raise SystemExit("sent")
        for s in (listener, client, a, b): s.close()
        """
    )


def test_uninstall_puts_everything_back(run_python: Run) -> None:
    run_python(
        """
        import _socket, socket
        def names():
            return [_socket.socket, _socket.SocketType, socket.SocketType, socket.socket.__bases__, socket.dup,
                    socket.close, _socket.dup, _socket.close, socket.send_fds, socket.socket._real_close.__defaults__]
        before = names()
        import mtcp_patch
        for _ in range(3):
            mtcp_patch.install(device=["memory"])
            assert names() != before
            sock = socket.socket(); assert sock.fileno() >= 1 << 30; sock.close()
            mtcp_patch.uninstall()
            assert names() == before
            sock = socket.socket(); assert sock.fileno() < 1 << 30; sock.close()
        """,
        "kernel",
    )


def test_a_kernel_socket_from_before_goes_on(run_python: Run) -> None:
    run_python(
        """
        import socket
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname()); server = listener.accept()[0]
        import mtcp_patch
        mtcp_patch.install(device=["memory"])
        client.sendall(b"x"); assert server.recv(9) == b"x"
        assert client.dup().fileno() < 1 << 30
        client.close(); assert server.recv(9) == b""
        """,
        "kernel",
    )


def test_a_subinterpreter_is_refused_clearly(run_python: Run) -> None:
    done = run_python(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        interpreters.run_string(interpreters.create(), "\\n".join([
            "import os, mtcp_patch",
            "try: mtcp_patch.install(device=['memory'])",
            "except ImportError as error: os.write(1, b'refused')",
        ]))
        """,
    )
    assert done.stdout == "refused"

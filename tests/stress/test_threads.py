"""Several threads at one object: nobody's wake-up is lost, and nobody gets what is another's."""

from __future__ import annotations

import pytest

from .conftest import RunProgram


def test_two_threads_wait_on_one_epoll(run_program: RunProgram) -> None:
    """The first that wakes leaves the second one's wake-up in place."""
    run_program("""
        epoll, answers = select.epoll(), []
        (c1, s1), (c2, s2) = pair(), pair()
        for server in (s1, s2):
            epoll.register(server, select.EPOLLIN | select.EPOLLONESHOT)
        threads = [start(lambda: answers.append(epoll.poll(20))) for _ in range(2)]
        for thread in threads:
            asleep(thread)
        c1.send(b"x")
        until(lambda: len(answers) == 1)
        c2.send(b"x")
        until(lambda: len(answers) == 2)
        assert sorted(e for a in answers for e in a) == [(s1.fileno(), 1), (s2.fileno(), 1)], answers
    """)


def test_first_virtual_descriptor_comes_while_a_thread_waits(run_program: RunProgram) -> None:
    """The thread is in a bare epoll_wait(2), begun when all descriptors were the kernel's."""
    run_program("""
        epoll, answers = select.epoll(), []
        r, w = os.pipe()
        epoll.register(r, select.EPOLLIN)
        thread = start(lambda: answers.append(epoll.poll(20)))
        asleep(thread)
        client, server = pair()
        epoll.register(server, select.EPOLLIN)
        client.send(b"x")
        until(lambda: answers)
        assert answers == [[(server.fileno(), select.EPOLLIN)]], answers
    """)


def test_closing_an_epoll_ends_its_waits_and_no_others(run_program: RunProgram) -> None:
    """A new epoll at once takes the place of the closed one, and has a wait of its own."""
    run_program("""
        client, server = pair()
        client2, server2 = pair()
        for _ in range(30):
            old, ended, answers = select.epoll(), [], []
            old.register(server, select.EPOLLIN)
            def wait(epoll, into):
                try:
                    into.append(epoll.poll(20))
                except (OSError, ValueError) as error:
                    into.append(error)
            threads = [start(wait, old, ended) for _ in range(2)]
            for thread in threads:
                asleep(thread)
            old.close()
            new = select.epoll()
            new.register(server2, select.EPOLLIN)
            other = start(wait, new, answers)
            until(lambda: len(ended) == 2)
            assert all(isinstance(e, (OSError, ValueError)) for e in ended), ended
            asleep(other)
            client2.send(b"x")
            until(lambda: answers)
            assert answers == [[(server2.fileno(), select.EPOLLIN)]], answers
            server2.recv(1)
            new.close()
    """)


CALLS = {
    "recv": "mine.recv(100)",
    "recv_into": "mine.recv_into(bytearray(100))",
    "recv with a timeout": "mine.settimeout(20); mine.recv(100)",
    "waitall": "mine.recv(100, socket.MSG_WAITALL)",
}


@pytest.mark.parametrize("name", CALLS)
def test_close_and_reuse_of_the_number_under_a_wait(run_program: RunProgram, name: str) -> None:
    """The wait ends with EBADF; the next socket with its number keeps its data."""
    run_program(f"""
        import errno
        for _ in range(20):
            client, mine = pair()
            listener = socket.create_server(("127.0.0.1", 0))
            ended = []
            def wait():
                try:
                    {CALLS[name]}
                    ended.append("an answer")
                except OSError as error:
                    ended.append(error.errno)
            thread = start(wait)
            asleep(thread)
            number = mine.fileno()
            mine.close()
            next_client = socket.create_connection(listener.getsockname())
            next_server, _ = listener.accept()
            assert number in (next_client.fileno(), next_server.fileno())
            next_client.send(b"not yours")
            next_server.send(b"not yours")
            until(lambda: ended)
            assert ended == [errno.EBADF], ended
            assert next_client.recv(100) == next_server.recv(100) == b"not yours"
            for s in (client, listener, next_client, next_server):
                s.close()
    """)


def test_close_and_reuse_under_sendall_and_accept(run_program: RunProgram) -> None:
    """As with recv: nothing of the blocked sendall() reaches the next socket with its number."""
    run_program("""
        import errno
        for _ in range(10):
            listener, spare = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
            client, mine = pair()
            ended = []
            def run(call):
                try:
                    call()
                    ended.append("an answer")
                except OSError as error:
                    ended.append(error.errno)
            for thread in [start(run, lambda: mine.sendall(bytes(50_000_000))), start(run, listener.accept)]:
                asleep(thread)
            numbers = {mine.fileno(), listener.fileno()}
            mine.close()
            listener.close()
            c = socket.create_connection(spare.getsockname())
            s, _ = spare.accept()
            assert numbers & {c.fileno(), s.fileno()}
            until(lambda: len(ended) == 2)
            assert ended == [errno.EBADF] * 2, ended
            c.settimeout(0.05)
            s.settimeout(0.05)
            for end in (c, s):
                try:
                    assert False, end.recv(1)
                except TimeoutError:
                    pass
            for x in (c, s, client, spare):
                x.close()
    """)


def test_a_thousand_threads(run_program: RunProgram) -> None:
    """Each blocks in recv() on a connection of its own and gets its own bytes; nothing is left open."""
    run_program("""
        import resource
        from mtcp_patch.stack import _native
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
        threading.stack_size(256 * 1024)
        listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        got, pairs = {}, []
        def read(i, server):
            got[i] = server.recv(100)
            server.close()
        for i in range(1000):
            client = socket.create_connection(listener.getsockname())
            pairs.append((client, start(read, i, listener.accept()[0])))
        for i, (client, _) in enumerate(pairs):
            client.send(str(i).encode())
        for client, thread in pairs:
            thread.join(15)
            client.close()
        assert got == {i: str(i).encode() for i in range(1000)}, len(got)
        listener.close()
        assert _native.open_descriptors() == []
    """)


def test_many_threads_share_a_listener_and_an_epoll(run_program: RunProgram) -> None:
    """Eight threads take one-shot events of one epoll, the accepting one among them: every request is answered."""
    run_program("""
        listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        listener.setblocking(False)
        epoll, by_number, answered = select.epoll(), {}, []
        once = select.EPOLLIN | select.EPOLLONESHOT
        epoll.register(listener, once)
        def serve():
            while True:
                for number, _ in epoll.poll(maxevents=1):
                    if number == listener.fileno():
                        try:
                            while True:
                                server, _ = listener.accept()
                                by_number[server.fileno()] = server
                                epoll.register(server, once)
                        except BlockingIOError:
                            epoll.modify(listener, once)
                        continue
                    server = by_number[number]
                    data = server.recv(100)
                    if data:
                        server.send(data)
                        epoll.modify(server, once)
                    else:
                        server.close()
        def ask(i):
            client = socket.create_connection(listener.getsockname(), timeout=15)
            for j in range(20):
                text = b"%d %d" % (i, j)
                client.send(text)
                assert client.recv(100) == text
            client.close()
            answered.append(i)
        for _ in range(8):
            start(serve)
        threads = [start(ask, i) for i in range(50)]
        for thread in threads:
            thread.join(20)
        assert sorted(answered) == list(range(50)), answered
    """)

"""pg8000: a table, many rows, a megabyte, a transaction taken back, a notification: ``postgresql.py PORT [tls]``."""

import ssl
import sys

import pg8000.native

port, *tls = sys.argv[1:]
context = False
if tls:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with pg8000.native.Connection(
    "probe", host="127.0.0.1", port=int(port), database="postgres", ssl_context=context, timeout=30
) as connection:
    assert connection.run("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [[bool(tls)]]
    connection.run("CREATE TABLE t (n int PRIMARY KEY, b bytea)")
    for number in range(200):
        connection.run("INSERT INTO t VALUES (:n, :b)", n=number, b=b"x" * 100)
    large = bytes(range(256)) * 4000
    connection.run("INSERT INTO t VALUES (5000, :b)", b=large)
    connection.run("START TRANSACTION")
    connection.run("DELETE FROM t")
    connection.run("ROLLBACK")
    assert connection.run("SELECT count(*), sum(length(b)) FROM t") == [[201, 20_000 + len(large)]]
    assert connection.run("SELECT b FROM t WHERE n = 5000") == [[large]]
    connection.run("LISTEN news")
    connection.run("NOTIFY news, 'now'")
    connection.run("SELECT 1")
    assert [payload for _, _, payload in connection.notifications] == ["now"]
    try:
        connection.run("SELECT * FROM nowhere")
    except pg8000.native.DatabaseError as error:
        assert error.args[0]["C"] == "42P01"
    else:
        raise AssertionError("no error")
print("done")

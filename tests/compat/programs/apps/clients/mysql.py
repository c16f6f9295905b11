"""pymysql: a table, many rows, a megabyte, a transaction taken back, an error of the server's."""

import sys

import pymysql

with pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="root", read_timeout=30) as connection:
    cursor = connection.cursor()
    cursor.execute("CREATE DATABASE probe")
    connection.select_db("probe")
    cursor.execute("CREATE TABLE t (n INT PRIMARY KEY, b LONGBLOB) ENGINE=InnoDB")
    cursor.executemany("INSERT INTO t VALUES (%s, %s)", [(n, b"x" * 100) for n in range(1000)])
    large = bytes(range(256)) * 4000
    cursor.execute("INSERT INTO t VALUES (%s, %s)", (5000, large))
    connection.commit()
    cursor.execute("DELETE FROM t")
    connection.rollback()
    cursor.execute("SELECT COUNT(*), SUM(LENGTH(b)) FROM t")
    assert cursor.fetchone() == (1001, 100_000 + len(large))
    cursor.execute("SELECT b FROM t WHERE n = 5000")
    assert cursor.fetchone() == (large,)
    try:
        cursor.execute("SELECT * FROM nowhere")
    except pymysql.err.ProgrammingError as error:
        assert error.args[0] == 1146
    else:
        raise AssertionError("no error")
print("done")

"""What the web programs of the probes serve; the tests compare with it."""

HELLO = b"hello\n"
BIG = b"".join(b"%07d\n" % number for number in range(250_000))  # 2 MB, no two lines equal

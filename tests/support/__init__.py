"""What the tests share: namespaces, programs under test, clients, hand-made segments.

Nothing here imports mtcp_patch: the stack is seen from outside, as a user sees it.
"""

"""The matrix: what runs on the stack, in which version, with which outcome."""

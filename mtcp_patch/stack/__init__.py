"""The stack: see README.md in this folder."""

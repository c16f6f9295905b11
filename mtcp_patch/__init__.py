"""A user-level TCP stack under unmodified Python programs."""

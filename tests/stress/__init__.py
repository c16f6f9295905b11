"""Threads, forks, floods and shortage: what breaks a stack that a single calm thread never does."""

"""The bench's own logic: statistics, documents, checks, pages, the end of its processes. No test asserts a time."""

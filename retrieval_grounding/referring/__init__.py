"""Referring expressions: read from files, or made from what an index holds."""

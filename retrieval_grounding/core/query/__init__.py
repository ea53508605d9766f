"""Queries: what to find, with a text form for the command line and for URLs."""

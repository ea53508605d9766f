"""Pseudo-queries: phrases made from what an index holds."""

"""Measuring how well phrases are grounded in an index; no image file is read."""

"""Pseudo-queries: phrases made from the detections of an index."""

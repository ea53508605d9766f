"""Answering phrases: retrieval, ranking, grounding in one image, pictures of hits."""

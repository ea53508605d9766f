"""Search: retrieval, ranking, grounding in one image, pictures and pages of hits."""

"""Changing an index: building, removing, compacting, verifying, repairing, reindexing."""

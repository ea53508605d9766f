"""What an index keeps on disk: catalog, shards, vector index."""

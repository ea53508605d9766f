"""What an index stores on disk: catalog, shards, vector index."""

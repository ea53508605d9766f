"""What an index keeps on disk: the catalog and the shards."""

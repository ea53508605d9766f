"""Vector search: which regions of the collection are nearest to a phrase."""

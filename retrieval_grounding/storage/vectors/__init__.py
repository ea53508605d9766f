"""Vector search: finding the regions nearest to a phrase."""

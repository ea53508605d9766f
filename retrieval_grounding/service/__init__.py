"""The service: an HTTP API and a page over open indexes, for people and programs."""

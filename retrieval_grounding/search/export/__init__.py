"""Hits as tables, as data sets of other tools, and as files in a folder."""

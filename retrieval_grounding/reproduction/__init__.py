"""Published benchmarks from end to end: data on disk → index → matchers → one report."""

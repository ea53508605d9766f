"""What scripts/bench_query.py is made of."""

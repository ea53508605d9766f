"""Parts of scripts/bench_query.py and scripts/bench_peers.py."""

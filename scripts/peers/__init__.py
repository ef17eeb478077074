"""The arms of benchmark_peers.py, each in a process of its own."""

"""Benchmarks: each prints its environment, medians and ratios to baselines run in turn."""

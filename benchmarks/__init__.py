"""Benchmarks. Each prints its environment, medians, and ratios to interleaved baselines."""

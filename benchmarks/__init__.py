"""Benchmarks: the agent beside public tools, on the same bytes, in the same run."""

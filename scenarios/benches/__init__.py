"""Benchmarks that print ratios against references measured in the same run: ``make bench`` and its siblings."""

"""Benchmarks of the exporter against a minimal endpoint, a bare loop and a single-threaded exporter."""

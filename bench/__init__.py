"""Measures the exporter against a floor, a bare loop and an exporter of the old kind, all in one run."""

"""Measurements, as ratios against a reference that is measured beside them. `make bench` runs them all."""

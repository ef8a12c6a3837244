"""Data validation: is this dataset fit to train on, and what is in it."""

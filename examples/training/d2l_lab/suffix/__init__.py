"""Trained suffix of a base's own keys and values: its pages and its training."""

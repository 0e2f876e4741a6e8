"""Trained suffix of a base's KV cache: its pages and its training."""

"""Formats of checkpoints: safetensors, 8-bit rows, pickles, and their common checks."""

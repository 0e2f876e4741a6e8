"""Inference: a base, with or without an adapter, asked."""

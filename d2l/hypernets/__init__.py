"""Hypernetworks: checkpoint files to networks, and activations of a chunk to adapter weights."""

"""The base's own KV cache as a network: a memory is what the base computes for a chunk."""

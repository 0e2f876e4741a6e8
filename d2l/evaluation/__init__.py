"""Evaluation: recall of adapters and networks, scores on tasks, adapters on servers."""

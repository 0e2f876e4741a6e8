"""Evaluation: recall of adapters and networks, scores on tasks, harm, adapters on servers."""

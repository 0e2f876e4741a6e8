"""Tasks: scores of an adapter, or of a network's adapters, on examples of tasks."""

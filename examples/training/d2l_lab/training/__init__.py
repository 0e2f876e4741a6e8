"""Training: a recipe → a checkpoint."""

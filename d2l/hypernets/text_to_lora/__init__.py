"""Text-to-LoRA: the embedding of a task's description → its LoRA."""

"""SHINE: the states of memory tokens behind a text → its LoRA."""

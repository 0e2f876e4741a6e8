"""Doc-to-LoRA: a chunk's activations → its LoRA."""

"""Training of Text-to-LoRA networks."""

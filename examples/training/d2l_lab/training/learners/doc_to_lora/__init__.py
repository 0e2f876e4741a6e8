"""Training of Doc-to-LoRA networks."""

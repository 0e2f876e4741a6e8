"""Adapters: LoRA weights in memory, merging them, PEFT folders, and what is said of them."""

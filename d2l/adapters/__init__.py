"""Adapters: LoRA weights in memory, merging them, PEFT folders, and their records."""

"""Adapters: LoRA weights in memory, merging them, and the files that runtimes load."""

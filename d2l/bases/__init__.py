"""Base models: facts about families, loading, tokenizers, and activations."""

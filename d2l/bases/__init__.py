"""Base models: facts about families, loading, tokenizers, and what a hypernetwork reads of them."""

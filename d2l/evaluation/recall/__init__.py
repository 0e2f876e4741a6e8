"""Recall: how much of a document comes back through an adapter."""

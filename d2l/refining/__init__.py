"""Refining: one adapter's own numbers, corrected on the document that it was made from."""

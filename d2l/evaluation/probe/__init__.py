"""Probes: one adapter, measured with its document's sentences or with a user's questions."""

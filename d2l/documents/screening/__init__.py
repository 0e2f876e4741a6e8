"""Screening: what in a document's text should be known before it is compiled."""

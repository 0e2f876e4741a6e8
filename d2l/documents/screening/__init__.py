"""Screening: invisible characters in a document's text."""

"""Screening: invisible characters, instructions to models and secrets in a document's text."""

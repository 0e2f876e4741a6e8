"""Readers: the bytes of a document, in any format, to sections of text."""

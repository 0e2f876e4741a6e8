"""Readers: the bytes of one document, in any format, to sections of text."""

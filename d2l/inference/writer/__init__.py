"""The question writer: a passage with one of its answers marked in, the question to it out."""

"""The Python API: what `import d2l` gives, and what the commands call."""

"""The Python API: the names of `import d2l`, which the commands call, too."""

"""Commands: options in, one pipeline called, values printed."""

"""Documents: path or stdin to text that knows where it came from, and text to chunks."""

"""Documents: files and standard input to text with pages and headings, and text to chunks."""

"""Files: what is on disk appears whole or not at all, and is found again."""

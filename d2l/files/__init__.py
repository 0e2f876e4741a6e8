"""Files: written whole or not at all, downloaded, cached, and found again."""

"""PDF pages → text in reading order."""

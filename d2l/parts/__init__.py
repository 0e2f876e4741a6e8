"""Parts: memories or ranks that an adapter keeps for each chunk; a question chooses."""

"""The seat network: one memory for every chunk, seated in a prompt's first tokens."""

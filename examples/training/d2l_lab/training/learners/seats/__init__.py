"""Training of the seat network."""

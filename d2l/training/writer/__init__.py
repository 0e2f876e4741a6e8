"""Training of question writers."""

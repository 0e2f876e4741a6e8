"""How checkpoints are stored: safetensors, 8-bit rows, pickles, and the checks they share."""

"""Laboratory of d2l: networks are trained and measured, by d2l's public names."""

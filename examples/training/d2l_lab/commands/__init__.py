"""Commands of d2l-lab: options in, one pipeline called, values printed."""

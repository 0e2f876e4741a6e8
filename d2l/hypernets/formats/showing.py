"""Values of strangers' files in messages; imports nothing, so that plans are made without torch."""


def show(value: object) -> str:
    """Show a value from a file in a message: short, on one line, and safe for a terminal."""
    if value is None:
        return "missing"
    if isinstance(value, bool | float) or (isinstance(value, int) and value.bit_length() < 64):
        return str(value)
    if isinstance(value, str):
        text = value if value.isprintable() else ascii(value)[1:-1]
        return f'"{text[:80]}…"' if len(text) > 80 else f'"{text}"'
    return f"a value of type {type(value).__name__}"

"""Parts: a question chooses among an adapter's parts, and the model reads them before it."""

"""The self-test: a document's own sentences, recited."""

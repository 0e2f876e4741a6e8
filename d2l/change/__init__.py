"""Change: adapters to an adapter: merged, edited, compared."""

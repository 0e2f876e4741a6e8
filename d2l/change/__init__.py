"""Change: adapters to an adapter: merged and edited."""

"""Serving: one base and a folder of adapters behind an OpenAI-compatible HTTP interface."""

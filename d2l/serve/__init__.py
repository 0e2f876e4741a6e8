"""Serving: adapters of one base over HTTP, as OpenAI's interface does, and to agents over MCP."""

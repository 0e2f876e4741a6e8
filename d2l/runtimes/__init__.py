"""Runtimes: who loads an adapter, how, and the files that they want."""

"""Compiler: documents or a description → adapter; adapters → adapter."""

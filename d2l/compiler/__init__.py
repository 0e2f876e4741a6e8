"""Compiler: a document or a task description to an adapter."""

"""Benchmarks of networks: documents are drawn, compiled and asked; a row for each document."""

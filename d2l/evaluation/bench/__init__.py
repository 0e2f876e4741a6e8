"""Benchmarks of networks: documents that are drawn, compiled and asked, a row for each."""

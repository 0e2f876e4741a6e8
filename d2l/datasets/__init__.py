"""Datasets: questions, tasks, descriptions and prompts, from files."""

"""Datasets: what is asked: questions, tasks, descriptions and prompts, from files."""

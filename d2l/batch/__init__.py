"""Batch: many documents or descriptions, an adapter each, on one machine or on many."""

"""Tasks: does an adapter do what its description says?"""

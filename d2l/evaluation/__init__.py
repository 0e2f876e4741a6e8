"""Evaluation: is it in there, does it help, does it harm?"""

"""The version of d2l."""

__version__ = "0.2.0"

"""`python -m d2l` is `d2l`."""

from d2l.commands.entry import d2l

d2l()

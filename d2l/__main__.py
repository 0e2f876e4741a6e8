"""`python -m d2l` is `d2l`."""

from d2l.cli import main

main()

"""`python -m d2l` is `d2l`."""

from d2l.commands.main import main

main()

"""`python -m bwverifier`."""

from .cli import main

main()

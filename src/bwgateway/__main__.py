"""`python -m bwgateway` is the `bwgateway` command."""

from bwgateway.cli import main

main()

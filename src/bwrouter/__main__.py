"""`micropython -m bwrouter ...` and `python -m bwrouter ...`."""

import sys

from .cli import main

sys.exit(main(sys.argv[1:]))

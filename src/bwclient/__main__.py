"""`python -m bwclient`: the command `bw`."""

from bwclient.cli import main

if __name__ == "__main__":
    main()

"""bwrouter: the router's part. Runs from the same files on MicroPython >= 1.23 and CPython >= 3.11."""

__version__ = "0.1.0"
